//! Plans that nobody waits for: accepted at once, waited for later, stopped, listed, and carried on whoever dies.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};
use tokenhub_demo::{Finished, Reply, Rule};

use crate::harness::{Answer, Disturbance, TestHub, TestHubBuilder, eventually, exchange};

const PATIENCE: Duration = Duration::from_secs(30);
/// Nobody waits for a reply that takes this long.
const SLOW_MS: u64 = 30_000;

fn installation() -> TestHubBuilder {
    TestHub::builder().environment("TOKENHUB_START_DEADLINE_MS", "15000").environment("TOKENHUB_PENALTIES", "false")
}

/// A plan with `orchestration` and the fields of `more`.
fn plan(orchestration: &Value, more: &Value) -> Value {
    let messages = json!([{"role": "user", "content": "which colour?"}]);
    let mut body = json!({"request": {"messages": messages}, "orchestration": orchestration});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

fn refine() -> Value {
    json!({"mode": "refine", "iterations": 1, "primary_model_id": "alpha"})
}

/// Accepts a plan in the background; its id.
async fn begin(hub: &TestHub, orchestration: &Value) -> String {
    let begun = hub.post("/v1/plan", &plan(orchestration, &json!({"background": true}))).await.expect(202);
    let id = begun.body["id"].as_str().unwrap().to_owned();
    assert_eq!(begun.header("location"), format!("/v1/plan/{id}"));
    assert!(begun.took < Duration::from_secs(5), "{:?}", begun.took);
    id
}

async fn read(hub: &TestHub, api: usize, path: &str, seen: Option<&str>) -> Answer {
    let mut request = hub.request_to(api, Method::GET, path);
    if let Some(seen) = seen {
        request = request.header("if-none-match", seen);
    }
    exchange(request).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_in_the_background_is_waited_for_when_its_caller_likes() {
    let hub = installation().start().await;
    hub.provider.script(Rule::any([Reply::text("red"), Reply::text("blue").delay_ms(1_500)]));
    let id = begin(&hub, &refine()).await;
    let running = eventually("it runs", PATIENCE, || async {
        let answer = read(&hub, 0, &format!("/v1/plan/{id}"), None).await.expect(200);
        (answer.body["status"] == "running").then_some(answer)
    });
    let etag = running.await.header("etag").to_owned();
    let asked = Instant::now();
    let still = read(&hub, 0, &format!("/v1/plan/{id}?wait=300ms"), Some(&etag)).await.expect(304);
    assert_eq!(still.header("etag"), etag);
    assert!(asked.elapsed() >= Duration::from_millis(300));
    let ended = read(&hub, 0, &format!("/v1/plan/{id}?wait=20s"), Some(&etag)).await.expect(200);
    assert_eq!(
        (&ended.body["status"], &ended.body["usage"]["calls"]),
        (&json!("completed"), &json!(2)),
        "{}",
        ended.text
    );
    assert_eq!(ended.body["durable"], true);
    assert!(ended.text.contains("blue"), "{}", ended.text);
    read(&hub, 0, &format!("/v1/plan/{id}?wait=20s"), Some(ended.header("etag"))).await.expect(304);

    let at_once = plan(&refine(), &json!({"wait_ms": 20_000}));
    hub.provider.clear_script();
    let whole = hub.post("/v1/plan", &at_once).await.expect(200);
    assert_eq!(whole.body["status"], "completed", "{}", whole.text);
    hub.provider.script(Rule::any([Reply::text("late").delay_ms(3_000)]));
    let short = hub.post("/v1/plan", &plan(&refine(), &json!({"wait_ms": 100}))).await.expect(202);
    let id = short.body["id"].as_str().unwrap();
    read(&hub, 0, &format!("/v1/plan/{id}?wait=30"), None).await.expect(200);
    for (field, param) in [(json!({"wait_ms": 60_001}), "wait_ms"), (json!({"background": "yes"}), "background")] {
        let refused = hub.post("/v1/plan", &plan(&refine(), &field)).await.expect(400);
        assert_eq!(refused.body["param"], param, "{}", refused.text);
    }
    read(&hub, 0, &format!("/v1/plan/{id}?wait=soon"), None).await.expect(400);
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_that_is_stopped_keeps_what_it_has_and_calls_nobody_any_more() {
    for (durability, hub) in
        [("preferred", installation().start().await), ("none", installation().temporal_off().start().await)]
    {
        hub.provider.script(Rule::any([Reply::text("slow").delay_ms(SLOW_MS)]));
        hub.provider.script(Rule::model("alpha", [Reply::text("red")]));
        let vote = json!({"mode": "vote", "voters": 3, "method": "majority"});
        let id = begin(&hub, &vote).await;
        let under_way = |calls: &[tokenhub_demo::SeenCall]| {
            calls.len() == 3 && calls.iter().filter(|call| call.finished == Finished::Answered).count() == 1
        };
        assert!(hub.provider.wait_until(PATIENCE, under_way).await, "{durability}");
        let path = format!("/v1/plan/{id}/cancel");
        let asked = Instant::now();
        let cancelled = hub.post(&path, &json!({})).await.expect(200);
        assert!(asked.elapsed() < Duration::from_secs(10), "{durability}: {:?}", asked.elapsed());
        assert_eq!(cancelled.body["status"], "cancelled", "{durability}: {}", cancelled.text);
        let step = |n: usize, field: &str| cancelled.body["steps"][n][field].clone();
        assert_eq!((step(0, "id"), step(0, "error_class")), (json!("ballot/1"), Value::Null), "{}", cancelled.text);
        assert_eq!((step(1, "error_class"), step(2, "error_class")), (json!("cancelled"), json!("cancelled")));
        assert!(cancelled.text.contains("red"), "what was paid for is handed out: {}", cancelled.text);
        eventually("every socket is closed", PATIENCE, || async {
            (hub.provider.count_where(|call| call.finished == Finished::Aborted) == 2).then_some(())
        })
        .await;
        let again = hub.post(&path, &json!({"mode": "now"})).await.expect(200);
        assert_eq!(again.body["status"], "cancelled");
        assert_eq!(hub.provider.count(), 3, "{durability}");
        hub.post(&path, &json!({"mode": "later"})).await.expect(400);
        hub.post(&path, &json!({"soon": true})).await.expect(400);
        hub.post("/v1/plan/plan_of_nobody/cancel", &json!({})).await.expect(404);
        hub.finish(Disturbance::None).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_outlives_the_api_that_accepted_it_and_its_key_finds_it_again() {
    let mut hub = installation().apis(2).start().await;
    hub.provider.script(Rule::any([Reply::text("red").delay_ms(1_500)]));
    let body = plan(&refine(), &json!({"background": true}));
    let keyed = |api: usize, hub: &TestHub| {
        hub.request_to(api, Method::POST, "/v1/plan").header("idempotency-key", "one").json(&body)
    };
    let begun = exchange(keyed(0, &hub)).await.unwrap().expect(202);
    hub.apis[0].0.kill();
    let again = exchange(keyed(1, &hub)).await.unwrap();
    assert_eq!(again.body["id"], begun.body["id"], "{}", again.text);
    let id = begun.body["id"].as_str().unwrap();
    let ended = read(&hub, 1, &format!("/v1/plan/{id}?wait=30s"), None).await.expect(200);
    assert_eq!((&ended.body["status"], hub.provider.count()), (&json!("completed"), 2), "{}", ended.text);
    let replayed = exchange(keyed(1, &hub)).await.unwrap().expect(200);
    assert_eq!(replayed.body["id"], begun.body["id"]);
    hub.apis.remove(0);
    hub.finish(Disturbance::Kills).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_are_listed_newest_first_by_status_and_page() {
    let hub = installation().temporal_off().start().await;
    hub.provider.script(Rule::model("beta", [Reply::failure(400, "no")]));
    let mut ids = Vec::new();
    for model in ["alpha", "beta", "alpha"] {
        let asked = plan(&json!({"primary_model_id": model}), &json!({"wait_ms": 20_000}));
        ids.push(hub.post("/v1/plan", &asked).await.expect(200).body["id"].clone());
    }
    let listed = |query: &str| {
        let path = format!("/v1/plan?{query}");
        let hub = &hub;
        async move { hub.get(&path).await.unwrap().expect(200).body }
    };
    let ids_of =
        |page: &Value| page["data"].as_array().unwrap().iter().map(|one| one["id"].clone()).collect::<Vec<_>>();
    let all = listed("").await;
    assert_eq!((ids_of(&all), &all["has_more"]), (vec![ids[2].clone(), ids[1].clone(), ids[0].clone()], &json!(false)));
    assert_eq!((&all["data"][0]["status"], &all["data"][0]["calls"]), (&json!("completed"), &json!(1)));
    assert_eq!(ids_of(&listed("status=failed").await), [ids[1].clone()]);
    let first = listed("limit=2").await;
    assert_eq!((ids_of(&first).len(), &first["has_more"]), (2, &json!(true)));
    let rest = listed(&format!("limit=2&after={}", first["last_id"].as_str().unwrap())).await;
    assert_eq!((ids_of(&rest), &rest["has_more"]), (vec![ids[0].clone()], &json!(false)));
    let vote = plan(&json!({"mode": "vote", "method": "majority"}), &json!({"wait_ms": 20_000}));
    let vote = hub.post("/v1/plan", &vote).await.expect(200).body;
    assert_eq!(ids_of(&listed("strategy=vote").await), [vote["id"].clone()]);
    assert_eq!(ids_of(&listed("strategy=single&status=completed").await), [ids[2].clone(), ids[0].clone()]);
    assert_eq!(vote["usage"]["baseline_cost_usd"], vote["steps"][0]["cost_usd"], "{vote}");
    for wrong in ["strategy=dice", "status=lost", "limit=0", "limit=201", "after=plan_of_nobody"] {
        hub.get(&format!("/v1/plan?{wrong}")).await.unwrap().expect(400);
    }
    exchange(crate::harness::http().get(format!("{}/v1/plan", hub.apis[0].1))).await.unwrap().expect(401);
    hub.finish(Disturbance::None).await;
}
