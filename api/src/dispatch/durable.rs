//! Starting workflows and reading their results, with Temporal's failures told from everything else.

use std::{sync::Arc, time::Duration};

use futures_util::{FutureExt, future::BoxFuture};
use temporalio_client::{
    Client, RetryOptions, RpcOptions, WorkflowCancelOptions, WorkflowDescribeOptions, WorkflowExecutionStatus,
    WorkflowGetResultOptions, WorkflowHandle, WorkflowIdConflictPolicy, WorkflowIdReusePolicy, WorkflowSignalOptions,
    WorkflowStartOptions,
    errors::{WorkflowGetResultError, WorkflowInteractionError, WorkflowStartError},
};
use temporalio_common::error::IncomingError;
use tokenhub_domain::{
    ErrorClass, EventKeeping, Outcome, PlanSpec, ProviderFailure, RunContext, RunStatus, SpecBase, Steering,
    StopReason, WorkflowId, limits,
};
use tokenhub_routing::BreakerFailure;
use tokenhub_workflows::{
    AdversarialWorkflow, BestOfNWorkflow, CascadeWorkflow, ChatWorkflow, FAILED_RUN, FuseWorkflow, RefineWorkflow,
    RunOutput, StreamLogWorkflow, VoteWorkflow, contract::StreamLog, priority, search_attributes, summary,
};
use tonic::Code;

use super::{Shared, temporal_link::Connected};

/// A workflow task whose worker died is offered to another after this long; Temporal's own 10 s would be all of a slow
/// recovery.
const WORKFLOW_TASK_TIMEOUT: Duration = Duration::from_secs(2);
/// A stream's log is worth retrying for as long as an operator may need to bring the database back.
const STREAM_LOG_TIMEOUT: Duration = Duration::from_hours(24);
/// One long poll for a result. Without a limit the call sometimes sleeps through the end of the workflow, and with one
/// second or less the SDK polls in a hot loop.
const RESULT_RPC_TIMEOUT: Duration = Duration::from_secs(2);
/// A request to stop is answered as soon as Temporal has it.
const CANCEL_RPC_TIMEOUT: Duration = Duration::from_secs(3);
const RESULT_RETRY_INTERVAL: Duration = Duration::from_millis(500);

/// Why a workflow was not started.
#[derive(Debug)]
pub(super) enum StartFailure {
    /// Temporal failed; whether it has the workflow is not known.
    Temporal(BreakerFailure),
    /// Temporal works and does not want this start.
    Refused(String),
}

/// What became of a workflow.
#[derive(Debug)]
pub(super) enum Ended {
    /// It ran the program.
    With(Box<Outcome>),
    /// It ended without running it: somebody else holds the run, or Temporal has forgotten the workflow.
    Without,
    /// It was stopped before it could tell.
    Stopped(Box<Outcome>),
}

/// Starts the workflow of `spec`, or finds that it is there already.
pub(super) async fn start(
    connected: &Connected,
    spec: &PlanSpec,
    workflow_id: &WorkflowId,
    deadline: Duration,
) -> Result<(), StartFailure> {
    let base = spec.base();
    // A person's time is not the run's.
    let approval_ms = base.approval.map_or(0, |wish| wish.timeout_ms);
    let timeout = Duration::from_millis(longest_ms(base).saturating_add(approval_ms)) + connected.execution_grace;
    let attempt = Attempt { connected, workflow_id, timeout, deadline, summary: summary(spec), run: &base.run };
    macro_rules! start {
        ($workflow:ident) => {
            attempt.make(|options| {
                let (client, spec) = (connected.client.clone(), spec.clone());
                async move { client.start_workflow($workflow::run, spec, options).await.map(|_| ()) }.boxed()
            })
        };
    }
    match spec {
        PlanSpec::Chat(_) => start!(ChatWorkflow).await,
        PlanSpec::Adversarial(_) => start!(AdversarialWorkflow).await,
        PlanSpec::Vote(_) => start!(VoteWorkflow).await,
        PlanSpec::Refine(_) => start!(RefineWorkflow).await,
        PlanSpec::BestOfN(_) => start!(BestOfNWorkflow).await,
        PlanSpec::Cascade(_) => start!(CascadeWorkflow).await,
        PlanSpec::Fuse(_) => start!(FuseWorkflow).await,
    }
}

