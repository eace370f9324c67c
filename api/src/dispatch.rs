//! The one place that knows that a run can be carried in two ways.
//!
//! Accepts a run into the database, lets Temporal carry it while the breaker is closed and this process otherwise, and
//! waits for the result in both. Who works on a run is decided by the claim on its row alone, so a workflow that wakes up
//! late finds the run taken and buys nothing. Must not know HTTP beyond [`Problem`].

mod approval;
pub(crate) mod breaker_task;
mod cancel;
mod durable;
mod history;
mod in_process;
mod launch;
mod overdue;
mod recount;
mod steering;
mod sweep;
pub(crate) mod temporal_link;
mod wait;

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use serde_json::Value;
use tokenhub_activities::World;
use tokenhub_domain::{
    Answer, ApprovalState, DurabilityMark, DurabilityWish, Labels, Outcome, PlanSpec, RunId, RunStatus, TenantId, Text,
    UnixMicros, Webhook, WorkflowId,
};
use tokenhub_store::{ApprovalRow, RunRow, SignalRow};
use tokenhub_telemetry::{FallbackReason, Metrics};
use tokenhub_workflows::contract::StreamLog;
use tokio::sync::oneshot;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{error::Problem, idempotency::Identity, parse::approval::Verdict};
pub(crate) use approval::{Decided, Decider};
pub(crate) use launch::mark_of;
pub(crate) use steering::Steer;

use breaker_task::BreakerCell;
use in_process::RunningHere;
use overdue::SeenLate;
use sweep::Promised;
use temporal_link::TemporalLink;

/// Waiting ends this long after the run's own deadline, so that the run can still say that it ran out of time.
const WAIT_GRACE: Duration = Duration::from_secs(5);

/// What is to be done.
pub(crate) struct Job {
    /// The run. Its original text is inline.
    pub(crate) spec: PlanSpec,
    /// How durable it must be.
    pub(crate) wish: DurabilityWish,
    /// What makes it the same as another.
    pub(crate) identity: Option<Identity>,
    /// Whether the answer tells an id that can be read back.
    pub(crate) readback: Readback,
    /// Who is told of its end.
    pub(crate) webhook: Option<Webhook>,
    /// Runs of its tenant that may be unfinished when it begins.
    pub(crate) unfinished_max: Option<u64>,
}

/// Whether a run can be read back even when no durability is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Readback {
    /// A plan: its id is part of its answer.
    Promised,
    /// A chat: without durability it has no row, for the sake of speed.
    Unpromised,
}

/// A run that has ended.
#[derive(Debug)]
pub(crate) struct Answered {
    /// What it came to; every text is inline.
    pub(crate) outcome: Outcome,
    /// The run.
    pub(crate) run_id: RunId,
    /// What its caller finds it by.
    pub(crate) labels: Labels,
    /// Its workflow, when one was asked for.
    pub(crate) workflow_id: Option<WorkflowId>,
    /// Who carried it.
    pub(crate) mark: DurabilityMark,
    /// Whether it was computed for this request.
    pub(crate) origin: Origin,
}

/// Whether an answer was computed for this request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// For this one, or for one that was still running.
    Fresh,
    /// For an earlier one with the same idempotency key.
    Replayed,
}

/// Carries runs. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Dispatcher {
    shared: Arc<Shared>,
}

struct Shared {
    world: Arc<World>,
    link: Option<Arc<TemporalLink>>,
    breaker: Arc<BreakerCell>,
    metrics: Arc<Metrics>,
    tasks: TaskTracker,
    running_here: RunningHere,
    promised: Promised,
    seen_late: SeenLate,
    start_deadline: Duration,
    /// The process is about to stop.
    stopping: CancellationToken,
}

impl Dispatcher {
    /// A dispatcher; without `link` everything runs in this process.
    pub(crate) fn new(
        world: Arc<World>,
        link: Option<Arc<TemporalLink>>,
        breaker: Arc<BreakerCell>,
        metrics: Arc<Metrics>,
        tasks: TaskTracker,
        start_deadline: Duration,
        stopping: CancellationToken,
    ) -> Self {
        let (running_here, promised, seen_late) = Default::default();
        Self {
            shared: Arc::new(Shared {
                world,
                link,
                breaker,
                metrics,
                tasks,
                running_here,
                promised,
                seen_late,
                start_deadline,
                stopping,
            }),
        }
    }

