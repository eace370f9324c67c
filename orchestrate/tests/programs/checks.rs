//! Checks from outside: when they end a run, what the next round is told, and how much a verifier is worth.

use tokenhub_domain::{
    AdversarialSpec, Answer, BestOfNAnswer, BestOfNSpec, Checked, Outcome, OutsideCheck, PlanSpec, Prompt, RefineSpec,
    RunStatus, Segment, StepError, StopReason, StopRule, Verdict, VoteDecision, VoteMethod, VoteSpec,
};

use crate::script::{Play, Scripted, adversarial, best_of_n, permutations, refine, vote};

const MODELS: [&str; 9] = ["m1", "m2", "m3", "m4", "m5", "m6", "m7", "m8", "judge-model"];
const STEPS: [&str; 8] = [
    "candidate/1",
    "candidate/2",
    "candidate/3",
    "candidate/4",
    "candidate/5",
    "candidate/6",
    "candidate/7",
    "candidate/8",
];

fn http() -> OutsideCheck {
    OutsideCheck::Http { url: "http://verify.example/".to_owned() }
}

fn regex() -> OutsideCheck {
    OutsideCheck::Regex { pattern: "right".to_owned() }
}

/// Steps whose verifier accepts `right`, and nothing else.
fn scripted(models: &[&'static str], script: &[(&'static str, &[Play])]) -> Scripted {
    let steps = Scripted::new(models, script);
    steps.0.borrow_mut().verdicts.insert("right", Ok(Verdict::passed()));
    steps
}

