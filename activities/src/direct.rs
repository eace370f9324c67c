//! The in-process executor of [`Steps`]: the same functions as the Temporal activities, awaited here.

use std::{sync::Arc, time::Duration};

use tokenhub_domain::{
    ClassifyRequest, DurabilityMark, FinishRequest, NextMove, Owner, RunContext, SelectRequest, Selection, SendOutcome,
    SendRequest, StepError, UnixMicros,
};
use tokenhub_orchestrate::Steps;
use tokio_util::sync::CancellationToken;

use crate::{
    ActivityFault, World, classify, clock, log,
    presence::{Presence, Withdrawal},
    select, send,
};

/// What a run keeps while it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeping {
    /// A run row and a journal: it can be attached to, taken over and read later.
    Rows,
    /// The ledger and the request log only: the caller asked for no durability.
    LedgerOnly,
}

/// The steps of one run in this process.
#[derive(Clone)]
pub struct Direct {
    world: Arc<World>,
    run: RunContext,
    owner: Owner,
    keeping: Keeping,
    cancellation: CancellationToken,
}

impl Direct {
    /// The executor of `run`, claimed for `owner`.
    pub fn new(world: Arc<World>, run: RunContext, owner: Owner, keeping: Keeping) -> Self {
        Self { world, run, owner, keeping, cancellation: CancellationToken::new() }
    }
}

struct InProcess(CancellationToken);

impl Presence for InProcess {
    async fn beat(&self) {}

    async fn withdrawn(&self) {
        self.0.cancelled().await;
    }

    fn withdrawal(&self) -> Withdrawal {
        Withdrawal::Decided
    }
}

impl Steps for Direct {
    async fn select(&self, request: SelectRequest) -> Result<Selection, StepError> {
        select::run(&self.world, &self.run, &self.owner, self.keeping, &request)
            .await
            .map_err(|fault| step_error(&fault))
    }

    async fn send(&self, request: SendRequest) -> Result<SendOutcome, StepError> {
        let presence = InProcess(self.cancellation.clone());
        send::run(&self.world, &self.run, self.keeping, &request, &presence).await.map_err(|fault| step_error(&fault))
    }

    async fn classify(&self, request: ClassifyRequest) -> Result<NextMove, StepError> {
        Ok(classify::run(&request))
    }

    async fn record(&self, request: FinishRequest) -> Result<(), StepError> {
        log::run(&self.world, &self.run, &self.owner, self.keeping, DurabilityMark::None, &request)
            .await
            .map_err(|fault| step_error(&fault))
    }

    async fn sleep(&self, millis: u64) -> Result<(), StepError> {
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(millis)) => Ok(()),
            () = self.cancellation.cancelled() => Err(StepError::Cancelled),
        }
    }

    fn now(&self) -> UnixMicros {
        clock::now()
    }

    fn group(&self) -> Self {
        Self { cancellation: self.cancellation.child_token(), ..self.clone() }
    }

    fn cancel(&self, reason: &str) {
        tracing::debug!(run = %self.run.run_id, reason, "a group of steps is cancelled");
        self.cancellation.cancel();
    }
}

fn step_error(fault: &ActivityFault) -> StepError {
    tracing::warn!(fault = fault as &dyn std::error::Error, "a step could not be carried out");
    match fault {
        ActivityFault::Cancelled => StepError::Cancelled,
        ActivityFault::OutOfTime => StepError::TimedOut,
        ActivityFault::Store(_) | ActivityFault::Prompt(_) | ActivityFault::Payload(_) | ActivityFault::UnknownRun => {
            StepError::Unavailable(fault.type_name().to_owned())
        }
    }
}
