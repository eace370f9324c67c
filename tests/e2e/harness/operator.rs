//! Temporal as an operator sees it: through the server's own API, with no help from the product.

use std::time::Duration;

use futures_util::StreamExt;
use serde_json::Value;
use temporalio_client::{
    Client, ClientOptions, Connection, ConnectionOptions, UntypedQuery, WorkflowDescribeOptions,
    WorkflowExecutionDescription, WorkflowExecutionStatus, WorkflowFetchHistoryOptions, WorkflowHandle,
    WorkflowListOptions, WorkflowQueryOptions,
};
use temporalio_common::{UntypedWorkflow, data_converters::RawValue, protos::temporal::api::history::v1::HistoryEvent};

use super::{process::eventually, temporal::TemporalServer};

/// Visibility follows a start or an end a little later.
const VISIBILITY_PATIENCE: Duration = Duration::from_secs(20);

/// An operator with a client of his own.
pub struct Operator {
    /// The client.
    pub client: Client,
}

impl Operator {
    /// Connects to a running server.
    pub async fn connect(temporal: &TemporalServer) -> Self {
        let target: temporalio_client::Url = format!("http://{}", temporal.address()).parse().unwrap();
        let options = ConnectionOptions::new(target).identity("operator".to_owned()).build();
        let connection = tokio::time::timeout(Duration::from_secs(20), Connection::connect(options));
        let connection = connection.await.expect("Temporal answers").unwrap();
        Self { client: Client::new(connection, ClientOptions::new("default").build()).unwrap() }
    }

    /// A handle that knows nothing about the workflow's types.
    pub fn handle(&self, workflow_id: &str) -> WorkflowHandle<Client, UntypedWorkflow> {
        self.client.get_workflow_handle(workflow_id)
    }

    /// What the server tells about a workflow.
    pub async fn describe(&self, workflow_id: &str) -> WorkflowExecutionDescription {
        self.handle(workflow_id).describe(WorkflowDescribeOptions::default()).await.unwrap()
    }

    /// What a workflow tells of itself, as the UI shows it: Markdown.
    pub async fn current_details(&self, workflow_id: &str) -> String {
        let query = UntypedQuery::new("__temporal_workflow_metadata");
        let handle = self.handle(workflow_id);
        let asked = handle.query(query, RawValue::new(Vec::new()), WorkflowQueryOptions::default()).await.unwrap();
        let metadata: Value = serde_json::from_slice(&asked.payloads[0].data).unwrap();
        metadata["currentDetails"].as_str().unwrap_or_default().to_owned()
    }

    /// The events of a workflow.
    pub async fn history(&self, workflow_id: &str) -> Vec<HistoryEvent> {
        self.handle(workflow_id).fetch_history(WorkflowFetchHistoryOptions::default()).into_events().await.unwrap()
    }

    /// The history of a workflow in the JSON form that replays read.
    pub async fn history_json(&self, workflow_id: &str) -> Vec<u8> {
        self.handle(workflow_id).fetch_history(WorkflowFetchHistoryOptions::default()).to_json().await.unwrap()
    }

    /// The ids of the workflows that a list filter finds now.
    pub async fn list(&self, filter: &str) -> Vec<String> {
        let listed: Vec<_> = self.client.list_workflows(filter, WorkflowListOptions::default()).collect().await;
        listed.into_iter().map(|workflow| workflow.unwrap().id().to_owned()).collect()
    }

    /// The ids of the workflows of a run, once there is one.
    pub async fn workflows_of(&self, run_id: &str) -> Vec<String> {
        let filter = format!("TokenHubRunId = '{run_id}'");
        eventually("the run is listed", VISIBILITY_PATIENCE, || async {
            let found = self.list(&filter).await;
            (!found.is_empty()).then_some(found)
        })
        .await
    }

    /// How a workflow ended, once it has.
    pub async fn ended(&self, workflow_id: &str, patience: Duration) -> WorkflowExecutionStatus {
        eventually("the workflow ends", patience, || async {
            let status = self.describe(workflow_id).await.status();
            (status != WorkflowExecutionStatus::Running).then_some(status)
        })
        .await
    }
}
