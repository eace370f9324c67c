//! Why an activity could not be carried out. Never a provider's failure: those are values.

use tokenhub_domain::PromptError;
use tokenhub_store::StoreError;

/// An activity that did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum ActivityFault {
    /// The database did not serve.
    #[error("the database did not serve the step")]
    Store(#[from] StoreError),
    /// The prompt of the step cannot be made.
    #[error("the prompt cannot be rendered")]
    Prompt(#[from] PromptError),
    /// A stored payload is not what this version reads.
    #[error("a stored payload cannot be read")]
    Payload(#[from] serde_json::Error),
    /// The run has no row.
    #[error("the run is unknown")]
    UnknownRun,
    /// The step was cancelled.
    #[error("the step was cancelled")]
    Cancelled,
    /// The step's time was used up before a call was possible.
    #[error("the step ran out of time before its call")]
    OutOfTime,
}

impl ActivityFault {
    /// Whether doing it again later can help.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Store(_) => true,
            Self::Prompt(_) | Self::Payload(_) | Self::UnknownRun | Self::Cancelled | Self::OutOfTime => false,
        }
    }

    /// A stable name for histories.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Store(_) => "StoreUnavailable",
            Self::Prompt(_) => "PromptInvalid",
            Self::Payload(_) => "PayloadUnreadable",
            Self::UnknownRun => "UnknownRun",
            Self::Cancelled => "Cancelled",
            Self::OutOfTime => "OutOfTime",
        }
    }
}
