//! Retries, failover, deadlines and half-finished runs.

use tokenhub_domain::{
    Answer, ErrorClass, NextMove, Outcome, PlanSpec, RunStatus, StepError, StopReason, Text, VoteDecision,
};

use crate::script::{LATENCY_MS, Play, Scripted, adversarial, chat, refine, vote};

fn sleeps(steps: &Scripted) -> Vec<String> {
    let world = steps.0.borrow();
    world.commands.iter().filter(|command| command.starts_with("sleep")).cloned().collect()
}

fn ending(outcome: &Outcome) -> (RunStatus, StopReason) {
    (outcome.status, outcome.stop_reason)
}

#[test]
fn a_rate_limit_is_waited_out_at_the_same_model() {
    let hint = Play::FailsWithHint(ErrorClass::RateLimited, 1_000);
    let steps = Scripted::new(&["a", "b"], &[("answer", &[hint.clone(), hint, Play::Says("{}")])]);
    let outcome = steps.play(PlanSpec::Chat(chat()));
    assert_eq!(steps.sent(), ["answer a 1", "answer a 2", "answer a 3"]);
    assert_eq!(sleeps(&steps), ["sleep 1000", "sleep 1000"]);
    assert_eq!(outcome.routing_reason, "routed");
    assert_eq!(outcome.steps[0].attempts, 3);
    assert_eq!(outcome.steps[0].latency_ms, 3 * LATENCY_MS);
    assert_eq!(outcome.steps[0].error_class, None);
}

#[test]
fn a_model_that_stays_down_is_left_after_three_tries_and_tries_start_anew() {
    let down = Play::Fails(ErrorClass::ServerError);
    let plays = [down.clone(), down.clone(), down.clone(), down, Play::Says("{}")];
    let steps = Scripted::new(&["a", "b"], &[("answer", &plays)]);
    let outcome = steps.play(PlanSpec::Chat(chat()));
    assert_eq!(steps.sent(), ["answer a 1", "answer a 2", "answer a 3", "answer b 1", "answer b 2"]);
    assert_eq!(outcome.routing_reason, "routed-after-failover");
    assert_eq!(outcome.negotiated_model, Some("b".into()));
    assert_eq!(outcome.steps[0].model, Some("b".into()));
    assert_eq!(outcome.answer, Some(Answer::Chat { body: "{}".into() }));
}

#[test]
fn a_bad_request_is_one_call() {
    let steps = Scripted::new(&["a", "b"], &[("answer", &[Play::Fails(ErrorClass::BadRequest)])]);
    let outcome = steps.play(PlanSpec::Chat(chat()));
    assert_eq!(steps.sent(), ["answer a 1"]);
    assert_eq!(ending(&outcome), (RunStatus::Failed, StopReason::AllFailed));
    assert_eq!(outcome.failure.unwrap().message, "BadRequest in answer");
}

#[test]
fn a_named_model_is_asked_at_its_own_deployments_only() {
    let steps = Scripted::new(&["a", "b@p", "b@q"], &[("answer", &[Play::Fails(ErrorClass::AuthFailed)])]);
    let outcome = steps.play(PlanSpec::Chat(tokenhub_domain::ChatSpec { model: Some("b".into()), ..chat() }));
    assert_eq!(steps.sent(), ["answer b 1", "answer b 1"]);
    assert_eq!(ending(&outcome), (RunStatus::Failed, StopReason::AllFailed));
    assert_eq!(outcome.routing_reason, "model-named");
}

#[test]
fn a_context_overflow_is_sent_once_more_with_a_smaller_limit() {
    let steps = Scripted::new(&["a"], &[("answer", &[Play::Fails(ErrorClass::ContextTooLong), Play::Says("{}")])]);
    let mut spec = chat();
    spec.base.estimated_output_tokens = 9_000;
    steps.play(PlanSpec::Chat(spec));
    let world = steps.0.borrow();
    assert_eq!(world.sends.iter().map(|it| it.max_output_tokens).collect::<Vec<_>>(), [None, Some(100)]);
    assert_eq!(world.classified[0].max_output_tokens, Some(9_000));
}

