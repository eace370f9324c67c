//! The wait for a decision: when it is asked for, how often it is looked at, and what each decision makes of the answer.

use std::collections::VecDeque;

use tokenhub_domain::{
    Answer, ApprovalStanding, ApprovalWish, ErrorClass, OnTimeout, Outcome, PlanSpec, Resolution, RunStatus, StepError,
    StopReason,
};
use tokenhub_orchestrate::Finished;

use crate::script::{Play, Scripted, refine};

type Standing = Result<ApprovalStanding, StepError>;

fn spec(on_timeout: OnTimeout) -> PlanSpec {
    let mut spec = refine(1);
    spec.base.approval = Some(ApprovalWish { timeout_ms: 5_000, on_timeout });
    PlanSpec::Refine(spec)
}

fn resolved(resolution: Resolution) -> ApprovalStanding {
    ApprovalStanding::Resolved(resolution)
}

fn played(standings: Vec<Standing>, on_timeout: OnTimeout) -> (Outcome, Vec<String>) {
    let steps = Scripted::new(&["alpha"], &[]);
    steps.0.borrow_mut().approvals = VecDeque::from(standings);
    let outcome = steps.play(spec(on_timeout));
    assert!(steps.0.borrow().approvals.is_empty(), "it was looked at as often as it was to be");
    assert_eq!(steps.0.borrow().recorded.last(), Some(&outcome));
    let commands = steps.0.borrow().commands.clone();
    let names = commands.iter().map(|it| it.split(' ').next().unwrap_or_default().to_owned());
    (outcome, names.skip_while(|name| name != "approval").collect())
}

fn text(outcome: &Outcome) -> String {
    match &outcome.answer {
        Some(Answer::Refine(answer)) => answer.refined_response.as_inline().unwrap().to_owned(),
        other => panic!("no answer of refine: {other:?}"),
    }
}

#[test]
fn an_answer_waits_until_somebody_decides_and_ends_as_it_would_have() {
    let waiting = || Ok(ApprovalStanding::Waiting { left_ms: 1_000 });
    let standings = vec![waiting(), waiting(), Ok(resolved(Resolution::Approved))];
    let (outcome, commands) = played(standings, OnTimeout::Fail);
    assert_eq!(commands, ["approval", "wait_for_signal", "approval", "wait_for_signal", "approval", "record"]);
    let undecided = Scripted::new(&["alpha"], &[]).play(PlanSpec::Refine(refine(1)));
    assert_eq!(outcome, undecided);
    assert_eq!((outcome.status, outcome.edited), (RunStatus::Completed, false));
}

#[test]
fn each_decision_and_each_policy_has_its_end_and_the_answer_is_kept() {
    let edited = Resolution::Edited { text: "by hand".into() };
    for (resolution, policy, status, stop_reason, is_edited) in [
        (edited, OnTimeout::Fail, RunStatus::Completed, StopReason::MaxRounds, true),
        (Resolution::Rejected, OnTimeout::Approve, RunStatus::Cancelled, StopReason::Rejected, false),
        (Resolution::Expired, OnTimeout::Approve, RunStatus::Completed, StopReason::MaxRounds, false),
        (Resolution::Expired, OnTimeout::Reject, RunStatus::Cancelled, StopReason::Rejected, false),
        (Resolution::Expired, OnTimeout::Fail, RunStatus::Failed, StopReason::ApprovalExpired, false),
    ] {
        let (outcome, _) = played(vec![Ok(resolved(resolution.clone()))], policy);
        assert_eq!(
            (outcome.status, outcome.stop_reason, outcome.edited),
            (status, stop_reason, is_edited),
            "{resolution:?}"
        );
        assert_eq!(text(&outcome) == "by hand", is_edited);
        assert!(outcome.usage.calls > 1 && outcome.failure.is_none());
    }
}

#[test]
fn what_somebody_has_read_goes_out_also_where_the_run_came_to_something_else_meanwhile() {
    let shown = Scripted::new(&["beta"], &[("answer", &[Play::Says("as read")])]).play(PlanSpec::Refine(refine(1)));
    let decided =
        ApprovalStanding::ResolvedOther { resolution: Resolution::Approved, outcome: Box::new(shown.clone()) };
    let (outcome, _) = played(vec![Ok(decided)], OnTimeout::Fail);
    assert_eq!(outcome, shown);
}

#[test]
fn a_wait_that_is_cancelled_or_cannot_be_kept_up_ends_the_run_with_its_answer() {
    let (outcome, _) = played(vec![Err(StepError::Cancelled)], OnTimeout::Approve);
    assert_eq!((outcome.status, outcome.stop_reason), (RunStatus::Cancelled, StopReason::Cancelled));
    assert!(outcome.answer.is_some());
    let (outcome, _) = played(vec![Err(StepError::Unavailable("x".to_owned()))], OnTimeout::Approve);
    assert_eq!((outcome.status, outcome.stop_reason), (RunStatus::Failed, StopReason::AllFailed));
    assert!(outcome.answer.is_some() && outcome.failure.is_some());
}

#[test]
fn nobody_is_asked_about_a_run_without_an_answer() {
    let steps = Scripted::new(&["alpha"], &[("answer", &[Play::Fails(ErrorClass::BadRequest)])]);
    let outcome = steps.play(spec(OnTimeout::Approve));
    assert_eq!(outcome.status, RunStatus::Failed, "{outcome:?}");
    assert!(!steps.0.borrow().commands.iter().any(|command| command.starts_with("approval")));
}

#[test]
fn a_run_that_is_carried_on_buys_nothing_and_waits_again() {
    let steps = Scripted::new(&["alpha"], &[]);
    steps.0.borrow_mut().approvals.push_back(Ok(resolved(Resolution::Approved)));
    let before = steps.play(spec(OnTimeout::Fail));
    let again = Scripted::new(&["alpha"], &[]);
    again.0.borrow_mut().approvals.push_back(Ok(resolved(Resolution::Approved)));
    let Finished::Outcome(after) = again.resume(spec(OnTimeout::Fail), before.clone()) else { panic!("no claim") };
    assert_eq!((*after, again.sent()), (before, Vec::new()));
}
