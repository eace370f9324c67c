//! The activities that workflows call, by name and payload.
//!
//! Declared here and implemented in `activities`, so that the crate that must be deterministic depends on nothing that
//! does I/O. Names are part of every history: they never change.

use serde::{Deserialize, Serialize};
use temporalio_workflow::common::ActivityDefinition;
use tokenhub_domain::{
    ApprovalRequest, ApprovalStanding, ClassifyRequest, ErrorClass, FinishRequest, ModelId, NanoDollars, NextMove,
    ProviderId, RunContext, SelectRequest, Selection, SendOutcome, SendRequest, TokenUsage, UnixMicros, Verdict,
    VerifyRequest,
};

/// A step request together with the run it belongs to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InRun<R> {
    /// Whose step it is.
    pub run: RunContext,
    /// The step.
    pub request: R,
}

/// What a streamed answer leaves behind: the line of the request log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StreamLog {
    /// Whose stream it was.
    pub run: RunContext,
    /// The model that streamed.
    #[serde(default)]
    pub model: Option<ModelId>,
    /// Its provider.
    #[serde(default)]
    pub provider: Option<ProviderId>,
    /// Tokens, as the provider counted them.
    #[serde(default)]
    pub usage: TokenUsage,
    /// What it cost.
    #[serde(default)]
    pub cost: NanoDollars,
    /// Milliseconds from the request to the last byte.
    #[serde(default)]
    pub latency_ms: u64,
    /// Why it broke off.
    #[serde(default)]
    pub error_class: Option<ErrorClass>,
    /// When it ended.
    #[serde(default)]
    pub ended_at: UnixMicros,
}

/// The queue by which Temporal hands out the calls to a provider that may only be called so often. Part of histories.
pub fn queue_of(common: &str, provider: &ProviderId) -> String {
    format!("{common}{PROVIDER_QUEUE}{provider}")
}

/// Whether `queue` is the own queue of `provider`, whatever the common one is called.
pub fn is_queue_of(queue: &str, provider: &ProviderId) -> bool {
    queue.strip_suffix(provider.as_str()).is_some_and(|rest| rest.ends_with(PROVIDER_QUEUE))
}

const PROVIDER_QUEUE: &str = ".provider.";

macro_rules! activity {
    ($(#[$doc:meta])* $marker:ident, $name:literal, $input:ty => $output:ty) => {
        $(#[$doc])*
        pub struct $marker;

        impl ActivityDefinition for $marker {
            type Input = $input;
            type Output = $output;

            fn name(&self) -> &str {
                $name
            }
        }
    };
}

activity!(
    /// Claims the run and ranks the models. Local: short, idempotent, no heartbeat.
    SelectModels, "select_models", InRun<SelectRequest> => Selection
);
activity!(
    /// One provider call: journal, ledger, bytes. Regular: it is long, heartbeats and can be cancelled.
    SendToProvider, "send_to_provider", InRun<SendRequest> => SendOutcome
);
activity!(
    /// What to do after a failed call. Local.
    ClassifyAndEscalate, "classify_and_escalate", InRun<ClassifyRequest> => NextMove
);
activity!(
    /// Asks a verifier about an answer. Regular: it may take long, heartbeats and can be cancelled.
    VerifyAnswer, "verify_answer", InRun<VerifyRequest> => Verdict
);
activity!(
    /// Asks for a decision about the answer, or looks at the one that was asked for. Local.
    AwaitApproval, "await_approval", InRun<ApprovalRequest> => ApprovalStanding
);
activity!(
    /// Writes the outcome to the run's row and the request log. Local.
    LogResult, "log_result", InRun<FinishRequest> => ()
);
activity!(
    /// Writes the request log of a streamed answer. Local.
    LogStream, "log_stream", StreamLog => ()
);