/// The time that a run has at most: the deadline of a plan may be moved.
fn longest_ms(base: &SpecBase) -> u64 {
    match base.run.events {
        EventKeeping::Kept => base.deadline_ms.max(limits::RUN_DEADLINE_MS),
        EventKeeping::None => base.deadline_ms,
    }
}

struct Attempt<'a> {
    connected: &'a Connected,
    workflow_id: &'a WorkflowId,
    timeout: Duration,
    deadline: Duration,
    summary: String,
    run: &'a RunContext,
}

#[derive(Clone, Copy)]
enum Attributes {
    With,
    Without,
}

impl Attempt<'_> {
    fn options(&self, attributes: Attributes) -> WorkflowStartOptions {
        let rpc = RpcOptions::builder().timeout(self.deadline).retry_options(RetryOptions::no_retries()).build();
        let attributes = match attributes {
            Attributes::With => Some(search_attributes(self.run)),
            Attributes::Without => None,
        };
        WorkflowStartOptions::new(self.connected.task_queue.as_str(), self.workflow_id.as_str())
            .id_reuse_policy(WorkflowIdReusePolicy::RejectDuplicate)
            .id_conflict_policy(WorkflowIdConflictPolicy::UseExisting)
            .execution_timeout(self.timeout)
            .task_timeout(WORKFLOW_TASK_TIMEOUT)
            .static_summary(self.summary.as_str())
            .priority(priority(self.run))
            .maybe_search_attributes(attributes)
            .rpc_options(rpc)
            .build()
    }

    async fn make(
        &self,
        start: impl Fn(WorkflowStartOptions) -> BoxFuture<'static, Result<(), WorkflowStartError>>,
    ) -> Result<(), StartFailure> {
        let mut attributes = Attributes::With;
        loop {
            let started = tokio::time::timeout(self.deadline, start(self.options(attributes))).await;
            let Ok(started) = started else { return Err(StartFailure::Temporal(BreakerFailure::StartDeadline)) };
            match (started, attributes) {
                (Ok(()) | Err(WorkflowStartError::AlreadyStarted { .. }), _) => return Ok(()),
                // A server whose operator does not let us register attributes still carries runs.
                (Err(WorkflowStartError::Rpc(status)), Attributes::With) if lacks_attributes(&status) => {
                    attributes = Attributes::Without;
                }
                (Err(error), Attributes::With | Attributes::Without) => return Err(start_failure(&error)),
            }
        }
    }
}

fn lacks_attributes(status: &tonic::Status) -> bool {
    status.code() == Code::InvalidArgument && status.message().to_ascii_lowercase().contains("search attribute")
}

fn start_failure(error: &WorkflowStartError) -> StartFailure {
    if let WorkflowStartError::Rpc(status) = error
        && let Some(failure) = breaker_failure(status)
    {
        return StartFailure::Temporal(failure);
    }
    StartFailure::Refused(error.to_string())
}

/// Temporal's own failures. A timeout of the client comes as `Cancelled`.
fn breaker_failure(status: &tonic::Status) -> Option<BreakerFailure> {
    match status.code() {
        Code::Cancelled | Code::DeadlineExceeded => Some(BreakerFailure::StartDeadline),
        Code::Unavailable => Some(BreakerFailure::ConnectRefused),
        Code::ResourceExhausted | Code::Aborted | Code::Internal | Code::Unknown | Code::DataLoss => {
            Some(BreakerFailure::Unavailable)
        }
        Code::Ok
        | Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::Unauthenticated => None,
    }
}

