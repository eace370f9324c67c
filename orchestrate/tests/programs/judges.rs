//! Choosing the judge, reading it, and doing without it.

use tokenhub_domain::{
    Answer, BestOfNAnswer, ErrorClass, Outcome, PlanSpec, RunStatus, StepError, StopReason, VoteAnswer, VoteDecision,
    VoteMethod,
};
use tokenhub_orchestrate::ballot_order;

use crate::script::{Play, RUN_ID, Scripted, best_of_n, vote};

const MODELS: [&str; 4] = ["a", "b", "c", "d"];

fn voted(outcome: &Outcome) -> &VoteAnswer {
    match &outcome.answer {
        Some(Answer::Vote(answer)) => answer,
        _ => panic!("not a vote: {outcome:?}"),
    }
}

fn scored(outcome: &Outcome) -> &BestOfNAnswer {
    match &outcome.answer {
        Some(Answer::BestOfN(answer)) => answer,
        _ => panic!("not a best-of-n: {outcome:?}"),
    }
}

fn senders(steps: &Scripted) -> Vec<String> {
    steps.sent().iter().map(|sent| sent.trim_end_matches(" 1").to_owned()).collect()
}

/// The number under which the judge sees the ballot `index` of `count`.
fn place_of(index: usize, count: usize) -> usize {
    ballot_order(&RUN_ID.into(), count).iter().position(|shown| *shown == index).unwrap() + 1
}

#[test]
fn the_verdict_is_mapped_back_from_the_shuffled_order() {
    for (index, reply) in [(0, "{\"winner\": 1}"), (1, "{\"winner\": 2}"), (2, "{\"winner\": 3}")] {
        let steps = Scripted::new(&MODELS, &[("judge", &[Play::Says(reply)])]);
        let outcome = steps.play(PlanSpec::Vote(vote(3)));
        let answer = voted(&outcome);
        assert_eq!(place_of(answer.selected, 3), index + 1);
        assert_eq!((answer.decision, answer.judge.as_ref().unwrap().as_str()), (VoteDecision::Judge, "d"));
        assert_eq!(outcome.negotiated_model.as_ref(), Some(&answer.ballots[answer.selected].model));
        assert_eq!(outcome.routing_reason, "vote-orchestration");
    }
}

#[test]
fn a_named_judge_is_not_on_the_ballot() {
    let steps = Scripted::new(&MODELS, &[("judge", &[Play::Says("1")])]);
    let mut spec = vote(3);
    spec.judge_model = Some("b".into());
    steps.play(PlanSpec::Vote(spec));
    assert_eq!(senders(&steps), ["ballot/1 a", "ballot/2 c", "ballot/3 d", "judge b"]);
}

#[test]
fn a_judge_asked_to_vote_does_both() {
    let steps = Scripted::new(&MODELS, &[("judge", &[Play::Says("1")])]);
    let mut spec = vote(3);
    (spec.judge_model, spec.judge_votes) = (Some("b".into()), true);
    steps.play(PlanSpec::Vote(spec));
    assert_eq!(senders(&steps), ["ballot/1 a", "ballot/2 b", "ballot/3 c", "judge b"]);
}

#[test]
fn with_three_models_one_judges_with_two_both_vote_and_with_one_nobody_judges() {
    for (models, expected) in [
        (vec!["a", "b", "c"], vec!["ballot/1 a", "ballot/2 b", "judge c"]),
        (vec!["a", "b"], vec!["ballot/1 a", "ballot/2 b", "judge a"]),
        (vec!["a"], vec!["ballot/1 a"]),
    ] {
        let steps = Scripted::new(&models, &[("judge", &[Play::Says("1")])]);
        let outcome = steps.play(PlanSpec::Vote(vote(3)));
        assert_eq!(senders(&steps), expected);
        assert_eq!(outcome.status, RunStatus::Completed);
    }
}

