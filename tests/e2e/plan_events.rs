//! The events of a plan: told as they happen, from any process, to the last one, each once.

mod killed;
pub mod reading;
mod steps;

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};
use tokenhub_demo::{Finished, Reply, Rule};
use tokenhub_domain::{RunId, TenantId};
use tokenhub_store::Store;

use crate::{
    databases,
    harness::{Disturbance, TestHub, TestHubBuilder, eventually, exchange},
    scripted::{ADVERSARIAL, Case, REFINE, STEP_MS, installation},
};
use reading::{EventStream, Told, assert_numbered, names};

const PATIENCE: Duration = Duration::from_secs(30);
/// A process that is told to stop does not wait for its streams.
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// The body of a case, streamed.
fn streamed(case: Case) -> Value {
    let mut body = case.body();
    body["stream"] = true.into();
    body
}

fn refine() -> Value {
    json!({
        "request": {"messages": [{"role": "user", "content": "which colour?"}]},
        "orchestration": {"mode": "refine", "iterations": 1, "primary_model_id": "alpha"},
        "stream": true,
    })
}

fn without_penalties() -> TestHubBuilder {
    TestHub::builder().environment("TOKENHUB_START_DEADLINE_MS", "15000").environment("TOKENHUB_PENALTIES", "false")
}

async fn start(hub: &TestHub, body: &Value) -> EventStream {
    EventStream::open(hub.request(Method::POST, "/v1/plan").json(body)).await
}

async fn resume(hub: &TestHub, api: usize, id: &str, after: u64) -> EventStream {
    let request = hub.request_to(api, Method::GET, &format!("/v1/plan/{id}/events"));
    EventStream::open(request.header("last-event-id", after.to_string())).await
}

/// What a plan of sequential steps without any failure tells.
fn undisturbed(steps: &[&str]) -> Vec<String> {
    let each = steps.iter().flat_map(|step| [format!("step.started {step}"), format!("step.completed {step}")]);
    let begin = ["plan.created", "plan.started"].map(str::to_owned);
    begin.into_iter().chain(each).chain(["plan.completed".to_owned()]).collect()
}