#[test]
fn a_classifier_that_never_stops_is_stopped() {
    let steps = Scripted::new(&["a"], &[("answer", &[Play::Fails(ErrorClass::ServerError)])]);
    steps.0.borrow_mut().classify = |_| Ok(NextMove::Retry { delay_ms: 1 });
    assert_eq!(steps.play(PlanSpec::Chat(chat())).steps[0].attempts, 10);
}

#[test]
fn a_classifier_that_is_away_leaves_the_providers_failure() {
    let steps = Scripted::new(&["a", "b"], &[("answer", &[Play::Fails(ErrorClass::Overloaded)])]);
    steps.0.borrow_mut().classify = |_| Err(StepError::TimedOut);
    let outcome = steps.play(PlanSpec::Chat(chat()));
    assert_eq!(outcome.failure.unwrap().class, ErrorClass::Overloaded);
    assert_eq!(steps.sent().len(), 1);
}

#[test]
fn a_call_gets_what_is_left_of_the_run_and_at_most_ten_minutes() {
    let steps = Scripted::new(&["a"], &[("answer", &[Play::SaysAfter(400, "x")])]);
    let mut spec = refine(1);
    spec.base.policy.max_latency_ms = Some(1_000);
    steps.play(PlanSpec::Refine(spec));
    assert_eq!(steps.0.borrow().sends.iter().map(|it| it.timeout_ms).collect::<Vec<_>>(), [1_000, 600]);

    let steps = Scripted::new(&["a"], &[]);
    steps.play(PlanSpec::Chat(chat()));
    assert_eq!(steps.0.borrow().sends[0].timeout_ms, 600_000);
}

#[test]
fn a_run_out_of_time_keeps_its_best_answer_and_makes_no_further_call() {
    let steps = Scripted::new(&["a"], &[("improvement/1", &[Play::SaysAfter(5_000, "better")])]);
    let mut spec = refine(3);
    spec.base.deadline_ms = 5_000;
    let outcome = steps.play(PlanSpec::Refine(spec));
    assert_eq!(ending(&outcome), (RunStatus::CompletedPartial, StopReason::DeadlineExceeded));
    assert_eq!(outcome.failure.unwrap().class, ErrorClass::StepDeadline);
    assert_eq!(outcome.steps[2].attempts, 0);
    assert_eq!(steps.sent().len(), 2);
    let Some(Answer::Refine(answer)) = outcome.answer else { panic!("not a refinement") };
    assert_eq!((answer.refined_response, answer.iterations), ("better".into(), 1));

    let steps = Scripted::new(&["a"], &[]);
    let mut spec = chat();
    spec.base.deadline_ms = 0;
    let outcome = steps.play(PlanSpec::Chat(spec));
    assert_eq!(ending(&outcome), (RunStatus::DeadlineExceeded, StopReason::DeadlineExceeded));
    assert!(steps.sent().is_empty());
}

#[test]
fn adversarial_returns_every_critique_and_each_plan() {
    let steps = Scripted::new(&["a", "b"], &[]);
    let mut spec = adversarial(2);
    (spec.primary_model, spec.review_model) = (Some("a".into()), Some("b".into()));
    let outcome = steps.play(PlanSpec::Adversarial(spec));
    let expected = ["plan a 1", "critique/1 b 1", "revision/1 a 1", "critique/2 b 1", "revision/2 a 1"];
    assert_eq!(steps.sent(), expected);
    let Some(Answer::Adversarial(answer)) = outcome.answer else { panic!("not adversarial") };
    assert_eq!(answer.initial_plan, "text of plan".into());
    let rounds: Vec<(&str, &str)> = answer
        .rounds
        .iter()
        .map(|round| (round.critique.as_inline().unwrap(), round.refined_plan.as_inline().unwrap()))
        .collect();
    let expected = [("text of critique/1", "text of revision/1"), ("text of critique/2", "text of revision/2")];
    assert_eq!(rounds, expected);
    assert_eq!(answer.unanswered_critique, None);
    assert_eq!(outcome.routing_reason, "adversarial-orchestration");
}

