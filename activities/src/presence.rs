//! How a long step shows that it is alive and learns that nobody wants it any more.

use std::{convert::Infallible, future::Future};

use tokenhub_domain::ProviderResponseId;

/// The caller of a provider call.
pub(crate) trait Presence: Send + Sync {
    /// Shows that the step is alive, again and again where somebody looks for it.
    fn keep_beating(&self) -> impl Future<Output = Infallible> + Send;

    /// Completes when the caller withdraws.
    fn withdrawn(&self) -> impl Future<Output = ()> + Send;

    /// What a withdrawal proves.
    fn withdrawal(&self) -> Withdrawal;

    /// Lets whoever looks at the step see what it waits for.
    fn show(&self, response: &ProviderResponseId);

    /// Who keeps to the rate of the provider.
    fn pacing(&self) -> Pacing;
}

/// Who keeps to the rate at which a provider may be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pacing {
    /// Temporal: the call came by the provider's own queue.
    Temporal,
    /// This process.
    Here,
}

/// What a withdrawal proves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Withdrawal {
    /// The program cancelled the step.
    Decided,
    /// Nothing: a Temporal server that is away cancels its activities too. The run's row decides.
    Doubtful,
}