    /// Carries `job` to its end. Dropping the future abandons the wait and not the run.
    pub(crate) async fn answer(&self, job: Job) -> Result<Answered, Problem> {
        let tenant = job.spec.base().run.tenant.clone();
        let is_ledger_only =
            job.wish == DurabilityWish::None && job.identity.is_none() && job.readback == Readback::Unpromised;
        let mut answered =
            if is_ledger_only { in_process::ledger_only(&self.shared, job).await? } else { self.with_row(job).await? };
        if answered.origin == Origin::Fresh {
            self.shared.metrics.duplicate_calls(answered.outcome.usage.duplicate_calls.into());
        }
        answered.outcome = load_texts(&self.shared.world, &tenant, answered.outcome).await?;
        Ok(answered)
    }

    /// Accepts `job`, which is then carried to its end; whoever asked comes back for the result. The run may be one that
    /// an earlier request brought about. Its durability is known here when it was started just now.
    pub(crate) async fn launch(&self, job: Job) -> Result<(RunId, Option<DurabilityMark>), Problem> {
        match self.accept(job).await? {
            launch::Launched::Stored(answered) => Ok((answered.run_id, Some(answered.mark))),
            launch::Launched::Waiting(pending) => {
                let run_id = pending.spec.base().run.run_id.clone();
                let mark = match pending.carrier {
                    launch::Carrier::Workflow(_) => Some(DurabilityMark::Durable),
                    launch::Carrier::Here(_) => Some(DurabilityMark::None),
                    launch::Carrier::Other => None,
                };
                let shared = Arc::clone(&self.shared);
                // Whoever waits also takes a run that no worker takes in time. The wait is no part of the run, so it is
                // not tracked and does not hold up the end of the process.
                tokio::spawn(async move { wait::wait(&shared, *pending).await.map(|_| ()) });
                Ok((run_id, mark))
            }
        }
    }

    /// Stops a run, whoever carries it. Its row as it is then, or nothing when there is none.
    pub(crate) async fn cancel(&self, tenant: &TenantId, run_id: &RunId) -> Result<Option<RunRow>, Problem> {
        // A task of the process, as launching is: a client that goes away in the middle leaves nothing half-stopped.
        let (shared, tenant, run_id) = (Arc::clone(&self.shared), tenant.clone(), run_id.clone());
        let stopping = self.shared.tasks.spawn(async move { cancel::cancel(&shared, &tenant, &run_id).await });
        stopping.await.map_err(|_| Problem::Internal)?
    }

    /// Decides about the answer of a run, if nobody has.
    pub(crate) async fn decide(&self, row: RunRow, verdict: Verdict, decider: Decider) -> Result<Decided, Problem> {
        let shared = Arc::clone(&self.shared);
        let deciding = self.shared.tasks.spawn(async move { approval::decide(&shared, &row, verdict, decider).await });
        deciding.await.map_err(|_| Problem::Internal)?
    }

    /// Asks something of a run while it runs.
    pub(crate) async fn steer(&self, row: RunRow, asked: Steer) -> Result<(), Problem> {
        let shared = Arc::clone(&self.shared);
        let steering = self.shared.tasks.spawn(async move { steering::steer(&shared, &row, asked).await });
        steering.await.map_err(|_| Problem::Internal)?
    }

    /// What Temporal has written down of a workflow, without its payloads.
    pub(crate) async fn history(&self, workflow_id: &WorkflowId) -> Result<Value, Problem> {
        history::read(&self.shared, workflow_id).await
    }

    async fn with_row(&self, job: Job) -> Result<Answered, Problem> {
        match self.accept(job).await? {
            launch::Launched::Stored(answered) => Ok(*answered),
            launch::Launched::Waiting(pending) => wait::wait(&self.shared, *pending).await,
        }
    }

    async fn accept(&self, job: Job) -> Result<launch::Launched, Problem> {
        if job.wish == DurabilityWish::Required
            && self.shared.durable_path().is_err()
            && !launch::is_kept(&self.shared, &job).await?
        {
            return Err(Problem::DurabilityAway);
        }
        // Launching is a task of the process: a client that goes away in the middle leaves no half-accepted run.
        let launching = self.shared.tasks.spawn(launch::launch(Arc::clone(&self.shared), job));
        launching.await.map_err(|_| Problem::Internal)?
    }

