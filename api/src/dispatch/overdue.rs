//! Plans whose workflows should have ended long ago: their code fails, so that they never will, and they are ended here.
//!
//! The deadline of a plan may be moved while it runs, so Temporal's own execution timeout, which is said at the start, is
//! that of the longest plan. A workflow that is sound ends itself at its deadline. One that could not, because its
//! worker, its database or Temporal was away, has the grace for that, and is seen late twice, with all of them there, before
//! it is ended: what was away may have come back just now. Must not know what is wrong with the workflow.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use temporalio_client::{
    Client, RetryOptions, RpcOptions, WorkflowHandle, WorkflowTerminateOptions, errors::WorkflowInteractionError,
};
use temporalio_common::protos::temporal::api::common::v1::{Payload, Payloads};
use tokenhub_domain::{PlanSpec, RunId, SpecBase, Steering, StopReason, UnixMicros, WorkflowId};
use tokenhub_store::{ApprovalRow, RunRow, StoreError};
use tokenhub_workflows::ChatWorkflow;

use super::{Shared, durable, launch, now, temporal_link::Connected};

/// Between the first look that finds a plan late and the one that ends it, unless the grace is shorter.
const SECOND_LOOK: Duration = Duration::from_secs(30);
/// A plan that was found late is looked at in every round of the sweep, which takes long when very many are open.
const FORGOTTEN_AFTER: Duration = Duration::from_hours(1);
const TERMINATE_RPC_TIMEOUT: Duration = Duration::from_secs(3);
const REASON: &str = "the plan's deadline and the grace after it are over";

/// Plans that were found late.
#[derive(Default)]
pub(super) struct SeenLate(Mutex<HashMap<RunId, Seen>>);

/// When a plan was found late, for the first and for the last time.
struct Seen {
    first: Instant,
    last: Instant,
}

impl SeenLate {
    /// Whether the run has been late for `wait` by now.
    fn is_still(&self, run_id: &RunId, wait: Duration) -> bool {
        let (mut seen, now) = (self.seen(), Instant::now());
        let this = seen.entry(run_id.clone()).or_insert(Seen { first: now, last: now });
        this.last = now;
        let is_still = now.duration_since(this.first) >= wait;
        // What has ended by itself since is not asked about again.
        seen.retain(|_, seen| now.duration_since(seen.last) < FORGOTTEN_AFTER);
        is_still
    }

    fn forget(&self, run_id: &RunId) {
        self.seen().remove(run_id);
    }

    fn seen(&self) -> MutexGuard<'_, HashMap<RunId, Seen>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends a plan that its workflow should have ended. False: it is not late, or may still end itself.
pub(super) async fn end(shared: &Shared, row: &RunRow, workflow_id: &WorkflowId) -> bool {
    let Some(link) = shared.link.as_ref() else { return false };
    let Some(connected) = link.connected() else { return false };
    if !is_late(shared, row, connected.execution_grace).await
        || !durable::is_running(&connected, workflow_id).await
        || link.probe().await.is_err()
    {
        shared.seen_late.forget(&row.run_id);
        return false;
    }
    if !shared.seen_late.is_still(&row.run_id, connected.execution_grace.min(SECOND_LOOK)) {
        return false;
    }
    match terminate(&connected, workflow_id).await {
        Ok(true) => {}
        // It has ended by itself.
        Ok(false) => return false,
        Err(reason) => {
            tracing::warn!(reason, run = %row.run_id, %workflow_id, "a late workflow was not ended; it will be");
            return false;
        }
    }
    tracing::error!(run = %row.run_id, %workflow_id, "a workflow did not end its plan at the deadline and was ended");
    let run = (&row.tenant, &row.run_id);
    // Should this fail, the next sweep reads the same from the workflow.
    launch::finish_for_workflow(shared, run, workflow_id, durable::out_of_time()).await.is_ok()
}

async fn is_late(shared: &Shared, row: &RunRow, grace: Duration) -> bool {
    // The deadline of a run without events, a chat, is not moved, so Temporal knows it. Nearly every other one is known to be
    // in time before its conversation is read.
    if row.last_seq == 0 || !is_over(row.started_at, grace) {
        return false;
    }
    let Ok(spec) = serde_json::from_str::<PlanSpec>(&row.spec_json) else { return false };
    let base = spec.base();
    if !is_over(due(row, base, Steering::default(), None), grace) {
        return false;
    }
    match standing(shared, row).await {
        Ok((asked, question)) => is_over(due(row, base, asked, question.as_ref()), grace),
        Err(error) => {
            tracing::debug!(error = &error as &dyn std::error::Error, run = %row.run_id, "a deadline could not be read");
            false
        }
    }
}

async fn standing(shared: &Shared, row: &RunRow) -> Result<(Steering, Option<ApprovalRow>), StoreError> {
    let store = &shared.world.store;
    let asked = store.signals().steering(&row.tenant, &row.run_id).await?;
    Ok((asked, store.approvals().get(&row.tenant, &row.run_id).await?))
}

fn is_over(due: Option<UnixMicros>, grace: Duration) -> bool {
    let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
    due.is_some_and(|due| due.plus_millis(grace_ms) <= now())
}

/// When the run must have ended, unless its clock has not begun or stands still.
fn due(row: &RunRow, base: &SpecBase, asked: Steering, question: Option<&ApprovalRow>) -> Option<UnixMicros> {
    let deadline_ms = base.first_deadline_ms().max(asked.deadline_ms.unwrap_or_default());
    let deadline = row.started_at?.plus_millis(deadline_ms);
    match question {
        None => Some(deadline),
        // A person's time is not the run's, and what was decided, or not in time, is still to be carried out.
        Some(question) => Some(question.decided_at.unwrap_or(question.expires_at).max(deadline)),
    }
}

/// Ends a workflow, with a word by which everybody who waits for it knows why. False: there is none to end.
async fn terminate(connected: &Connected, workflow_id: &WorkflowId) -> Result<bool, String> {
    let handle: WorkflowHandle<Client, ChatWorkflow> = connected.client.get_workflow_handle(workflow_id.as_str());
    let rpc = RpcOptions::builder().timeout(TERMINATE_RPC_TIMEOUT).retry_options(RetryOptions::no_retries()).build();
    let word = Payload {
        metadata: HashMap::from([("encoding".to_owned(), b"json/plain".to_vec())]),
        data: serde_json::to_vec(&StopReason::ExecutionTimeout).map_err(|error| error.to_string())?,
        ..Payload::default()
    };
    let options = WorkflowTerminateOptions::builder()
        .reason(REASON)
        .details(Payloads { payloads: vec![word] })
        .rpc_options(rpc)
        .build();
    match handle.terminate(options).await {
        Ok(()) => Ok(true),
        Err(WorkflowInteractionError::NotFound(_)) => Ok(false),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_late_when_it_was_late_for_long_enough_and_a_sound_one_is_forgotten() {
        let (seen, run_id) = (SeenLate::default(), RunId::from("plan_1"));
        assert!(!seen.is_still(&run_id, Duration::from_millis(1)));
        std::thread::sleep(Duration::from_millis(2));
        assert!(seen.is_still(&run_id, Duration::from_millis(1)));
        seen.forget(&run_id);
        assert!(!seen.is_still(&run_id, Duration::from_millis(1)));
    }
}
