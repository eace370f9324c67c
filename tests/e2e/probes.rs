//! Providers are looked after without a request: whoever is not there is found out, whoever comes back is found again.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use futures_util::StreamExt;
use reqwest::Method;
use serde_json::{Value, json};
use tokenhub_demo::ScriptedProvider;

use crate::{
    harness::{Answer, Disturbance, TestHub, TestHubBuilder, eventually, exchange, http, model},
    relay::Relay,
};

const ADMIN_TOKEN: &str = "tokenhub_of_an_administrator";
const PATIENCE: Duration = Duration::from_secs(30);

fn installation(interval_secs: &str) -> TestHubBuilder {
    TestHub::builder()
        .temporal_off()
        .environment("TOKENHUB_ADMIN_TOKEN", ADMIN_TOKEN)
        .environment("TOKENHUB_PROBE_INTERVAL_SECS", interval_secs)
}

async fn admin(hub: &TestHub, method: Method, path: &str, body: &Value) -> Answer {
    let url = format!("{}/admin/v1/{path}", hub.apis[0].1);
    let request = http().request(method, url).bearer_auth(ADMIN_TOKEN);
    exchange(if body.is_null() { request } else { request.json(body) }).await.unwrap()
}

async fn state_of(hub: &TestHub, provider: &str) -> Value {
    let health = admin(hub, Method::GET, "health", &Value::Null).await.expect(200).body;
    let mut all = health["providers"].as_array().unwrap().iter();
    all.find(|one| one["provider_id"] == provider).cloned().unwrap_or_default()
}

async fn chat(hub: &TestHub) -> Answer {
    let body = json!({"model": "m", "messages": [{"role": "user", "content": "a question"}]});
    hub.post_with("/v1/chat/completions", &[("x-tokenhub-durability", "none")], &body).await.expect(200)
}

/// Everything that is told from now on, as `type provider from to`.
async fn watched(hub: &TestHub) -> Arc<Mutex<Vec<String>>> {
    let url = format!("{}/admin/v1/events", hub.apis[0].1);
    let response = http().get(url).bearer_auth(ADMIN_TOKEN).send().await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let told = Arc::new(Mutex::new(Vec::new()));
    let (mut bytes, into) = (response.bytes_stream(), Arc::clone(&told));
    tokio::spawn(async move {
        let mut text = String::new();
        while let Some(Ok(chunk)) = bytes.next().await {
            text.push_str(&String::from_utf8_lossy(&chunk));
            while let Some((frame, rest)) =
                text.split_once("\n\n").map(|(frame, rest)| (frame.to_owned(), rest.to_owned()))
            {
                text = rest;
                let Some(data) = frame.lines().find_map(|line| line.strip_prefix("data: ")) else { continue };
                let event: Value = serde_json::from_str(data).unwrap();
                assert!(frame.contains("event: health_change"), "{frame}");
                let fields = ["type", "provider_id", "from", "to"].map(|name| event[name].as_str().unwrap().to_owned());
                into.lock().unwrap().push(fields.join(" "));
            }
        }
    });
    told
}

fn host_of(provider: &ScriptedProvider) -> String {
    provider.base_url().trim_start_matches("http://").to_owned()
}

fn lookups_with(provider: &ScriptedProvider, key: &str) -> usize {
    let bearer = format!("Bearer {key}");
    provider.lookups().iter().filter(|call| call.authorization.as_deref() == Some(&bearer)).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_is_away_costs_no_request_its_time_and_is_found_again() {
    let hub = installation("1").models(vec![model("m", 1)]).start().await;
    let told = watched(&hub).await;
    let relay = Relay::to(host_of(&hub.provider)).await;
    let address = relay.address().to_owned();
    let relayed = json!({"id": "relayed", "base_url": format!("http://{address}"), "api_key": "sk-relayed"});
    admin(&hub, Method::POST, "providers", &relayed).await.expect(201);
    let better =
        json!({"id": "m", "provider_id": "relayed", "weight": 9, "input_per_1k": 0.001, "output_per_1k": 0.002});
    admin(&hub, Method::POST, "models", &better).await.expect(201);
    assert_eq!(chat(&hub).await.header("x-tokenhub-provider"), "relayed");

    drop(relay);
    let down = eventually("nobody is found", PATIENCE, || async {
        let state = state_of(&hub, "relayed").await;
        (state["state"] == "down").then_some(state)
    });
    let down = down.await;
    assert_eq!(down["probe"]["reached"], false, "{down}");
    assert!(down["models"][0]["cooldown_until"].is_string(), "{down}");
    assert_eq!(down["models"][0]["total_errors"], 0, "a probe is no traffic: {down}");
    let before = hub.provider.count();
    let answer = chat(&hub).await;
    assert_eq!((answer.header("x-tokenhub-provider"), hub.provider.count()), ("scripted", before + 1));
    let metrics = hub.get("/metrics").await.unwrap().expect(200).text;
    assert!(metrics.lines().any(|line| line == "tokenhub_deployments{state=\"down\"} 1"), "{metrics}");

    let _again = Relay::at(&address, host_of(&hub.provider)).await;
    eventually("it is found again", PATIENCE, || async {
        (state_of(&hub, "relayed").await["state"] == "healthy").then_some(())
    })
    .await;
    assert_eq!(hub.provider.count(), before + 1, "no request was spent on it");
    assert_eq!(chat(&hub).await.header("x-tokenhub-provider"), "relayed");
    eventually("both changes were told", PATIENCE, || async {
        let told = told.lock().unwrap().clone();
        let is_whole = told.first().is_some_and(|first| first == "health_change relayed healthy down")
            && told.last().is_some_and(|last| last.ends_with(" healthy"));
        is_whole.then_some(())
    })
    .await;
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_provider_and_a_changed_address_are_looked_at_at_once() {
    let hub = installation("86400").start().await;
    let (first, second) = (ScriptedProvider::start().await, ScriptedProvider::start().await);
    let asked = Instant::now();
    let added = json!({"id": "late", "base_url": first.base_url(), "api_key": "sk-late"});
    admin(&hub, Method::POST, "providers", &added).await.expect(201);
    eventually("it is looked at", PATIENCE, || async { (lookups_with(&first, "sk-late") == 1).then_some(()) }).await;
    let moved = json!({"base_url": second.base_url()});
    admin(&hub, Method::PATCH, "providers/late", &moved).await.expect(200);
    eventually("the other is looked at", PATIENCE, || async { (lookups_with(&second, "sk-late") == 1).then_some(()) })
        .await;
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
    assert_eq!(state_of(&hub, "late").await["probe"]["reached"], true);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!((lookups_with(&first, "sk-late"), lookups_with(&second, "sk-late")), (1, 1), "once for each change");
    hub.finish(Disturbance::None).await;
}
