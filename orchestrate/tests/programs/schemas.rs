//! Answers that do not match their schema: one repair of the answer that counts, and the policy when it does not help.

use tokenhub_domain::{
    Answer, ErrorClass, OnMismatch, Outcome, OutputWish, PlanSpec, Prompt, ReplyForm, Role, RunStatus, SpecBase,
    StopReason,
};

use crate::script::{
    Play::{self, Fails, Misses, Says},
    Scripted, adversarial, best_of_n, chat, refine, vote,
};

fn with_schema(base: &mut SpecBase, on_mismatch: OnMismatch) {
    base.output = OutputWish { schema: Some(r#"{"type":"object"}"#.into()), on_mismatch, ..OutputWish::default() };
}

fn chat_with(plays: &[(&'static str, &[Play])], on_mismatch: OnMismatch) -> (Scripted, Outcome) {
    let steps = Scripted::new(&["a", "b"], plays);
    let mut spec = chat();
    with_schema(&mut spec.base, on_mismatch);
    let outcome = steps.play(PlanSpec::Chat(spec));
    (steps, outcome)
}

fn body(outcome: &Outcome) -> Option<&str> {
    match &outcome.answer {
        Some(Answer::Chat { body }) => body.as_inline(),
        _ => None,
    }
}

#[test]
fn an_answer_that_matches_takes_no_step_more() {
    let (steps, outcome) = chat_with(&[("answer", &[Says("{}")])], OnMismatch::Fail);
    assert_eq!(steps.sent(), ["answer a 1"]);
    assert_eq!((outcome.status, body(&outcome)), (RunStatus::Completed, Some("{}")));
}

#[test]
fn an_answer_that_does_not_is_repaired_once_by_its_author_in_a_billed_step() {
    let plays: &[(&str, &[Play])] = &[("answer", &[Misses("[]", "not an object")]), ("answer/repair", &[Says("{}")])];
    let (steps, outcome) = chat_with(plays, OnMismatch::Fail);
    assert_eq!(steps.sent(), ["answer a 1", "answer/repair a 1"]);
    assert_eq!((outcome.status, outcome.stop_reason), (RunStatus::Completed, StopReason::Answered));
    assert_eq!((body(&outcome), outcome.usage.calls, outcome.usage.input_tokens), (Some("{}"), 2, 6));
    let [first, second] = outcome.steps.as_slice() else { panic!("two steps") };
    assert_eq!((first.error_class, second.error_class), (Some(ErrorClass::BadOutput), None));
    assert_eq!((second.id.as_str(), second.role), ("answer/repair", Role::Answer));
    let repair = steps.0.borrow().sends[1].clone();
    assert_eq!((repair.form, repair.output.schema.is_some()), (ReplyForm::Body, true));
    let Prompt::Repair(repair) = repair.prompt else { panic!("a repair") };
    assert!(matches!(repair.question, Prompt::Original(_)) && repair.complaint.contains("not an object"));
    assert_eq!(repair.answer.as_inline(), Some("[]"));
}

#[test]
fn after_a_repair_that_does_not_help_the_policy_decides() {
    let plays: &[(&str, &[Play])] =
        &[("answer", &[Misses("[]", "not an object")]), ("answer/repair", &[Misses("7", "still\nnone")])];
    let (_, failed) = chat_with(plays, OnMismatch::Fail);
    assert_eq!((failed.status, body(&failed), failed.usage.calls), (RunStatus::Failed, None, 2));
    let failure = failed.failure.unwrap();
    assert_eq!(failure.class, ErrorClass::BadOutput);
    assert!(failure.message.ends_with("still; none"), "{}", failure.message);
    let (_, kept) = chat_with(plays, OnMismatch::Keep);
    assert_eq!((kept.status, kept.stop_reason), (RunStatus::CompletedPartial, StopReason::SchemaMismatch));
    assert_eq!(body(&kept), Some("7"));
    assert!(kept.steps.iter().all(|step| step.error_class == Some(ErrorClass::BadOutput)));
}

#[test]
fn a_repair_that_fails_leaves_the_first_answer_to_the_policy() {
    let plays: &[(&str, &[Play])] =
        &[("answer", &[Misses("[]", "not an object")]), ("answer/repair", &[Fails(ErrorClass::ServerError)])];
    let (steps, kept) = chat_with(plays, OnMismatch::Keep);
    assert_eq!(steps.sent().len(), 4, "three tries, and no other author");
    assert_eq!(body(&kept), Some("[]"));
    assert_eq!(kept.failure.unwrap().class, ErrorClass::BadOutput);
    let (_, failed) = chat_with(plays, OnMismatch::Fail);
    assert_eq!(failed.failure.unwrap().class, ErrorClass::BadOutput);
}

#[test]
fn plans_repair_the_answer_that_they_return_and_no_draft() {
    let mut spec = vote(2);
    with_schema(&mut spec.base, OnMismatch::Fail);
    let miss = |text| [Misses(text, "wrong")];
    let (one, two) = (miss("1"), miss("2"));
    let steps = Scripted::new(
        &["a", "b", "c"],
        &[
            ("ballot/1", &one),
            ("ballot/2", &two),
            ("ballot/1/repair", &[Says("{}")]),
            ("ballot/2/repair", &[Says("{}")]),
            ("judge", &[Says("1")]),
        ],
    );
    let outcome = steps.play(PlanSpec::Vote(spec));
    assert_eq!((outcome.status, steps.sent().len()), (RunStatus::Completed, 4));
    let Some(Answer::Vote(answer)) = outcome.answer else { panic!("a vote") };
    assert_eq!(answer.ballots[answer.selected].content.as_inline(), Some("{}"));

    let mut spec = refine(1);
    with_schema(&mut spec.base, OnMismatch::Fail);
    let steps =
        Scripted::new(&["a"], &[("answer", &one), ("improvement/1", &two), ("improvement/1/repair", &[Says("{}")])]);
    let outcome = steps.play(PlanSpec::Refine(spec));
    assert_eq!(steps.sent(), ["answer a 1", "improvement/1 a 1", "improvement/1/repair a 1"]);
    let Some(Answer::Refine(answer)) = outcome.answer else { panic!("a refinement") };
    assert_eq!(answer.refined_response.as_inline(), Some("{}"));

    let mut spec = adversarial(1);
    with_schema(&mut spec.base, OnMismatch::Fail);
    let steps = Scripted::new(&["a"], &[("revision/1", &two), ("revision/1/repair", &[Says("{}")])]);
    let outcome = steps.play(PlanSpec::Adversarial(spec));
    let Some(Answer::Adversarial(answer)) = outcome.answer else { panic!("a plan") };
    assert_eq!(answer.rounds[0].refined_plan.as_inline(), Some("{}"));
    let critique = steps.0.borrow().sends[1].clone();
    assert!(critique.role == Role::Critic && critique.output.is_empty(), "a critic writes for the program");

    let mut spec = best_of_n(2);
    with_schema(&mut spec.base, OnMismatch::Keep);
    let steps = Scripted::new(
        &["a"],
        &[
            ("candidate/1", &one),
            ("candidate/2", &one),
            ("candidate/1/repair", &two),
            ("candidate/2/repair", &two),
            ("judge", &[Says(r#"{"scores":[9,1]}"#)]),
        ],
    );
    let outcome = steps.play(PlanSpec::BestOfN(spec));
    assert_eq!(outcome.stop_reason, StopReason::SchemaMismatch);
    let Some(Answer::BestOfN(answer)) = outcome.answer else { panic!("candidates") };
    assert_eq!(answer.candidates[answer.selected].content.as_inline(), Some("2"));
}

#[test]
fn an_answer_that_is_wanted_all_the_same_does_not_match_also_when_no_time_is_left_to_repair_it() {
    let steps = Scripted::new(&["a"], &[("answer", &[Misses("[]", "not an object")])]);
    let mut spec = chat();
    with_schema(&mut spec.base, OnMismatch::Keep);
    spec.base.deadline_ms = 1;
    let kept = steps.play(PlanSpec::Chat(spec));
    assert_eq!(steps.sent(), ["answer a 1"]);
    assert_eq!((kept.status, kept.stop_reason), (RunStatus::CompletedPartial, StopReason::SchemaMismatch));
    assert_eq!(body(&kept), Some("[]"));
    assert_eq!(kept.failure.map(|failure| failure.class), Some(ErrorClass::StepDeadline));
}