#[test]
fn a_failing_second_round_keeps_the_first_and_the_unanswered_critique() {
    for (failing, rounds, unanswered) in [("critique/2", 1, None), ("revision/2", 1, Some("text of critique/2"))] {
        let steps = Scripted::new(&["a"], &[(failing, &[Play::Fails(ErrorClass::BadRequest)])]);
        let outcome = steps.play(PlanSpec::Adversarial(adversarial(3)));
        assert_eq!(ending(&outcome), (RunStatus::CompletedPartial, StopReason::RoundFailed), "{failing}");
        let Some(Answer::Adversarial(answer)) = outcome.answer else { panic!("not adversarial") };
        assert_eq!(answer.rounds.len(), rounds, "{failing}");
        assert_eq!(answer.unanswered_critique, unanswered.map(Text::from), "{failing}");
    }
}

#[test]
fn only_the_plan_is_one_call_and_no_critic_is_looked_for() {
    let steps = Scripted::new(&["a"], &[]);
    let mut spec = adversarial(5);
    spec.return_plan_only = true;
    spec.review_model = Some("nobody".into());
    let outcome = steps.play(PlanSpec::Adversarial(spec));
    assert_eq!(steps.sent(), ["plan a 1"]);
    assert_eq!(ending(&outcome), (RunStatus::Completed, StopReason::PlanOnly));
    assert_eq!(outcome.routing_reason, "adversarial-plan-only");
}

#[test]
fn whoever_answered_after_a_failover_is_asked_first_in_the_next_round() {
    let away = [Play::Fails(ErrorClass::AuthFailed), Play::Says("plan of b")];
    let steps = Scripted::new(&["a", "b"], &[("plan", &away)]);
    let outcome = steps.play(PlanSpec::Adversarial(adversarial(1)));
    assert_eq!(steps.sent(), ["plan a 1", "plan b 1", "critique/1 a 1", "revision/1 b 1"]);
    assert_eq!(outcome.negotiated_model, Some("b".into()));
}

#[test]
fn a_critic_that_answered_after_a_failover_is_asked_first_in_the_next_round() {
    let away = [Play::Fails(ErrorClass::AuthFailed), Play::Says("critique of b")];
    let steps = Scripted::new(&["a", "b"], &[("critique/1", &away)]);
    steps.play(PlanSpec::Adversarial(adversarial(2)));
    let critics: Vec<String> = steps.sent().into_iter().filter(|sent| sent.starts_with("critique")).collect();
    assert_eq!(critics, ["critique/1 a 1", "critique/1 b 1", "critique/2 b 1"]);
}

#[test]
fn refine_stays_with_its_author_and_counts_completed_improvements() {
    let away = [Play::Fails(ErrorClass::AuthFailed), Play::Says("first")];
    let failing = [Play::Fails(ErrorClass::ServerError)];
    let steps = Scripted::new(&["a", "b", "c"], &[("answer", &away), ("improvement/2", &failing)]);
    let outcome = steps.play(PlanSpec::Refine(refine(5)));
    let expected = ["answer a 1", "answer b 1", "improvement/1 b 1", "improvement/2 b 1", "improvement/2 b 2"];
    assert_eq!(steps.sent()[..5], expected);
    assert_eq!(steps.sent().len(), 6, "three tries at the author and nobody else");
    assert_eq!(ending(&outcome), (RunStatus::CompletedPartial, StopReason::RoundFailed));
    let Some(Answer::Refine(answer)) = outcome.answer else { panic!("not a refinement") };
    assert_eq!((answer.iterations, answer.model.as_str()), (1, "b"));
    assert_eq!(answer.refined_response, "text of improvement/1".into());
}

