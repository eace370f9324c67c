//! Webhooks: the end of a plan is told, whoever dies, to whoever asked for it and to nobody else.

mod receiver;
mod refusals;

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};
use tokenhub_demo::{Reply as Said, Rule};
use tokenhub_domain::{RunId, TenantId};
use tokenhub_store::Store;

use crate::harness::{Disturbance, TestHub, TestHubBuilder, eventually, exchange, free_port, http};
use receiver::{Receiver, Reply, url_of};

const PATIENCE: Duration = Duration::from_secs(40);
const ADMIN_TOKEN: &str = "tokenhub_of_an_administrator";
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const NEXT_SECRET: &str = "whsec_bmV4dG5leHRuZXh0bmV4dG5leHRuZXh0bmV4dA==";
const ADMIN_PATH: &str = "/admin/v1/webhooks/deliveries";

fn installation() -> TestHubBuilder {
    TestHub::builder()
        .environment("TOKENHUB_START_DEADLINE_MS", "15000")
        .environment("TOKENHUB_PENALTIES", "false")
        .environment("TOKENHUB_ADMIN_TOKEN", ADMIN_TOKEN)
        .environment("TOKENHUB_WEBHOOK_SECRET", SECRET)
        .environment("TOKENHUB_WEBHOOK_ALLOWED_HOSTS", "127.0.0.1")
        // Pauses of 1 ms, 60 ms, 0.36 s, 1.4 s, 3.6 s and so on.
        .environment("TOKENHUB_WEBHOOK_RETRY_MS", "1")
}

