//! Answers that somebody decides about before they go out: waited for over the death of everything, decided once, by
//! key, link or the end of the time, and never bought again.

mod link;
mod lost;

use std::time::{Duration, Instant};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use reqwest::Method;
use serde_json::{Value, json};
use tokenhub_demo::{Reply, Rule};

use crate::harness::{Answer, Disturbance, Operator, TestHub, TestHubBuilder, eventually, exchange};

const PATIENCE: Duration = Duration::from_secs(40);
/// Nobody decides by accident within this.
const LONG_MS: u64 = 600_000;
/// A plan that nobody decides about ends after this.
const SHORT_MS: u64 = 1_500;
/// The answer, which the question shows.
const CANARY: &str = "blue-canary-7";

fn installation() -> TestHubBuilder {
    TestHub::builder().environment("TOKENHUB_START_DEADLINE_MS", "15000").environment("TOKENHUB_PENALTIES", "false")
}

/// Two calls of one model; which one is left to routing, so that who carries on may be told another.
fn refine(timeout_ms: u64, on_timeout: &str) -> Value {
    json!({
        "request": {"messages": [{"role": "user", "content": "which colour?"}]},
        "strategy": {"type": "refine", "rounds": 1},
        "approval": {"timeout_ms": timeout_ms, "on_timeout": on_timeout},
        "background": true,
    })
}

fn script(hub: &TestHub) {
    hub.provider.script(Rule::any([Reply::text(CANARY)]));
}

async fn begin(hub: &TestHub, body: &Value) -> String {
    hub.post("/v1/plan", body).await.expect(202).body["id"].as_str().unwrap().to_owned()
}

async fn read(hub: &TestHub, api: usize, id: &str) -> Answer {
    exchange(hub.request_to(api, Method::GET, &format!("/v1/plan/{id}"))).await.unwrap().expect(200)
}

/// The plan once it waits.
async fn waiting(hub: &TestHub, api: usize, id: &str) -> Answer {
    eventually("the plan waits for a decision", PATIENCE, || async {
        let plan = exchange(hub.request_to(api, Method::GET, &format!("/v1/plan/{id}"))).await.ok()?.expect(200);
        assert!(["pending", "running"].contains(&plan.body["status"].as_str().unwrap()), "{}", plan.text);
        plan.body["waiting"].is_object().then_some(plan)
    })
    .await
}

/// The plan once it has ended.
async fn ended(hub: &TestHub, api: usize, id: &str) -> Answer {
    eventually("the plan ends", PATIENCE, || async {
        let plan = exchange(hub.request_to(api, Method::GET, &format!("/v1/plan/{id}"))).await.ok()?.expect(200);
        (!["pending", "running"].contains(&plan.body["status"].as_str().unwrap())).then_some(plan)
    })
    .await
}

async fn signal(hub: &TestHub, api: usize, id: &str, body: &Value) -> Answer {
    exchange(hub.request_to(api, Method::POST, &format!("/v1/plan/{id}/signal")).json(body)).await.unwrap()
}

fn ending(plan: &Answer) -> (&str, &str) {
    (plan.body["status"].as_str().unwrap(), plan.body["stop_reason"].as_str().unwrap())
}

async fn event_names(hub: &TestHub, id: &str) -> Vec<String> {
    let listed = hub.get(&format!("/v1/plan/{id}/events?format=json")).await.unwrap().expect(200);
    assert!(!listed.text.contains(CANARY), "{}", listed.text);
    let events = listed.body["data"].as_array().unwrap_or_else(|| panic!("{}", listed.text));
    events.iter().map(|event| event["event"].as_str().unwrap().to_owned()).collect()
}

