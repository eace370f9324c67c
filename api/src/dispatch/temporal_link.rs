//! The connection to Temporal: made in the background, kept for good, asked whether it works.
//!
//! There is no lazy connection in the SDK, so a process that must start without Temporal connects in a loop. Once it
//! stands, the transport reconnects by itself.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwapOption;
use temporalio_client::{
    Client, ClientOptions, Connection, GrpcCompression, envconfig::LoadClientConfigProfileOptions,
};
use temporalio_common::protos::temporal::api::{
    enums::v1::{IndexedValueType, TaskQueueType},
    operatorservice::v1::AddSearchAttributesRequest,
    taskqueue::v1::TaskQueue,
    workflowservice::v1::{DescribeTaskQueueRequest, DescribeTaskQueueResponse},
};
use tokenhub_activities::PayloadCodec;
use tokenhub_config::TemporalSettings;
use tokenhub_domain::InstanceId;
use tokenhub_routing::BreakerFailure;
use tokenhub_telemetry::TemporalFigures;
use tokenhub_workflows::{AttributeForm, SearchAttribute};
use tokio_util::sync::CancellationToken;

/// The SDK's own limit does not cover the first call on a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const RETRY_INTERVAL_MIN: Duration = Duration::from_millis(100);
const RETRY_INTERVAL_MAX: Duration = Duration::from_secs(2);
const PROBE_TIMEOUT: Duration = Duration::from_millis(300);
const REGISTER_TIMEOUT: Duration = Duration::from_secs(2);
/// A poll waits a minute for work, so a worker that polls was seen within little more.
const POLLER_SEEN_WITHIN: Duration = Duration::from_secs(75);

/// A connection that stands.
pub(crate) struct Connected {
    /// The client.
    pub(crate) client: Client,
    /// The queue that our workers poll.
    pub(crate) task_queue: String,
    /// How long an execution may outlive the deadline of its run. Its local activities wait up to ten minutes for the
    /// database, and the run must still be able to record how it ended after that; the rest of the default is margin
    /// for a worker that comes back.
    pub(crate) execution_grace: Duration,
}

/// The way to Temporal.
pub(crate) struct TemporalLink {
    settings: TemporalSettings,
    codec: PayloadCodec,
    figures: TemporalFigures,
    connected: ArcSwapOption<Connected>,
}

#[derive(Debug, thiserror::Error)]
enum ConnectError {
    #[error("the Temporal configuration cannot be used: {0}")]
    Configure(String),
    #[error("no connection")]
    Connect(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("no answer in time")]
    Timeout,
}

impl TemporalLink {
    /// A link that is not connected yet.
    pub(crate) fn new(settings: TemporalSettings, codec: PayloadCodec, figures: TemporalFigures) -> Self {
        Self { settings, codec, figures, connected: ArcSwapOption::empty() }
    }

    /// The connection, once it stands.
    pub(crate) fn connected(&self) -> Option<Arc<Connected>> {
        self.connected.load_full()
    }

    /// Where Temporal is.
    pub(crate) fn settings(&self) -> &TemporalSettings {
        &self.settings
    }

