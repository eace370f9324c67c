//! How a long step shows that it is alive and learns that nobody wants it any more.

use std::{convert::Infallible, future::Future};

/// The caller of a provider call.
pub(crate) trait Presence: Send + Sync {
    /// Shows that the step is alive, again and again where somebody looks for it.
    fn keep_beating(&self) -> impl Future<Output = Infallible> + Send;

    /// Completes when the caller withdraws.
    fn withdrawn(&self) -> impl Future<Output = ()> + Send;

    /// What a withdrawal proves.
    fn withdrawal(&self) -> Withdrawal;
}

/// What a withdrawal proves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Withdrawal {
    /// The program cancelled the step.
    Decided,
    /// Nothing: a Temporal server that is away cancels its activities too. The run's row decides.
    Doubtful,
}
