//! Why a request went where it went: kept with each request, however it is carried, and decided again under another mode.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tokenhub_demo::{Reply, Rule};

use crate::harness::{Answer, Disturbance, TestHub, eventually, exchange, http, model};

const ADMIN_TOKEN: &str = "tokenhub_of_an_administrator";
const PATIENCE: Duration = Duration::from_secs(30);
const CHAT: &str = "/v1/chat/completions";

async fn admin(hub: &TestHub, method: Method, path: &str, body: Option<Value>) -> Answer {
    let url = format!("{}/admin/v1/{path}", hub.apis[0].1);
    let request = http().request(method, url).bearer_auth(ADMIN_TOKEN);
    exchange(match body {
        Some(body) => request.json(&body),
        None => request,
    })
    .await
    .unwrap()
}

/// The explanation, once all of it is in the database: of a stream the log comes from the worker, the rest from the API.
async fn explained(hub: &TestHub, id: &str) -> Value {
    let path = format!("requests/{id}/explain");
    let run = eventually("the request is explained", PATIENCE, || async {
        let answer = admin(hub, Method::GET, &path, None).await;
        let run = answer.body["runs"].get(0).cloned()?;
        let is_there = |part: &str| !run[part].is_null() && run[part] != json!([]);
        let has_ended = |attempt: &Value| attempt["state"] != "sent" && attempt["state"] != "reserved";
        let ended = run["attempts"].as_array().is_some_and(|attempts| attempts.iter().all(has_ended));
        let is_whole = is_there("outcome") && is_there("decisions") && is_there("attempts") && ended;
        (answer.status.is_success() && is_whole).then_some(run)
    });
    run.await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_explained_by_its_id_whoever_carried_it() {
    let models =
        vec![model("alpha", 7), model("beta", 6), json!({"id": "off", "provider_id": "scripted", "enabled": false})];
    let hub = TestHub::builder()
        .models(models)
        .environment("TOKENHUB_ADMIN_TOKEN", ADMIN_TOKEN)
        .environment("TOKENHUB_START_DEADLINE_MS", "15000")
        .environment("TOKENHUB_PENALTIES", "false")
        .environment("TOKENHUB_LIVE_SIGNALS", "false")
        .start()
        .await;
    hub.provider.script(Rule::model("alpha", [Reply::failure(401, "not you")]));
    for (durability, is_stream) in [("preferred", false), ("none", false), ("preferred", true)] {
        let body = json!({"model": "*", "stream": is_stream, "messages": [{"role": "user", "content": "why?"}]});
        let headers = [("x-tokenhub-durability", durability)];
        let answer = hub.post_with(CHAT, &headers, &body).await.expect(200);
        assert_eq!(answer.header("x-negotiated-model"), "beta", "{durability} {is_stream}");
        let run = explained(&hub, answer.header("x-tokenhub-request-id")).await;
        let decision = &run["decisions"][0];
        let order: Vec<&str> = decision["eligible"].as_array().unwrap().iter().map(id_of).collect();
        assert_eq!((order, &decision["total"]), (vec!["alpha", "beta"], &json!(2)), "{run:#}");
        assert_eq!(decision["skipped"], json!([{"model_id": "off", "provider_id": "scripted", "reason": "disabled"}]));
        let score = |rank: usize| decision["eligible"][rank]["score"].as_f64().unwrap();
        assert!(score(0) < score(1), "{run:#}");
        let attempts: Vec<(&str, &str)> = run["attempts"]
            .as_array()
            .unwrap()
            .iter()
            .map(|attempt| (id_of(attempt), attempt["state"].as_str().unwrap()))
            .collect();
        assert_eq!(attempts, [("alpha", "void"), ("beta", "settled")], "{run:#}");
        assert_eq!(run["attempts"][0]["error_class"], "auth_failed");
        assert_eq!((&run["outcome"]["model_id"], &run["outcome"]["status"]), (&json!("beta"), &json!("completed")));
        let by_run = explained(&hub, run["run_id"].as_str().unwrap()).await;
        assert_eq!(by_run, run);
    }
    let unknown = admin(&hub, Method::GET, "requests/req_unknown/explain", None).await.expect(404);
    assert_eq!(unknown.body["code"], "run_not_found", "{}", unknown.text);
    let url = format!("{}/admin/v1/requests/req_unknown/explain", hub.apis[0].1);
    exchange(http().get(url)).await.unwrap().expect(401);
    hub.finish(Disturbance::None).await;
}

fn id_of(object: &Value) -> &str {
    object["model_id"].as_str().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_says_what_another_mode_would_have_cost() {
    let priced = |id: &str, weight: u32, per_thousand: f64| {
        json!({"id": id, "provider_id": "scripted", "weight": weight, "input_per_1k": per_thousand,
            "output_per_1k": per_thousand})
    };
    let hub = TestHub::builder()
        .temporal_off()
        .models(vec![priced("strong", 9, 0.01), priced("cheap", 1, 0.001)])
        .environment("TOKENHUB_ADMIN_TOKEN", ADMIN_TOKEN)
        .environment("TOKENHUB_DEFAULT_MODE", "high_confidence")
        .start()
        .await;
    for _ in 0..5 {
        let body = json!({"model": "*", "max_tokens": 488, "messages": [{"role": "user", "content": "a question"}]});
        let answer = hub.post_with(CHAT, &[("x-tokenhub-durability", "none")], &body).await.expect(200);
        assert_eq!(answer.header("x-negotiated-model"), "strong");
    }
    let replay = eventually("five decisions are kept", PATIENCE, || async {
        let body = json!({"mode": "cheap", "replay": {"last": 100}});
        let answer = admin(&hub, Method::POST, "routing/simulate", Some(body)).await.expect(200);
        (answer.body["replay"]["decisions"] == 5).then(|| answer.body["replay"].clone())
    });
    let replay = replay.await;
    assert_eq!((&replay["moved"], &replay["unanswered"]), (&json!(5), &json!(0)), "{replay:#}");
    let usd = |name: &str| replay[name].as_f64().unwrap();
    assert!((usd("estimated_cost_usd") / usd("estimated_cost_then_usd") - 10.0).abs() < 1e-6, "{replay:#}");
    assert!((usd("cost_difference_usd") + usd("estimated_cost_usd") * 0.9).abs() < 1e-9, "{replay:#}");
    assert_eq!(hub.provider.count_where(|call| call.model == "cheap"), 0, "a replay calls nobody");
    hub.finish(Disturbance::None).await;
}
