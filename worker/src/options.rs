//! How a worker polls, with the reason of each number.

use std::time::Duration;

use anyhow::Context;
use temporalio_sdk::{
    WorkerOptions,
    runtime::{
        AutoscalingOptions, PollerBehavior,
        worker_tuner::{FixedSizeSlotSupplier, TunerHolder, WorkerTuner},
    },
};
use tokenhub_activities::Activities;
use tokenhub_config::{Settings, TemporalSettings};
use tokenhub_domain::limits;
use tokenhub_workflows::{
    AdversarialWorkflow, BestOfNWorkflow, CascadeWorkflow, ChatWorkflow, FuseWorkflow, RefineWorkflow,
    StreamLogWorkflow, VoteWorkflow,
};

/// A workflow whose worker died is offered to others after this long; the default of 10 s is all of a slow recovery.
const STICKY_TIMEOUT: Duration = Duration::from_millis(1_500);
/// Autoscaling pollers find new work on every partition; a fixed few leave it waiting.
const POLLERS_MAX: usize = 100;
const POLLERS_INITIAL: usize = 5;

/// The options of this process's worker.
pub(crate) fn worker(
    settings: &Settings,
    temporal: &TemporalSettings,
    activities: Activities,
) -> anyhow::Result<WorkerOptions> {
    let pollers = PollerBehavior::Autoscaling(
        AutoscalingOptions::builder().minimum(1).maximum(POLLERS_MAX).initial(POLLERS_INITIAL).build(),
    );
    let slots = TunerHolder::builder()
        .workflow_task_slot_supplier(FixedSizeSlotSupplier::new(settings.worker.workflow_slots))
        .activity_task_slot_supplier(FixedSizeSlotSupplier::new(settings.worker.activity_slots))
        .local_activity_task_slot_supplier(FixedSizeSlotSupplier::new(settings.worker.local_activity_slots))
        .nexus_task_slot_supplier(FixedSizeSlotSupplier::new(1))
        .build();
    let voters_max = usize::try_from(limits::VOTERS_MAX).context("the voter limit does not fit")?;
    Ok(WorkerOptions::new(temporal.task_queue.clone())
        .register_activities(activities)
        .register_workflow::<ChatWorkflow>()?
        .register_workflow::<AdversarialWorkflow>()?
        .register_workflow::<VoteWorkflow>()?
        .register_workflow::<RefineWorkflow>()?
        .register_workflow::<BestOfNWorkflow>()?
        .register_workflow::<CascadeWorkflow>()?
        .register_workflow::<FuseWorkflow>()?
        .register_workflow::<StreamLogWorkflow>()?
        .tuner(WorkerTuner::TunerHolder(slots))
        .workflow_task_poller_behavior(pollers)
        .activity_task_poller_behavior(pollers)
        // A whole ballot starts with the workflow task that asks for it.
        .max_eager_activity_reservations_per_workflow_task(voters_max)
        .max_cached_workflows(settings.worker.cached_workflows)
        .sticky_queue_schedule_to_start_timeout(STICKY_TIMEOUT)
        .graceful_shutdown_period(Duration::from_secs(settings.worker.grace_secs))
        .build())
}
