//! Accepting a run: its row first, then whoever is to carry it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokenhub_activities::plan_events;
use tokenhub_domain::{
    DurabilityMark, DurabilityWish, Outcome, Owner, PlanSpec, RunId, RunStatus, StopReason, TenantId, Text, UnixMicros,
    WorkflowId,
};
use tokenhub_routing::BreakerFailure;
use tokenhub_store::{Claim, FinishRow, IdempotencyScope, Inserted, NewRun, RunRow, StoreError};
use tokenhub_telemetry::FallbackReason;
use uuid::Uuid;

use super::{
    Answered, Job, Origin, Shared,
    durable::{self, StartFailure},
    in_process::{self, HereWatch},
    now, recount,
    temporal_link::Connected,
};
use crate::error::{LimitRefusal, Problem};

/// An accepted run.
pub(super) enum Launched {
    /// It has a result already.
    Stored(Box<Answered>),
    /// It is on its way.
    Waiting(Box<Pending>),
}

/// A run that somebody carries, or will.
pub(super) struct Pending {
    /// The run, with the id that its row has.
    pub(super) spec: PlanSpec,
    /// The workflow id in its row.
    pub(super) workflow_id: Option<WorkflowId>,
    /// What its caller asks for.
    pub(super) wish: DurabilityWish,
    /// When it had its row. The time that a client takes to send its request is not held against Temporal.
    pub(super) accepted: Instant,
    /// The same on the clock that rows have.
    pub(super) accepted_at: UnixMicros,
    /// Who carries it, as far as this request knows.
    pub(super) carrier: Carrier,
    /// Whether the client can come back for it.
    pub(super) has_key: bool,
}

/// Who carries a run, as far as a request knows.
pub(super) enum Carrier {
    /// A workflow that was started for it.
    Workflow(Arc<Connected>),
    /// This process.
    Here(HereWatch),
    /// Another request brought it about.
    Other,
}

/// Accepts `job` and sees to it that somebody carries it.
pub(super) async fn launch(shared: Arc<Shared>, mut job: Job) -> Result<Launched, Problem> {
    check_room(&shared, &job).await?;
    job.spec.base_mut().wish = job.wish;
    job.spec = store_original(&shared, job.spec).await.map_err(|error| away(&error))?;
    let inserted = shared.world.store.runs().insert(&new_run(&shared, &job)?).await.map_err(|error| away(&error))?;
    let accepted = Instant::now();
    match inserted {
        Inserted::Conflict(_) => Err(Problem::IdempotencyMismatch),
        Inserted::New(row) => {
            let carrier = match choose_carrier(&shared, &job, &row, accepted).await {
                Some(carrier) => carrier,
                None => withdraw(&shared, &job).await?,
            };
            Ok(Launched::Waiting(Box::new(pending(job, &row, carrier, accepted))))
        }
        Inserted::Existing(row) => {
            if let Some(answered) = stored_answer(&row)? {
                return Ok(Launched::Stored(Box::new(answered)));
            }
            adopt_row(&mut job.spec, &row);
            let carrier = if is_stranded(&row, shared.start_deadline) {
                choose_carrier(&shared, &job, &row, accepted).await.unwrap_or(Carrier::Other)
            } else {
                Carrier::Other
            };
            Ok(Launched::Waiting(Box::new(pending(job, &row, carrier, accepted))))
        }
    }
}

/// Refuses one run more where its tenant has as many unfinished ones as it may. A repetition is no further run. Requests
/// that come at the same moment see the same count, so the bound is not sharp.
async fn check_room(shared: &Shared, job: &Job) -> Result<(), Problem> {
    let Some(max) = job.unfinished_max else { return Ok(()) };
    let (tenant, runs) = (&job.spec.base().run.tenant, shared.world.store.runs());
    if runs.unfinished_of(tenant).await.map_err(|error| away(&error))? < max {
        return Ok(());
    }
    if let Some(identity) = &job.identity
        && runs.of_scope(tenant, &identity.scope_hash).await.map_err(|error| away(&error))?.is_some()
    {
        return Ok(());
    }
    Err(LimitRefusal::Runs { max }.into())
}

/// Whether the process that accepted the run seems to have died before it found a carrier. If it has not, the claim
/// decides, and starting a workflow twice is starting it once.
fn is_stranded(row: &RunRow, start_deadline: Duration) -> bool {
    let start_deadline_ms = u64::try_from(start_deadline.as_millis()).unwrap_or(u64::MAX);
    row.owner.is_none() && row.created_at.plus_millis(start_deadline_ms) < now()
}

/// Whether the same request was made before and its run needs no start: it has a result, or a workflow that holds it.
pub(super) async fn is_kept(shared: &Shared, job: &Job) -> Result<bool, Problem> {
    let Some(identity) = &job.identity else { return Ok(false) };
    let tenant = &job.spec.base().run.tenant;
    let row = shared.world.store.runs().of_scope(tenant, &identity.scope_hash).await.map_err(|error| away(&error))?;
    Ok(row.is_some_and(|row| {
        if row.status.is_final() { !row.may_be_repeated() } else { row.owner.is_some_and(|owner| !owner.expires()) }
    }))
}