#[test]
fn a_voter_that_fails_is_recorded_and_missed() {
    let script: &[(&str, &[Play])] =
        &[("ballot/2", &[Play::Fails(ErrorClass::ServerError)]), ("judge", &[Play::Says("1")])];
    let steps = Scripted::new(&["a", "b", "c", "d"], script);
    let outcome = steps.play(PlanSpec::Vote(vote(3)));
    assert_eq!(ending(&outcome), (RunStatus::CompletedPartial, StopReason::Decided));
    assert_eq!(outcome.steps[1].error_class, Some(ErrorClass::ServerError));
    assert_eq!(outcome.steps[1].attempts, 3);
    let Some(Answer::Vote(answer)) = outcome.answer else { panic!("not a vote") };
    let voters: Vec<&str> = answer.ballots.iter().map(|ballot| ballot.step.as_str()).collect();
    assert_eq!(voters, ["ballot/1", "ballot/3"]);
}

#[test]
fn a_voter_fails_over_to_another_deployment_of_its_model_and_to_no_other_model() {
    let script: &[(&str, &[Play])] =
        &[("ballot/1", &[Play::Fails(ErrorClass::AuthFailed)]), ("judge", &[Play::Says("1")])];
    let steps = Scripted::new(&["a@p", "b@p", "a@q", "c@p"], script);
    let outcome = steps.play(PlanSpec::Vote(vote(2)));
    let mut ballots: Vec<String> = steps.sent().into_iter().filter(|sent| sent.starts_with("ballot/1")).collect();
    ballots.dedup();
    assert_eq!(ballots, ["ballot/1 a 1"]);
    assert_eq!(outcome.steps[0].attempts, 2);
    assert_eq!(outcome.steps[0].provider, Some("q".into()));
}

#[test]
fn a_refusal_is_an_abstention_and_not_a_lost_voter() {
    let script: &[(&str, &[Play])] =
        &[("ballot/2", &[Play::Fails(ErrorClass::ContentFiltered)]), ("judge", &[Play::Says("1")])];
    let steps = Scripted::new(&["a", "b", "c", "d"], script);
    assert_eq!(ending(&steps.play(PlanSpec::Vote(vote(3)))), (RunStatus::Completed, StopReason::Decided));
}

#[test]
fn a_vote_that_nobody_answers_fails_with_the_first_failure() {
    let script: &[(&str, &[Play])] = &[
        ("ballot/1", &[Play::Fails(ErrorClass::BadRequest)]),
        ("ballot/2", &[Play::Fails(ErrorClass::AuthFailed)]),
        ("ballot/3", &[Play::Fails(ErrorClass::ServerError)]),
    ];
    let steps = Scripted::new(&["a", "b", "c", "d"], script);
    let outcome = steps.play(PlanSpec::Vote(vote(3)));
    assert_eq!(ending(&outcome), (RunStatus::Failed, StopReason::AllFailed));
    assert_eq!(outcome.failure.unwrap().class, ErrorClass::BadRequest);
    assert_eq!((outcome.answer, outcome.steps.len()), (None, 3));
}

#[test]
fn a_single_answer_is_not_judged() {
    let script: &[(&str, &[Play])] =
        &[("ballot/1", &[Play::Fails(ErrorClass::BadRequest)]), ("ballot/3", &[Play::Fails(ErrorClass::BadRequest)])];
    let steps = Scripted::new(&["a", "b", "c", "d"], script);
    let outcome = steps.play(PlanSpec::Vote(vote(3)));
    assert_eq!(steps.sent().len(), 3);
    assert_eq!(ending(&outcome), (RunStatus::CompletedPartial, StopReason::SingleAnswer));
    assert_eq!(outcome.routing_reason, "vote-single-response");
    assert_eq!(outcome.negotiated_model, Some("b".into()));
    let Some(Answer::Vote(answer)) = outcome.answer else { panic!("not a vote") };
    assert_eq!((answer.selected, answer.decision, answer.judge), (0, VoteDecision::SingleAnswer, None));
}
