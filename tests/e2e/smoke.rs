//! The way through the house, once for each executor.

use serde_json::json;

use crate::harness::{Disturbance, TestHub};

#[tokio::test(flavor = "multi_thread")]
async fn a_chat_is_durable_and_its_answer_is_the_providers_own() {
    let hub = TestHub::builder().start().await;
    let body = json!({"model": "alpha", "messages": [{"role": "user", "content": "hi"}], "vendor_field": [1]});
    let answer = hub.post("/v1/chat/completions", &body).await.expect(200);
    assert_eq!(answer.header("x-tokenhub-durability"), "durable");
    assert!(answer.header("x-tokenhub-workflow-id").starts_with("chat:default:"));
    let calls = hub.provider.calls();
    assert_eq!(calls.len(), 1);
    assert_eq!(calls[0].body["vendor_field"], json!([1]), "unknown fields pass through");
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_temporal_the_same_chat_runs_in_process() {
    let hub = TestHub::builder().temporal_off().start().await;
    let body = json!({"model": "alpha", "messages": [{"role": "user", "content": "hi"}]});
    let answer = hub.post("/v1/chat/completions", &body).await.expect(200);
    assert_eq!(answer.header("x-tokenhub-durability"), "none");
    assert_eq!(answer.header("x-tokenhub-workflow-id"), "");
    hub.finish(Disturbance::None).await;
}