fn plan(webhook: &Value, more: &[(&str, Value)]) -> Value {
    let messages = json!([{"role": "user", "content": "canary-of-a-prompt"}]);
    let mut body = json!({"request": {"messages": messages}, "webhook": webhook,
        "orchestration": {"mode": "refine", "iterations": 1, "primary_model_id": "alpha"}});
    body.as_object_mut().unwrap().extend(more.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
    body
}

/// Accepts a plan in the background; its id.
async fn ask(hub: &TestHub, webhook: &Value, more: &[(&str, Value)]) -> String {
    let body = plan(webhook, &[more, &[("background", json!(true))]].concat());
    let begun = hub.post("/v1/plan", &body).await.expect(202);
    begun.body["id"].as_str().unwrap().to_owned()
}

/// The sentence with which a plan is refused that has this webhook.
async fn refused(hub: &TestHub, webhook: &Value, param: &str) -> String {
    let refused = hub.post("/v1/plan", &plan(webhook, &[])).await.expect(400);
    assert_eq!(refused.body["param"], param, "{}", refused.text);
    refused.body["detail"].as_str().unwrap().to_owned()
}

async fn admin(hub: &TestHub, method: Method, path: &str, status: u16) -> Value {
    let url = format!("{}{ADMIN_PATH}{path}", hub.apis[0].1);
    exchange(http().request(method, url).bearer_auth(ADMIN_TOKEN)).await.unwrap().expect(status).body
}

async fn deliveries(hub: &TestHub, query: &str) -> Value {
    admin(hub, Method::GET, query, 200).await
}

/// The webhook of a run, once it stands so.
async fn on_its_way(hub: &TestHub, run_id: &str, state: &str) -> Value {
    eventually("the webhook gets there", PATIENCE, || async {
        let all = deliveries(hub, "").await;
        let mut all = all["data"].as_array().unwrap().iter();
        all.find(|one| one["run_id"] == run_id && one["state"] == state).cloned()
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_is_down_then_fails_then_answers_hears_once_and_can_check_who_speaks() {
    let secrets = format!("{NEXT_SECRET}, {SECRET}");
    let hub = installation().environment("TOKENHUB_WEBHOOK_SECRET", &secrets).start().await;
    hub.provider.script(Rule::any([Said::text("canary-of-an-answer")]));
    let port = free_port();
    let id = ask(&hub, &json!({"url": url_of(port)}), &[]).await;
    let down = eventually("a try fails", PATIENCE, || async {
        let all = deliveries(&hub, "?state=pending").await;
        all["data"].as_array()?.iter().find(|one| !one["last_error"].is_null()).cloned()
    })
    .await;
    assert_eq!((&down["event"], &down["last_status"]), (&json!("plan.completed"), &Value::Null), "{down}");

    let receiver = Receiver::at(port, [Reply::Status(500)]).await;
    let heard = receiver.hears(2).await;
    let delivered = on_its_way(&hub, &id, "delivered").await;
    assert_eq!((&delivered["id"], &delivered["last_status"]), (&down["id"], &json!(200)), "{delivered}");
    assert!(delivered["tries"].as_u64().unwrap() >= 3 && !delivered["delivered_at"].is_null(), "{delivered}");
    for one in &heard {
        assert_eq!(one.id(), delivered["id"].as_str().unwrap(), "the same over all tries");
        assert!(one.is_signed_with(SECRET) && one.is_signed_with(NEXT_SECRET), "{one:?}");
        assert_eq!(one.body, heard[0].body);
        assert_eq!(one.header("content-type"), "application/json");
        assert!(!one.body.contains("canary"), "{}", one.body);
    }
    let read = hub.get(&format!("/v1/plan/{id}")).await.unwrap().expect(200).body;
    let told = heard[1].json();
    assert_eq!((&told["type"], &told["data"]["id"]), (&json!("plan.completed"), &json!(id)));
    for field in ["status", "stop_reason", "durable", "negotiated_model"] {
        assert_eq!(told["data"][field], read[field], "{field}");
    }
    for (field, used) in told["data"]["usage"].as_object().unwrap() {
        assert_eq!(*used, read["usage"][field], "{field}");
    }
    assert_eq!(
        (&told["data"]["durable"], &told["data"]["links"]["plan"]),
        (&json!(true), &json!(format!("/v1/plan/{id}")))
    );
    hub.finish(Disturbance::None).await;
    let heard = receiver.heard();
    assert_eq!((heard.len(), heard.iter().filter(|one| one.is_taken).count()), (2, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_api_dies_that_began_a_delivery_another_one_ends_it() {
    let mut hub = installation().temporal_off().start().await;
    let receiver = Receiver::start([Reply::Hang]).await;
    ask(&hub, &json!({"url": receiver.url()}), &[]).await;
    let first = receiver.hears(1).await.remove(0);
    hub.start_api().await;
    // Longer than a lease that nobody renews: while its holder lives, nobody else sends.
    tokio::time::sleep(Duration::from_millis(4_500)).await;
    assert_eq!(receiver.heard().len(), 1);
    hub.apis.remove(0).0.kill();
    let second = receiver.hears(2).await.remove(1);
    assert_eq!((second.id(), &second.body), (first.id(), &first.body));
    let run_id = second.json()["data"]["id"].as_str().unwrap().to_owned();
    assert_eq!(on_its_way(&hub, &run_id, "delivered").await["tries"], 2);
    hub.finish(Disturbance::Kills).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_that_a_worker_ended_while_every_api_was_down_is_told_when_one_is_back() {
    let mut hub = installation().start().await;
    hub.provider.script(Rule::any([Said::text("red").delay_ms(1_500)]));
    let receiver = Receiver::start([]).await;
    let id = ask(&hub, &json!({"url": receiver.url()}), &[]).await;
    assert!(hub.provider.wait_until(PATIENCE, |calls| !calls.is_empty()).await);
    hub.apis.remove(0).0.kill();
    let url = format!("sqlite://{}?mode=rw", hub.dir().join("data/tokenhub.db").display());
    let store = Store::open(&url).await.unwrap();
    eventually("the worker ends the plan", PATIENCE, || async {
        let row = store.runs().get(&TenantId::default_tenant(), &RunId::from(id.as_str())).await.unwrap()?;
        row.status.is_final().then_some(())
    })
    .await;
    assert_eq!(receiver.heard().len(), 0, "nobody is there to tell it");
    hub.start_api().await;
    let heard = receiver.hears(1).await;
    assert_eq!((&heard[0].json()["type"], &heard[0].json()["data"]["id"]), (&json!("plan.completed"), &json!(id)));
    on_its_way(&hub, &id, "delivered").await;
    assert_eq!(receiver.heard().len(), 1);
    hub.finish(Disturbance::Kills).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_that_was_stopped_is_told_as_such_whoever_carried_it() {
    for hub in [installation().start().await, installation().temporal_off().start().await] {
        hub.provider.script(Rule::any([Said::hang()]));
        let receiver = Receiver::start([]).await;
        let id = ask(&hub, &json!({"url": receiver.url()}), &[]).await;
        assert!(hub.provider.wait_until(PATIENCE, |calls| !calls.is_empty()).await);
        let waiting = on_its_way(&hub, &id, "waiting").await;
        let early = admin(&hub, Method::POST, &format!("/{}/redeliver", waiting["id"].as_str().unwrap()), 409).await;
        assert_eq!(early["code"], "webhook_too_early", "{early}");
        hub.post(&format!("/v1/plan/{id}/cancel"), &json!({})).await.expect(200);
        let heard = receiver.hears(1).await.remove(0);
        assert_eq!(
            (&heard.json()["type"], &heard.json()["data"]["status"]),
            (&json!("plan.cancelled"), &json!("cancelled"))
        );
        assert_eq!(on_its_way(&hub, &id, "delivered").await["id"], waiting["id"]);
        hub.finish(Disturbance::None).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_those_ends_are_told_that_were_asked_for() {
    let hub = installation().temporal_off().start().await;
    let receiver = Receiver::start([]).await;
    let failures = json!({"url": receiver.url(), "events": ["plan.failed"]});
    let completed = hub.post("/v1/plan", &plan(&failures, &[])).await.expect(200);
    hub.provider.script(Rule::any([Said::failure(400, "no")]));
    let id = ask(&hub, &failures, &[]).await;
    let heard = receiver.hears(1).await.remove(0);
    assert_eq!((&heard.json()["type"], &heard.json()["data"]["id"]), (&json!("plan.failed"), &json!(id)));
    on_its_way(&hub, &id, "delivered").await;
    let all = deliveries(&hub, "").await;
    assert_eq!(all["data"].as_array().unwrap().len(), 1, "nothing of {}: {all}", completed.body["id"]);
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_is_not_followed_a_wish_for_a_pause_is_kept_and_gone_is_the_end_until_somebody_asks_again() {
    let hub = installation().temporal_off().start().await;
    let elsewhere = Receiver::start([]).await;
    let later = Reply::Later { status: 503, retry_after: "3" };
    let receiver = Receiver::start([Reply::Redirect(elsewhere.url()), later, Reply::Status(410)]).await;
    let id = ask(&hub, &json!({"url": receiver.url()}), &[]).await;
    let dead = on_its_way(&hub, &id, "dead").await;
    assert_eq!((&dead["last_status"], &dead["tries"]), (&json!(410), &json!(3)), "{dead}");
    let heard = receiver.heard();
    assert_eq!((heard.len(), elsewhere.heard().len()), (3, 0));
    assert!(heard[2].at.duration_since(heard[1].at) >= Duration::from_millis(2_900));
    let metrics = hub.get("/metrics").await.unwrap().text;
    for line in ["{result=\"retried\"} 2", "{result=\"dead\"} 1"] {
        assert!(metrics.contains(&format!("tokenhub_webhook_deliveries_total{line}")), "{metrics}");
    }

    let listed = deliveries(&hub, "?state=dead&limit=1").await;
    assert_eq!((&listed["data"][0], &listed["has_more"]), (&dead, &json!(false)));
    let after = format!("?after={}", dead["id"].as_str().unwrap());
    assert_eq!(deliveries(&hub, &after).await["data"], json!([]));
    let path = format!("/{}", dead["id"].as_str().unwrap());
    assert_eq!(admin(&hub, Method::GET, &path, 200).await, dead);
    let again = admin(&hub, Method::POST, &format!("{path}/redeliver"), 200).await;
    assert_eq!((&again["state"], &again["tries"]), (&json!("pending"), &json!(0)), "{again}");
    let heard = receiver.hears(4).await.remove(3);
    assert_eq!(heard.id(), dead["id"].as_str().unwrap());
    assert_eq!(on_its_way(&hub, &id, "delivered").await["tries"], 1);

    for wrong in ["?state=lost", "?limit=0", "?limit=201", "?limit=x", "?status=dead"] {
        admin(&hub, Method::GET, wrong, 400).await;
    }
    assert_eq!(admin(&hub, Method::GET, "/msg_of_nobody", 404).await["code"], "webhook_not_found");
    admin(&hub, Method::POST, "/msg_of_nobody/redeliver", 404).await;
    for request in
        [hub.request(Method::GET, ADMIN_PATH), hub.request(Method::POST, &format!("{ADMIN_PATH}{path}/redeliver"))]
    {
        exchange(request).await.unwrap().expect(401);
    }
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn receivers_that_hang_hold_up_no_other() {
    let hub = installation().temporal_off().start().await;
    let (slow, quick) = (Receiver::start(std::iter::repeat_n(Reply::Hang, 8)).await, Receiver::start([]).await);
    for _ in 0..8 {
        ask(&hub, &json!({"url": slow.url()}), &[]).await;
    }
    slow.hears(8).await;
    let asked = Instant::now();
    ask(&hub, &json!({"url": quick.url()}), &[]).await;
    quick.hears(1).await;
    assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
    assert!(slow.heard().len() == 8, "each is held by one try");
    hub.finish(Disturbance::None).await;
}