fn pending(job: Job, row: &RunRow, carrier: Carrier, accepted: Instant) -> Pending {
    Pending {
        spec: job.spec,
        workflow_id: row.workflow_id.clone(),
        wish: job.wish,
        accepted,
        accepted_at: now(),
        carrier,
        has_key: job.identity.is_some(),
    }
}

/// A store error as the client may see it.
pub(super) fn away(error: &StoreError) -> Problem {
    tracing::error!(error = error as &dyn std::error::Error, "the database did not serve");
    if error.is_unavailable() { Problem::StoreAway } else { Problem::Internal }
}

/// The result in a row; nothing while the run lasts.
pub(super) fn stored_answer(row: &RunRow) -> Result<Option<Answered>, Problem> {
    let Some(json) = row.outcome_json.as_deref().filter(|_| row.status.is_final()) else { return Ok(None) };
    let outcome = serde_json::from_str::<Outcome>(json).map_err(|error| {
        tracing::error!(error = &error as &dyn std::error::Error, run = %row.run_id, "a stored outcome cannot be read");
        Problem::Internal
    })?;
    Ok(Some(Answered {
        outcome,
        run_id: row.run_id.clone(),
        labels: row.labels.clone(),
        workflow_id: row.workflow_id.clone(),
        mark: mark_of(row),
        origin: Origin::Replayed,
    }))
}

/// How durable a run is, by what its row says or by who holds it.
pub(crate) fn mark_of(row: &RunRow) -> DurabilityMark {
    let by_owner = match &row.owner {
        Some(owner) if !owner.expires() => DurabilityMark::Durable,
        Some(_) | None => DurabilityMark::None,
    };
    row.durability.unwrap_or(by_owner)
}

/// Nobody, when the run must be durable and cannot be.
async fn choose_carrier(shared: &Arc<Shared>, job: &Job, row: &RunRow, accepted: Instant) -> Option<Carrier> {
    let here = || Some(Carrier::Here(in_process::carry(shared, job.spec.clone())));
    if job.wish == DurabilityWish::None {
        return here();
    }
    match start_workflow(shared, job, row, accepted).await {
        Ok(connected) => Some(Carrier::Workflow(connected)),
        Err(_) if job.wish == DurabilityWish::Required => None,
        Err(reason) => {
            shared.metrics.fallback(reason);
            here()
        }
    }
}

async fn start_workflow(
    shared: &Shared,
    job: &Job,
    row: &RunRow,
    accepted: Instant,
) -> Result<Arc<Connected>, FallbackReason> {
    let connected = shared.durable_path()?;
    let workflow_id = row.workflow_id.as_ref().ok_or(FallbackReason::Off)?;
    let deadline = shared.start_deadline.saturating_sub(accepted.elapsed());
    match durable::start(&connected, &job.spec, workflow_id, deadline).await {
        Ok(()) => Ok(connected),
        Err(StartFailure::Temporal(failure)) => {
            shared.breaker.failed(failure);
            Err(match failure {
                BreakerFailure::StartDeadline => FallbackReason::StartDeadline,
                BreakerFailure::ConnectRefused | BreakerFailure::Unavailable | BreakerFailure::NoPoller => {
                    FallbackReason::StartFailed
                }
            })
        }
        Err(StartFailure::Refused(reason)) => {
            tracing::error!(reason, %workflow_id, "a start was refused");
            Err(FallbackReason::StartFailed)
        }
    }
}

/// Takes back a run that must be durable and cannot be. When the start reached Temporal after all, it stays.
async fn withdraw(shared: &Arc<Shared>, job: &Job) -> Result<Carrier, Problem> {
    let run = &job.spec.base().run;
    let outcome = cancelled("durability was required and Temporal was away");
    let has_ended = end_unclaimed(shared, (&run.tenant, &run.run_id), &outcome).await?;
    if has_ended { Err(Problem::DurabilityAway) } else { Ok(Carrier::Other) }
}

/// What a run came to that was stopped from outside.
pub(super) fn cancelled(reason: &str) -> Outcome {
    Outcome {
        edited: false,
        status: RunStatus::Cancelled,
        stop_reason: StopReason::Cancelled,
        negotiated_model: None,
        routing_reason: reason.to_owned(),
        answer: None,
        steps: Vec::new(),
        usage: tokenhub_domain::Usage::default(),
        failure: None,
    }
}

/// Ends a run that nobody has claimed: whoever claims it later finds it ended. False: somebody has.
pub(super) async fn end_unclaimed(
    shared: &Shared,
    (tenant, run_id): (&TenantId, &RunId),
    outcome: &Outcome,
) -> Result<bool, Problem> {
    let owner = Owner::process(&shared.world.instance);
    let runs = shared.world.store.runs();
    let claim = runs.claim(tenant, run_id, &owner, now()).await.map_err(|error| away(&error))?;
    let Claim::Won { epoch } = claim else { return Ok(false) };
    let finish = finish_row(outcome, Some(epoch), DurabilityMark::None)?;
    runs.finish(tenant, run_id, &owner, &finish).await.map_err(|error| away(&error))?;
    Ok(true)
}

