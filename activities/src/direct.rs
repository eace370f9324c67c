//! The in-process executor of [`Steps`]: the same functions as the Temporal activities, awaited here.

use std::{
    convert::Infallible,
    sync::Arc,
    time::{Duration, Instant},
};

use tokenhub_domain::{
    ApprovalRequest, ApprovalStanding, ClassifyRequest, DurabilityMark, FinishRequest, NextMove, Owner,
    ProviderResponseId, RunContext, SelectRequest, Selection, SendOutcome, SendRequest, Steering, StepError,
    UnixMicros, Verdict, VerifyRequest,
};
use tokenhub_orchestrate::Steps;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    ActivityFault, World, approval, classify, clock, log,
    presence::{Pacing, Presence, Withdrawal},
    select, send, verify,
};

/// A client waits for the claim of its run, so the database has this long to come back.
const SELECT_PATIENCE: Duration = Duration::from_secs(5);
/// The answer is there and paid; its record is worth the wait.
const RECORD_PATIENCE: Duration = Duration::from_mins(1);
/// A run that waits for a decision loses nothing while the database is away, and a workflow would wait as long.
const APPROVAL_PATIENCE: Duration = Duration::from_mins(10);
/// Between two looks at what a run may have been told.
const SIGNAL_INTERVAL: Duration = Duration::from_millis(500);
const RETRY_INTERVAL: Duration = Duration::from_millis(250);

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
    /// Whether it only waits to be told something.
    waiting: watch::Sender<bool>,
    /// What somebody has asked of the run.
    steering: watch::Sender<Steering>,
}

impl Direct {
    /// The executor of `run`, claimed for `owner`.
    pub fn new(world: Arc<World>, run: RunContext, owner: Owner, keeping: Keeping) -> Self {
        let (cancellation, waiting) = (CancellationToken::new(), watch::Sender::new(false));
        Self { world, run, owner, keeping, cancellation, waiting, steering: watch::Sender::default() }
    }

    /// Somebody asks something of the run. Twice is once.
    pub fn steer(&self, asked: Steering) {
        self.steering.send_if_modified(|known| {
            let before = std::mem::replace(known, known.and(asked));
            before != *known
        });
    }

    /// Returns while the run only waits to be told something: left here, it is carried on elsewhere and loses nothing.
    pub async fn only_waits(&self) {
        if self.waiting.subscribe().wait_for(|waits| *waits).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Repeats a step that only touches the database, as Temporal repeats its local activities.
async fn persistently<T, F>(patience: Duration, mut act: impl FnMut() -> F) -> Result<T, ActivityFault>
where
    F: Future<Output = Result<T, ActivityFault>>,
{
    let given_up = Instant::now() + patience;
    loop {
        match act().await {
            Err(fault) if fault.is_retryable() && Instant::now() < given_up => {
                tokio::time::sleep(RETRY_INTERVAL).await;
            }
            result => return result,
        }
    }
}

struct InProcess(CancellationToken);

impl Presence for InProcess {
    async fn keep_beating(&self) -> Infallible {
        std::future::pending().await
    }

    async fn withdrawn(&self) {
        self.0.cancelled().await;
    }

    fn withdrawal(&self) -> Withdrawal {
        Withdrawal::Decided
    }

    fn show(&self, _response: &ProviderResponseId) {}

    fn pacing(&self) -> Pacing {
        Pacing::Here
    }
}

impl Steps for Direct {
    async fn select(&self, request: SelectRequest) -> Result<Selection, StepError> {
        let select = || select::run(&self.world, &self.run, &self.owner, self.keeping, &request);
        persistently(SELECT_PATIENCE, select).await.map_err(|fault| step_error(&fault))
    }

    async fn send(&self, request: SendRequest) -> Result<SendOutcome, StepError> {
        let presence = InProcess(self.cancellation.clone());
        send::run(&self.world, &self.run, self.keeping, &request, &presence).await.map_err(|fault| step_error(&fault))
    }

    async fn classify(&self, request: ClassifyRequest) -> Result<NextMove, StepError> {
        Ok(classify::run(&request))
    }

    async fn verify(&self, request: VerifyRequest) -> Result<Verdict, StepError> {
        let presence = InProcess(self.cancellation.clone());
        verify::run(&self.world, &self.run, &request, &presence).await.map_err(|fault| step_error(&fault))
    }

    async fn record(&self, request: FinishRequest) -> Result<(), StepError> {
        let mark = DurabilityMark::None;
        let record = || log::run(&self.world, &self.run, &self.owner, self.keeping, mark, &request);
        persistently(RECORD_PATIENCE, record).await.map_err(|fault| step_error(&fault))
    }

    async fn approval(&self, request: ApprovalRequest) -> Result<ApprovalStanding, StepError> {
        match self.keeping {
            Keeping::LedgerOnly => Err(StepError::Unavailable("the run has no row".to_owned())),
            Keeping::Rows => {
                let ask = || approval::run(&self.world, &self.run, &request);
                persistently(APPROVAL_PATIENCE, ask).await.map_err(|fault| step_error(&fault))
            }
        }
    }

    async fn wait_for_signal(&self, millis: u64) -> Result<(), StepError> {
        let until = SIGNAL_INTERVAL.min(Duration::from_millis(millis));
        self.waiting.send_replace(true);
        let waited = tokio::select! {
            () = tokio::time::sleep(until) => Ok(()),
            () = self.cancellation.cancelled() => Err(StepError::Cancelled),
        };
        self.waiting.send_replace(false);
        waited
    }

    async fn sleep(&self, millis: u64) -> Result<(), StepError> {
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(millis)) => Ok(()),
            () = self.cancellation.cancelled() => Err(StepError::Cancelled),
        }
    }

    fn steering(&self) -> Steering {
        *self.steering.borrow()
    }

    async fn steered(&self, known: Steering) {
        // The sender is this executor's own, so it outlives the wait.
        let _ = self.steering.subscribe().wait_for(|steering| *steering != known).await;
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
