//! For every program: a repeated execution gives the same steps and outcome; a failure at each step ends as documented;
//! usage is the sum over the steps; select comes first and record last.

use tokenhub_domain::{ErrorClass, Outcome, PlanSpec, RunStatus, StepError, StopReason, Usage};
use tokenhub_orchestrate::Finished;

use crate::script::{COST, Play, Scripted, adversarial, best_of_n, chat, refine, vote};

const MODELS: [&str; 4] = ["a", "b", "c", "d"];

struct Case {
    name: &'static str,
    spec: PlanSpec,
    judge: &'static str,
    undisturbed: StopReason,
    steps: &'static [(&'static str, RunStatus, StopReason, bool)],
}

/// Each program with its steps, and for each step what becomes of the run when it fails, and whether there is an answer.
fn cases() -> Vec<Case> {
    use RunStatus::{CompletedPartial as Partial, Failed};
    use StopReason::{AllFailed, Decided, RoundFailed};
    vec![
        Case {
            name: "chat",
            spec: PlanSpec::Chat(chat()),
            judge: "",
            undisturbed: StopReason::Answered,
            steps: &[("answer", Failed, AllFailed, false)],
        },
        Case {
            name: "adversarial",
            spec: PlanSpec::Adversarial(adversarial(2)),
            judge: "",
            undisturbed: StopReason::MaxRounds,
            steps: &[
                ("plan", Failed, AllFailed, false),
                ("critique/1", Partial, RoundFailed, true),
                ("revision/1", Partial, RoundFailed, true),
                ("critique/2", Partial, RoundFailed, true),
                ("revision/2", Partial, RoundFailed, true),
            ],
        },
        Case {
            name: "vote",
            spec: PlanSpec::Vote(vote(3)),
            judge: "{\"winner\": 1}",
            undisturbed: Decided,
            steps: &[
                ("ballot/1", Partial, Decided, true),
                ("ballot/2", Partial, Decided, true),
                ("ballot/3", Partial, Decided, true),
                ("judge", Partial, Decided, true),
            ],
        },
        Case {
            name: "refine",
            spec: PlanSpec::Refine(refine(2)),
            judge: "",
            undisturbed: StopReason::MaxRounds,
            steps: &[
                ("answer", Failed, AllFailed, false),
                ("improvement/1", Partial, RoundFailed, true),
                ("improvement/2", Partial, RoundFailed, true),
            ],
        },
        Case {
            name: "best_of_n",
            spec: PlanSpec::BestOfN(best_of_n(3)),
            judge: "{\"scores\": [1, 2, 3]}",
            undisturbed: Decided,
            steps: &[
                ("candidate/1", Partial, Decided, true),
                ("candidate/2", Partial, Decided, true),
                ("candidate/3", Partial, Decided, true),
                ("judge", Partial, Decided, true),
            ],
        },
    ]
}

