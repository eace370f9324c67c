//! The last step of a run: its row and its line in the request log.

use tokenhub_domain::{
    DurabilityMark, EventKeeping, FinishRequest, Owner, RunContext, RunStatus, StopReason, UnixMicros, Usage,
};
use tokenhub_store::{Claim, FinishRow, RequestLogRow};
use tokenhub_workflows::contract::StreamLog;

use crate::{ActivityFault, Keeping, World, clock, fault_points::FaultPoint, plan_events};

/// Writes what the run came to. Idempotent: a second call changes nothing.
pub(crate) async fn run(
    world: &World,
    run: &RunContext,
    owner: &Owner,
    keeping: Keeping,
    durability: DurabilityMark,
    request: &FinishRequest,
) -> Result<(), ActivityFault> {
    world.faults.reach(FaultPoint::Log, "").await;
    let outcome = &request.outcome;
    let now = clock::now();
    match keeping {
        Keeping::LedgerOnly => {}
        Keeping::Rows => {
            let finish = FinishRow {
                epoch: None,
                status: outcome.status,
                stop_reason: outcome.stop_reason,
                outcome_json: serde_json::to_string(outcome)?,
                durability,
                finished_at: now,
                negotiated_model: outcome.negotiated_model.clone(),
                usage: outcome.usage,
                event: match run.events {
                    EventKeeping::None => None,
                    EventKeeping::Kept => plan_events::ended(outcome, durability, now),
                },
            };
            if !end_run(world, run, owner, &finish).await? {
                tracing::warn!(run = %run.run_id, %owner, "a run was ended by another owner; this end is not kept");
                return Ok(());
            }
        }
    }
    let answering = outcome.steps.iter().rev().find(|step| step.model == outcome.negotiated_model);
    let row = RequestLogRow {
        model: outcome.negotiated_model.clone(),
        provider: answering.and_then(|step| step.provider.clone()),
        durability,
        status: outcome.status,
        stop_reason: Some(outcome.stop_reason),
        error_class: outcome.failure.as_ref().map(|failure| failure.class),
        usage: outcome.usage,
        latency_ms: outcome.steps.iter().map(|step| step.latency_ms).sum(),
        ..blank_row(run, now)
    };
    world.ledger.log(row)?;
    // Behind everything for whose sake this may be called again.
    world.counts.ended(outcome);
    Ok(())
}

/// Ends the run's row; a run that was never claimed, because its first step failed, is claimed for its end.
async fn end_run(world: &World, run: &RunContext, owner: &Owner, finish: &FinishRow) -> Result<bool, ActivityFault> {
    let runs = world.store.runs();
    if runs.finish(&run.tenant, &run.run_id, owner, finish).await? {
        return Ok(true);
    }
    match runs.claim(&run.tenant, &run.run_id, owner, clock::now()).await? {
        Claim::Won { .. } => Ok(runs.finish(&run.tenant, &run.run_id, owner, finish).await?),
        Claim::Held { .. } | Claim::Finished => Ok(false),
    }
}

/// Writes the line of a streamed answer. Idempotent.
pub async fn log_stream(world: &World, log: &StreamLog) -> Result<(), ActivityFault> {
    let (status, stop_reason) = match log.error_class {
        None => (RunStatus::Completed, StopReason::Answered),
        Some(_) => (RunStatus::Failed, StopReason::AllFailed),
    };
    let row = RequestLogRow {
        model: log.model.clone(),
        provider: log.provider.clone(),
        durability: DurabilityMark::Stream,
        status,
        stop_reason: Some(stop_reason),
        error_class: log.error_class,
        usage: Usage {
            calls: 1,
            duplicate_calls: 0,
            input_tokens: log.usage.input_tokens,
            output_tokens: log.usage.output_tokens,
            cost: log.cost,
            ..Usage::default()
        },
        latency_ms: log.latency_ms,
        ..blank_row(&log.run, log.ended_at)
    };
    world.ledger.log(row)?;
    Ok(())
}

/// A row that only says whose run it is.
fn blank_row(run: &RunContext, at: UnixMicros) -> RequestLogRow {
    RequestLogRow {
        run: run.clone(),
        model: None,
        provider: None,
        durability: DurabilityMark::None,
        status: RunStatus::Failed,
        stop_reason: None,
        error_class: None,
        usage: Usage::default(),
        latency_ms: 0,
        created_at: at,
    }
}
