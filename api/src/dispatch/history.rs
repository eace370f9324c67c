//! The history of a run's workflow, for whoever wants to replay or look through it.
//!
//! Temporal's own JSON form, with every payload emptied: prompts and answers are read from the plan object. Must not know
//! what the events mean.

use serde_json::Value;
use temporalio_client::{
    Client, WorkflowFetchHistoryOptions, WorkflowHandle, WorkflowHistoryError, errors::WorkflowInteractionError,
};
use tokenhub_domain::WorkflowId;
use tokenhub_workflows::ChatWorkflow;

use super::{Shared, temporal_link::Connected};
use crate::error::Problem;

/// Reads the history of a workflow. Temporal forgets one when its retention is over.
pub(super) async fn read(shared: &Shared, workflow_id: &WorkflowId) -> Result<Value, Problem> {
    let connected = shared.link.as_ref().and_then(|link| link.connected()).ok_or(Problem::DurabilityAway)?;
    let bytes = fetch(&connected, workflow_id).await.map_err(|error| {
        if matches!(error, WorkflowHistoryError::Fetch(WorkflowInteractionError::NotFound(_))) {
            return Problem::NoHistory;
        }
        tracing::warn!(error = &error as &dyn std::error::Error, %workflow_id, "a history could not be read");
        Problem::DurabilityAway
    })?;
    let mut history: Value = serde_json::from_slice(&bytes).map_err(|_| Problem::Internal)?;
    empty_payloads(&mut history);
    Ok(history)
}

async fn fetch(connected: &Connected, workflow_id: &WorkflowId) -> Result<Vec<u8>, WorkflowHistoryError> {
    // The type of the handle says nothing about the history.
    let handle: WorkflowHandle<Client, ChatWorkflow> = connected.client.get_workflow_handle(workflow_id.as_str());
    handle.fetch_history(WorkflowFetchHistoryOptions::default()).to_json().await
}

/// A payload is an object with `metadata` and `data`; its size stays to be seen.
fn empty_payloads(value: &mut Value) {
    match value {
        Value::Object(object) => {
            if object.contains_key("metadata")
                && let Some(Value::String(data)) = object.get_mut("data")
            {
                let encoded_bytes = data.len();
                data.clear();
                object.insert("redacted_base64_bytes".to_owned(), encoded_bytes.into());
            }
            object.values_mut().for_each(empty_payloads);
        }
        Value::Array(values) => values.iter_mut().for_each(empty_payloads),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn payloads_are_emptied_wherever_they_are_and_nothing_else() {
        let payload = json!({"metadata": {"encoding": "anNvbi9wbGFpbg=="}, "data": "c2VjcmV0"});
        let mut history =
            json!({"events": [{"event_id": 1, "attributes": {"input": {"payloads": [payload]}, "data": "x"}}]});
        empty_payloads(&mut history);
        let attributes = &history["events"][0]["attributes"];
        assert_eq!(attributes["input"]["payloads"][0]["data"], "");
        assert_eq!(attributes["input"]["payloads"][0]["redacted_base64_bytes"], 8);
        assert_eq!((&attributes["data"], &history["events"][0]["event_id"]), (&json!("x"), &json!(1)));
    }
}
