//! Responses in the background: answered at once, kept under an id, carried on whoever dies, and cancelled on request.

mod cancelling;

use std::time::Duration;

use serde_json::{Value, json};
use tokenhub_demo::{Finished, Reply, Rule, SeenCall};

use crate::{
    evidence::Evidence,
    harness::{Answer, Disturbance, TestHub, TestHubBuilder, eventually, model},
};

const PATIENCE: Duration = Duration::from_secs(30);
/// A model whose provider speaks the protocol of Responses itself; alpha's speaks Chat Completions.
const NATIVE: &str = "native";

/// An installation with a model for each way to the provider.
fn installation() -> TestHubBuilder {
    let mut native = model(NATIVE, 1);
    native["provider_id"] = json!("responses");
    TestHub::builder()
        .upstreams(vec![json!({"id": "responses", "type": "openai", "protocols": ["responses"]})])
        .models(vec![model("alpha", 7), native])
}

fn request(model: &str) -> Value {
    json!({"model": model, "input": "tell me later", "background": true, "store": true, "metadata": {"job": "7"}})
}

/// Asks at the first API and gives the id to come back with.
async fn begin(hub: &TestHub, model: &str) -> String {
    let begun = hub.post("/v1/responses", &request(model)).await.expect(200);
    assert!(matches!(begun.body["status"].as_str(), Some("queued" | "in_progress")), "{}", begun.text);
    let id = begun.body["id"].as_str().unwrap().to_owned();
    assert!(id.starts_with("resp_") && begun.header("x-tokenhub-run-id") == id, "{}", begun.text);
    assert_eq!((&begun.body["background"], &begun.body["metadata"]), (&json!(true), &json!({"job": "7"})));
    assert!(begun.took < Duration::from_secs(5), "{:?}", begun.took);
    id
}

fn path_of(id: &str) -> String {
    format!("/v1/responses/{id}")
}

/// Reads it back until it has this status.
async fn until(hub: &TestHub, id: &str, status: &str) -> Answer {
    eventually("the response has the status", PATIENCE, || async {
        let answer = hub.get(&path_of(id)).await.unwrap().expect(200);
        (answer.body["status"] == status).then_some(answer)
    })
    .await
}

async fn until_called(hub: &TestHub, model: &str) {
    let called =
        |calls: &[SeenCall]| calls.iter().any(|call| call.model == model && call.finished == Finished::Pending);
    assert!(hub.provider.wait_until(PATIENCE, called).await, "{model} is not called");
}