/// The plan goes on in its worker, and its client at another API behind the last number that it has seen.
async fn lose_two_apis(builder: TestHubBuilder) {
    let mut hub = builder.apis(3).start().await;
    let case = Case::new(&ADVERSARIAL, 1);
    case.script(&hub, |_| vec![400]);
    let mut stream = start(&hub, &streamed(case)).await;
    let mut seen = stream.until(|event| event.id == 4).await;
    let id = seen[0].data["plan_id"].as_str().unwrap().to_owned();
    for last in [8, 99] {
        let (mut dead, _) = hub.apis.remove(0);
        dead.kill();
        stream = resume(&hub, 0, &id, seen.last().unwrap().id).await;
        seen.extend(stream.until(|event| event.id == last).await);
    }
    let steps: Vec<&str> = ADVERSARIAL.steps.iter().map(|step| step.id).collect();
    assert_numbered(&seen);
    assert_eq!(names(&seen), undisturbed(&steps));
    let plan = &seen.last().unwrap().data["plan"];
    assert_eq!((&plan["id"], &plan["status"], &plan["durable"]), (&json!(id), &json!("completed"), &json!(true)));
    assert_eq!(hub.provider.calls().len(), ADVERSARIAL.steps.len());
    hub.finish(Disturbance::Kills).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_loses_two_apis_misses_no_event_and_gets_none_twice() {
    lose_two_apis(installation()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_postgresql_it_misses_none_either() {
    let Some(database) = databases::postgres().await else { return };
    lose_two_apis(installation().environment("DATABASE_URL", &database.url)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_that_is_told_to_stop_lets_its_streams_go() {
    let mut hub = installation().apis(2).start().await;
    let case = Case::new(&REFINE, 1);
    case.script(&hub, |step| if step == "answer" { vec![3_000] } else { vec![STEP_MS] });
    let mut stream = start(&hub, &streamed(case)).await;
    let mut seen = stream.until(|event| event.name == "step.started").await;
    let (api, _) = hub.apis.remove(0);
    let asked = Instant::now();
    api.stop(PATIENCE).await;
    assert!(asked.elapsed() < STOP_LIMIT, "{:?}", asked.elapsed());
    seen.extend(stream.rest().await);
    let id = seen[0].data["plan_id"].as_str().unwrap().to_owned();
    seen.extend(resume(&hub, 0, &id, seen.last().unwrap().id).await.rest().await);
    assert_numbered(&seen);
    assert_eq!(names(&seen), undisturbed(&["answer", "improvement/1", "improvement/2"]));
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_plan_tells_the_same_in_both_executors_and_ends_with_the_plan_object() {
    let mut hub = without_penalties().start().await;
    hub.provider.script(Rule::any([Reply::text("red"), Reply::text("blue")]));
    let mut told: Vec<(Vec<String>, Value)> = Vec::new();
    for way in ["durable", "asked for in process", "without Temporal"] {
        let mut request = hub.request(Method::POST, "/v1/plan").json(&refine());
        match way {
            "asked for in process" => request = request.header("x-tokenhub-durability", "none"),
            "without Temporal" => hub.temporal.kill(),
            _ => {}
        }
        let stream = EventStream::open(request).await;
        let location = stream.header("location").to_owned();
        let is_durable = way == "durable";
        assert_eq!(stream.header("x-tokenhub-durability"), if is_durable { "durable" } else { "none" }, "{way}");
        let seen = stream.rest().await;
        assert_numbered(&seen);
        let last = seen.last().unwrap();
        let plan = hub.get(&location).await.unwrap().expect(200).body;
        assert_eq!(last.data["plan"], plan, "{way}");
        assert_eq!((&plan["durable"], &plan["status"]), (&json!(is_durable), &json!("completed")), "{way}");
        assert_eq!((&seen[1].data["durable"], &last.data["durable"]), (&json!(is_durable), &json!(is_durable)));
        assert_eq!(plan["links"]["events"], format!("{location}/events"));
        told.push((names(&seen), seen[3].data["model"].clone()));
    }
    assert_eq!(told[0], (undisturbed(&["answer", "improvement/1"]), json!("alpha")));
    assert!(told.iter().all(|one| *one == told[0]), "{told:?}");
    assert_eq!(hub.provider.count(), 6);
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_plan_ends_in_plan_cancelled_whoever_carries_it() {
    for hub in [without_penalties().start().await, without_penalties().temporal_off().start().await] {
        hub.provider.script(Rule::any([Reply::hang()]));
        let mut stream = start(&hub, &refine()).await;
        let mut seen = stream.until(|event| event.name == "step.started").await;
        let called = |calls: &[tokenhub_demo::SeenCall]| calls.iter().any(|call| call.finished == Finished::Pending);
        assert!(hub.provider.wait_until(PATIENCE, called).await);
        let id = seen[0].data["plan_id"].as_str().unwrap().to_owned();
        hub.post(&format!("/v1/plan/{id}/cancel"), &json!({})).await.expect(200);
        seen.extend(stream.rest().await);
        assert_numbered(&seen);
        let last = seen.last().unwrap();
        assert_eq!((last.name.as_str(), &last.data["plan"]["status"]), ("plan.cancelled", &json!("cancelled")));
        assert_eq!(last.data["stop_reason"], "cancelled");
        hub.finish(Disturbance::None).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_entered_anywhere_and_a_wrong_place_is_refused_by_name() {
    let hub = without_penalties().temporal_off().start().await;
    hub.provider.script(Rule::model("beta", [Reply::error(400, "bad", "the provider's own words")]));
    let seen = start(&hub, &refine()).await.rest().await;
    let last = seen.last().unwrap().id;
    let path = format!("/v1/plan/{}/events", seen[0].data["plan_id"].as_str().unwrap());
    let from = |query: &str| EventStream::open(hub.request(Method::GET, &format!("{path}{query}")));
    assert_eq!(names(&from("?after=3").await.rest().await), names(&seen[3..]));
    assert_eq!(names(&from("").await.rest().await), names(&seen));
    let finished = from(&format!("?after={last}")).await;
    assert_eq!(finished.header("content-type"), "text/event-stream");
    assert!(finished.rest().await.is_empty());

    let listed = hub.get(&format!("{path}?format=json&after=1")).await.unwrap().expect(200);
    let ids: Vec<u64> = listed.body["data"].as_array().unwrap().iter().map(|it| it["id"].as_u64().unwrap()).collect();
    assert_eq!(ids, (2..=last).collect::<Vec<_>>());
    assert_eq!((&listed.body["has_more"], &listed.body["last_id"]), (&json!(false), &json!(last)));
    assert!(!listed.text.contains("colour"), "no word of a prompt: {}", listed.text);
    let accepted = exchange(hub.request(Method::GET, &path).header("accept", "application/json")).await.unwrap();
    assert_eq!(accepted.expect(200).body["data"].as_array().unwrap().len(), seen.len());

    for (query, param) in
        [("?after=x", "after"), (&*format!("?after={}", last + 2), "after"), ("?format=xml", "format")]
    {
        let refused = hub.get(&format!("{path}{query}")).await.unwrap().expect(400);
        assert_eq!(refused.body["param"], param, "{}", refused.text);
    }
    let wrong = hub.request(Method::GET, &path).header("last-event-id", "seventeen");
    assert_eq!(exchange(wrong).await.unwrap().expect(400).body["param"], "Last-Event-ID");
    for unknown in ["/v1/plan/plan_of_nobody/events", "/v1/plan/plan_of_nobody/steps"] {
        hub.get(unknown).await.unwrap().expect(404);
        exchange(crate::harness::http().get(format!("{}{unknown}", hub.apis[0].1))).await.unwrap().expect(401);
    }
    let both = json!({"request": {"messages": []}, "stream": true, "background": true});
    hub.post("/v1/plan", &both).await.expect(400);

    let mut failing = refine();
    failing["orchestration"]["primary_model_id"] = "beta".into();
    let failed = start(&hub, &failing).await.rest().await;
    let names = names(&failed);
    assert_eq!(names[2..], ["step.started answer", "step.failed answer", "plan.failed"].map(str::to_owned));
    assert_eq!((&failed[3].data["error_class"], &failed[3].data["status_code"]), (&json!("bad_request"), &json!(400)));
    assert_eq!(failed[4].data["plan"]["error"]["class"], "bad_request");
    let id = failed[0].data["plan_id"].as_str().unwrap();
    let listed = hub.get(&format!("/v1/plan/{id}/events?format=json")).await.unwrap().expect(200);
    assert!(!listed.text.contains("own words"), "no word of a provider: {}", listed.text);
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_request_hears_the_events_of_the_first_one_from_the_beginning() {
    let hub = without_penalties().temporal_off().start().await;
    hub.provider.script(Rule::any([Reply::text("red").delay_ms(500)]));
    let keyed = || hub.request(Method::POST, "/v1/plan").header("idempotency-key", "one").json(&refine());
    let mut first = EventStream::open(keyed()).await;
    let mut seen = first.until(|event| event.name == "step.started").await;
    let second = EventStream::open(keyed()).await;
    seen.extend(first.rest().await);
    let again: Vec<Told> = second.rest().await;
    assert_eq!(again, seen);
    assert_eq!(EventStream::open(keyed()).await.rest().await, seen, "also when it has ended");
    assert_eq!(hub.provider.count(), 2);
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_keeps_no_events_tells_its_end_alone() {
    let hub = without_penalties().temporal_off().start().await;
    let chat = json!({"model": "alpha", "messages": [{"role": "user", "content": "hi"}]});
    let answered = hub.post_with("/v1/chat/completions", &[("idempotency-key", "chat")], &chat).await.expect(200);
    let id = answered.header("x-tokenhub-run-id").to_owned();
    let path = hub.dir().join("data/tokenhub.db");
    let store = Store::open(&format!("sqlite://{}?mode=rw", path.display())).await.unwrap();
    let (tenant, run_id) = (TenantId::default_tenant(), RunId::from(id.as_str()));
    assert_eq!(store.plan_events().progress(&tenant, &run_id).await.unwrap().unwrap().last_seq, 0);
    assert!(store.plan_events().after(&tenant, &run_id, 0, 9).await.unwrap().is_empty());
    let seen = resume(&hub, 0, &id, 0).await.rest().await;
    assert_eq!(names(&seen), ["plan.completed"]);
    assert_eq!(seen[0].data["plan"]["status"], "completed");
    assert!(resume(&hub, 0, &id, 1).await.rest().await.is_empty());
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_stream_is_kept_alive() {
    let hub = without_penalties().temporal_off().start().await;
    hub.provider.script(Rule::any([Reply::hang()]));
    let mut stream = start(&hub, &refine()).await;
    let seen = stream.until(|event| event.name == "step.started").await;
    let silent_since = Instant::now();
    stream.until_comment(PATIENCE).await;
    assert!(silent_since.elapsed() < Duration::from_secs(25), "{:?}", silent_since.elapsed());
    let id = seen[0].data["plan_id"].as_str().unwrap();
    hub.post(&format!("/v1/plan/{id}/cancel"), &json!({})).await.expect(200);
    assert_eq!(stream.rest().await.last().unwrap().name, "plan.cancelled");
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn so_many_streams_are_open_at_a_time_and_a_place_is_free_when_one_ends() {
    let hub = TestHub::builder()
        .temporal_off()
        .environment("TOKENHUB_EVENT_STREAMS_MAX", "3")
        .environment("TOKENHUB_EVENT_STREAMS_PER_KEY_MAX", "2")
        .environment("TOKENHUB_CLIENT_KEYS", r#"[{"name": "other", "key": "sk-other-key", "tenant": "other"}]"#)
        .start()
        .await;
    hub.provider.script(Rule::any([Reply::text("red").delay_ms(30_000)]));
    let mut background = refine();
    background["stream"] = json!(false);
    background["background"] = json!(true);
    let begin = async |key: Option<&str>| {
        let request = match key {
            Some(key) => hub.request_as(key, Method::POST, "/v1/plan"),
            None => hub.request(Method::POST, "/v1/plan"),
        };
        let accepted = exchange(request.json(&background)).await.unwrap().expect(202);
        format!("/v1/plan/{}/events", accepted.body["id"].as_str().unwrap())
    };
    let (own, others) = (begin(None).await, begin(Some("sk-other-key")).await);
    let first = EventStream::open(hub.request(Method::GET, &own)).await;
    let _second = EventStream::open(hub.request(Method::GET, &own)).await;
    let refused = hub.get(&own).await.unwrap().expect(429);
    assert_eq!(refused.body["code"], "too_many_event_streams", "{}", refused.text);
    assert!(!refused.header("retry-after").is_empty() && refused.text.contains("client key"), "{}", refused.text);
    hub.get(&format!("{own}?format=json")).await.unwrap().expect(200);
    let both = async || (hub.provider.count() == 2).then_some(());
    eventually("both plans have made their first call", PATIENCE, both).await;
    hub.post("/v1/plan", &refine()).await.expect(429);
    let _third = EventStream::open(hub.request_as("sk-other-key", Method::GET, &others)).await;
    let full = exchange(hub.request_as("sk-other-key", Method::GET, &others)).await.unwrap().expect(429);
    assert!(full.text.contains("this process"), "{}", full.text);
    assert_eq!(hub.provider.count(), 2, "a plan that nobody would be told of is not begun");
    drop(first);
    eventually("the place is free", PATIENCE, || async {
        let request = hub.request(Method::GET, &own).send().await.ok()?;
        (request.status().as_u16() == 200).then_some(())
    })
    .await;
    hub.post(&own.replace("/events", "/cancel"), &json!({})).await.expect(200);
    let stop = hub.request_as("sk-other-key", Method::POST, &others.replace("/events", "/cancel"));
    exchange(stop.json(&json!({}))).await.unwrap().expect(200);
    hub.finish(Disturbance::None).await;
}
