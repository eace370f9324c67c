//! Cascades: who is asked, what is accepted, and what that costs by enumeration.

use tokenhub_domain::{
    Answer, CascadeAnswer, CascadeCheck, CascadeSpec, ErrorClass, Outcome, PlanSpec, RunKind, RunStatus, StageVerdict,
    StopReason,
};

use crate::{
    script::{Play, Scripted},
    specs::base,
};

const YES: Play = Play::Says(r#"{"accept": true}"#);
const NO: Play = Play::Says(r#"{"accept": false}"#);

fn cascade(models: &[&str]) -> CascadeSpec {
    CascadeSpec {
        base: base(RunKind::Cascade),
        models: models.iter().map(|model| (*model).into()).collect(),
        stages: 2,
        check: CascadeCheck::Judge,
        judge_model: Some("judge-model".into()),
        min_weight: 0,
        judge_min_weight: 0,
    }
}

fn played(script: &[(&'static str, &[Play])], spec: CascadeSpec) -> (Outcome, Vec<String>) {
    let steps = Scripted::new(&["small", "big", "judge-model"], script);
    let outcome = steps.play(PlanSpec::Cascade(spec));
    (outcome, steps.sent())
}

fn answer(outcome: &Outcome) -> &CascadeAnswer {
    match &outcome.answer {
        Some(Answer::Cascade(answer)) => answer,
        other => panic!("no cascade: {other:?}"),
    }
}

fn verdicts(outcome: &Outcome) -> Vec<StageVerdict> {
    answer(outcome).stages.iter().map(|stage| stage.verdict).collect()
}

#[test]
fn accuracy_and_cost_are_those_of_the_calculation() {
    // A cheap model is right with .8 at a cost of 1; a check accepts right answers with .9 and wrong ones with .2; the big
    // model is right with .95 at a cost of 20.
    let (mut accepted, mut accuracy, mut cost) = (0.0_f64, 0.0, 0.0);
    for (right, chance_right) in [(true, 0.8), (false, 0.2)] {
        for (accepts, chance_accepts) in if right { [(true, 0.9), (false, 0.1)] } else { [(true, 0.2), (false, 0.8)] } {
            for (big_right, chance_big) in [(true, 0.95), (false, 0.05)] {
                let chance = chance_right * chance_accepts * chance_big;
                let says = |right: bool| [Play::Says(if right { "right" } else { "wrong" })];
                let (small, check, big) = (says(right), [if accepts { YES } else { NO }], says(big_right));
                let (outcome, sent) =
                    played(&[("stage/1", &small), ("check/1", &check), ("stage/2", &big)], cascade(&["small", "big"]));
                let escalated = sent.iter().any(|call| call == "stage/2 big 1");
                assert_eq!(escalated, !accepts);
                accepted += if escalated { 0.0 } else { chance };
                cost += chance * if escalated { 21.0 } else { 1.0 };
                let is_right = answer(&outcome).response.as_inline() == Some("right");
                accuracy += if is_right { chance } else { 0.0 };
            }
        }
    }
    for (sum, expected) in [(accepted, 0.76), (accuracy, 0.948), (cost, 5.8)] {
        assert!((sum - expected).abs() < 1e-9, "{accepted} {accuracy} {cost}");
    }
}

#[test]
fn what_is_accepted_ends_it_and_the_last_stage_is_not_checked() {
    let (outcome, sent) = played(&[("check/1", &[YES])], cascade(&["small", "big"]));
    assert_eq!(sent, ["stage/1 small 1", "check/1 judge-model 1"]);
    assert_eq!((verdicts(&outcome), answer(&outcome).selected), (vec![StageVerdict::Accepted], 0));
    assert_eq!((outcome.status, outcome.stop_reason), (RunStatus::Completed, StopReason::Decided));

    let (outcome, sent) = played(&[("check/1", &[NO])], cascade(&["small", "big"]));
    assert_eq!(sent, ["stage/1 small 1", "check/1 judge-model 1", "stage/2 big 1"]);
    assert_eq!(verdicts(&outcome), [StageVerdict::Rejected, StageVerdict::Last]);
    assert_eq!((outcome.status, outcome.negotiated_model.unwrap().as_str()), (RunStatus::Completed, "big"));
}

#[test]
fn a_check_without_a_verdict_moves_on_and_a_dead_stage_falls_back_to_the_answer_before() {
    let rubbish = [Play::Says("hm")];
    let (outcome, sent) = played(&[("check/1", &rubbish), ("check/1/repair", &rubbish)], cascade(&["small", "big"]));
    assert_eq!(verdicts(&outcome), [StageVerdict::Unchecked, StageVerdict::Last]);
    assert_eq!((sent.len(), outcome.status), (4, RunStatus::Completed));

    let dead = [Play::Fails(ErrorClass::BadRequest)];
    let (outcome, _) = played(&[("check/1", &[NO]), ("stage/2", &dead)], cascade(&["small", "big"]));
    assert_eq!(verdicts(&outcome), [StageVerdict::Rejected, StageVerdict::Failed]);
    assert_eq!((outcome.status, answer(&outcome).selected), (RunStatus::CompletedPartial, 0));

    let (outcome, _) = played(&[("stage/1", &dead)], cascade(&["small", "big"]));
    assert_eq!(verdicts(&outcome), [StageVerdict::Failed, StageVerdict::Last]);
    assert_eq!(outcome.status, RunStatus::Completed, "the better model answered");

    let (outcome, _) = played(&[("stage/1", &dead), ("stage/2", &dead)], cascade(&["small", "big"]));
    assert_eq!((outcome.status, outcome.answer), (RunStatus::Failed, None));
}

#[test]
fn a_schema_checks_without_a_judge_and_only_the_last_stage_is_repaired() {
    let misses = [Play::Misses("{}", "no colour")];
    let spec = || CascadeSpec { check: CascadeCheck::Schema, judge_model: None, ..cascade(&["small", "big"]) };
    let (outcome, sent) = played(&[("stage/1", &misses)], spec());
    assert_eq!(sent, ["stage/1 small 1", "stage/2 big 1"]);
    assert_eq!(verdicts(&outcome), [StageVerdict::Rejected, StageVerdict::Last]);
    let (_, sent) = played(&[("stage/1", &misses), ("stage/2", &misses)], spec());
    assert_eq!(sent, ["stage/1 small 1", "stage/2 big 1", "stage/2/repair big 1"]);
    let (_, sent) = played(&[], spec());
    assert_eq!(sent, ["stage/1 small 1"]);
}
