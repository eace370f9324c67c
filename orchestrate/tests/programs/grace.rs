//! Votes and fusions that need so many answers, wait a while for the others, or name their authors.

use tokenhub_domain::{
    Answer, ErrorClass, FuseSpec, Kin, Outcome, PlanSpec, RunKind, RunStatus, StopReason, StopRule, VoteAnswer,
    VoteMethod, VoteSpec,
};

use crate::{
    script::{Play, Scripted, best_of_n, permutations, vote},
    specs::base,
};

const MODELS: [&str; 5] = ["m1", "m2", "m3", "m4", "m5"];
const BALLOTS: [&str; 5] = ["ballot/1", "ballot/2", "ballot/3", "ballot/4", "ballot/5"];
const FAILS: &[Play] = &[Play::Fails(ErrorClass::BadRequest)];

fn majority(voters: u32, min_success: Option<u32>, grace_ms: Option<u64>) -> VoteSpec {
    VoteSpec { method: VoteMethod::Majority, min_success, grace_ms, ..vote(voters) }
}

fn played(spec: VoteSpec, script: &[(&'static str, &[Play])], order: &[&str]) -> (Outcome, Scripted) {
    let steps = Scripted::new(&MODELS, script);
    let outcome = match steps.play_in(PlanSpec::Vote(spec), order) {
        tokenhub_orchestrate::Finished::Outcome(outcome) => *outcome,
        tokenhub_orchestrate::Finished::ClaimLost => panic!("the claim was lost"),
    };
    (outcome, steps)
}

fn answer(outcome: &Outcome) -> &VoteAnswer {
    match &outcome.answer {
        Some(Answer::Vote(answer)) => answer,
        other => panic!("no vote: {other:?}"),
    }
}

fn sleeps(steps: &Scripted) -> Vec<String> {
    steps.0.borrow().commands.iter().filter(|command| command.starts_with("sleep")).cloned().collect()
}

#[test]
fn a_vote_with_fewer_ballots_than_it_needs_fails_with_its_steps() {
    for (failing, needed, status) in [
        (0, 3, RunStatus::Completed),
        (1, 3, RunStatus::Failed),
        (1, 2, RunStatus::CompletedPartial),
        (2, 2, RunStatus::Failed),
    ] {
        let script: Vec<(&'static str, &[Play])> = BALLOTS.into_iter().take(failing).map(|it| (it, FAILS)).collect();
        let (outcome, _) = played(majority(3, Some(needed), None), &script, &[]);
        assert_eq!((outcome.status, outcome.steps.len()), (status, 3), "{failing} fail, {needed} are needed");
        assert_eq!(outcome.answer.is_some(), status != RunStatus::Failed);
    }
    let (outcome, steps) = played(majority(9, Some(6), None), &[], &[]);
    assert_eq!((outcome.stop_reason, steps.sent().len()), (StopReason::NoEligibleModel, 0), "there are five");
}

#[test]
fn an_early_stop_waits_for_as_many_as_are_needed() {
    let same: [(&str, &[Play]); 5] = BALLOTS.map(|step| (step, &[Play::Says("red")] as &[Play]));
    for (min_success, asked) in [(None, 3), (Some(4), 4)] {
        let spec = VoteSpec { stop: StopRule::Decided, parallelism: Some(1), ..majority(5, min_success, None) };
        let (outcome, steps) = played(spec, &same, &[]);
        assert_eq!((outcome.status, steps.sent().len()), (RunStatus::Completed, asked), "{min_success:?}");
    }
}

#[test]
fn whoever_is_late_is_waited_for_a_while_and_then_not_at_all() {
    // Three of five are enough for the wait to begin; the timer fires before the last two are there.
    let (outcome, steps) = played(majority(5, Some(3), Some(200)), &[], &["ballot/1", "ballot/3", "ballot/5", "sleep"]);
    assert_eq!(sleeps(&steps), ["sleep 200"]);
    assert_eq!((outcome.status, outcome.failure.is_none()), (RunStatus::Completed, true));
    assert_eq!((answer(&outcome).ballots.len(), answer(&outcome).calls_withdrawn), (3, 2));
    // They come in time: the timer is withdrawn, and everybody counts.
    let order: Vec<&str> = BALLOTS.into_iter().chain(["sleep"]).collect();
    let (outcome, steps) = played(majority(5, Some(3), Some(200)), &[], &order);
    assert_eq!((sleeps(&steps).len(), answer(&outcome).ballots.len()), (1, 5));
    assert_eq!(answer(&outcome).calls_withdrawn, 0);
    // Without a number more than half begin the wait; without the wish nobody does.
    let (outcome, _) = played(majority(5, None, Some(200)), &[], &["ballot/1", "ballot/2", "ballot/3", "sleep"]);
    assert_eq!(answer(&outcome).ballots.len(), 3);
    let (outcome, steps) = played(majority(5, Some(3), None), &[], &[]);
    assert_eq!((sleeps(&steps).len(), answer(&outcome).ballots.len()), (0, 5));
}

#[test]
fn a_wait_that_never_begins_ends_with_the_last_of_them_in_every_order() {
    let script: [(&str, &[Play]); 2] = [("ballot/1", FAILS), ("ballot/2", FAILS)];
    for order in permutations(&["ballot/1", "ballot/2", "ballot/3"]) {
        let (outcome, steps) = played(majority(3, Some(2), Some(200)), &script, &order);
        assert_eq!((outcome.status, sleeps(&steps).len()), (RunStatus::Failed, 0), "{order:?}");
    }
}

#[test]
fn a_fusion_goes_on_without_whoever_is_late() {
    let spec = FuseSpec {
        base: base(RunKind::Fuse),
        panel: 3,
        min_success: 2,
        judge_model: Some("m4".into()),
        writer_model: Some("m5".into()),
        min_weight: 0,
        judge_min_weight: 0,
        grace_ms: Some(100),
        models: Vec::new(),
    };
    let steps = Scripted::new(&MODELS, &[]);
    let finished = steps.play_in(PlanSpec::Fuse(spec), &["panel/3", "panel/1", "sleep"]);
    let tokenhub_orchestrate::Finished::Outcome(outcome) = finished else { panic!("the claim was lost") };
    let Some(Answer::Fuse(answer)) = &outcome.answer else { panic!("no fusion") };
    assert_eq!((answer.panel.len(), answer.calls_withdrawn), (2, 1));
}

#[test]
fn named_authors_are_asked_as_they_are_named_and_a_judge_is_looked_for_apart_from_them() {
    let models = vec!["m3".into(), "m1".into(), "m3".into()];
    let steps = Scripted::new(&MODELS, &[]);
    steps.play(PlanSpec::Vote(VoteSpec { models: models.clone(), ..vote(3) }));
    assert_eq!(steps.sent()[..4], ["ballot/1 m3 1", "ballot/2 m1 1", "ballot/3 m3 1", "judge m2 1"]);
    let wishes = steps.0.borrow().wishes.clone();
    assert_eq!((wishes.len(), wishes[3].apart_from), (4, Some(Kin { wishes: 3, models: 1 })));

    let steps = Scripted::new(&MODELS, &[]);
    let spec = tokenhub_domain::BestOfNSpec { models, judge_model: Some("m4".into()), ..best_of_n(3) };
    steps.play(PlanSpec::BestOfN(spec));
    assert_eq!(steps.sent()[..4], ["candidate/1 m3 1", "candidate/2 m1 1", "candidate/3 m3 1", "judge m4 1"]);
    assert_eq!(steps.0.borrow().wishes[3].apart_from, None, "who is named is named");

    let steps = Scripted::new(&MODELS, &[]);
    steps.play(PlanSpec::Vote(vote(3)));
    assert_eq!(steps.0.borrow().wishes[1].apart_from, Some(Kin { wishes: 1, models: 3 }));
}
