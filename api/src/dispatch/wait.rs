//! Waiting for a run: on its workflow, on its row and on this process, whichever tells first.
//!
//! An outage of any of them is survived by the others. The row also tells who holds the claim: a run that nobody takes
//! in time, or whose process died, is carried on here. Taking over is a compare-and-set on the row, and the journal keeps
//! what was paid for, so nothing is bought twice.

use std::{
    future::{Future, pending},
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use tokenhub_domain::{DurabilityMark, DurabilityWish, Outcome, Owner, UnixMicros, WorkflowId};
use tokenhub_routing::BreakerFailure;
use tokenhub_store::RunRow;
use tokenhub_telemetry::FallbackReason;

use super::{
    Answered, Origin, Shared, WAIT_GRACE,
    durable::{self, Ended, StartFailure},
    in_process::{self, Here, HereWatch},
    launch::{Carrier, Pending, finish_for_workflow, stored_answer},
    now,
};
use crate::error::{Problem, RetryAdvice};

/// Between two looks at the row.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);
/// Between two starts of a workflow by one request: each may end at once, because another owner has the run.
const RESTART_INTERVAL: Duration = Duration::from_secs(5);
/// The first look at a run that another request brought about; doubled up to the normal interval.
const FIRST_LOOK: Duration = Duration::from_millis(50);

type WorkflowEnd = Pin<Box<dyn Future<Output = Ended> + Send>>;

/// One request's wait.
struct Wait {
    shared: Arc<Shared>,
    pending: Pending,
    workflow: Option<WorkflowEnd>,
    here: Option<HereWatch>,
    /// When a run that nobody has claimed is taken here.
    claim_deadline: Instant,
    look_interval: Duration,
    claim_seen: bool,
    restarted_at: Option<Instant>,
    /// What a workflow came to that was stopped while the run was tried here.
    stopped: Option<Box<Outcome>>,
    /// Keeps the sweep from carrying a run here that must be durable.
    _promise: Option<Arc<()>>,
}

/// What the row of a run says.
enum Look {
    Ended(Box<Answered>),
    Unclaimed,
    Abandoned,
    Held(Owner, Option<UnixMicros>),
    Unknown,
}

/// Waits for the end of `pending`, to the run's deadline and wherever somebody has moved it meanwhile.
pub(super) async fn wait(shared: &Arc<Shared>, pending: Pending) -> Result<Answered, Problem> {
    let base = pending.spec.base();
    let mut bound_ms = base.deadline_ms;
    let until = Instant::now() + WAIT_GRACE;
    let (tenant, run_id) = (base.run.tenant.clone(), base.run.run_id.clone());
    let advice = if pending.has_key { RetryAdvice::Unsaid } else { RetryAdvice::Never };
    let mut waiting = Box::pin(Wait::new(Arc::clone(shared), pending).run());
    loop {
        let bound = until + Duration::from_millis(bound_ms);
        if let Ok(answered) = tokio::time::timeout_at(bound.into(), &mut waiting).await {
            return answered;
        }
        let asked = shared.world.store.signals().steering(&tenant, &run_id).await;
        let moved_ms = asked.ok().and_then(|steering| steering.deadline_ms).unwrap_or_default();
        if moved_ms <= bound_ms {
            return Err(Problem::StillRunning { run_id, advice });
        }
        bound_ms = moved_ms;
    }
}

impl Wait {
    fn new(shared: Arc<Shared>, pending: Pending) -> Self {
        let promise = match pending.wish {
            DurabilityWish::Required => Some(shared.promised.hold(&pending.spec.base().run.run_id)),
            DurabilityWish::Preferred | DurabilityWish::None => None,
        };
        let mut wait = Self {
            claim_deadline: pending.accepted + shared.start_deadline,
            look_interval: LOOK_INTERVAL,
            workflow: None,
            here: None,
            claim_seen: false,
            restarted_at: None,
            stopped: None,
            _promise: promise,
            shared,
            pending,
        };
        match (&wait.pending.carrier, &wait.pending.workflow_id) {
            (Carrier::Workflow(connected), Some(workflow_id)) => {
                wait.workflow = Some(Box::pin(durable::result(Arc::clone(connected), workflow_id.clone())));
            }
            (Carrier::Here(here), _) => wait.here = Some(here.clone()),
            (Carrier::Other | Carrier::Workflow(_), _) => wait.look_interval = FIRST_LOOK,
        }
        wait
    }

    async fn run(mut self) -> Result<Answered, Problem> {
        let mut next_look = self.first_look();
        loop {
            tokio::select! {
                ended = of_workflow(&mut self.workflow) => {
                    self.workflow = None;
                    if let Some(answered) = self.on_workflow_end(ended).await? {
                        return Ok(answered);
                    }
                    next_look = Instant::now();
                }
                here = of_here(&mut self.here) => {
                    self.here = None;
                    match here {
                        Here::Finished(outcome) => return Ok(self.answered(Arc::unwrap_or_clone(outcome), DurabilityMark::None)),
                        Here::ClaimLost | Here::Running => {
                            if let Some(outcome) = self.stopped.take()
                                && let Some(answered) = self.on_stopped(outcome).await?
                            {
                                return Ok(answered);
                            }
                            next_look = Instant::now();
                        }
                    }
                }
                () = tokio::time::sleep_until(next_look.into()) => {
                    if let Some(answered) = self.on_look().await? {
                        return Ok(answered);
                    }
                    next_look = Instant::now() + self.look_interval;
                    self.look_interval = (self.look_interval * 2).min(LOOK_INTERVAL);
                }
            }
        }
    }

    /// A healthy workflow tells its result itself, so its row is left alone until the claim is due.
    fn first_look(&self) -> Instant {
        match self.pending.carrier {
            Carrier::Workflow(_) | Carrier::Here(_) => self.claim_deadline,
            Carrier::Other => Instant::now(),
        }
    }

    async fn on_look(&mut self) -> Result<Option<Answered>, Problem> {
        match look(&self.shared, &self.pending).await? {
            Look::Ended(answered) => return Ok(Some(*answered)),
            Look::Unclaimed if Instant::now() >= self.claim_deadline => self.on_unclaimed().await,
            Look::Abandoned => self.on_abandoned().await,
            Look::Held(owner, since) => self.on_claim(&owner, since),
            Look::Unclaimed | Look::Unknown => {}
        }
        Ok(None)
    }

    /// Nobody polls, or Temporal hangs with the start in its hands.
    async fn on_unclaimed(&mut self) {
        // A worker that has more to do than it can is no failure of Temporal: others would lose their durability by it.
        let stands_in_line = self.shared.breaker.has_worked_since(self.pending.accepted_at);
        if self.workflow.is_some() && !self.claim_seen && !stands_in_line {
            self.shared.breaker.failed(BreakerFailure::NoPoller);
        }
        match self.pending.wish {
            // A durable run stays with Temporal, however long its worker takes to come back.
            DurabilityWish::Required => self.start_workflow().await,
            DurabilityWish::Preferred | DurabilityWish::None => {
                if self.workflow.is_some() && !self.claim_seen {
                    self.shared.metrics.fallback(FallbackReason::NoWorker);
                }
                self.carry_here();
            }
        }
        // Counted once for each request.
        self.claim_seen = true;
    }

    /// The process that carried it has died.
    async fn on_abandoned(&mut self) {
        match self.pending.wish {
            // Its workflow may take the claim, too.
            DurabilityWish::Required => self.start_workflow().await,
            DurabilityWish::Preferred | DurabilityWish::None => self.carry_here(),
        }
    }

    /// Starts the workflow of a run that another request brought about: that one may have died before. Starting twice is
    /// starting once.
    async fn start_workflow(&mut self) {
        if self.workflow.is_some() || self.restarted_at.is_some_and(|at| at.elapsed() < RESTART_INTERVAL) {
            return;
        }
        self.restarted_at = Some(Instant::now());
        let (Some(workflow_id), Ok(connected)) = (&self.pending.workflow_id, self.shared.durable_path()) else {
            return;
        };
        match durable::start(&connected, &self.pending.spec, workflow_id, self.shared.start_deadline).await {
            Ok(()) => self.workflow = Some(Box::pin(durable::result(connected, workflow_id.clone()))),
            Err(StartFailure::Temporal(failure)) => self.shared.breaker.failed(failure),
            Err(StartFailure::Refused(reason)) => tracing::error!(reason, %workflow_id, "a start was refused"),
        }
    }

    fn on_claim(&mut self, owner: &Owner, since: Option<UnixMicros>) {
        if let Some(since) = since.filter(|_| !owner.expires()) {
            self.shared.breaker.worked(since);
        }
        if !self.claim_seen && self.workflow.is_some() && !owner.expires() {
            self.shared.breaker.succeeded();
        }
        self.claim_seen = true;
    }

    fn carry_here(&mut self) {
        if self.here.is_none() {
            self.here = Some(in_process::carry(&self.shared, self.pending.spec.clone()));
        }
    }

    async fn on_workflow_end(&mut self, ended: Ended) -> Result<Option<Answered>, Problem> {
        match ended {
            Ended::With(outcome) => {
                self.shared.breaker.worked(now());
                if !self.claim_seen {
                    self.shared.breaker.succeeded();
                }
                Ok(Some(self.answered(*outcome, DurabilityMark::Durable)))
            }
            Ended::Without => Ok(None),
            // The task in this process may have the claim, and then its result is the run's.
            Ended::Stopped(outcome) if self.here.is_some() => {
                self.stopped = Some(outcome);
                Ok(None)
            }
            Ended::Stopped(outcome) => self.on_stopped(outcome).await,
        }
    }

    /// A workflow that was terminated could not write its own end. Unless the run is another owner's, it is written here.
    async fn on_stopped(&mut self, outcome: Box<Outcome>) -> Result<Option<Answered>, Problem> {
        if let Look::Ended(answered) = look(&self.shared, &self.pending).await? {
            return Ok(Some(*answered));
        }
        let Some(workflow_id) = &self.pending.workflow_id else { return Ok(None) };
        let run = &self.pending.spec.base().run;
        if !finish_for_workflow(&self.shared, (&run.tenant, &run.run_id), workflow_id, *outcome).await? {
            return Ok(None);
        }
        // What is written has its steps, and may be what another process has written for the same workflow.
        Ok(match look(&self.shared, &self.pending).await? {
            Look::Ended(answered) => Some(*answered),
            Look::Unknown | Look::Unclaimed | Look::Abandoned | Look::Held(..) => None,
        })
    }

    fn answered(&self, outcome: Outcome, mark: DurabilityMark) -> Answered {
        Answered {
            outcome,
            run_id: self.pending.spec.base().run.run_id.clone(),
            labels: self.pending.spec.base().run.labels.clone(),
            workflow_id: workflow_of(&self.pending, mark),
            mark,
            origin: Origin::Fresh,
        }
    }
}

/// Reads the row. An unreachable database is no reason to stop waiting.
async fn look(shared: &Shared, pending: &Pending) -> Result<Look, Problem> {
    let run = &pending.spec.base().run;
    match shared.world.store.runs().get(&run.tenant, &run.run_id).await {
        Ok(Some(row)) => Ok(match stored_answer(&row)? {
            Some(answered) => Look::Ended(Box::new(ended_meanwhile(pending, answered))),
            None => look_at(&row),
        }),
        Ok(None) => Ok(Look::Unknown),
        Err(error) => {
            tracing::debug!(error = &error as &dyn std::error::Error, "a run could not be looked at");
            Ok(Look::Unknown)
        }
    }
}

/// A result that came while we waited was not stored before we asked.
fn ended_meanwhile(pending: &Pending, answered: Answered) -> Answered {
    let workflow_id = workflow_of(pending, answered.mark);
    Answered { origin: Origin::Fresh, workflow_id, ..answered }
}

/// The workflow that an answer names: one that was started for this request or that carried the run.
fn workflow_of(pending: &Pending, mark: DurabilityMark) -> Option<WorkflowId> {
    let was_started = matches!(pending.carrier, Carrier::Workflow(_));
    pending.workflow_id.clone().filter(|_| was_started || mark == DurabilityMark::Durable)
}

fn look_at(row: &RunRow) -> Look {
    match (&row.owner, row.lease_until) {
        (None, _) => Look::Unclaimed,
        (Some(owner), Some(lease_until)) if owner.expires() && lease_until <= now() => Look::Abandoned,
        (Some(owner), _) => Look::Held(owner.clone(), row.started_at),
    }
}

async fn of_workflow(workflow: &mut Option<WorkflowEnd>) -> Ended {
    match workflow {
        Some(end) => end.await,
        None => pending().await,
    }
}

async fn of_here(here: &mut Option<HereWatch>) -> Here {
    let Some(watch) = here else { return pending().await };
    let seen = watch.wait_for(|here| !matches!(here, Here::Running)).await.map(|here| Here::clone(&here));
    // A task that died without a word left its lease to expire; the row will show it.
    seen.unwrap_or(Here::ClaimLost)
}