    /// Sees to runs that nobody works on any more, until `stop`.
    pub(crate) fn keep_sweeping(&self, stop: CancellationToken) -> impl Future<Output = ()> + Send + 'static {
        sweep::keep_sweeping(Arc::clone(&self.shared), stop)
    }

    /// Writes the log of a stream: by a workflow while that is possible and wished for.
    pub(crate) fn log_stream(&self, log: oneshot::Receiver<StreamLog>, wish: DurabilityWish) {
        let shared = Arc::clone(&self.shared);
        self.shared.tasks.spawn(async move {
            let Ok(log) = log.await else { return };
            match wish {
                DurabilityWish::None => durable::log_stream_here(&shared, &log).await,
                DurabilityWish::Preferred | DurabilityWish::Required => durable::log_stream(&shared, log).await,
            }
        });
    }

    /// The outcome of a run of `tenant` with its stored texts loaded.
    pub(crate) async fn inline(&self, tenant: &TenantId, outcome: Outcome) -> Result<Outcome, Problem> {
        load_texts(&self.shared.world, tenant, outcome).await
    }

    /// A text that may be stored, loaded.
    pub(crate) async fn text(&self, tenant: &TenantId, mut text: Text) -> Result<String, Problem> {
        load_text(&self.shared.world, tenant, &mut text).await?;
        text.as_inline().map(str::to_owned).ok_or(Problem::Internal)
    }
}

impl Shared {
    /// The way to Temporal while it is believed to work, or why there is none.
    fn durable_path(&self) -> Result<Arc<temporal_link::Connected>, FallbackReason> {
        let link = self.link.as_ref().ok_or(FallbackReason::Off)?;
        let connected = link.connected().ok_or(FallbackReason::NotConnected)?;
        if self.breaker.is_closed() { Ok(connected) } else { Err(FallbackReason::BreakerOpen) }
    }
}

/// The row of a run.
pub(crate) async fn read_run(world: &World, tenant: &TenantId, run_id: &RunId) -> Result<Option<RunRow>, Problem> {
    world.store.runs().get(tenant, run_id).await.map_err(|error| launch::away(&error))
}

/// The row of a run of any tenant: for whom something else than a key lets in.
pub(crate) async fn read_run_of_any_tenant(world: &World, run_id: &RunId) -> Result<Option<RunRow>, Problem> {
    world.store.runs().of_any_tenant(run_id).await.map_err(|error| launch::away(&error))
}

/// The decision that a run asked for, if it has.
pub(crate) async fn read_approval(world: &World, row: &RunRow) -> Result<Option<ApprovalRow>, Problem> {
    world.store.approvals().get(&row.tenant, &row.run_id).await.map_err(|error| launch::away(&error))
}

/// What was asked of a run while it ran.
pub(crate) async fn read_signals(world: &World, tenant: &TenantId, run_id: &RunId) -> Result<Vec<SignalRow>, Problem> {
    world.store.signals().of_run(tenant, run_id).await.map_err(|error| launch::away(&error))
}

/// Whether the run waits for somebody to answer `question`.
pub(crate) fn waits_for(row: &RunRow, question: &ApprovalRow) -> bool {
    row.status == RunStatus::Running && question.state == ApprovalState::Pending && now() < question.expires_at
}

/// The outcome in a row, once it is final.
pub(crate) fn outcome_of(row: &RunRow) -> Result<Option<Outcome>, Problem> {
    Ok(launch::stored_answer(row)?.map(|answered| answered.outcome))
}

/// This moment, as the database stores it.
fn now() -> UnixMicros {
    UnixMicros::from(SystemTime::now())
}

async fn load_texts(world: &World, tenant: &TenantId, mut outcome: Outcome) -> Result<Outcome, Problem> {
    let texts = outcome.answer.as_mut().map(texts_of).unwrap_or_default();
    for text in texts {
        load_text(world, tenant, text).await?;
    }
    Ok(outcome)
}

async fn load_text(world: &World, tenant: &TenantId, text: &mut Text) -> Result<(), Problem> {
    if matches!(text, Text::Stored(_)) {
        let loaded = world.store.contents().load(tenant, text).await.map_err(|error| {
            tracing::error!(error = &error as &dyn std::error::Error, "a stored text could not be loaded");
            Problem::StoreAway
        })?;
        *text = Text::Inline(loaded);
    }
    Ok(())
}

fn texts_of(answer: &mut Answer) -> Vec<&mut Text> {
    match answer {
        Answer::Chat { body } => vec![body],
        Answer::Adversarial(answer) => {
            let rounds = answer.rounds.iter_mut().flat_map(|round| [&mut round.critique, &mut round.refined_plan]);
            std::iter::once(&mut answer.initial_plan).chain(rounds).chain(&mut answer.unanswered_critique).collect()
        }
        Answer::Vote(answer) => answer.ballots.iter_mut().map(|ballot| &mut ballot.content).collect(),
        Answer::Refine(answer) => vec![&mut answer.refined_response],
        Answer::BestOfN(answer) => answer.candidates.iter_mut().map(|ballot| &mut ballot.content).collect(),
        Answer::Cascade(answer) => vec![&mut answer.response],
        Answer::Fuse(answer) => {
            let panel = answer.panel.iter_mut().map(|ballot| &mut ballot.content);
            std::iter::once(&mut answer.response).chain(panel).collect()
        }
    }
}
