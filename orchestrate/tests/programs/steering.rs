//! Runs of which somebody does not want all any more: every program, at every moment, whoever answers first.

use tokenhub_domain::{
    AdversarialSpec, Answer, CascadeCheck, CascadeSpec, ErrorClass, EventKeeping, FuseSpec, OnMismatch, Outcome,
    PlanSpec, RankMethod, RunKind, RunStatus, Steering, StopReason, VoteMethod, VoteSpec,
};
use tokenhub_orchestrate::Finished;

use crate::{
    script::{LATENCY_MS, Play, Scripted, adversarial, best_of_n, chat, refine, vote},
    specs::base,
};

const MODELS: [&str; 5] = ["a", "b", "c", "d", "e"];
const ANSWER_NOW: Steering = Steering { answers_now: true, stops_after_step: false, deadline_ms: None };
const AFTER_STEP: Steering = Steering { answers_now: false, stops_after_step: true, deadline_ms: None };
/// What judges say, whatever they are asked.
const VERDICTS: &[(&str, &[Play])] = &[
    (
        "judge",
        &[Play::Says(r#"{"winner": 1, "scores": [1, 2, 3], "consensus": [], "contradictions": [], "gaps": []}"#)],
    ),
    ("judge/1/ab", &[Play::Says("1")]),
    ("judge/1/ba", &[Play::Says("2")]),
    ("judge/2/ab", &[Play::Says("1")]),
    ("judge/2/ba", &[Play::Says("2")]),
    ("check/1", &[Play::Says(r#"{"accept": false}"#)]),
];

fn plan(mut spec: PlanSpec) -> PlanSpec {
    spec.base_mut().run.events = EventKeeping::Kept;
    spec
}

/// Every program, and those of its variants that ask in another order.
fn programs() -> Vec<(&'static str, PlanSpec)> {
    let majority = VoteSpec { method: VoteMethod::Majority, ..vote(3) };
    let mut pairwise = best_of_n(3);
    (pairwise.method, pairwise.judge_model) = (RankMethod::Pairwise, Some("e".into()));
    let cascade = CascadeSpec {
        base: base(RunKind::Cascade),
        models: vec!["a".into(), "b".into()],
        stages: 2,
        check: CascadeCheck::Judge,
        judge_model: Some("e".into()),
        min_weight: 0,
        judge_min_weight: 0,
    };
    let fuse = FuseSpec {
        grace_ms: None,
        models: Vec::new(),
        base: base(RunKind::Fuse),
        panel: 3,
        min_success: 2,
        judge_model: Some("e".into()),
        writer_model: Some("a".into()),
        min_weight: 0,
        judge_min_weight: 0,
    };
    let mut hedged = chat();
    hedged.base.policy.hedge_after_ms = Some(1);
    let programs = vec![
        ("chat", PlanSpec::Chat(chat())),
        ("hedge", PlanSpec::Chat(hedged)),
        ("refine", PlanSpec::Refine(refine(2))),
        ("adversarial", PlanSpec::Adversarial(adversarial(2))),
        ("plan only", PlanSpec::Adversarial(AdversarialSpec { return_plan_only: true, ..adversarial(1) })),
        ("vote", PlanSpec::Vote(vote(3))),
        ("majority", PlanSpec::Vote(majority.clone())),
        ("one at a time", PlanSpec::Vote(VoteSpec { parallelism: Some(1), ..majority })),
        ("two at a time", PlanSpec::Vote(VoteSpec { parallelism: Some(2), ..vote(3) })),
        ("best of n", PlanSpec::BestOfN(best_of_n(3))),
        ("pairwise", PlanSpec::BestOfN(pairwise)),
        ("cascade", PlanSpec::Cascade(cascade)),
        ("fuse", PlanSpec::Fuse(fuse)),
    ];
    programs.into_iter().map(|(name, spec)| (name, plan(spec))).collect()
}

const ORDERS: [&[&str]; 3] = [
    &[],
    &["ballot/3", "ballot/2", "candidate/3", "candidate/2", "panel/3", "panel/2"],
    &["ballot/2", "ballot/3", "candidate/2", "candidate/1", "panel/2", "panel/3", "judge/1/ba"],
];

/// Plays `spec` and asks `asked` of it once `after` steps have ended; nothing when it has ended before.
fn steered(spec: &PlanSpec, after: usize, asked: Steering, order: &[&str]) -> Option<(Outcome, Scripted)> {
    let steps = Scripted::new(&MODELS, VERDICTS);
    steps.0.borrow_mut().steer_after = Some((after, asked));
    let Finished::Outcome(outcome) = steps.play_in(spec.clone(), order) else { panic!("the claim was lost") };
    let was_asked = steps.0.borrow().before.is_some();
    was_asked.then_some((*outcome, steps))
}

fn is_of_the_caller(step: &str) -> bool {
    !["select", "judge", "check", "critique", "record", "sleep", "classify"].iter().any(|other| step.starts_with(other))
}

/// The answer is what one of the steps has said that were paid for.
#[track_caller]
fn assert_one_of_the_answers(outcome: &Outcome, label: &str) {
    let said: Vec<String> = outcome
        .steps
        .iter()
        .filter(|step| step.error_class.is_none() && is_of_the_caller(step.id.as_str()))
        .map(|step| format!("text of {}", step.id))
        .collect();
    let main = outcome.answer.as_ref().and_then(Answer::main_text).and_then(|text| text.as_inline());
    match main {
        Some(main) => assert!(said.iter().any(|text| text == main), "{label}: {main} of {said:?}"),
        None => assert!(said.is_empty(), "{label}: {said:?} and no answer"),
    }
}

/// Every program, moment and order.
fn at_every_moment(asked: Steering, mut check: impl FnMut(&str, &Outcome, &Scripted, &Outcome)) {
    for (name, spec) in programs() {
        let whole = Scripted::new(&MODELS, VERDICTS).play(spec.clone());
        assert_eq!(whole.status, RunStatus::Completed, "{name}: {whole:?}");
        for order in ORDERS {
            let mut moments = 0;
            while let Some((outcome, steps)) = steered(&spec, moments, asked, order) {
                check(&format!("{name} after {moments} steps, {order:?}"), &outcome, &steps, &whole);
                moments += 1;
            }
            assert!(moments >= 2, "{name}: {moments}");
        }
    }
}

#[test]
fn a_run_that_answers_now_asks_nobody_once_there_is_an_answer_and_returns_one_that_was_there() {
    at_every_moment(ANSWER_NOW, |label, outcome, steps, whole| {
        let (sent_before, ended) = steps.0.borrow().before.clone().unwrap();
        let sent = steps.sent();
        let had_answer = ended.iter().any(|step| is_of_the_caller(step));
        // Before the first answer one call is enough, and those that were made are.
        let most = if had_answer { sent_before } else { sent_before.max(1) };
        assert!(sent.len() <= most, "{label}: {sent:?}");
        let ended_after = steps.0.borrow().ended[ended.len()..].to_vec();
        let waited_for = ended_after.iter().filter(|step| !["select", "sleep", "record"].contains(&step.as_str()));
        assert!(
            waited_for.count() <= usize::from(!had_answer),
            "{label}: who is not needed is cut off: {ended_after:?}"
        );
        assert_one_of_the_answers(outcome, label);
        assert!(outcome.answer.is_some(), "{label}");
        assert_eq!(usize::try_from(outcome.usage.calls).unwrap(), sent.len(), "{label}: {:?}", outcome.steps);
        let end = (outcome.status, outcome.stop_reason);
        let whole_end = (RunStatus::Completed, whole.stop_reason);
        assert!([whole_end, (RunStatus::CompletedPartial, StopReason::AnsweredNow)].contains(&end), "{label}: {end:?}");
        assert_eq!(outcome.status == RunStatus::Completed, outcome.failure.is_none(), "{label}");
        if sent.len() < usize::try_from(whole.usage.calls).unwrap() {
            assert_eq!(outcome.status, RunStatus::CompletedPartial, "{label}: something is missing");
        }
    });
}

#[test]
fn a_run_that_stops_after_its_step_begins_nothing_and_keeps_what_was_under_way() {
    at_every_moment(AFTER_STEP, |label, outcome, steps, whole| {
        let (sent_before, _) = steps.0.borrow().before.clone().unwrap();
        let sent = steps.sent();
        assert_eq!(sent.len(), sent_before, "{label}: {sent:?}");
        assert_one_of_the_answers(outcome, label);
        let answered = outcome.steps.iter().filter(|step| step.error_class.is_none()).count();
        let lost = outcome.steps.iter().map(|step| usize::try_from(step.hedged).unwrap()).sum::<usize>();
        assert_eq!(answered + lost, sent.len(), "{label}: what was under way was finished: {:?}", outcome.steps);
        let end = (outcome.status, outcome.stop_reason);
        let whole_end = (RunStatus::Completed, whole.stop_reason);
        assert!([whole_end, (RunStatus::Cancelled, StopReason::CancelledAfterStep)].contains(&end), "{label}: {end:?}");
        if sent.len() < usize::try_from(whole.usage.calls).unwrap() {
            assert_eq!(outcome.status, RunStatus::Cancelled, "{label}: something is missing");
        }
    });
}

#[test]
fn the_first_answer_is_waited_for_over_failures_and_one_after_the_other() {
    let failing: &[(&str, &[Play])] = &[
        ("ballot/1", &[Play::Fails(ErrorClass::BadRequest)]),
        ("answer", &[Play::Fails(ErrorClass::Overloaded), Play::Says("text of answer")]),
    ];
    for (spec, after, expected) in [
        (PlanSpec::Vote(vote(3)), 0, &["ballot/1 a 1", "ballot/2 b 1"][..]),
        (PlanSpec::Refine(refine(2)), 1, &["answer a 1", "answer a 2"][..]),
    ] {
        let steps = Scripted::new(&MODELS, failing);
        steps.0.borrow_mut().steer_after = Some((after, ANSWER_NOW));
        let outcome = steps.play(plan(spec));
        assert_eq!(steps.sent(), expected);
        assert_eq!((outcome.status, outcome.stop_reason), (RunStatus::CompletedPartial, StopReason::AnsweredNow));
        assert_one_of_the_answers(&outcome, "after a failure");
    }
}

#[test]
fn nobody_is_asked_again_after_the_step_and_a_run_without_an_answer_has_none() {
    let steps = Scripted::new(&MODELS, &[("answer", &[Play::Fails(ErrorClass::Overloaded)])]);
    steps.0.borrow_mut().steer_after = Some((1, AFTER_STEP));
    let outcome = steps.play(plan(PlanSpec::Refine(refine(2))));
    assert_eq!(steps.sent(), ["answer a 1"]);
    assert_eq!((outcome.status, outcome.stop_reason), (RunStatus::Cancelled, StopReason::CancelledAfterStep));
    assert!(outcome.answer.is_none());
}

#[test]
fn an_answer_that_must_match_is_repaired_before_it_goes_out_at_once() {
    let script: &[(&str, &[Play])] =
        &[("answer", &[Play::Misses("wrong", "/: not an object")]), ("answer/repair", &[Play::Says("{}")])];
    for (on_mismatch, sent, text) in [
        (OnMismatch::Fail, &["answer a 1", "answer/repair a 1"][..], "{}"),
        (OnMismatch::Keep, &["answer a 1"][..], "wrong"),
    ] {
        let steps = Scripted::new(&MODELS, script);
        steps.0.borrow_mut().steer_after = Some((0, ANSWER_NOW));
        let mut spec = refine(2);
        spec.base.output.on_mismatch = on_mismatch;
        let outcome = steps.play(plan(PlanSpec::Refine(spec)));
        assert_eq!(
            (steps.sent(), outcome.status),
            (sent.iter().map(ToString::to_string).collect(), RunStatus::CompletedPartial)
        );
        let main = outcome.answer.as_ref().and_then(Answer::main_text).and_then(|text| text.as_inline());
        assert_eq!(main, Some(text));
    }
}

#[test]
fn a_deadline_that_is_moved_lets_a_run_end_and_never_comes_nearer() {
    let spec = |deadline_ms| {
        let mut spec = refine(3);
        spec.base.deadline_ms = deadline_ms;
        plan(PlanSpec::Refine(spec))
    };
    let short = LATENCY_MS * 2;
    for (deadline_ms, moved_ms, end) in [
        (short, None, (RunStatus::CompletedPartial, StopReason::DeadlineExceeded)),
        (short, Some(1_000), (RunStatus::Completed, StopReason::MaxRounds)),
        (1_000, Some(short), (RunStatus::Completed, StopReason::MaxRounds)),
    ] {
        let steps = Scripted::new(&MODELS, &[]);
        steps.0.borrow_mut().steer_after = Some((2, Steering { deadline_ms: moved_ms, ..Steering::default() }));
        let outcome = steps.play(spec(deadline_ms));
        assert_eq!((outcome.status, outcome.stop_reason), end, "{deadline_ms} {moved_ms:?}");
        let first = steps.0.borrow().sends[0].clone();
        assert_eq!(first.timeout_ms, deadline_ms);
        assert_eq!(first.movable.map(|movable| movable.run_deadline_ms), Some(deadline_ms));
    }
}

#[test]
fn a_run_that_waits_for_a_decision_is_stopped_with_its_answer() {
    use tokenhub_domain::{ApprovalStanding, ApprovalWish, OnTimeout};
    let mut spec = refine(1);
    spec.base.approval = Some(ApprovalWish { timeout_ms: 1_000, on_timeout: OnTimeout::Approve });
    let steps = Scripted::new(&MODELS, &[]);
    let waiting = ApprovalStanding::Waiting { left_ms: 1_000 };
    steps.0.borrow_mut().approvals.extend([Ok(waiting.clone()), Ok(waiting)]);
    steps.0.borrow_mut().steer_after = Some((4, AFTER_STEP));
    let outcome = steps.play(plan(PlanSpec::Refine(spec)));
    assert_eq!((outcome.status, outcome.stop_reason), (RunStatus::Cancelled, StopReason::CancelledAfterStep));
    assert_one_of_the_answers(&outcome, "waiting");
    assert!(outcome.answer.is_some());
}