/// Ends a run in the name of the process that carries it, which sees so when it renews its lease. False: it is another's
/// by now, or has ended.
pub(super) async fn end_for_process(
    shared: &Shared,
    row: &RunRow,
    owner: &Owner,
    outcome: Outcome,
) -> Result<bool, Problem> {
    let run = (&row.tenant, &row.run_id);
    let outcome = recount::with_steps(shared, run, outcome).await.map_err(|error| away(&error))?;
    let finish = finish_row(&outcome, Some(row.epoch), DurabilityMark::None)?;
    let runs = shared.world.store.runs();
    runs.finish(&row.tenant, &row.run_id, owner, &finish).await.map_err(|error| away(&error))
}

/// Writes the end of a run for a workflow that could not. False: the run is not the workflow's, or has ended.
pub(super) async fn finish_for_workflow(
    shared: &Shared,
    (tenant, run_id): (&TenantId, &RunId),
    workflow_id: &WorkflowId,
    outcome: Outcome,
) -> Result<bool, Problem> {
    let owner = Owner::workflow(workflow_id);
    let runs = shared.world.store.runs();
    match runs.claim(tenant, run_id, &owner, now()).await.map_err(|error| away(&error))? {
        Claim::Won { .. } => {
            let outcome = recount::with_steps(shared, (tenant, run_id), outcome).await.map_err(|error| away(&error))?;
            let finish = finish_row(&outcome, None, DurabilityMark::Durable)?;
            runs.finish(tenant, run_id, &owner, &finish).await.map_err(|error| away(&error))
        }
        Claim::Held { .. } | Claim::Finished => Ok(false),
    }
}

/// The row of a run that could not write its own end.
fn finish_row(outcome: &Outcome, epoch: Option<i64>, durability: DurabilityMark) -> Result<FinishRow, Problem> {
    let ended_at = now();
    Ok(FinishRow {
        epoch,
        status: outcome.status,
        stop_reason: outcome.stop_reason,
        outcome_json: serde_json::to_string(outcome).map_err(|_| Problem::Internal)?,
        durability,
        negotiated_model: outcome.negotiated_model.clone(),
        usage: outcome.usage,
        finished_at: ended_at,
        // Kept only where the run keeps events, which its row knows.
        event: plan_events::ended(outcome, durability, ended_at),
    })
}

fn new_run(shared: &Shared, job: &Job) -> Result<NewRun, Problem> {
    let (run, created_at) = (&job.spec.base().run, now());
    let workflow_id = shared.link.as_ref().map(|_| match &job.identity {
        // The store appends the generation.
        Some(identity) => format!("{}:{}:{}", run.kind.as_str(), run.tenant, identity.scope_hash),
        None => format!("{}:{}:{}:1", run.kind.as_str(), run.tenant, Uuid::now_v7()),
    });
    Ok(NewRun {
        run_id: run.run_id.clone(),
        kind: run.kind,
        tenant: run.tenant.clone(),
        principal: run.principal.clone(),
        api_key_id: run.api_key_id.clone(),
        request_id: run.request_id.clone(),
        idempotency: job.identity.as_ref().map(|identity| IdempotencyScope {
            scope_hash: identity.scope_hash.clone(),
            body_hash: identity.body_hash.clone(),
        }),
        spec_json: serde_json::to_string(&job.spec).map_err(|_| Problem::Internal)?,
        workflow_id: workflow_id.map(WorkflowId::new),
        config_version: run.config_version,
        labels: run.labels.clone(),
        webhook: job.webhook.clone(),
        created_at,
        first_event: plan_events::created(run, created_at),
    })
}

/// A long body, or schema, travels by reference: a history would carry it many times.
async fn store_original(shared: &Shared, mut spec: PlanSpec) -> Result<PlanSpec, StoreError> {
    let base = spec.base_mut();
    if let Text::Inline(text) = &mut base.original {
        let text = std::mem::take(text);
        base.original = shared.world.store.contents().inline_or_store(&base.run.tenant, text).await?;
    }
    if let Some(Text::Inline(text)) = &mut base.output.schema {
        let text = std::mem::take(text);
        base.output.schema = Some(shared.world.store.contents().inline_or_store(&base.run.tenant, text).await?);
    }
    Ok(spec)
}

/// A repeated request works on the run of the first one.
fn adopt_row(spec: &mut PlanSpec, row: &RunRow) {
    // A template may have another version by now, or be gone; the run keeps the one that it was accepted with.
    if row.labels.template.is_some()
        && let Ok(accepted) = serde_json::from_str(&row.spec_json)
    {
        *spec = accepted;
    }
    let run = &mut spec.base_mut().run;
    run.run_id = row.run_id.clone();
    run.request_id = row.request_id.clone();
    run.config_version = row.config_version;
}
