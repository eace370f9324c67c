//! The baseline of durability: a workflow with one activity that makes the same provider call, and nothing else.
//!
//! Configured as well as we know: autoscaling pollers, eager activities, no compression, a short sticky timeout, a worker
//! process of its own. No journal, no ledger, no claim, no log, no heartbeat.

use std::{io::Write as _, sync::Arc, time::Duration};

use anyhow::{Context, bail};
use clap::Args;
use temporalio_client::{
    Client, ClientOptions, Connection, ConnectionOptions, GrpcCompression, RetryOptions, RpcOptions,
    WorkflowGetResultOptions, WorkflowStartOptions,
};
use temporalio_macros::{activities, workflow, workflow_methods};
use temporalio_sdk::{
    ActivityOptions, Runtime, Worker, WorkerOptions, WorkflowContext, WorkflowResult,
    activities::{ActivityContext, ActivityError},
    runtime::{AutoscalingOptions, PollerBehavior, RuntimeOptions},
};

/// The task queue of the bare workflow.
const QUEUE: &str = "bench-bare";
const NAMESPACE: &str = "default";
const ACTIVITY_TIMEOUT: Duration = Duration::from_secs(10);
const EXECUTION_TIMEOUT: Duration = Duration::from_mins(1);
/// Without a limit `get_result` sometimes sleeps through the end of the workflow.
const RESULT_RPC_TIMEOUT: Duration = Duration::from_secs(2);
const STICKY_TIMEOUT: Duration = Duration::from_millis(1_500);
const RESTART_INTERVAL: Duration = Duration::from_millis(200);
const POLLERS_MAX: usize = 100;
const POLLERS_INITIAL: usize = 5;

struct BareActivities {
    client: reqwest::Client,
    url: String,
}

#[activities]
impl BareActivities {
    #[activity]
    async fn call_provider(self: Arc<Self>, _context: ActivityContext, body: String) -> Result<String, ActivityError> {
        let request = self.client.post(&self.url).header("content-type", "application/json").body(body);
        let response = request.send().await?.error_for_status()?;
        Ok(response.text().await?)
    }
}

#[workflow]
#[derive(Default)]
pub(crate) struct BareWorkflow;

#[workflow_methods]
impl BareWorkflow {
    #[run]
    pub(crate) async fn run(context: &mut WorkflowContext<Self>, body: String) -> WorkflowResult<String> {
        let options = ActivityOptions::with_start_to_close_timeout(ACTIVITY_TIMEOUT).build();
        Ok(context.execute_activity(BareActivities::call_provider, body, options).await?)
    }
}

/// The worker of the bare workflow.
#[derive(Debug, Args)]
pub(crate) struct BareWorker {
    /// `host:port` of Temporal.
    #[arg(long)]
    temporal: String,
    /// Where the provider takes chats.
    #[arg(long)]
    provider_url: String,
}

impl BareWorker {
    /// Polls until the process is killed. The server may not be ready for a worker when its port already is.
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        // Only one provider is compiled in, so a second installation can only be the same.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let options = RuntimeOptions::builder().build().map_err(anyhow::Error::msg)?;
        let runtime = Runtime::from_current_tokio(options)?;
        loop {
            if let Err(error) = self.poll(&runtime).await {
                writeln!(std::io::stderr(), "the bare worker starts again: {error:#}")?;
            }
            tokio::time::sleep(RESTART_INTERVAL).await;
        }
    }

    async fn poll(&self, runtime: &Runtime) -> anyhow::Result<()> {
        let client = connect(&self.temporal).await?;
        let http = reqwest::Client::builder().no_proxy().build()?;
        let activities = BareActivities { client: http, url: self.provider_url.clone() };
        let pollers = PollerBehavior::Autoscaling(
            AutoscalingOptions::builder().minimum(1).maximum(POLLERS_MAX).initial(POLLERS_INITIAL).build(),
        );
        let options = WorkerOptions::new(QUEUE)
            .register_activities(activities)
            .register_workflow::<BareWorkflow>()?
            .workflow_task_poller_behavior(pollers)
            .activity_task_poller_behavior(pollers)
            .sticky_queue_schedule_to_start_timeout(STICKY_TIMEOUT)
            .build();
        let mut worker = Worker::new(runtime, client, options).map_err(|error| anyhow::anyhow!("{error}"))?;
        worker.run().await.context("the bare worker stopped polling")
    }
}

/// Starts bare workflows and waits for them.
#[derive(Clone)]
pub(crate) struct BareClient {
    client: Client,
    body: String,
}

impl BareClient {
    /// A client that sends `body` to the provider each time.
    pub(crate) async fn connect(temporal: &str, body: String) -> anyhow::Result<Self> {
        Ok(Self { client: connect(temporal).await?, body })
    }

    /// One workflow, from start to result.
    pub(crate) async fn run_once(&self) -> anyhow::Result<()> {
        let options = WorkflowStartOptions::new(QUEUE, format!("bare:{}", uuid::Uuid::now_v7()))
            .execution_timeout(EXECUTION_TIMEOUT)
            .build();
        let handle = self.client.start_workflow(BareWorkflow::run, self.body.clone(), options).await?;
        let retries = RetryOptions::builder().max_elapsed_time(None).max_retries(0).build();
        let rpc = RpcOptions::builder().timeout(RESULT_RPC_TIMEOUT).retry_options(retries).build();
        let answer = handle.get_result(WorkflowGetResultOptions::builder().rpc_options(rpc).build()).await?;
        if answer.is_empty() {
            bail!("the bare workflow brought no answer");
        }
        Ok(())
    }
}

async fn connect(temporal: &str) -> anyhow::Result<Client> {
    let options = ConnectionOptions::new(format!("http://{temporal}").parse::<temporalio_client::Url>()?)
        .identity("tokenhub-bench".to_owned())
        .grpc_compression(GrpcCompression::None)
        .build();
    Ok(Client::new(Connection::connect(options).await?, ClientOptions::new(NAMESPACE).build())?)
}