#[test]
fn prose_is_no_verdict_and_one_repair_is_asked_for() {
    for rubbish in ["Response 2 is better than response 3", "I pick 1 (score 3/10)", "{\"winner\": 4}", ""] {
        let script: &[(&str, &[Play])] =
            &[("judge", &[Play::SaysText(rubbish.into())]), ("judge/repair", &[Play::Says("{\"winner\": 3}")])];
        let steps = Scripted::new(&MODELS, script);
        let outcome = steps.play(PlanSpec::Vote(vote(3)));
        assert_eq!(senders(&steps)[3..], ["judge d", "judge/repair d"], "{rubbish:?}");
        assert_eq!(voted(&outcome).decision, VoteDecision::JudgeRepaired);
        assert_eq!(place_of(voted(&outcome).selected, 3), 3);
        assert_eq!(outcome.steps[3].error_class, Some(ErrorClass::BadOutput));
        assert_eq!(outcome.steps[4].error_class, None);
        assert_eq!((outcome.status, outcome.failure), (RunStatus::Completed, None));
    }
}

#[test]
fn a_judge_without_a_verdict_leaves_the_choice_to_the_majority() {
    let voters: [(&str, &[Play]); 3] = [
        ("ballot/1", &[Play::Says("Rome")]),
        ("ballot/2", &[Play::Says("Paris")]),
        ("ballot/3", &[Play::Says("The answer is paris.")]),
    ];
    let rubbish: &[(&str, &[Play])] = &[("judge", &[Play::Says("hm")]), ("judge/repair", &[Play::Says("hm")])];
    let dead: &[(&str, &[Play])] = &[("judge", &[Play::Fails(ErrorClass::ServerError)])];
    let dead_in_repair: &[(&str, &[Play])] =
        &[("judge", &[Play::Says("hm")]), ("judge/repair", &[Play::Fails(ErrorClass::AuthFailed)])];
    for (judge, class) in
        [(rubbish, ErrorClass::BadOutput), (dead, ErrorClass::ServerError), (dead_in_repair, ErrorClass::AuthFailed)]
    {
        let steps = Scripted::new(&MODELS, &[&voters, judge].concat());
        let outcome = steps.play(PlanSpec::Vote(vote(3)));
        assert_eq!((outcome.status, outcome.stop_reason), (RunStatus::CompletedPartial, StopReason::Decided));
        assert_eq!(outcome.failure.as_ref().map(|failure| failure.class), Some(class));
        assert_eq!(voted(&outcome).decision, VoteDecision::JudgeFailed);
        assert_eq!(voted(&outcome).selected, 1);
        assert_eq!(voted(&outcome).tally, [vec![1, 2], vec![0]]);
        assert_eq!(outcome.steps.last().unwrap().error_class, Some(class));
    }
}

#[test]
fn without_a_majority_the_first_voter_wins() {
    let steps = Scripted::new(&MODELS, &[("judge", &[Play::Fails(ErrorClass::BadRequest)])]);
    assert_eq!(voted(&steps.play(PlanSpec::Vote(vote(3)))).selected, 0);
}

#[test]
fn a_dead_judge_is_replaced_by_the_next_on_its_list() {
    let script: &[(&str, &[Play])] = &[("judge", &[Play::Fails(ErrorClass::AuthFailed), Play::Says("1")])];
    let steps = Scripted::new(&["a", "b", "c", "d"], script);
    let outcome = steps.play(PlanSpec::Vote(vote(2)));
    assert_eq!(senders(&steps), ["ballot/1 a", "ballot/2 b", "judge c", "judge d"]);
    assert_eq!(voted(&outcome).judge, Some("d".into()));
    assert_eq!(voted(&outcome).decision, VoteDecision::Judge);
}

#[test]
fn the_repair_goes_to_the_judge_that_replied() {
    let away = [Play::Fails(ErrorClass::AuthFailed), Play::Says("hm")];
    let script: &[(&str, &[Play])] = &[("judge", &away), ("judge/repair", &[Play::Says("1")])];
    let steps = Scripted::new(&["a", "b", "c", "d"], script);
    steps.play(PlanSpec::Vote(vote(2)));
    assert_eq!(senders(&steps)[2..], ["judge c", "judge d", "judge/repair d"]);
}