    /// Connects, trying until it stands or `stop`.
    pub(crate) async fn keep_connecting(self: Arc<Self>, instance: InstanceId, stop: CancellationToken) {
        let mut interval = RETRY_INTERVAL_MIN;
        loop {
            match self.connect(&instance).await {
                Ok(connected) => {
                    tracing::info!(address = %self.settings.address, "connected to Temporal");
                    self.connected.store(Some(Arc::new(connected)));
                    return;
                }
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::debug!(address = %self.settings.address, error, "Temporal is not there yet");
                }
            }
            tokio::select! {
                () = tokio::time::sleep(interval) => {}
                () = stop.cancelled() => return,
            }
            interval = (interval * 2).min(RETRY_INTERVAL_MAX);
        }
    }

    async fn connect(&self, instance: &InstanceId) -> Result<Connected, ConnectError> {
        // TLS, API key and metadata come from Temporal's own variables and file; the address is ours.
        let (mut options, _) = ClientOptions::load_from_config(LoadClientConfigProfileOptions::default())
            .map_err(|error| ConnectError::Configure(error.to_string()))?;
        let scheme = if options.tls_options.is_some() { "https" } else { "http" };
        options.target = format!("{scheme}://{}", self.settings.address)
            .parse()
            .map_err(|_| ConnectError::Configure("the address is not one".to_owned()))?;
        options.identity = format!("tokenhub-api {instance}");
        options.connect_timeout = Some(CONNECT_TIMEOUT);
        options.grpc_compression = GrpcCompression::None;
        options.metrics_meter = Some(self.figures.of_connection());
        let connection = tokio::time::timeout(CONNECT_TIMEOUT, Connection::connect(options))
            .await
            .map_err(|_| ConnectError::Timeout)?
            .map_err(|error| ConnectError::Connect(error.into()))?;
        register_search_attributes(&connection, &self.settings.namespace).await;
        let options =
            ClientOptions::new(self.settings.namespace.clone()).data_converter(self.codec.data_converter()).build();
        let client = Client::new(connection, options).map_err(|error| ConnectError::Connect(error.into()))?;
        let execution_grace = Duration::from_millis(self.settings.execution_grace_ms);
        Ok(Connected { client, task_queue: self.settings.task_queue.clone(), execution_grace })
    }

    /// Whether a run would be carried now: the server answers and a worker polls.
    pub(crate) async fn probe(&self) -> Result<(), BreakerFailure> {
        let connected = self.connected().ok_or(BreakerFailure::ConnectRefused)?;
        let mut request = tonic::Request::new(DescribeTaskQueueRequest {
            namespace: self.settings.namespace.clone(),
            task_queue: Some(TaskQueue { name: self.settings.task_queue.clone(), ..TaskQueue::default() }),
            task_queue_type: TaskQueueType::Workflow as i32,
            ..DescribeTaskQueueRequest::default()
        });
        request.set_timeout(PROBE_TIMEOUT);
        let mut service = connected.client.connection().workflow_service();
        let described = tokio::time::timeout(PROBE_TIMEOUT, service.describe_task_queue(request)).await;
        match described {
            Ok(Ok(response)) if has_live_poller(response.get_ref()) => Ok(()),
            Ok(Ok(_)) => Err(BreakerFailure::NoPoller),
            Ok(Err(_)) | Err(_) => Err(BreakerFailure::Unavailable),
        }
    }
}

fn has_live_poller(described: &DescribeTaskQueueResponse) -> bool {
    let now = SystemTime::now();
    described.pollers.iter().any(|poller| {
        let seen = poller.last_access_time.and_then(|at| SystemTime::try_from(at).ok());
        // A clock that runs ahead of ours is no reason to distrust the poller.
        seen.is_some_and(|at| now.duration_since(at).map_or(true, |age| age < POLLER_SEEN_WITHIN))
    })
}

/// Workflows are started without attributes where this is refused, so a refusal is only logged.
async fn register_search_attributes(connection: &Connection, namespace: &str) {
    for attributes in [&SearchAttribute::OF_EVERY_RUN[..], &SearchAttribute::OF_LABELS[..]] {
        register(connection, namespace, attributes).await;
    }
}

fn value_type(form: AttributeForm) -> IndexedValueType {
    match form {
        AttributeForm::Keyword => IndexedValueType::Keyword,
        AttributeForm::KeywordList => IndexedValueType::KeywordList,
    }
}

async fn register(connection: &Connection, namespace: &str, attributes: &[SearchAttribute]) {
    let request = AddSearchAttributesRequest {
        search_attributes: attributes.iter().map(|it| (it.name.to_owned(), value_type(it.form) as i32)).collect(),
        namespace: namespace.to_owned(),
    };
    let mut service = connection.operator_service();
    let registering = service.add_search_attributes(tonic::Request::new(request));
    match tokio::time::timeout(REGISTER_TIMEOUT, registering).await {
        Ok(Ok(_)) => {}
        Ok(Err(status)) if status.code() == tonic::Code::AlreadyExists => {}
        Ok(Err(status)) => tracing::warn!(code = ?status.code(), "search attributes were not registered"),
        Err(_) => tracing::warn!("search attributes were not registered in time"),
    }
}
