//! Which model answers: provider prefixes, aliases, fallbacks, capabilities, and what an administrator sees of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use reqwest::Method;
use serde_json::{Value, json};
use tokenhub_demo::{Reply, Rule};

use crate::harness::{Answer, Disturbance, TestHub, TestHubBuilder, eventually, exchange, http, model};

const ADMIN_TOKEN: &str = "tokenhub_of_an_administrator";
const PATIENCE: Duration = Duration::from_secs(30);
const CHAT: &str = "/v1/chat/completions";

/// How a chat is carried.
#[derive(Clone, Copy, Debug)]
enum Way {
    Workflow,
    InProcess,
    Stream,
}

const WAYS: [Way; 3] = [Way::Workflow, Way::InProcess, Way::Stream];

fn installation() -> TestHubBuilder {
    TestHub::builder()
        .environment("TOKENHUB_START_DEADLINE_MS", "15000")
        .environment("TOKENHUB_ADMIN_TOKEN", ADMIN_TOKEN)
}

fn body(model: &str) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": "a question"}]})
}

/// `body` with the fields of `more`.
fn with(mut body: Value, more: &Value) -> Value {
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

async fn send(hub: &TestHub, way: Way, body: Value) -> Answer {
    let (durability, body) = match way {
        Way::Workflow => ("preferred", body),
        Way::InProcess => ("none", body),
        Way::Stream => ("preferred", with(body, &json!({"stream": true}))),
    };
    hub.post_with(CHAT, &[("x-tokenhub-durability", durability)], &body).await
}

async fn admin(hub: &TestHub, method: Method, path: &str, body: &Value) -> Answer {
    let url = format!("{}/admin/v1/{path}", hub.apis[0].1);
    let request = http().request(method.clone(), url).bearer_auth(ADMIN_TOKEN);
    exchange(if method == Method::POST { request.json(body) } else { request }).await.unwrap()
}

fn at(provider: &str, id: &str, weight: u32) -> Value {
    with(model(id, weight), &json!({"provider_id": provider}))
}

/// Calls of `model` that came with the key of `provider`.
fn calls(hub: &TestHub, model: &str, provider: &str) -> usize {
    let bearer = format!("Bearer key of {provider}");
    hub.provider.count_where(|call| call.model == model && call.authorization.as_deref() == Some(&bearer))
}

fn providers(ids: &[&str]) -> Vec<Value> {
    ids.iter().map(|id| json!({"id": id, "api_key": format!("key of {id}")})).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_providers_prefix_is_kept_and_the_bare_name_goes_to_whoever_ranks_first() {
    let hub = installation()
        .upstreams(providers(&["first", "second"]))
        .models(vec![at("first", "m", 7), at("second", "m", 5)])
        .start()
        .await;
    for way in WAYS {
        for (name, provider) in [("second/m", "second"), ("first/m", "first"), ("m", "first")] {
            let answer = send(&hub, way, body(name)).await.expect(200);
            assert_eq!(answer.header("x-tokenhub-provider"), provider, "{way:?} {name}");
            assert_eq!(answer.header("x-negotiated-model"), "m", "{way:?} {name}");
        }
    }
    assert_eq!((calls(&hub, "m", "first"), calls(&hub, "m", "second")), (6, 3));
    let refused = send(&hub, Way::InProcess, body("third/m")).await.expect(404);
    assert_eq!(refused.body["error"]["param"], "model");
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alias_splits_its_users_and_keeps_each_on_its_variant_however_it_is_carried() {
    let variants = json!([{"model": "alpha", "weight": 3}, {"model": "scripted/beta", "weight": 1}]);
    let hub = installation().aliases(vec![json!({"name": "smart", "variants": variants})]).start().await;
    let listed = hub.get("/v1/models").await.unwrap().expect(200);
    let alias = listed.body["data"].as_array().unwrap().iter().find(|one| one["id"] == "smart").cloned().unwrap();
    assert_eq!((&alias["owned_by"], &alias["tokenhub"]["variants"]), (&json!("tokenhub"), &variants));
    hub.get("/v1/models/smart").await.unwrap().expect(200);
    // Vectors of different models cannot be compared.
    let refused = hub.post("/v1/embeddings", &json!({"model": "smart", "input": "x"})).await.expect(400);
    assert_eq!(refused.body["error"]["param"], "model");

    let mut of_user: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for user in 0..16 {
        let user = format!("user-{user}");
        for way in WAYS {
            let answer = send(&hub, way, with(body("smart"), &json!({"user": user}))).await.expect(200);
            assert_eq!(answer.header("x-alias-from"), "smart", "{way:?}");
            of_user.entry(user.clone()).or_default().insert(answer.header("x-negotiated-model").to_owned());
        }
    }
    assert!(of_user.values().all(|models| models.len() == 1), "{of_user:?}");
    let used: BTreeSet<&String> = of_user.values().flatten().collect();
    assert_eq!(used.into_iter().collect::<Vec<_>>(), ["alpha", "beta"]);

    // n = 600 sessions, a quarter on beta, alpha 1e-6: 4.892 standard deviations.
    let mut on_beta = 0_u32;
    for session in 0..600 {
        let headers = [("x-tokenhub-durability", "none"), ("x-session-id", &format!("session-{session}") as &str)];
        let answer = hub.post_with(CHAT, &headers, &with(body("smart"), &json!({"user": "one"}))).await.expect(200);
        on_beta += u32::from(answer.header("x-negotiated-model") == "beta");
    }
    assert!((f64::from(on_beta) - 150.0).abs() < 4.892 * (600.0_f64 * 0.25 * 0.75).sqrt(), "{on_beta} of 600");
    let plan = json!({
        "request": {"messages": [{"role": "user", "content": "a question"}], "model_hint": "smart"},
        "orchestration": {"mode": "refine", "iterations": 1},
    });
    let planned = hub.post("/v1/plan", &plan).await.expect(200);
    assert_eq!(planned.header("x-alias-from"), "smart");
    let named = send(&hub, Way::InProcess, body("alpha")).await.expect(200);
    assert_eq!(named.header("x-alias-from"), "");
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_listed_or_configured_fallbacks_answer_for_a_model_that_fails() {
    let models =
        vec![model("alpha", 7), model("beta", 6), with(model("gamma", 5), &json!({"fallbacks": ["nowhere", "beta"]}))];
    let hub = installation().models(models).environment("TOKENHUB_PENALTIES", "false").start().await;
    for failing in ["alpha", "gamma"] {
        hub.provider.script(Rule::model(failing, [Reply::failure(401, "not you")]));
    }
    for way in WAYS {
        let alone = send(&hub, way, body("alpha")).await.expect(502);
        assert_eq!(alone.header("x-negotiated-model"), "", "{way:?}");
        let listed = send(&hub, way, with(body("alpha"), &json!({"models": ["gamma", "beta"]}))).await.expect(200);
        assert_eq!(listed.header("x-negotiated-model"), "beta", "{way:?}");
        let configured = send(&hub, way, body("gamma")).await.expect(200);
        assert_eq!(configured.header("x-negotiated-model"), "beta", "{way:?}");
        let mut without = body("");
        without.as_object_mut().unwrap().remove("model");
        let first_of_list = send(&hub, way, with(without, &json!({"models": ["beta", "alpha"]}))).await.expect(200);
        assert_eq!(first_of_list.header("x-negotiated-model"), "beta", "{way:?}");
    }
    assert_eq!(hub.provider.count_where(|call| call.body.get("models").is_some()), 0, "no provider sees the list");
    assert_eq!(hub.provider.count_where(|call| call.model == "alpha"), 6, "once for each request that names it first");
    for (models, status) in [(json!(["beta", "nope"]), 404), (json!("beta"), 400)] {
        let refused = send(&hub, Way::InProcess, with(body("alpha"), &json!({"models": models}))).await.expect(status);
        assert_eq!(refused.body["error"]["param"], "models");
    }
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_lacks_what_a_request_needs_is_never_offered_it() {
    let lacking = json!({"tools": false, "vision": false, "json_schema": false, "streaming": false});
    let models = vec![with(model("alpha", 9), &json!({"capabilities": lacking})), model("beta", 5)];
    let hub = installation().models(models).start().await;
    let tool = json!({"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}});
    let image = json!([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}]}]);
    let schema = json!({"type": "json_schema", "json_schema": {"name": "s", "schema": {"type": "object"}}});
    for (more, param) in [
        (json!({"tools": [tool]}), "tools"),
        (json!({"messages": image}), "messages"),
        (json!({"response_format": schema}), "response_format"),
    ] {
        for way in [Way::Workflow, Way::InProcess] {
            let routed = send(&hub, way, with(body("*"), &more)).await.expect(200);
            assert_eq!(routed.header("x-negotiated-model"), "beta", "{param}");
            let refused = send(&hub, way, with(body("alpha"), &more)).await.expect(400);
            let error = &refused.body["error"];
            assert_eq!((&error["param"], &error["code"]), (&json!(param), &json!("model_refused")));
            assert!(error["message"].as_str().unwrap().contains("lacks"), "{}", refused.text);
        }
    }
    let plain = send(&hub, Way::InProcess, body("*")).await.expect(200);
    assert_eq!(plain.header("x-negotiated-model"), "alpha");
    let streamed = send(&hub, Way::Stream, body("*")).await.expect(200);
    assert_eq!(streamed.header("x-negotiated-model"), "beta");
    let refused = send(&hub, Way::Stream, body("alpha")).await.expect(400);
    assert_eq!(refused.body["error"]["param"], "stream");
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_that_fails_ranks_behind_one_that_does_not() {
    let hub = installation()
        .upstreams(providers(&["first", "second"]))
        .models(vec![at("first", "m", 5), at("second", "m", 5)])
        .environment("TOKENHUB_PENALTIES", "false")
        .start()
        .await;
    let rate_limited = Reply::failure(529, "busy").header("retry-after", "300");
    hub.provider.script(Rule::any([rate_limited]).credential("key of first"));
    let over = send(&hub, Way::InProcess, body("m")).await.expect(200);
    assert_eq!(over.header("x-tokenhub-provider"), "second");
    let tried = calls(&hub, "m", "first");
    eventually("the ranking has turned", PATIENCE, || async {
        let answer = send(&hub, Way::InProcess, body("m")).await.expect(200);
        let before = calls(&hub, "m", "first");
        let again = send(&hub, Way::InProcess, body("m")).await.expect(200);
        (answer.header("x-tokenhub-provider") == "second"
            && again.header("x-tokenhub-provider") == "second"
            && calls(&hub, "m", "first") == before)
            .then_some(())
    })
    .await;
    assert!(tried >= 1);
    let health = admin(&hub, Method::GET, "health", &Value::Null).await.expect(200);
    let first = &health.body["providers"][1];
    assert_eq!((&first["provider_id"], &first["models"][0]["last_error"]), (&json!("first"), &json!("overloaded")));
    assert!(first["models"][0]["signals"]["failure_ratio"].as_f64().unwrap() > 0.1, "{first}");
    hub.finish(Disturbance::None).await;
}

/// Alpha; beta, which lacks tools and hides behind an alias; and gamma, which is off.
async fn explained() -> TestHub {
    let models = vec![
        model("alpha", 7),
        with(model("beta", 6), &json!({"capabilities": {"tools": false}})),
        with(model("gamma", 2), &json!({"enabled": false})),
    ];
    let aliases = vec![json!({"name": "smart", "variants": [{"model": "beta"}]})];
    installation().models(models).aliases(aliases).start().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_administrator_sees_why_a_model_is_chosen() {
    let hub = explained().await;
    let simulated = |body: Value| {
        let hub = &hub;
        async move { admin(hub, Method::POST, "routing/simulate", &body).await }
    };
    let free = simulated(json!({"mode": "cheap", "token_count": 1000})).await.expect(200).body;
    assert_eq!((&free["decision"]["model_id"], &free["total"]), (&json!("alpha"), &json!(2)));
    assert!((free["decision"]["estimated_cost_usd"].as_f64().unwrap() - 0.002_024).abs() < 1e-9, "{free}");
    let parts = free["eligible"][0]["parts"].as_object().unwrap();
    let sum: f64 = parts.values().filter_map(Value::as_f64).sum();
    assert!((sum - free["eligible"][0]["score"].as_f64().unwrap()).abs() < 1e-9, "{free}");
    let reasons = |answer: &Value| {
        let skipped = answer["skipped"].as_array().unwrap().iter();
        skipped.map(|one| format!("{}: {}", one["model_id"], one["reason"]).replace('"', "")).collect::<Vec<_>>()
    };
    assert_eq!(reasons(&free), ["gamma: disabled"]);
    let tools = simulated(json!({"needs": ["tools"], "min_weight": 6})).await.expect(200).body;
    assert_eq!(reasons(&tools), ["beta: lacks_tools", "gamma: disabled"]);
    let alias = simulated(json!({"model_hint": "smart", "models": ["alpha"]})).await.expect(200).body;
    assert_eq!((&alias["alias_from"], &alias["total"]), (&json!("smart"), &json!(2)));
    let none = simulated(json!({"max_budget_usd": 0.000_001})).await.expect(200).body;
    assert_eq!((&none["decision"], &none["total"]), (&Value::Null, &json!(0)));
    let drawn = simulated(json!({"mode": "thompson", "seed": 7})).await.expect(200).body;
    assert!(drawn["eligible"][0]["parts"]["drawn"].as_f64().unwrap() > 0.0, "{drawn}");
    let again = simulated(json!({"mode": "thompson", "seed": 7})).await.expect(200).body;
    assert_eq!(again["decision"], drawn["decision"], "the same seed");
    let native = json!({"policy": {"mode": "thompson"}, "request": {"messages": [{"role": "user", "content": "hi"}]}});
    hub.post("/v1/chat", &native).await.expect(200);
    let unknown = simulated(json!({"model_hint": "nope"})).await.expect(404);
    assert_eq!(unknown.header("content-type"), "application/problem+json");
    simulated(json!({"mode": "best"})).await.expect(400);
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_administrator_sees_every_model_and_what_is_believed_of_it() {
    let hub = explained().await;
    let page = admin(&hub, Method::GET, "engine/models?limit=1&offset=1", &Value::Null).await.expect(200).body;
    assert_eq!((&page["models"][0]["id"], &page["total"]), (&json!("beta"), &json!(3)));
    assert_eq!((&page["models"][0]["input_per_1k"], &page["aliases"][0]["name"]), (&json!(0.001), &json!("smart")));
    admin(&hub, Method::GET, "engine/models?limit=0", &Value::Null).await.expect(400);

    for _ in 0..5 {
        send(&hub, Way::InProcess, body("alpha")).await.expect(200);
        send(&hub, Way::Workflow, body("beta")).await.expect(200);
    }
    // The worker called beta, so that the API knows of it only by what the worker wrote.
    for model in ["alpha", "beta"] {
        let believed = eventually("the API knows of the calls", PATIENCE, || async {
            let rewards = admin(&hub, Method::GET, "rewards", &Value::Null).await.expect(200).body;
            let rows = rewards["rewards"].as_array().unwrap().iter();
            let mut of_model = rows.filter(|one| one["model_id"] == model);
            of_model.find(|one| one["calls"].as_f64() > Some(4.5)).cloned()
        });
        let believed = believed.await;
        assert_eq!(believed["token_bucket"], "small");
        assert!(believed["alpha"].as_f64().unwrap() > 5.0 && believed["beta"].as_f64().unwrap() < 2.0, "{believed}");
    }

    for (method, path) in [
        (Method::POST, "routing/simulate"),
        (Method::GET, "engine/models"),
        (Method::GET, "health"),
        (Method::GET, "rewards"),
    ] {
        let url = format!("{}/admin/v1/{path}", hub.apis[0].1);
        let refused = exchange(http().request(method, url).bearer_auth("somebody")).await.unwrap().expect(401);
        assert_eq!(refused.header("content-type"), "application/problem+json", "{path}");
    }
    hub.finish(Disturbance::None).await;
}
