//! Stopping a response: the call at the provider ends, the ledger says so, and asking again changes nothing.

use std::time::{Duration, Instant};

use serde_json::json;
use tokenhub_demo::{Finished, Reply, Rule};
use tokenhub_domain::{ErrorClass, TenantId};
use tokenhub_store::LedgerState;

use super::{NATIVE, begin, installation, path_of, until, until_called};
use crate::{
    evidence::Evidence,
    harness::{Answer, Disturbance, TestHub, eventually},
};

/// A heartbeat of the worker, or a renewed lease of the API, with room for a slow machine.
const ABORT_LIMIT: Duration = Duration::from_secs(10);

async fn cancel_at(hub: &TestHub, api: usize, id: &str) -> Answer {
    let request = hub.request_to(api, reqwest::Method::POST, &format!("{}/cancel", path_of(id)));
    crate::harness::exchange(request).await.unwrap()
}

/// Cancels a response whose call hangs, at the API of that index, and asserts everything that must follow.
async fn assert_is_stopped(hub: &TestHub, api: usize, model: &str) {
    hub.provider.script(Rule::model(model, [Reply::hang()]));
    let id = begin(hub, model).await;
    until_called(hub, model).await;
    let since = Instant::now();
    let cancelled = cancel_at(hub, api, &id).await.expect(200);
    assert_eq!((&cancelled.body["id"], &cancelled.body["status"]), (&json!(id), &json!("cancelled")));
    let aborted = hub.provider.wait_until(ABORT_LIMIT, |calls| {
        calls.iter().any(|call| call.model == model && call.finished == Finished::Aborted)
    });
    assert!(aborted.await, "{model}: the call goes on");
    eprintln!("{model}: aborted after {} ms", since.elapsed().as_millis());
    let again = cancel_at(hub, api, &id).await.expect(200);
    assert_eq!(again.body, cancelled.body, "once is enough");
    assert_eq!(until(hub, &id, "cancelled").await.body, cancelled.body);
}

async fn assert_nothing_is_owed(hub: &TestHub, calls: usize) {
    let evidence = Evidence::of(hub).await;
    for row in evidence.ended(calls).await {
        assert_eq!((row.state, row.error_class), (LedgerState::Void, Some(ErrorClass::Cancelled)), "{row:?}");
    }
    assert_eq!(hub.provider.calls().len(), calls, "nobody else was asked");
    eventually("every run is in the log", ABORT_LIMIT, || async {
        let lines = evidence.log(&TenantId::default_tenant()).await;
        let cancelled = lines.iter().filter(|line| line.error_class == Some(ErrorClass::Cancelled));
        (cancelled.count() == calls).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelling_ends_the_call_of_a_workflow() {
    let hub = installation().start().await;
    for model in ["alpha", NATIVE] {
        assert_is_stopped(&hub, 0, model).await;
    }
    assert_nothing_is_owed(&hub, 2).await;
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelling_ends_the_call_of_an_api_even_when_another_one_is_asked() {
    let hub = installation().temporal_off().apis(2).start().await;
    assert_is_stopped(&hub, 0, "alpha").await;
    assert_is_stopped(&hub, 1, NATIVE).await;
    assert_nothing_is_owed(&hub, 2).await;
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_no_worker_has_taken_is_cancelled_without_a_call() {
    let mut hub = installation().start().await;
    hub.workers.remove(0).stop(ABORT_LIMIT).await;
    let required = [("X-TokenHub-Durability", "required")];
    let begun = hub.post_with("/v1/responses", &required, &super::request("alpha")).await.expect(200);
    assert_eq!(begun.body["status"], "queued");
    let id = begun.body["id"].as_str().unwrap();
    let cancelled = cancel_at(&hub, 0, id).await.expect(200);
    assert_eq!(cancelled.body["status"], "cancelled");
    hub.start_worker(&[]);
    hub.wait_until_durable().await;
    assert_eq!(until(&hub, id, "cancelled").await.body, cancelled.body);
    assert_eq!(hub.provider.calls().len(), 0);
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_ended_stays_and_what_was_waited_for_cannot_be_cancelled() {
    let hub = installation().temporal_off().start().await;
    let id = begin(&hub, "alpha").await;
    let completed = until(&hub, &id, "completed").await;
    assert_eq!(cancel_at(&hub, 0, &id).await.expect(200).body, completed.body);
    let waited_for = hub.post("/v1/responses", &json!({"model": "alpha", "input": "now"})).await.expect(200);
    let run_id = waited_for.header("x-tokenhub-run-id");
    let refused = cancel_at(&hub, 0, run_id).await.expect(400);
    assert_eq!(refused.body["error"]["code"], "response_not_background");
    cancel_at(&hub, 0, "resp_unknown").await.expect(404);
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_temporal_is_away_a_workflow_cannot_be_cancelled_and_nobody_is_told_that_it_was() {
    let mut hub = installation().start().await;
    hub.provider.script(Rule::any([Reply::hang()]));
    let id = begin(&hub, "alpha").await;
    until_called(&hub, "alpha").await;
    hub.temporal.kill();
    let refused = cancel_at(&hub, 0, &id).await.expect(503);
    assert_eq!(refused.body["error"]["code"], "cancel_unavailable");
    assert!(!refused.header("retry-after").is_empty());
    assert_eq!(hub.get(&path_of(&id)).await.unwrap().expect(200).body["status"], "in_progress");
    hub.temporal.start().await;
    let cancelled = eventually("Temporal takes the wish", ABORT_LIMIT * 3, || async {
        let answer = cancel_at(&hub, 0, &id).await;
        answer.status.is_success().then_some(answer)
    })
    .await;
    assert_eq!(cancelled.body["status"], "cancelled");
    hub.finish(Disturbance::Kills).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_whose_worker_died_is_cancelled_without_it_and_not_carried_on_by_the_next_one() {
    let mut hub = installation().start().await;
    hub.provider.script(Rule::any([Reply::hang(), Reply::text("too late")]));
    let id = begin(&hub, "alpha").await;
    until_called(&hub, "alpha").await;
    hub.workers.remove(0).kill();
    let cancelled = cancel_at(&hub, 0, &id).await.expect(200);
    assert_eq!(cancelled.body["status"], "cancelled");
    hub.start_worker(&[]);
    hub.wait_until_durable().await;
    // Long enough for the workflow to ask for its call again.
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(hub.provider.calls().len(), 1);
    assert_eq!(until(&hub, &id, "cancelled").await.body, cancelled.body);
    hub.finish(Disturbance::Kills).await;
}