#[test]
fn a_cancelled_voter_means_a_cancelled_run_whatever_the_judge_says() {
    for judge in [Play::Says("1"), Play::Fails(ErrorClass::BadRequest)] {
        let script: &[(&str, &[Play])] =
            &[("ballot/1", &[Play::Breaks(StepError::Cancelled)]), ("judge", std::slice::from_ref(&judge))];
        let steps = Scripted::new(&MODELS, script);
        let outcome = steps.play(PlanSpec::Vote(vote(3)));
        assert_eq!((outcome.status, outcome.stop_reason), (RunStatus::Cancelled, StopReason::Cancelled), "{judge:?}");
        assert_eq!(outcome.failure.unwrap().class, ErrorClass::Cancelled, "{judge:?}");
    }
}

#[test]
fn a_majority_vote_has_no_judge_and_all_models_may_vote() {
    let steps = Scripted::new(&["a", "b", "c"], &[]);
    let mut spec = vote(3);
    spec.method = VoteMethod::Majority;
    let outcome = steps.play(PlanSpec::Vote(spec));
    assert_eq!(senders(&steps), ["ballot/1 a", "ballot/2 b", "ballot/3 c"]);
    assert_eq!(steps.0.borrow().wishes.len(), 1);
    assert_eq!((voted(&outcome).decision, &voted(&outcome).judge), (VoteDecision::Majority, &None));
}

#[test]
fn scores_are_mapped_back_and_the_first_of_the_highest_wins() {
    let steps = Scripted::new(&["a", "b", "c", "d"], &[("judge", &[Play::Says("{\"scores\": [70, 90, 90]}")])]);
    let outcome = steps.play(PlanSpec::BestOfN(best_of_n(3)));
    let answer = scored(&outcome);
    for (index, candidate) in answer.candidates.iter().enumerate() {
        assert_eq!(candidate.score, Some([70, 90, 90][place_of(index, 3) - 1]));
    }
    let expected = answer.candidates.iter().position(|candidate| candidate.score == Some(90)).unwrap();
    assert_eq!(answer.selected, expected);
    assert_eq!(outcome.negotiated_model.as_ref(), Some(&answer.candidates[expected].model));
    assert_eq!(outcome.routing_reason, "best-of-n-orchestration");
    assert_eq!(senders(&steps), ["candidate/1 a", "candidate/2 b", "candidate/3 c", "judge d"]);
}

#[test]
fn models_write_in_turn_when_there_are_fewer_than_candidates() {
    let steps = Scripted::new(&["a", "b"], &[("judge", &[Play::Says("{\"scores\": [1, 2, 3, 4, 5]}")])]);
    steps.play(PlanSpec::BestOfN(best_of_n(5)));
    let expected = ["candidate/1 a", "candidate/2 b", "candidate/3 a", "candidate/4 b", "candidate/5 a", "judge a"];
    assert_eq!(senders(&steps), expected);
}

#[test]
fn without_scores_the_first_candidate_wins_and_it_is_said() {
    let script: &[(&str, &[Play])] =
        &[("judge", &[Play::Says("[1, 2, 3]")]), ("judge/repair", &[Play::Says("{\"scores\": [1, 2]}")])];
    let steps = Scripted::new(&MODELS, script);
    let outcome = steps.play(PlanSpec::BestOfN(best_of_n(3)));
    assert_eq!((scored(&outcome).selected, scored(&outcome).decision), (0, VoteDecision::JudgeFailed));
    assert!(scored(&outcome).candidates.iter().all(|candidate| candidate.score.is_none()));
    assert_eq!((outcome.status, outcome.stop_reason), (RunStatus::CompletedPartial, StopReason::Decided));
    assert_eq!(outcome.failure.unwrap().class, ErrorClass::BadOutput);
}

#[test]
fn a_single_candidate_is_not_scored() {
    let steps = Scripted::new(&MODELS, &[]);
    let outcome = steps.play(PlanSpec::BestOfN(best_of_n(1)));
    assert_eq!(senders(&steps), ["candidate/1 a"]);
    assert_eq!((outcome.status, outcome.stop_reason), (RunStatus::Completed, StopReason::SingleAnswer));
    assert_eq!(scored(&outcome).decision, VoteDecision::SingleAnswer);
}
