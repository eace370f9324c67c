//! Stopping a run on request, whoever carries it.
//!
//! A workflow is told through Temporal, which keeps the wish while no worker is there. A process is told by the row of its
//! run, at which it looks whenever it renews its lease. A run that nobody has yet is taken and ended here.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokenhub_domain::{RunId, TenantId, WorkflowId};
use tokenhub_store::RunRow;

use super::{Shared, durable, launch};
use crate::error::Problem;

/// How long a workflow may take to write its own end, which tells what was spent.
const WORKFLOW_PATIENCE: Duration = Duration::from_secs(5);
/// How long a run of this process may take to end itself.
const OWN_PATIENCE: Duration = Duration::from_secs(2);
/// Between two looks at the row.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
const REASON: &str = "cancelled by the client";

/// Stops the run and gives its row when it has ended; nothing when there is no such run.
pub(super) async fn cancel(shared: &Arc<Shared>, tenant: &TenantId, run_id: &RunId) -> Result<Option<RunRow>, Problem> {
    let outcome = launch::cancelled(REASON);
    let mut told: Option<Instant> = None;
    loop {
        let row = shared.world.store.runs().get(tenant, run_id).await.map_err(|error| launch::away(&error))?;
        let Some(row) = row else { return Ok(None) };
        if row.status.is_final() {
            return Ok(Some(row));
        }
        match (&row.owner, &row.workflow_id) {
            (None, _) => {
                launch::end_unclaimed(shared, (tenant, run_id), &outcome).await?;
            }
            (Some(owner), _) if owner.expires() => match told {
                // It ends by itself and tells what it has. Another process learns it from the row only.
                None if shared.running_here.stop(run_id) => told = Some(Instant::now()),
                Some(told) if told.elapsed() <= OWN_PATIENCE => {}
                None | Some(_) => {
                    launch::end_for_process(shared, &row, owner, outcome.clone()).await?;
                }
            },
            (Some(_), Some(workflow_id)) => match told {
                None => {
                    tell_workflow(shared, workflow_id).await?;
                    told = Some(Instant::now());
                }
                // It has no worker, or is lost. The wish stays with Temporal; the client need not wait for it.
                Some(told) if told.elapsed() > WORKFLOW_PATIENCE => {
                    launch::finish_for_workflow(shared, (tenant, run_id), workflow_id, outcome.clone()).await?;
                }
                Some(_) => {}
            },
            (Some(_), None) => return Err(Problem::Internal),
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

/// Without Temporal nobody could stop the workflow, and saying that it is cancelled would hide what it goes on spending.
async fn tell_workflow(shared: &Shared, workflow_id: &WorkflowId) -> Result<(), Problem> {
    let connected = shared.link.as_ref().and_then(|link| link.connected()).ok_or(Problem::CancelAway)?;
    durable::cancel(&connected, workflow_id, REASON).await.map_err(|reason| {
        tracing::warn!(reason, %workflow_id, "a workflow could not be cancelled");
        Problem::CancelAway
    })
}
