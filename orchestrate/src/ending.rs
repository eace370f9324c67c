//! How a run may end, and what a failure makes of it: one mapping for every program.
//!
//! | failure | no answer yet | an answer exists |
//! |---|---|---|
//! | cancelled | cancelled | cancelled, the answer kept |
//! | not begun any more, to stop after a step | cancelled after the step | the same, the answer kept |
//! | not wanted any more, to answer now | | partial, answered now |
//! | a clock, and no time is left to the run | deadline exceeded | partial, deadline exceeded |
//! | the run's own limits | budget exhausted | partial, budget exhausted |
//! | no eligible model | failed, no eligible model | partial, the program's own reason |
//! | anything else | failed, all failed | partial, the program's own reason |

use tokenhub_domain::{
    Answer, ErrorClass, ModelId, Outcome, ProviderFailure, RunStatus, StepError, StepRecord, StopReason, Usage,
};

use crate::{Steps, program::Run, steering};

/// The stable code of a failure for want of an eligible model.
const NO_ELIGIBLE_MODEL: &str = "no_eligible_model";

/// Status, reason and failure of a run that is over.
pub(crate) struct Ending {
    status: RunStatus,
    stop_reason: StopReason,
    failure: Option<ProviderFailure>,
}

impl Ending {
    /// Everything that was asked for.
    pub(crate) fn completed(stop_reason: StopReason) -> Self {
        Self { status: RunStatus::Completed, stop_reason, failure: None }
    }

    /// An answer, but `failure` kept it from being all that was asked for.
    pub(crate) fn partial<S: Steps>(run: &Run<'_, S>, failure: ProviderFailure, stop_reason: StopReason) -> Self {
        let (status, stop_reason) = match interruption(run, &failure) {
            Some(stopped @ (StopReason::Cancelled | StopReason::CancelledAfterStep)) => (RunStatus::Cancelled, stopped),
            Some(interrupted) => (RunStatus::CompletedPartial, interrupted),
            None => (RunStatus::CompletedPartial, stop_reason),
        };
        Self { status, stop_reason, failure: Some(failure) }
    }

    /// An answer that does not match its schema and is wanted all the same, also where its repair ran out of time.
    pub(crate) fn mismatched<S: Steps>(run: &Run<'_, S>, failure: ProviderFailure) -> Self {
        let ending = Self::partial(run, failure, StopReason::SchemaMismatch);
        match ending.status {
            RunStatus::CompletedPartial => Self { stop_reason: StopReason::SchemaMismatch, ..ending },
            RunStatus::Pending
            | RunStatus::Running
            | RunStatus::Completed
            | RunStatus::Failed
            | RunStatus::Cancelled
            | RunStatus::BudgetExhausted
            | RunStatus::DeadlineExceeded => ending,
        }
    }

    /// Complete without a failure, partial with one.
    pub(crate) fn of<S: Steps>(run: &Run<'_, S>, failure: Option<ProviderFailure>, stop_reason: StopReason) -> Self {
        match failure {
            None => Self::completed(stop_reason),
            Some(failure) => Self::partial(run, failure, stop_reason),
        }
    }

    /// No answer.
    pub(crate) fn failed<S: Steps>(run: &Run<'_, S>, failure: ProviderFailure) -> Self {
        let (status, stop_reason) = match interruption(run, &failure) {
            Some(stopped @ (StopReason::Cancelled | StopReason::CancelledAfterStep)) => (RunStatus::Cancelled, stopped),
            Some(StopReason::AnsweredNow) => (RunStatus::Failed, StopReason::AnsweredNow),
            Some(StopReason::BudgetExhausted) => (RunStatus::BudgetExhausted, StopReason::BudgetExhausted),
            Some(interrupted) => (RunStatus::DeadlineExceeded, interrupted),
            None if failure.code.as_deref() == Some(NO_ELIGIBLE_MODEL) => {
                (RunStatus::Failed, StopReason::NoEligibleModel)
            }
            None => (RunStatus::Failed, StopReason::AllFailed),
        };
        Self { status, stop_reason, failure: Some(failure) }
    }

    /// No answer, because fewer may be asked than must answer.
    pub(crate) fn too_few<S: Steps>(run: &Run<'_, S>) -> Self {
        Self::failed(run, no_eligible_model(&["fewer models are eligible than must answer".to_owned()]))
    }

    /// The outcome of the run; its usage is always the sum over its steps.
    pub(crate) fn outcome(
        self,
        routing_reason: &str,
        negotiated_model: Option<ModelId>,
        answer: Option<Answer>,
        mut steps: Vec<StepRecord>,
    ) -> Outcome {
        steps.retain(steering::was_begun);
        Outcome {
            edited: false,
            status: self.status,
            stop_reason: self.stop_reason,
            negotiated_model,
            routing_reason: routing_reason.to_owned(),
            answer,
            usage: Usage::of(&steps),
            steps,
            failure: self.failure,
        }
    }
}

/// The reason that lies in the run and not in a provider, if there is one.
fn interruption<S: Steps>(run: &Run<'_, S>, failure: &ProviderFailure) -> Option<StopReason> {
    let is_late = failure.class == ErrorClass::StepDeadline && run.time_left_ms() == 0;
    if let Some(reason) = steering::reason_of(failure) {
        Some(reason)
    } else if failure.class == ErrorClass::Cancelled {
        Some(StopReason::Cancelled)
    } else if failure.class == ErrorClass::BudgetExhausted {
        Some(StopReason::BudgetExhausted)
    } else {
        is_late.then_some(StopReason::DeadlineExceeded)
    }
}

/// A step that the executor could not carry out, as the failure of its call.
pub(crate) fn executor_failure(error: &StepError) -> ProviderFailure {
    ProviderFailure::of(error.class(), error.to_string())
}

/// Nobody may be called, and why.
pub fn no_eligible_model(skipped: &[String]) -> ProviderFailure {
    let message = if skipped.is_empty() {
        "no eligible model".to_owned()
    } else {
        format!("no eligible model ({})", skipped.join("; "))
    };
    ProviderFailure { code: Some(NO_ELIGIBLE_MODEL.to_owned()), ..ProviderFailure::of(ErrorClass::BadRequest, message) }
}

/// A reply that the step cannot use.
pub(crate) fn bad_output(message: &str) -> ProviderFailure {
    ProviderFailure::of(ErrorClass::BadOutput, message)
}