fn refined(check: Option<OutsideCheck>, script: &[(&'static str, &[Play])]) -> (Outcome, Scripted) {
    let steps = scripted(&["m"], script);
    let outcome = steps.play(PlanSpec::Refine(RefineSpec { check, ..refine(3) }));
    (outcome, steps)
}

fn checks(outcome: &Outcome) -> &[Checked] {
    match &outcome.answer {
        Some(Answer::Refine(answer)) => &answer.checks,
        Some(Answer::Adversarial(answer)) => &answer.checks,
        other => panic!("nothing in rounds: {other:?}"),
    }
}

fn passes(outcome: &Outcome) -> Vec<(&str, bool)> {
    checks(outcome).iter().map(|checked| (checked.step.as_str(), checked.verdict.passed)).collect()
}

/// The literal words of the prompt of `step`.
fn told(steps: &Scripted, step: &str) -> String {
    let world = steps.0.borrow();
    let request = world.sends.iter().find(|request| request.step.as_str() == step).expect("it was asked");
    let Prompt::Derived(derived) = &request.prompt else { panic!("{step} quotes nothing") };
    let literal = |part: &Segment| match part {
        Segment::Literal(text) => Some(text.clone()),
        Segment::Answer(_) | Segment::OriginalRequest => None,
    };
    derived.parts.iter().filter_map(literal).collect()
}

#[test]
fn a_refinement_ends_with_the_first_answer_that_passes_and_reads_why_the_others_did_not() {
    let (outcome, steps) =
        refined(Some(http()), &[("answer", &[Play::Says("wrong")]), ("improvement/1", &[Play::Says("right")])]);
    assert_eq!((outcome.status, outcome.stop_reason), (RunStatus::Completed, StopReason::CheckPassed));
    assert_eq!(passes(&outcome), [("answer", false), ("improvement/1", true)]);
    assert_eq!(steps.sent(), ["answer m 1", "improvement/1 m 1"]);
    assert!(told(&steps, "improvement/1").contains("an automatic check, which says:\n\nnot good enough"));
    let asked: Vec<String> = steps.0.borrow().verified.iter().map(|it| it.step.to_string()).collect();
    assert_eq!(asked, ["answer", "improvement/1"]);

    let (outcome, steps) = refined(Some(http()), &[("answer", &[Play::Says("right")])]);
    assert_eq!((outcome.stop_reason, steps.sent().len()), (StopReason::CheckPassed, 1));
}

#[test]
fn rounds_that_are_used_up_say_that_nothing_has_passed() {
    let (outcome, steps) = refined(Some(http()), &[]);
    assert_eq!((outcome.status, outcome.stop_reason), (RunStatus::Completed, StopReason::MaxRounds));
    assert_eq!(steps.sent().len(), 4, "1 + 3 rounds");
    assert!(passes(&outcome).iter().all(|(_, passed)| !passed));
    assert_eq!(checks(&outcome).len(), 4);
}

#[test]
fn a_pattern_and_a_schema_are_read_from_the_reply_and_nobody_is_asked() {
    let (outcome, steps) =
        refined(Some(regex()), &[("answer", &[Play::Lacks("wrong")]), ("improvement/1", &[Play::Says("right")])]);
    assert_eq!((outcome.stop_reason, steps.sent().len()), (StopReason::CheckPassed, 2));
    assert!(told(&steps, "improvement/1").contains("regular expression right"));
    let script: [(&str, &[Play]); 2] =
        [("answer", &[Play::Misses("wrong", "/a: is missing")]), ("improvement/1", &[Play::Says("right")])];
    let (outcome, schema_steps) = refined(Some(OutsideCheck::Schema), &script);
    assert_eq!(outcome.stop_reason, StopReason::CheckPassed);
    assert!(told(&schema_steps, "improvement/1").contains("/a: is missing"));
    for steps in [steps, schema_steps] {
        assert!(steps.0.borrow().verified.is_empty());
    }
}

#[test]
fn an_answer_that_misses_to_the_end_is_repaired_and_then_has_passed() {
    let misses: &[Play] = &[Play::Misses("wrong", "/a: is missing")];
    let script: [(&str, &[Play]); 5] = [
        ("answer", misses),
        ("improvement/1", misses),
        ("improvement/2", misses),
        ("improvement/3", misses),
        ("improvement/3/repair", &[Play::Says("right")]),
    ];
    let (outcome, _) = refined(Some(OutsideCheck::Schema), &script);
    assert_eq!((outcome.status, outcome.stop_reason), (RunStatus::Completed, StopReason::MaxRounds));
    assert_eq!(passes(&outcome).last(), Some(&("improvement/3", true)));
}

#[test]
fn whoever_cannot_be_asked_has_not_accepted_and_nothing_is_lost() {
    for error in [StepError::TimedOut, StepError::Unavailable("gone".to_owned())] {
        let steps = Scripted::new(&["m"], &[("answer", &[Play::Says("a")]), ("improvement/1", &[Play::Says("b")])]);
        steps.0.borrow_mut().verdicts.insert("a", Err(error));
        steps.0.borrow_mut().verdicts.insert("b", Ok(Verdict::unchecked("the verifier is away")));
        let outcome = steps.play(PlanSpec::Refine(RefineSpec { check: Some(http()), ..refine(1) }));
        assert_eq!((outcome.status, outcome.stop_reason), (RunStatus::Completed, StopReason::MaxRounds));
        assert!(checks(&outcome).iter().all(|checked| !checked.verdict.passed && checked.verdict.error.is_some()));
        assert!(!told(&steps, "improvement/1").contains("check"), "that is nothing for a model");
    }
}

#[test]
fn a_run_that_is_cancelled_at_its_check_keeps_its_answer() {
    let steps = Scripted::new(&["m"], &[("answer", &[Play::Says("a")])]);
    steps.0.borrow_mut().verdicts.insert("a", Err(StepError::Cancelled));
    let outcome = steps.play(PlanSpec::Refine(RefineSpec { check: Some(http()), ..refine(1) }));
    assert_eq!((outcome.status, outcome.stop_reason), (RunStatus::Cancelled, StopReason::Cancelled));
    assert!(matches!(outcome.answer, Some(Answer::Refine(answer)) if answer.refined_response == "a".into()));
}

#[test]
fn an_adversarial_plan_that_passes_needs_no_more_critics_and_a_critic_reads_the_feedback() {
    let played = |script: &[(&'static str, &[Play])]| {
        let steps = scripted(&["m"], script);
        let outcome = steps.play(PlanSpec::Adversarial(AdversarialSpec { check: Some(http()), ..adversarial(2) }));
        (outcome, steps)
    };
    let (outcome, steps) = played(&[("plan", &[Play::Says("right")])]);
    assert_eq!((outcome.stop_reason, steps.sent().len()), (StopReason::CheckPassed, 1));
    let (outcome, steps) = played(&[("plan", &[Play::Says("wrong")]), ("revision/1", &[Play::Says("right")])]);
    assert_eq!((outcome.stop_reason, steps.sent().len()), (StopReason::CheckPassed, 3));
    assert_eq!(passes(&outcome), [("plan", false), ("revision/1", true)]);
    assert!(told(&steps, "critique/1").contains("not good enough"));
    let (outcome, steps) = played(&[]);
    assert_eq!((outcome.stop_reason, steps.sent().len()), (StopReason::MaxRounds, 5));
}

fn best(outcome: &Outcome) -> &BestOfNAnswer {
    match &outcome.answer {
        Some(Answer::BestOfN(answer)) => answer,
        other => panic!("no candidates: {other:?}"),
    }
}

fn selected(outcome: &Outcome) -> &str {
    let answer = best(outcome);
    answer.candidates[answer.selected].content.as_inline().unwrap()
}

fn first_pass(candidates: usize, parallelism: Option<u32>) -> PlanSpec {
    let candidates = u32::try_from(candidates).unwrap();
    let judge_model = Some("judge-model".into());
    PlanSpec::BestOfN(BestOfNSpec { check: Some(http()), parallelism, judge_model, ..best_of_n(candidates) })
}

/// Plays one script of right and wrong candidates.
fn drawn(said: &[&'static str], spec: PlanSpec, order: &[&str]) -> (Outcome, Scripted) {
    let plays: Vec<[Play; 1]> = said.iter().map(|text| [Play::Says(text)]).collect();
    let script: Vec<(&'static str, &[Play])> = STEPS.into_iter().zip(plays.iter().map(|plays| &plays[..])).collect();
    let steps = scripted(&MODELS, &script);
    let outcome = match steps.play_in(spec, order) {
        tokenhub_orchestrate::Finished::Outcome(outcome) => *outcome,
        tokenhub_orchestrate::Finished::ClaimLost => panic!("the claim was lost"),
    };
    (outcome, steps)
}

#[test]
fn a_perfect_verifier_is_right_as_often_as_anybody_is() {
    // 1 - .7^n, and the expected calls one at a time: (1 - .7^n) / .3.
    for (n, accuracy) in [(1, 0.3), (2, 0.51), (4, 0.7599), (8, 0.942_351_99)] {
        let (mut right, mut asked) = (0.0, 0.0);
        for bits in 0_u32..1 << n {
            let said: Vec<_> = (0..n).map(|place| if bits >> place & 1 == 1 { "right" } else { "wrong" }).collect();
            let good = i32::try_from(bits.count_ones()).unwrap();
            let chance = f64::powi(0.3, good) * f64::powi(0.7, i32::try_from(n).unwrap() - good);
            let (outcome, steps) = drawn(&said, first_pass(n, Some(1)), &[]);
            right += chance * f64::from(u8::from(selected(&outcome) == "right"));
            let calls = steps.sent().iter().filter(|call| call.starts_with("candidate")).count();
            asked += chance * f64::from(u32::try_from(calls).unwrap());
            assert_eq!(calls + best(&outcome).calls_avoided as usize, n, "{said:?}");
            // Of one candidate there is nothing to judge.
            let unpassed = if n == 1 { VoteDecision::SingleAnswer } else { VoteDecision::JudgeFailed };
            let decided = if good > 0 { VoteDecision::Check } else { unpassed };
            assert_eq!(best(&outcome).decision, decided, "a judge is asked only when nobody passes");
        }
        assert!((right - accuracy).abs() < 1e-9, "n {n}: {right}");
        assert!((asked - accuracy / 0.3).abs() < 1e-9, "n {n}: {asked} calls");
    }
}

#[test]
fn at_any_width_and_in_any_order_whoever_passes_first_is_the_answer() {
    for bits in 1_u32..1 << 4 {
        let said: Vec<_> = (0..4).map(|place| if bits >> place & 1 == 1 { "right" } else { "wrong" }).collect();
        for order in permutations(&STEPS[..4]) {
            // Each is checked as soon as it is there.
            let checks: Vec<String> = order.iter().map(|step| format!("check {step}")).collect();
            let labels: Vec<&str> =
                order.iter().zip(&checks).flat_map(|(step, check)| [*step, check.as_str()]).collect();
            let (outcome, steps) = drawn(&said, first_pass(4, None), &labels);
            let first = order.iter().find(|step| said[STEPS.iter().position(|it| it == *step).unwrap()] == "right");
            let answer = best(&outcome);
            assert_eq!(answer.candidates[answer.selected].step.as_str(), *first.unwrap(), "{said:?} in {order:?}");
            assert_eq!((outcome.status, outcome.stop_reason), (RunStatus::Completed, StopReason::CheckPassed));
            assert_eq!(steps.sent().len(), 4, "all at once");
        }
        for width in 1..=4 {
            let (outcome, _) = drawn(&said, first_pass(4, Some(width)), &[]);
            assert_eq!(selected(&outcome), "right", "{said:?}, {width} at a time");
        }
    }
}

#[test]
fn when_nobody_passes_the_judge_decides_and_the_result_says_so() {
    let script: [(&str, &[Play]); 3] = [
        ("candidate/1", &[Play::Says("one")]),
        ("candidate/2", &[Play::Says("two")]),
        ("judge", &[Play::Says(r#"{"scores": [40, 40]}"#)]),
    ];
    let steps = scripted(&MODELS, &script);
    let outcome = steps.play(first_pass(2, None));
    let answer = best(&outcome);
    assert_eq!((answer.decision, outcome.stop_reason), (VoteDecision::Judge, StopReason::Decided));
    assert!(answer.candidates.iter().all(|one| one.check.as_ref().is_some_and(|check| !check.passed)));
}

#[test]
fn a_vote_takes_the_first_ballot_that_passes_and_else_its_majority() {
    let spec = |check| {
        let (method, stop) = (VoteMethod::Majority, StopRule::FirstPass);
        PlanSpec::Vote(VoteSpec { method, stop, check, parallelism: Some(1), ..vote(3) })
    };
    let script: [(&str, &[Play]); 3] = [
        ("ballot/1", &[Play::Says("wrong")]),
        ("ballot/2", &[Play::Says("right")]),
        ("ballot/3", &[Play::Says("wrong")]),
    ];
    let steps = scripted(&MODELS, &script);
    let outcome = steps.play(spec(Some(http())));
    let Some(Answer::Vote(answer)) = &outcome.answer else { panic!("no vote") };
    assert_eq!((answer.selected, answer.decision, answer.calls_avoided), (1, VoteDecision::Check, 1));
    assert_eq!((outcome.stop_reason, steps.sent().len()), (StopReason::CheckPassed, 2));
    let steps = Scripted::new(&MODELS, &script);
    let outcome = steps.play(spec(Some(http())));
    let Some(Answer::Vote(answer)) = &outcome.answer else { panic!("no vote") };
    assert_eq!((answer.selected, answer.decision), (0, VoteDecision::Majority));
}
