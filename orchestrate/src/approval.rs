//! The wait for a decision about an answer, and what the decision makes of it.
//!
//! Owns when a decision is due and how each one ends the run. Whether somebody has decided is a step's outcome, so both
//! executors wait alike. Must not know who is asked or how.
//!
//! | decision | status | stop reason | answer |
//! |---|---|---|---|
//! | approved | as it was | as it was | as it was |
//! | edited | as it was | as it was | with another text |
//! | rejected | cancelled | rejected | kept |
//! | nobody in time: approve, reject | as above | as above | as above |
//! | nobody in time: fail | failed | approval expired | kept |
//! | the run is to stop after its step meanwhile | cancelled | cancelled after the step | kept |

use tokenhub_domain::{
    ApprovalRequest, ApprovalStanding, ApprovalWish, OnTimeout, Outcome, Resolution, RunStatus, StepError, StopReason,
};

use crate::{Steps, ending};

/// Only an answer can be decided about.
pub(crate) fn is_due(outcome: &Outcome) -> bool {
    outcome.status.is_answered() && outcome.answer.is_some()
}

/// Asks for a decision, waits for it, and makes of `outcome` what it says.
pub(crate) async fn decided<S: Steps>(steps: &S, wish: ApprovalWish, outcome: Outcome) -> Outcome {
    let request = ApprovalRequest { wish, outcome };
    match resolution(steps, &request).await {
        Ok((resolution, None)) => applied(resolution, wish.on_timeout, request.outcome),
        Ok((resolution, Some(shown))) => applied(resolution, wish.on_timeout, shown),
        Err(StepError::Cancelled) if steps.steering().stops_after_step => {
            ended(request.outcome, RunStatus::Cancelled, StopReason::CancelledAfterStep)
        }
        Err(StepError::Cancelled) => ended(request.outcome, RunStatus::Cancelled, StopReason::Cancelled),
        // Nobody knows what was decided, so the answer does not go out as one.
        Err(error @ (StepError::TimedOut | StepError::Unavailable(_))) => Outcome {
            failure: Some(ending::executor_failure(&error)),
            ..ended(request.outcome, RunStatus::Failed, StopReason::AllFailed)
        },
    }
}

/// The decision, and what it is about where that is another outcome than this one.
async fn resolution<S: Steps>(
    steps: &S,
    request: &ApprovalRequest,
) -> Result<(Resolution, Option<Outcome>), StepError> {
    loop {
        match steps.approval(request.clone()).await? {
            ApprovalStanding::Resolved(resolution) => return Ok((resolution, None)),
            ApprovalStanding::ResolvedOther { resolution, outcome } => return Ok((resolution, Some(*outcome))),
            ApprovalStanding::Waiting { .. } if steps.steering().stops_after_step => return Err(StepError::Cancelled),
            ApprovalStanding::Waiting { left_ms } => steps.wait_for_signal(left_ms).await?,
        }
    }
}

fn applied(resolution: Resolution, on_timeout: OnTimeout, mut outcome: Outcome) -> Outcome {
    match (resolution, on_timeout) {
        (Resolution::Approved, _) | (Resolution::Expired, OnTimeout::Approve) => outcome,
        (Resolution::Edited { text }, _) => {
            if let Some(place) = outcome.answer.as_mut().and_then(tokenhub_domain::Answer::main_text_mut) {
                *place = text;
                outcome.edited = true;
            }
            outcome
        }
        (Resolution::Rejected, _) | (Resolution::Expired, OnTimeout::Reject) => {
            ended(outcome, RunStatus::Cancelled, StopReason::Rejected)
        }
        (Resolution::Expired, OnTimeout::Fail) => ended(outcome, RunStatus::Failed, StopReason::ApprovalExpired),
    }
}

/// The answer stays. What made it partial is told by the steps, and is not why the run ends like this.
fn ended(outcome: Outcome, status: RunStatus, stop_reason: StopReason) -> Outcome {
    Outcome { status, stop_reason, failure: None, ..outcome }
}