/// What is recorded of the question and of the signal has no word of the answer.
async fn assert_history_without_preview(hub: &TestHub, run_id: &str) {
    let operator = Operator::connect(&hub.temporal).await;
    let workflow = operator.workflows_of(run_id).await.remove(0);
    let history: Value = serde_json::from_slice(&operator.history_json(&workflow).await).unwrap();
    let of = |kind: &str| {
        let events = history["events"].as_array().unwrap().iter();
        events.filter(|event| event["attributes"].get(kind).is_some()).map(Value::to_string).collect::<Vec<_>>()
    };
    let (questions, signals) = (of("MarkerRecordedEventAttributes"), of("WorkflowExecutionSignaledEventAttributes"));
    let mut asked = 0;
    for event in questions.iter().chain(&signals) {
        let plain = event.split('"').filter_map(|piece| STANDARD.decode(piece).ok());
        let plain: Vec<String> = plain.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).collect();
        asked += usize::from(plain.concat().contains("await_approval"));
        assert!(!event.contains(CANARY) && !plain.concat().contains(CANARY), "{event} {plain:?}");
    }
    assert_eq!((asked, signals.len()), (2, 1), "the question, the signal, and the decision");
}

/// The workflow has nothing to do any more but to wait.
async fn wait_until_at_rest(hub: &TestHub, run_id: &str) {
    let operator = Operator::connect(&hub.temporal).await;
    let workflow = operator.workflows_of(run_id).await.remove(0);
    eventually("the workflow waits", PATIENCE, || async {
        let history = String::from_utf8(operator.history_json(&workflow).await).unwrap();
        history.contains("TimerStartedEventAttributes").then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_waits_over_the_death_of_everything_and_is_bought_once() {
    let mut hub = installation().start().await;
    script(&hub);
    let id = begin(&hub, &refine(LONG_MS, "fail")).await;
    let plan = waiting(&hub, 0, &id).await;
    assert_eq!((&plan.body["status"], &plan.body["durable"]), (&json!("running"), &json!(true)));
    assert_eq!(plan.body["waiting"]["for"], "approval");
    assert_eq!(plan.body["waiting"]["preview"]["refined_response"], CANARY, "{}", plan.text);
    wait_until_at_rest(&hub, &id).await;
    hub.temporal.kill();
    hub.workers.remove(0).kill();
    hub.apis.remove(0).0.kill();
    hub.temporal.start().await;
    hub.start_worker(&[]);
    hub.start_api().await;
    hub.wait_until_durable().await;
    let again = waiting(&hub, 0, &id).await;
    assert_eq!(again.body["waiting"], plan.body["waiting"], "the same question, and the same link");
    let calls = hub.provider.count();
    let decided = signal(&hub, 0, &id, &json!({"type": "approve", "comment": "good"})).await.expect(200);
    assert_eq!(decided.body["approval"]["state"], "approved", "{}", decided.text);
    let plan = ended(&hub, 0, &id).await;
    assert_eq!(ending(&plan), ("completed", "max_rounds"), "{}", plan.text);
    assert_eq!(
        (plan.body["response"]["refined_response"].as_str(), &plan.body["durable"]),
        (Some(CANARY), &json!(true))
    );
    assert_eq!((calls, hub.provider.count(), &plan.body["usage"]["calls"]), (2, 2, &json!(2)));
    let audit = &plan.body["approval"];
    assert_eq!((&audit["decided_by"], &audit["comment"]), (&json!("key"), &json!("good")), "{audit}");
    assert!(audit["decided_at"].is_string() && audit["principal"].as_str().unwrap().starts_with("client_"), "{audit}");
    assert!(plan.body.get("waiting").is_none() && plan.body.get("edited").is_none(), "{}", plan.text);
    let told = event_names(&hub, &id).await;
    assert_eq!(told[told.len() - 3..], ["approval.requested", "approval.resolved", "plan.completed"]);
    assert_history_without_preview(&hub, &id).await;
    hub.finish(Disturbance::Kills).await;
}

/// A plan for each policy, that nobody decides about.
async fn run_out_of_time(hub: &TestHub) {
    script(hub);
    let mut ids = Vec::new();
    for policy in ["approve", "reject", "fail"] {
        ids.push(begin(hub, &refine(SHORT_MS, policy)).await);
    }
    for (id, end) in
        ids.iter().zip([("completed", "max_rounds"), ("cancelled", "rejected"), ("failed", "approval_expired")])
    {
        let plan = ended(hub, 0, id).await;
        assert_eq!(ending(&plan), end, "{}", plan.text);
        assert_eq!(plan.body["response"]["refined_response"], CANARY, "the answer is kept: {}", plan.text);
        assert_eq!(
            (&plan.body["approval"]["state"], &plan.body["approval"]["decided_by"]),
            (&json!("expired"), &json!("timeout"))
        );
        let late = signal(hub, 0, id, &json!({"type": "approve"})).await.expect(409);
        assert_eq!(late.body["code"], "approval_decided", "{}", late.text);
        let told = event_names(hub, id).await;
        assert_eq!(told[told.len() - 2], "approval.resolved", "{told:?}");
    }
    assert_eq!(hub.provider.count(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_that_nobody_decides_about_ends_by_its_policy() {
    let hub = installation().start().await;
    run_out_of_time(&hub).await;
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_temporal_it_ends_by_its_policy_too() {
    let hub = installation().temporal_off().start().await;
    run_out_of_time(&hub).await;
    hub.finish(Disturbance::None).await;
}

/// Every decision, each twice, and the one that comes too late.
async fn decide_each_way(hub: &TestHub) {
    script(hub);
    let long = format!("by hand: {}", "x".repeat(20_000));
    for (first, other, end, text) in [
        (json!({"type": "approve"}), json!({"type": "reject"}), ("completed", "max_rounds"), CANARY),
        (json!({"type": "reject", "comment": "no"}), json!({"type": "approve"}), ("cancelled", "rejected"), CANARY),
        (
            json!({"type": "edit", "text": "by hand"}),
            json!({"type": "edit", "text": "by another hand"}),
            ("completed", "max_rounds"),
            "by hand",
        ),
        (json!({"type": "edit", "text": long}), json!({"type": "approve"}), ("completed", "max_rounds"), &long),
    ] {
        let id = begin(hub, &refine(LONG_MS, "fail")).await;
        waiting(hub, 0, &id).await;
        signal(hub, 0, &id, &first).await.expect(200);
        let again = signal(hub, 0, &id, &first).await.expect(200);
        let conflict = signal(hub, 0, &id, &other).await.expect(409);
        assert_eq!(conflict.body["code"], "approval_decided", "{}", conflict.text);
        let plan = ended(hub, 0, &id).await;
        assert_eq!(ending(&plan), end, "{}", plan.text);
        assert_eq!(plan.body["response"]["refined_response"], text);
        assert_eq!(plan.body["edited"] == true, first["type"] == "edit", "{}", plan.text);
        let unmoved = signal(hub, 0, &id, &first).await.expect(200);
        for answer in [&again, &unmoved] {
            assert_eq!(answer.body["approval"]["decided_at"], plan.body["approval"]["decided_at"]);
        }
        if first["type"] == "reject" {
            assert_eq!(plan.body["error"]["message"], "the answer was rejected", "{}", plan.text);
        }
    }
    let chat = json!({
        "request": {"messages": [{"role": "user", "content": "which colour?"}]},
        "approval": {"timeout_ms": LONG_MS, "on_timeout": "fail"},
    });
    let asked = hub.post("/v1/plan", &chat).await.expect(202);
    assert_eq!(asked.body["waiting"]["preview"]["choices"][0]["message"]["content"], CANARY, "{}", asked.text);
    let id = asked.body["id"].as_str().unwrap();
    signal(hub, 0, id, &json!({"type": "edit", "text": "by hand"})).await.expect(200);
    let plan = ended(hub, 0, id).await;
    assert_eq!(plan.body["response"]["choices"][0]["message"]["content"], "by hand", "{}", plan.text);
    assert_eq!(plan.body["response"]["model"], asked.body["waiting"]["preview"]["model"], "the rest stays");
}

/// What is no decision, and a wait that is stopped.
async fn refuse_and_stop(hub: &TestHub) {
    let id = begin(hub, &refine(LONG_MS, "fail")).await;
    waiting(hub, 0, &id).await;
    for (body, param) in [
        (json!({"type": "maybe"}), "type"),
        (json!({"type": "add_budget", "max_calls": 3}), "max_calls"),
        (json!({"type": "edit"}), "text"),
        (json!({"type": "approve", "who": "me"}), "who"),
    ] {
        assert_eq!(signal(hub, 0, &id, &body).await.expect(400).body["param"], param);
    }
    signal(hub, 0, "plan_of_nobody", &json!({"type": "approve"})).await.expect(404);
    let stopped = hub.post(&format!("/v1/plan/{id}/cancel"), &json!({})).await.expect(200);
    assert_eq!(ending(&stopped), ("cancelled", "cancelled"), "{}", stopped.text);
    assert_eq!(stopped.body["approval"]["state"], "withdrawn", "{}", stopped.text);
    let late = signal(hub, 0, &id, &json!({"type": "approve"})).await.expect(409);
    assert_eq!(late.body["code"], "approval_not_asked", "{}", late.text);
    hub.provider.clear_script();
    hub.provider.script(Rule::any([Reply::text("slow").delay_ms(3_000)]));
    let early = begin(hub, &refine(LONG_MS, "fail")).await;
    let refused = signal(hub, 0, &early, &json!({"type": "approve"})).await.expect(409);
    assert_eq!(refused.body["code"], "approval_not_asked", "{}", refused.text);
    hub.post(&format!("/v1/plan/{early}/cancel"), &json!({})).await.expect(200);
    for (approval, param) in [
        (json!({"timeout_ms": 0, "on_timeout": "fail"}), "approval.timeout_ms"),
        (json!({"timeout_ms": 1_000}), "approval.on_timeout"),
        (json!({"timeout_ms": 1_000, "on_timeout": "fail", "by": "me"}), "approval.by"),
    ] {
        let mut body = refine(LONG_MS, "fail");
        body["approval"] = approval;
        assert_eq!(hub.post("/v1/plan", &body).await.expect(400).body["param"], param);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_is_decided_about_once_and_ends_as_was_decided() {
    let hub = installation().start().await;
    decide_each_way(&hub).await;
    refuse_and_stop(&hub).await;
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_temporal_it_is_decided_about_once_too() {
    let hub = installation().temporal_off().start().await;
    decide_each_way(&hub).await;
    refuse_and_stop(&hub).await;
    // A plan is stopped in it, whose call may be withdrawn before it leaves.
    hub.finish(Disturbance::Kills).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_temporal_a_dead_process_is_followed_by_another_that_buys_nothing() {
    let mut hub = installation().temporal_off().apis(2).start().await;
    script(&hub);
    let id = begin(&hub, &refine(LONG_MS, "fail")).await;
    let plan = waiting(&hub, 0, &id).await;
    hub.apis.remove(0).0.kill();
    assert_eq!(waiting(&hub, 0, &id).await.body["waiting"], plan.body["waiting"]);
    signal(&hub, 0, &id, &json!({"type": "approve"})).await.expect(200);
    let plan = ended(&hub, 0, &id).await;
    assert_eq!(ending(&plan), ("completed", "max_rounds"), "{}", plan.text);
    assert_eq!((hub.provider.count(), &plan.body["usage"]["calls"]), (2, &json!(2)));
    hub.finish(Disturbance::Kills).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_stops_does_not_wait_for_a_person_and_waits_on_when_it_is_back() {
    let mut hub = installation().temporal_off().start().await;
    script(&hub);
    let id = begin(&hub, &refine(LONG_MS, "fail")).await;
    waiting(&hub, 0, &id).await;
    let asked = Instant::now();
    hub.apis.remove(0).0.stop(PATIENCE).await;
    assert!(asked.elapsed() < Duration::from_secs(8), "{:?}", asked.elapsed());
    hub.start_api().await;
    waiting(&hub, 0, &id).await;
    signal(&hub, 0, &id, &json!({"type": "edit", "text": "by hand"})).await.expect(200);
    let plan = ended(&hub, 0, &id).await;
    assert_eq!((ending(&plan), &plan.body["edited"]), (("completed", "max_rounds"), &json!(true)), "{}", plan.text);
    assert_eq!((&plan.body["response"]["refined_response"], hub.provider.count()), (&json!("by hand"), 2));
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_waits_hears_of_the_question_and_of_its_end() {
    let hub = installation().temporal_off().start().await;
    script(&hub);
    let mut body = refine(LONG_MS, "fail");
    body.as_object_mut().unwrap().remove("background");
    let asked = hub.post("/v1/plan", &body).await.expect(202);
    let id = asked.body["id"].as_str().unwrap().to_owned();
    assert_eq!(asked.body["waiting"]["for"], "approval", "{}", asked.text);
    let shown = read(&hub, 0, &id).await;
    let path = format!("/v1/plan/{id}?wait=30s");
    let reading = hub.request(Method::GET, &path).header("if-none-match", shown.header("etag"));
    let (heard, decided) = tokio::join!(exchange(reading), async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        signal(&hub, 0, &id, &json!({"type": "approve"})).await.expect(200)
    });
    let heard = heard.unwrap().expect(200);
    assert_ne!(heard.header("etag"), shown.header("etag"));
    assert_eq!(heard.body["approval"]["state"], "approved", "{}", heard.text);
    assert_eq!(decided.body["id"], json!(id));
    ended(&hub, 0, &id).await;
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_that_ends_before_it_asks_fails_as_any_other_for_who_waits() {
    for hub in [installation().start().await, installation().temporal_off().start().await] {
        let mut body = refine(LONG_MS, "approve");
        body.as_object_mut().unwrap().remove("background");
        body["bounds"] = json!({"max_tokens": 20});
        let poor = hub.post("/v1/plan", &body).await.expect(402);
        let named = (&poor.body["code"], &poor.body["param"], &poor.body["run_status"]);
        assert_eq!(named, (&json!("budget_exhausted"), &json!("bounds.max_tokens"), &json!("budget_exhausted")));
        assert!(poor.header("location").starts_with("/v1/plan/plan_"), "{:?}", poor.headers);
        body["bounds"] = json!({});
        hub.provider.script(Rule::any([Reply::error(400, "bad_thing", "no")]));
        let failed = hub.post("/v1/plan", &body).await.expect(400);
        assert_eq!(failed.body["run_status"], "failed", "{}", failed.text);
        let id = failed.body["id"].as_str().unwrap();
        // Read back it is a plan as any other, and so it is for who does not wait to the end.
        assert_eq!(read(&hub, 0, id).await.body["status"], "failed");
        body["wait_ms"] = json!(20_000);
        assert_eq!(hub.post("/v1/plan", &body).await.expect(200).body["status"], "failed");
        hub.finish(Disturbance::None).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_must_match_the_schema_of_the_plan() {
    let hub = installation().start().await;
    let schema = json!({"type": "object", "required": ["colour"], "properties": {"colour": {"enum": ["red", "blue"]}}});
    hub.provider.script(Rule::any([Reply::text(r#"{"colour": "red"}"#)]));
    for (strategy, place) in [("refine", "refined_response"), ("single", "choices")] {
        let mut body = refine(LONG_MS, "fail");
        body["strategy"] = json!({"type": strategy, "output_schema": schema});
        let id = begin(&hub, &body).await;
        waiting(&hub, 0, &id).await;
        for (text, what) in [(r#"{"colour": "green"}"#, "colour"), ("green", "JSON"), ("{}", "colour")] {
            let refused = signal(&hub, 0, &id, &json!({"type": "edit", "text": text})).await.expect(400);
            assert_eq!(refused.body["param"], "text", "{}", refused.text);
            assert!(refused.body["detail"].as_str().unwrap().contains(what), "{}", refused.text);
        }
        assert!(read(&hub, 0, &id).await.body["waiting"].is_object(), "nothing was decided");
        let edit = json!({"type": "edit", "text": r#"{"colour": "blue"}"#});
        signal(&hub, 0, &id, &edit).await.expect(200);
        let ended = ended(&hub, 0, &id).await;
        assert!(ended.body["response"][place].to_string().contains("blue"), "{}", ended.text);
        // Once it is decided, what counts is told, and not what is wrong with the next try.
        signal(&hub, 0, &id, &json!({"type": "edit", "text": "green"})).await.expect(409);
    }
    hub.finish(Disturbance::None).await;
}