/// Asks a workflow to stop. One that has ended, or that Temporal does not know, needs no asking.
pub(super) async fn cancel(connected: &Connected, workflow_id: &WorkflowId, reason: &str) -> Result<(), String> {
    let handle: WorkflowHandle<Client, ChatWorkflow> = connected.client.get_workflow_handle(workflow_id.as_str());
    let rpc = RpcOptions::builder().timeout(CANCEL_RPC_TIMEOUT).retry_options(RetryOptions::no_retries()).build();
    match handle.cancel(WorkflowCancelOptions::builder().reason(reason).rpc_options(rpc).build()).await {
        Ok(()) | Err(WorkflowInteractionError::NotFound(_)) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

/// Whether Temporal says that a workflow has not ended; false also when it says nothing.
pub(super) async fn is_running(connected: &Connected, workflow_id: &WorkflowId) -> bool {
    let handle: WorkflowHandle<Client, ChatWorkflow> = connected.client.get_workflow_handle(workflow_id.as_str());
    let rpc = RpcOptions::builder().timeout(CANCEL_RPC_TIMEOUT).retry_options(RetryOptions::no_retries()).build();
    let described = handle.describe(WorkflowDescribeOptions::builder().rpc_options(rpc).build()).await;
    described.is_ok_and(|workflow| workflow.status() == WorkflowExecutionStatus::Running)
}

/// Tells a workflow that something was decided. One that has ended, or that Temporal does not know, needs no telling.
pub(super) async fn tell_decided(connected: &Connected, workflow_id: &WorkflowId) -> Result<(), String> {
    // The signal has the same name in every program.
    let handle: WorkflowHandle<Client, ChatWorkflow> = connected.client.get_workflow_handle(workflow_id.as_str());
    let rpc = RpcOptions::builder().timeout(CANCEL_RPC_TIMEOUT).retry_options(RetryOptions::no_retries()).build();
    let options = WorkflowSignalOptions::builder().rpc_options(rpc).build();
    match handle.signal(ChatWorkflow::decided, (), options).await {
        Ok(()) | Err(WorkflowInteractionError::NotFound(_)) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

/// Tells a workflow what was asked of it. False: Temporal does not know it, or it has ended.
pub(super) async fn tell_steered(
    connected: &Connected,
    workflow_id: &WorkflowId,
    steering: Steering,
) -> Result<bool, String> {
    // The signal has the same name in every program.
    let handle: WorkflowHandle<Client, ChatWorkflow> = connected.client.get_workflow_handle(workflow_id.as_str());
    let rpc = RpcOptions::builder().timeout(CANCEL_RPC_TIMEOUT).retry_options(RetryOptions::no_retries()).build();
    let options = WorkflowSignalOptions::builder().rpc_options(rpc).build();
    match handle.signal(ChatWorkflow::steered, steering, options).await {
        Ok(()) => Ok(true),
        Err(WorkflowInteractionError::NotFound(_)) => Ok(false),
        Err(error) => Err(error.to_string()),
    }
}

/// Waits for the end of a workflow, through any outage of Temporal.
pub(super) async fn result(connected: Arc<Connected>, workflow_id: WorkflowId) -> Ended {
    // Every program has the same result, so one handle type reads them all.
    let handle: WorkflowHandle<Client, ChatWorkflow> = connected.client.get_workflow_handle(workflow_id.as_str());
    let mut is_told = false;
    loop {
        let retries = RetryOptions::builder().max_elapsed_time(None).max_retries(0).build();
        let rpc = RpcOptions::builder().timeout(RESULT_RPC_TIMEOUT).retry_options(retries).build();
        let options = WorkflowGetResultOptions::builder().rpc_options(rpc).build();
        match handle.get_result(options).await {
            Ok(RunOutput::Finished(outcome)) => return Ended::With(outcome),
            Ok(RunOutput::Superseded) => return Ended::Without,
            Err(error) => {
                if let Some(ended) = ended(&error) {
                    return ended;
                }
                // Its row has the result as well, and other processes may have the keys.
                if let (WorkflowGetResultError::PayloadConversion(error), false) = (&error, is_told) {
                    is_told = true;
                    tracing::error!(%error, %workflow_id, "the result of a workflow cannot be read here");
                }
                tokio::time::sleep(RESULT_RETRY_INTERVAL).await;
            }
        }
    }
}

/// What an error says about the workflow; nothing when it is about the call.
fn ended(error: &WorkflowGetResultError) -> Option<Ended> {
    if let WorkflowGetResultError::Failed(failure) = error {
        if let IncomingError::Application(application) = failure.as_ref()
            && application.type_name() == Some(FAILED_RUN)
            && let Ok(Some(outcome)) = application.details::<Outcome>()
        {
            return Some(Ended::With(Box::new(outcome)));
        }
        tracing::error!(%error, "a workflow failed outside its program");
        return Some(stopped(RunStatus::Failed, StopReason::AllFailed, ErrorClass::ServerError));
    }
    if let WorkflowGetResultError::Terminated { details } = error
        && matches!(details.deserialize(), Ok(StopReason::ExecutionTimeout))
    {
        return Some(Ended::Stopped(Box::new(out_of_time())));
    }
    if matches!(error, WorkflowGetResultError::Cancelled { .. } | WorkflowGetResultError::Terminated { .. }) {
        return Some(stopped(RunStatus::Cancelled, StopReason::Cancelled, ErrorClass::Cancelled));
    }
    if matches!(error, WorkflowGetResultError::TimedOut) {
        return Some(Ended::Stopped(Box::new(out_of_time())));
    }
    matches!(error, WorkflowGetResultError::NotFound(_)).then_some(Ended::Without)
}

fn stopped(status: RunStatus, stop_reason: StopReason, class: ErrorClass) -> Ended {
    let failure = ProviderFailure::of(class, "the workflow ended before its program did");
    Ended::Stopped(Box::new(without_answer(status, stop_reason, Some(failure))))
}

/// What a run came to whose workflow did not come to an end. No call failed, so no class explains it.
pub(super) fn out_of_time() -> Outcome {
    without_answer(RunStatus::Failed, StopReason::ExecutionTimeout, None)
}

/// What a run came to whose workflow is gone without a word.
pub(super) fn lost() -> Outcome {
    let failure = ProviderFailure::of(ErrorClass::ServerError, "the workflow that carried the run is gone");
    without_answer(RunStatus::Failed, StopReason::AllFailed, Some(failure))
}

fn without_answer(status: RunStatus, stop_reason: StopReason, failure: Option<ProviderFailure>) -> Outcome {
    Outcome {
        edited: false,
        status,
        stop_reason,
        negotiated_model: None,
        routing_reason: String::new(),
        answer: None,
        steps: Vec::new(),
        usage: tokenhub_domain::Usage::default(),
        failure,
    }
}

/// Writes a stream's log through Temporal, or directly when Temporal is away.
pub(super) async fn log_stream(shared: &Arc<Shared>, log: StreamLog) {
    if let Ok(connected) = shared.durable_path() {
        match start_stream_log(&connected, &log, shared.start_deadline).await {
            Ok(()) => return,
            Err(StartFailure::Temporal(failure)) => shared.breaker.failed(failure),
            Err(StartFailure::Refused(reason)) => tracing::warn!(reason, "a stream log was not started"),
        }
    }
    log_stream_here(shared, &log).await;
}

/// Writes the log of a stream in this process; the spool keeps it, whatever happens to the process.
pub(super) async fn log_stream_here(shared: &Shared, log: &StreamLog) {
    if let Err(fault) = tokenhub_activities::log_stream(&shared.world, log).await {
        tracing::error!(fault = &fault as &dyn std::error::Error, run = %log.run.run_id, "a stream was not logged");
    }
}

async fn start_stream_log(connected: &Connected, log: &StreamLog, deadline: Duration) -> Result<(), StartFailure> {
    let workflow_id = WorkflowId::new(format!("stream_log:{}:{}:1", log.run.tenant, log.run.run_id));
    let attempt = Attempt {
        connected,
        workflow_id: &workflow_id,
        timeout: STREAM_LOG_TIMEOUT,
        deadline,
        summary: "log of a streamed answer".to_owned(),
        run: &log.run,
    };
    attempt
        .make(|options| {
            let (client, log) = (connected.client.clone(), log.clone());
            async move { client.start_workflow(StreamLogWorkflow::run, log, options).await.map(|_| ()) }.boxed()
        })
        .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_failures_of_temporal_itself_count_and_a_client_timeout_is_one() {
        let of = |code: Code| breaker_failure(&tonic::Status::new(code, "Timeout expired"));
        assert_eq!(of(Code::Cancelled), Some(BreakerFailure::StartDeadline));
        assert_eq!(of(Code::DeadlineExceeded), Some(BreakerFailure::StartDeadline));
        assert_eq!(of(Code::Unavailable), Some(BreakerFailure::ConnectRefused));
        assert_eq!(of(Code::ResourceExhausted), Some(BreakerFailure::Unavailable));
        for code in [Code::InvalidArgument, Code::AlreadyExists, Code::NotFound, Code::PermissionDenied] {
            assert_eq!(of(code), None, "{code:?}");
        }
    }

    #[test]
    fn a_missing_search_attribute_is_recognised_and_another_bad_argument_is_not() {
        let status = |message: &str| tonic::Status::new(Code::InvalidArgument, message);
        assert!(lacks_attributes(&status(
            "Namespace default has no mapping defined for search attribute TokenHubRunId"
        )));
        assert!(!lacks_attributes(&status("workflow id is too long")));
    }
}
