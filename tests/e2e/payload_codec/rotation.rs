//! Keys change and processes lack them while runs are open: the runs go on with whoever has the keys.

use reqwest::Method;
use serde_json::json;
use tokenhub_demo::{Reply, Rule};

use super::{
    ANSWER, KEY_A, KEY_B, PATIENCE, PROMPT, REFUSAL, codec, decoded, exported, installation, keys, messages, payloads,
    scripted,
};
use crate::harness::{Disturbance, Operator, Process, TestHub, eventually, exchange};

/// Accepts a plan that Temporal must carry; its id.
async fn begin(hub: &TestHub) -> String {
    let orchestration = json!({"mode": "refine", "iterations": 1, "primary_model_id": "alpha"});
    let body = json!({"request": {"messages": messages()}, "orchestration": orchestration, "background": true});
    let begun = hub.post_with("/v1/plan", &[("x-tokenhub-durability", "required")], &body).await.expect(202);
    begun.body["id"].as_str().unwrap().to_owned()
}

async fn status(hub: &TestHub, api: usize, id: &str) -> String {
    let read = exchange(hub.request_to(api, Method::GET, &format!("/v1/plan/{id}"))).await.unwrap().expect(200);
    read.body["status"].as_str().unwrap().to_owned()
}

async fn completes(hub: &TestHub, api: usize, id: &str) {
    eventually("the run completes", PATIENCE * 2, || async {
        let status = status(hub, api, id).await;
        assert_ne!(status, "failed");
        (status == "completed").then_some(())
    })
    .await;
}

async fn says(process: &Process, words: &str) {
    eventually(words, PATIENCE, || async { process.output().contains(words).then_some(()) }).await;
}

fn kill_workers(hub: &mut TestHub) {
    for worker in &mut hub.workers {
        worker.kill();
    }
    hub.workers.clear();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_began_under_the_old_key_ends_under_the_new_one_and_a_worker_without_keys_does_not_spoil_it() {
    let mut hub = installation(&keys(&[("a", KEY_A)])).environment("TOKENHUB_PENALTIES", "false").start().await;
    hub.provider.script(Rule::any([Reply::hang(), Reply::text(ANSWER)]));
    let operator = Operator::connect(&hub.temporal).await;
    let id = begin(&hub).await;
    assert!(hub.provider.wait_until(PATIENCE, |calls| calls.len() == 1).await, "the first call is in flight");
    kill_workers(&mut hub);

    hub.start_worker(&[("TOKENHUB_PAYLOAD_KEYS", "")]);
    says(&hub.workers[0], "TOKENHUB_PAYLOAD_KEYS is not set").await;
    says(&hub.workers[0], "`a`").await;
    // Ten tries are all that a step has; left alone with them this worker would be through in seven seconds.
    let failed_tasks = hub.workers[0].output().matches("Failed decoding").count();
    tokio::time::sleep(std::time::Duration::from_secs(8)).await;
    assert_eq!(hub.workers[0].output().matches("Failed decoding").count(), failed_tasks, "it takes no more tasks");
    assert!(failed_tasks < 5, "{failed_tasks}");
    assert_eq!(status(&hub, 0, &id).await, "running");
    assert_eq!(hub.provider.calls().len(), 1, "it bought nothing");

    let rotated = keys(&[("b", KEY_B), ("a", KEY_A)]);
    hub.start_worker(&[("TOKENHUB_PAYLOAD_KEYS", &rotated)]);
    hub.start_api_with(&[("TOKENHUB_PAYLOAD_KEYS", &rotated)]).await;
    completes(&hub, 1, &id).await;
    // The row has the answer, so that also a process that cannot decrypt the result reads it.
    let read = exchange(hub.request_to(0, Method::GET, &format!("/v1/plan/{id}"))).await.unwrap().expect(200);
    assert!(read.text.contains(ANSWER), "{}", read.text);
    assert_eq!(read.body["durable"], true);

    let workflow = operator.workflows_of(&id).await.remove(0);
    let history = exported(&hub, &workflow, &[]);
    let key_ids: std::collections::BTreeSet<String> = payloads(&serde_json::from_str(&history).unwrap())
        .iter()
        .filter_map(|payload| payload["metadata"]["encryption-key-id"].as_str().map(str::to_owned))
        .collect();
    assert_eq!(key_ids.into_iter().collect::<Vec<_>>(), ["YQ==", "Yg=="], "both keys have encrypted");
    let shown = decoded(&hub.apis[1].1, &history).await;
    assert!(super::shows(&shown, PROMPT) && super::shows(&shown, ANSWER));
    let of_both = json!({"payloads": payloads(&serde_json::from_str(&history).unwrap())});
    let refused = codec(&hub.apis[0].1, "decode", &of_both).await.expect(400);
    assert!(refused.text.contains("`b`"));
    hub.finish(Disturbance::Kills).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_from_before_the_keys_ends_after_they_were_switched_on() {
    let mut hub = installation("").environment("TOKENHUB_PENALTIES", "false").start().await;
    hub.provider.script(Rule::any([Reply::hang(), Reply::text(ANSWER)]));
    let id = begin(&hub).await;
    assert!(hub.provider.wait_until(PATIENCE, |calls| calls.len() == 1).await, "the first call is in flight");
    kill_workers(&mut hub);
    let on = keys(&[("a", KEY_A)]);
    hub.start_worker(&[("TOKENHUB_PAYLOAD_KEYS", &on)]);
    hub.start_api_with(&[("TOKENHUB_PAYLOAD_KEYS", &on)]).await;
    completes(&hub, 1, &id).await;
    hub.finish(Disturbance::Kills).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_without_keys_says_what_it_cannot_read_and_answers_from_the_database() {
    let mut hub = scripted(installation(&keys(&[("a", KEY_A)])).apis(0)).await;
    hub.start_api_with(&[("TOKENHUB_PAYLOAD_KEYS", "")]).await;
    hub.wait_until_durable().await;
    let chat = hub.post("/v1/chat/completions", &json!({"model": "alpha", "messages": messages()})).await.expect(200);
    assert!(chat.text.contains(ANSWER), "{}", chat.text);
    assert_eq!(chat.header("x-tokenhub-durability"), "durable");
    let refused = json!({"model": "gamma", "messages": [{"role": "user", "content": "be refused"}]});
    let refused = hub.post("/v1/chat/completions", &refused).await.expect(400);
    assert!(refused.text.contains(REFUSAL), "{}", refused.text);
    says(&hub.apis[0].0, "the result of a workflow cannot be read here").await;
    says(&hub.apis[0].0, "`a`").await;
    assert_eq!(hub.provider.calls().len(), 2);
    hub.finish(Disturbance::None).await;
}