impl Case {
    fn world(&self, disturbed: Option<(&'static str, Play)>) -> Scripted {
        let is_one_short = disturbed.as_ref().is_some_and(|(step, _)| step.starts_with("candidate"));
        let judge = if is_one_short { "{\"scores\": [1, 2]}" } else { self.judge };
        let mut script = vec![("judge", [Play::Says(judge)])];
        if let Some((step, play)) = disturbed {
            script.retain(|(scripted, _)| *scripted != step);
            script.push((step, [play]));
        }
        let script: Vec<(&'static str, &[Play])> = script.iter().map(|(step, play)| (*step, play.as_slice())).collect();
        Scripted::new(&MODELS, &script)
    }
}

fn ids(outcome: &Outcome) -> Vec<&str> {
    outcome.steps.iter().map(|step| step.id.as_str()).collect()
}

#[test]
fn an_undisturbed_run_has_the_documented_steps_and_the_same_ones_when_repeated() {
    for case in cases() {
        let (first, second) = (case.world(None), case.world(None));
        let outcome = first.play(case.spec.clone());
        assert_eq!(outcome, second.play(case.spec.clone()), "{}", case.name);
        assert_eq!(first.0.borrow().commands, second.0.borrow().commands, "{}", case.name);
        assert_eq!((outcome.status, outcome.stop_reason), (RunStatus::Completed, case.undisturbed), "{}", case.name);
        assert_eq!(ids(&outcome), case.steps.iter().map(|step| step.0).collect::<Vec<_>>(), "{}", case.name);
        assert_eq!(outcome.failure, None);
    }
}

#[test]
fn select_is_first_record_is_last_and_the_record_is_the_outcome() {
    for case in cases() {
        let steps = case.world(None);
        let outcome = steps.play(case.spec.clone());
        let world = steps.0.borrow();
        let kinds: Vec<&str> = world.commands.iter().filter_map(|command| command.split(' ').next()).collect();
        assert_eq!(kinds.iter().filter(|kind| **kind == "select").count(), 1, "{}", case.name);
        assert_eq!(kinds.iter().filter(|kind| **kind == "record").count(), 1, "{}", case.name);
        assert_eq!((kinds[0], kinds[kinds.len() - 1]), ("select", "record"), "{}", case.name);
        assert_eq!(world.recorded, [outcome], "{}", case.name);
    }
}

#[test]
fn a_failure_at_each_step_ends_as_documented() {
    for case in cases() {
        for (step, status, stop_reason, has_answer) in case.steps {
            let steps = case.world(Some((step, Play::Fails(ErrorClass::BadRequest))));
            let outcome = steps.play(case.spec.clone());
            let label = format!("{} failing at {step}", case.name);
            assert_eq!((outcome.status, outcome.stop_reason), (*status, *stop_reason), "{label}");
            assert_eq!(outcome.answer.is_some(), *has_answer, "{label}");
            assert_eq!(outcome.negotiated_model.is_some(), *has_answer, "{label}");
            assert_eq!(outcome.failure.as_ref().map(|failure| failure.class), Some(ErrorClass::BadRequest), "{label}");
            let record = outcome.steps.iter().find(|record| record.id.as_str() == *step).unwrap();
            assert_eq!(record.error_class, Some(ErrorClass::BadRequest), "{label}");
            assert_eq!(record.attempts, 1, "{label}");
        }
    }
}

#[test]
fn a_cancellation_at_each_step_ends_as_cancelled_and_keeps_the_answer_so_far() {
    for case in cases() {
        for (step, _, _, has_answer) in case.steps {
            let steps = case.world(Some((step, Play::Breaks(StepError::Cancelled))));
            let outcome = steps.play(case.spec.clone());
            let label = format!("{} cancelled at {step}", case.name);
            assert_eq!((outcome.status, outcome.stop_reason), (RunStatus::Cancelled, StopReason::Cancelled), "{label}");
            assert_eq!(outcome.answer.is_some(), *has_answer, "{label}");
        }
    }
}

#[test]
fn an_executor_failure_at_each_step_is_no_provider_call_and_never_retried() {
    for case in cases() {
        for (step, status, stop_reason, _) in case.steps {
            let steps = case.world(Some((step, Play::Breaks(StepError::Unavailable("no database".into())))));
            let outcome = steps.play(case.spec.clone());
            let label = format!("{} breaking at {step}", case.name);
            assert_eq!((outcome.status, outcome.stop_reason), (*status, *stop_reason), "{label}");
            let record = outcome.steps.iter().find(|record| record.id.as_str() == *step).unwrap();
            assert_eq!((record.attempts, record.error_class), (0, Some(ErrorClass::ServerError)), "{label}");
            assert_eq!(steps.sent().iter().filter(|sent| sent.starts_with(&format!("{step} "))).count(), 1, "{label}");
        }
    }
}

#[test]
fn usage_is_the_sum_over_the_steps_and_counts_every_call() {
    for case in cases() {
        let retried = case.steps[0].0;
        let steps = case.world(Some((retried, Play::Fails(ErrorClass::ServerError))));
        let outcome = steps.play(case.spec.clone());
        assert_eq!(outcome.usage, Usage::of(&outcome.steps), "{}", case.name);
        assert_eq!(usize::try_from(outcome.usage.calls).unwrap(), steps.sent().len(), "{}", case.name);
        let answered = outcome.steps.iter().filter(|step| step.error_class.is_none()).count();
        assert_eq!(outcome.usage.cost.0, COST.0 * i64::try_from(answered).unwrap(), "{}", case.name);
    }
}

#[test]
fn a_lost_claim_buys_and_records_nothing() {
    for case in cases() {
        let steps = case.world(None);
        steps.0.borrow_mut().selection = Some(Ok(tokenhub_domain::Selection::ClaimLost));
        assert_eq!(steps.play_in(case.spec.clone(), &[]), Finished::ClaimLost, "{}", case.name);
        assert_eq!(steps.0.borrow().commands.len(), 1, "{}", case.name);
        assert!(steps.sent().is_empty(), "{}", case.name);
    }
}

#[test]
fn a_selection_that_fails_or_finds_nobody_ends_the_run_before_anything_is_bought() {
    for case in cases() {
        let steps = case.world(None);
        steps.0.borrow_mut().selection = Some(Err(StepError::TimedOut));
        let outcome = steps.play(case.spec.clone());
        assert_eq!((outcome.status, outcome.stop_reason), (RunStatus::Failed, StopReason::AllFailed), "{}", case.name);

        let steps = Scripted::new(&[], &[]);
        let outcome = steps.play(case.spec.clone());
        let expected = (RunStatus::Failed, StopReason::NoEligibleModel);
        assert_eq!((outcome.status, outcome.stop_reason), expected, "{}", case.name);
        assert!(outcome.failure.unwrap().message.contains("x: disabled"), "{}", case.name);
        assert!(!outcome.routing_reason.is_empty());
        assert!(steps.sent().is_empty(), "{}", case.name);
        assert_eq!(steps.0.borrow().recorded.len(), 1, "{}", case.name);
    }
}

#[test]
fn a_record_that_fails_does_not_take_the_answer_away() {
    for case in cases() {
        let steps = case.world(None);
        steps.0.borrow_mut().record_error = Some(StepError::Unavailable("no database".into()));
        assert_eq!(steps.play(case.spec.clone()).status, RunStatus::Completed, "{}", case.name);
    }
}
