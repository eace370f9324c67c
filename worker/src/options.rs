//! How a worker polls, with the reason of each number.

use std::time::Duration;

use anyhow::Context;
use temporalio_common::worker::{
    VersioningBehavior, WorkerDeploymentOptions, WorkerDeploymentVersion, build_id_from_current_exe,
};
use temporalio_sdk::{
    WorkerOptions,
    runtime::{
        AutoscalingOptions, PollerBehavior,
        worker_tuner::{FixedSizeSlotSupplier, TunerHolder, WorkerTuner},
    },
};
use tokenhub_activities::Activities;
use tokenhub_config::{Settings, TemporalSettings, WorkerDeployment};
use tokenhub_domain::{CallRate, limits};
use tokenhub_workflows::{
    AdversarialWorkflow, BestOfNWorkflow, CascadeWorkflow, ChatWorkflow, FuseWorkflow, RefineWorkflow,
    StreamLogWorkflow, VoteWorkflow,
};

/// A workflow whose worker died is offered to others after this long; the default of 10 s is all of a slow recovery.
const STICKY_TIMEOUT: Duration = Duration::from_millis(1_500);
/// Autoscaling pollers find new work on every partition; a fixed few leave it waiting.
const POLLERS_MAX: usize = 100;
const POLLERS_INITIAL: usize = 5;

/// A run stays with the build that began it: a later one may ask for its steps in another order.
fn versioned(deployment: &WorkerDeployment) -> WorkerDeploymentOptions {
    WorkerDeploymentOptions::new(version_of(deployment))
        .use_worker_versioning(true)
        .default_versioning_behavior(VersioningBehavior::Pinned)
        .build()
}

/// The version of this build.
pub(crate) fn version_of(deployment: &WorkerDeployment) -> WorkerDeploymentVersion {
    let build_id = deployment.build_id.clone().unwrap_or_else(|| build_id_from_current_exe().to_owned());
    WorkerDeploymentVersion::builder().deployment_name(deployment.name.clone()).build_id(build_id).build()
}

/// The options of a worker of one provider's calls, which Temporal hands out at `rate`.
pub(crate) fn paced(settings: &Settings, queue: String, rate: CallRate, activities: Activities) -> WorkerOptions {
    let slots = TunerHolder::builder()
        .workflow_task_slot_supplier(FixedSizeSlotSupplier::new(1))
        .activity_task_slot_supplier(FixedSizeSlotSupplier::new(settings.worker.activity_slots))
        .local_activity_task_slot_supplier(FixedSizeSlotSupplier::new(1))
        .nexus_task_slot_supplier(FixedSizeSlotSupplier::new(1))
        .build();
    WorkerOptions::new(queue)
        .register_activities(activities)
        .tuner(WorkerTuner::TunerHolder(slots))
        .activity_task_poller_behavior(pollers())
        .max_task_queue_activities_per_second(rate.as_per_second())
        .graceful_shutdown_period(Duration::from_secs(settings.worker.grace_secs))
        .build()
}

fn pollers() -> PollerBehavior {
    PollerBehavior::Autoscaling(
        AutoscalingOptions::builder().minimum(1).maximum(POLLERS_MAX).initial(POLLERS_INITIAL).build(),
    )
}

/// The options of this process's worker.
pub(crate) fn worker(
    settings: &Settings,
    temporal: &TemporalSettings,
    activities: Activities,
) -> anyhow::Result<WorkerOptions> {
    let slots = TunerHolder::builder()
        .workflow_task_slot_supplier(FixedSizeSlotSupplier::new(settings.worker.workflow_slots))
        .activity_task_slot_supplier(FixedSizeSlotSupplier::new(settings.worker.activity_slots))
        .local_activity_task_slot_supplier(FixedSizeSlotSupplier::new(settings.worker.local_activity_slots))
        .nexus_task_slot_supplier(FixedSizeSlotSupplier::new(1))
        .build();
    let voters_max = usize::try_from(limits::VOTERS_MAX).context("the voter limit does not fit")?;
    Ok(WorkerOptions::new(temporal.task_queue.clone())
        .maybe_deployment_options(settings.worker.deployment.as_ref().map(versioned))
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
        .workflow_task_poller_behavior(pollers())
        .activity_task_poller_behavior(pollers())
        // A whole ballot starts with the workflow task that asks for it.
        .max_eager_activity_reservations_per_workflow_task(voters_max)
        .max_cached_workflows(settings.worker.cached_workflows)
        .sticky_queue_schedule_to_start_timeout(STICKY_TIMEOUT)
        .graceful_shutdown_period(Duration::from_secs(settings.worker.grace_secs))
        .build())
}