fn text_of(answer: &Answer) -> &str {
    answer.body["output"].as_array().unwrap().last().unwrap()["content"][0]["text"].as_str().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_response_in_the_background_is_answered_at_once_and_read_back_when_it_is_there() {
    let hub = installation().start().await;
    hub.provider.script(Rule::any([Reply::text("here it is").usage(9, 4).delay_ms(1_500)]));
    for model in ["alpha", NATIVE] {
        let id = begin(&hub, model).await;
        let running = until(&hub, &id, "in_progress").await;
        assert_eq!((&running.body["output"], &running.body["model"]), (&json!([]), &json!(model)));
        let completed = until(&hub, &id, "completed").await;
        assert_eq!(text_of(&completed), "here it is");
        assert_eq!((&completed.body["id"], &completed.body["background"]), (&json!(id), &json!(true)));
        assert_eq!(completed.body["usage"]["output_tokens"], 4);
        assert_eq!(completed.header("x-tokenhub-durability"), "durable");
        assert_eq!(completed.header("x-tokenhub-model"), model);
    }
    let calls = hub.provider.calls();
    assert_eq!(calls.len(), 2);
    for call in calls {
        assert_ne!(call.body.get("background"), Some(&json!(true)), "the provider is not asked to do the same");
    }
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_response_in_the_background_outlives_its_api() {
    let mut hub = installation().start().await;
    hub.provider.script(Rule::any([Reply::text("still here").delay_ms(2_000)]));
    let id = begin(&hub, "alpha").await;
    until_called(&hub, "alpha").await;
    hub.apis.remove(0).0.kill();
    hub.start_api().await;
    assert_eq!(text_of(&until(&hub, &id, "completed").await), "still here");
    assert_eq!(hub.provider.calls().len(), 1);
    hub.finish(Disturbance::Kills).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_temporal_it_is_carried_by_the_api_and_taken_over_from_a_dead_one() {
    let mut hub = installation().temporal_off().start().await;
    hub.provider.script(Rule::any([Reply::hang(), Reply::text("the second time")]));
    let id = begin(&hub, NATIVE).await;
    until_called(&hub, NATIVE).await;
    hub.apis.remove(0).0.kill();
    hub.start_api().await;
    let completed = until(&hub, &id, "completed").await;
    assert_eq!(text_of(&completed), "the second time");
    assert_eq!(completed.header("x-tokenhub-durability"), "none");
    assert_eq!(hub.provider.calls().len(), 2, "the call of the dead process is repeated once");
    hub.finish(Disturbance::Kills).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_is_told_in_the_response_and_what_cannot_be_is_refused_by_name() {
    let hub = installation().temporal_off().start().await;
    hub.provider.script(Rule::any([Reply::error(400, "invalid_prompt", "not like this")]));
    let failed = until(&hub, &begin(&hub, "alpha").await, "failed").await;
    assert_eq!(failed.body["error"], json!({"code": "invalid_prompt", "message": "not like this"}));
    assert_eq!((&failed.body["output"], &failed.body["usage"]), (&json!([]), &Value::Null));
    for (field, value) in [("stream", json!(true)), ("store", json!(false))] {
        let mut body = request("alpha");
        body[field] = value;
        let refused = hub.post("/v1/responses", &body).await.expect(400);
        let param = if field == "stream" { "background" } else { field };
        assert_eq!(refused.body["error"]["param"], param, "{}", refused.text);
    }
    let streamed = hub.get(&format!("{}?stream=true", path_of(failed.body["id"].as_str().unwrap()))).await.unwrap();
    assert_eq!(streamed.expect(400).body["error"]["param"], "stream");
    assert_eq!(hub.provider.calls().len(), 1);
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_key_finds_the_same_response_in_the_background() {
    let hub = installation().start().await;
    let key = [("Idempotency-Key", "background-1")];
    let first = hub.post_with("/v1/responses", &key, &request("alpha")).await.expect(200);
    let again = hub.post_with("/v1/responses", &key, &request("alpha")).await.expect(200);
    assert_eq!(again.body["id"], first.body["id"]);
    assert_eq!(first.header("x-tokenhub-durability"), "durable", "before a worker has it");
    let id = first.body["id"].as_str().unwrap();
    until(&hub, id, "completed").await;
    let replayed = hub.post_with("/v1/responses", &key, &request("alpha")).await.expect(200);
    assert_eq!((&replayed.body["id"], &replayed.body["status"]), (&json!(id), &json!("completed")));
    assert_eq!(hub.provider.calls().len(), 1);
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_response_that_was_waited_for_is_read_back_to_the_byte_under_the_id_of_its_run() {
    let hub = installation().start().await;
    for model in ["alpha", NATIVE] {
        let answered = hub.post("/v1/responses", &json!({"model": model, "input": "now"})).await.expect(200);
        let id = answered.header("x-tokenhub-run-id").to_owned();
        let read = hub.get(&path_of(&id)).await.unwrap().expect(200);
        assert_eq!(read.text, answered.text);
        assert_eq!(read.header("x-tokenhub-cost-usd"), answered.header("x-tokenhub-cost-usd"));
    }
    // Longer than what is kept in the row itself.
    hub.provider.script(Rule::any([Reply::big(100_000)]));
    let answered = hub.post("/v1/responses", &json!({"model": NATIVE, "input": "x".repeat(50_000)})).await.expect(200);
    let read = hub.get(&path_of(answered.header("x-tokenhub-run-id"))).await.unwrap().expect(200);
    assert_eq!(read.text, answered.text);
    assert_eq!(hub.provider.calls().len(), 3);
    let rows = Evidence::of(&hub).await.ended(3).await;
    assert!(rows.iter().all(|row| row.error_class.is_none()), "{rows:?}");
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_goes_on_from_a_response_in_the_background_under_the_providers_own_id() {
    let hub = installation().temporal_off().start().await;
    hub.provider.script(Rule::any([Reply::text("the first").id("resp_of_the_provider"), Reply::text("the second")]));
    let id = begin(&hub, NATIVE).await;
    until(&hub, &id, "completed").await;
    let next = json!({"model": NATIVE, "input": "and then?", "previous_response_id": id});
    hub.post("/v1/responses", &next).await.expect(200);
    let unknown = json!({"model": NATIVE, "input": "and then?", "previous_response_id": "resp_of_somebody"});
    hub.post("/v1/responses", &unknown).await.expect(200);
    let sent: Vec<Value> =
        hub.provider.calls().iter().skip(1).map(|call| call.body["previous_response_id"].clone()).collect();
    assert_eq!(sent, ["resp_of_the_provider", "resp_of_somebody"]);
    // A provider of another protocol keeps nothing.
    let other = json!({"model": "alpha", "input": "and then?", "previous_response_id": id});
    let refused = hub.post("/v1/responses", &other).await.expect(400);
    assert_eq!(refused.body["error"]["param"], "previous_response_id");
    hub.provider.script(Rule::any([Reply::hang()]));
    let running = begin(&hub, NATIVE).await;
    let early = json!({"model": NATIVE, "input": "and then?", "previous_response_id": running});
    let refused = hub.post("/v1/responses", &early).await.expect(400);
    assert_eq!(refused.body["error"]["param"], "previous_response_id");
    let cancel = hub.request(reqwest::Method::POST, &format!("{}/cancel", path_of(&running)));
    crate::harness::exchange(cancel).await.unwrap().expect(200);
    let refused = hub.post("/v1/responses", &early).await.expect(400);
    assert_eq!(refused.body["error"]["param"], "previous_response_id");
    // The request that its provider could not be sent has a row that says so, and no call.
    hub.finish(Disturbance::Kills).await;
}
