//! How a failed run ends its workflow, so that Temporal shows it as failed and not as completed.

use temporalio_workflow::{WorkflowTermination, common::error::ApplicationFailure};
use tokenhub_domain::{ErrorClass, Outcome};

/// The failure type of a run that gave no answer; its details are the whole [`Outcome`].
pub const FAILED_RUN: &str = "FailedRun";

#[derive(Debug, thiserror::Error)]
#[error("the run gave no answer: {0}")]
struct NoAnswer(&'static str);

/// The end of a workflow whose run failed. The message holds the class only: provider texts stay out of histories.
pub(crate) fn of_outcome(outcome: Outcome) -> WorkflowTermination {
    let class = outcome.failure.as_ref().map_or("no_eligible_model", |failure| ErrorClass::as_str(failure.class));
    ApplicationFailure::builder(NoAnswer(class))
        .type_name(FAILED_RUN.to_owned())
        .non_retryable(true)
        .details(outcome)
        .build()
        .into()
}
