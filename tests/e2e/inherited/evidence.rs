//! What counts as evidence about a deployment, and what selections make of it.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use reqwest::Method;
use serde_json::{Value, json};
use tokenhub_demo::{Finished, Reply, Rule};

use super::{CHAT, admin, body, chat, health_of, installation, with};
use crate::{
    evidence::Evidence,
    harness::{Disturbance, eventually, model},
};

const PATIENCE: Duration = Duration::from_secs(30);

pub async fn clients_that_go_away_hurt_nobody() {
    let hub = installation().models(vec![model("alpha", 7)]).start().await;
    hub.provider.script(Rule::any([Reply::text("slow").delay_ms(20_000)]));
    for round in 1..=6 {
        for is_stream in [false, true] {
            let asked = with(body("alpha"), &json!({"stream": is_stream}));
            let request = hub.request(Method::POST, CHAT).header("x-tokenhub-durability", "none").json(&asked);
            let gone = tokio::spawn(request.send());
            let called = hub.provider.wait_until(PATIENCE, |calls| calls.len() >= 2 * round - usize::from(!is_stream));
            assert!(called.await);
            gone.abort();
        }
    }
    hub.provider.clear_script();
    let answer = chat(&hub, &body("alpha")).await.expect(200);
    assert_eq!(answer.header("x-negotiated-model"), "alpha");
    let health = health_of(&hub, "alpha").await;
    assert_eq!((&health["state"], &health["total_errors"]), (&json!("healthy"), &json!(0)), "{health}");
    hub.finish(Disturbance::None).await;
}

pub async fn retry_after_is_kept_to() {
    let upstreams = vec![json!({"id": "other"})];
    let models = vec![model("alpha", 7), with(model("alpha", 1), &json!({"provider_id": "other"})), model("sole", 5)];
    let hub = installation().upstreams(upstreams).models(models).start().await;
    hub.provider.script(Rule::model("sole", [Reply::rate_limited(1), Reply::text("later")]));
    let began = Instant::now();
    chat(&hub, &body("sole")).await.expect(200);
    assert!(began.elapsed() >= Duration::from_secs(1), "asked again after {:?}", began.elapsed());
    assert_eq!(hub.provider.count(), 2);

    hub.provider.clear_script();
    hub.provider.script(Rule::model("sole", [Reply::rate_limited(300)]));
    let refused = chat(&hub, &body("sole")).await.expect(429);
    let seconds: u64 = refused.header("retry-after").parse().unwrap();
    assert!((290..=300).contains(&seconds), "{seconds}");
    let before = hub.provider.count();
    chat(&hub, &body("sole")).await.expect(429);
    assert_eq!(hub.provider.count(), before + 1, "there is nobody else: one looks, and does not insist");

    hub.provider.script(Rule::model("alpha", [Reply::rate_limited(300), Reply::text("from elsewhere")]));
    for _ in 0..3 {
        let answer = chat(&hub, &body("alpha")).await.expect(200);
        assert_eq!(answer.header("x-tokenhub-provider"), "other");
    }
    assert_eq!(hub.provider.count() - before, 1 + 1 + 3, "the first provider was asked once in three requests");
    hub.finish(Disturbance::None).await;
}

pub async fn latency_is_that_of_traffic_and_degraded_counts() {
    let hub = installation()
        .models(vec![model("alpha", 7), model("beta", 7)])
        .environment("TOKENHUB_PENALTIES", "false")
        .start()
        .await;
    hub.provider.script(Rule::model("alpha", [Reply::text("slow to begin").delay_ms(400)]));
    chat(&hub, &with(body("alpha"), &json!({"stream": true}))).await.expect(200);
    let signals = eventually("the stream was seen", PATIENCE, || async {
        let signals = health_of(&hub, "alpha").await["signals"].clone();
        signals["avg_first_token_ms"].is_number().then_some(signals)
    });
    let signals = signals.await;
    assert!(signals["avg_first_token_ms"].as_f64().unwrap() >= 390.0, "{signals}");
    assert_eq!(signals["avg_latency_ms"], Value::Null, "a stream says nothing about whole answers: {signals}");

    hub.provider.clear_script();
    hub.provider.script(Rule::model("alpha", [Reply::failure(500, "broken")]));
    chat(&hub, &body("alpha")).await.expect(502);
    hub.provider.clear_script();
    let simulated = eventually("alpha is degraded", PATIENCE, || async {
        let simulated = admin(&hub, Method::POST, "routing/simulate", &json!({})).await.expect(200).body;
        let alpha = simulated["eligible"].as_array()?.iter().find(|one| one["model_id"] == "alpha")?.clone();
        (alpha["parts"]["degraded"].as_f64()? > 0.0).then_some(simulated)
    });
    assert_eq!(simulated.await["decision"]["model_id"], "beta");
    assert_eq!(health_of(&hub, "alpha").await["state"], "degraded");
    hub.finish(Disturbance::None).await;
}

pub async fn a_failure_is_its_deployments() {
    let hub = installation().models(vec![model("alpha", 7)]).start().await;
    hub.provider.script(Rule::any([Reply::failure(500, "broken")]));
    let failed = chat(&hub, &body("alpha")).await.expect(502);
    let attempts = usize::try_from(hub.provider.count()).unwrap();
    let rows = Evidence::of(&hub).await.ended(attempts).await;
    assert!(rows.iter().all(|row| (row.model.as_str(), row.provider.as_str()) == ("alpha", "scripted")), "{rows:?}");
    let log = eventually("the failure is logged", PATIENCE, || async {
        let path = format!("requests/{}/explain", failed.header("x-tokenhub-request-id"));
        let outcome = admin(&hub, Method::GET, &path, &Value::Null).await.body["runs"][0]["outcome"].clone();
        (!outcome.is_null()).then_some(outcome)
    });
    let log = log.await;
    assert_eq!((&log["status"], &log["error_class"]), (&json!("failed"), &json!("server_error")), "{log}");
    let rewards = admin(&hub, Method::GET, "rewards", &Value::Null).await.expect(200).body;
    let arm = &rewards["rewards"][0];
    assert_eq!(arm["model_id"], "alpha");
    assert!(arm["beta"].as_f64().unwrap() > arm["alpha"].as_f64().unwrap(), "{rewards}");
    hub.finish(Disturbance::None).await;
}

pub async fn a_named_models_failures_count() {
    let hub = installation().models(vec![model("alpha", 7), model("beta", 5)]).start().await;
    hub.provider.script(Rule::model("alpha", [Reply::failure(503, "busy")]));
    chat(&hub, &body("alpha")).await.expect(503);
    assert_eq!(health_of(&hub, "alpha").await["state"], "down");
    let before = hub.provider.count_where(|call| call.model == "alpha");
    let routed = chat(&hub, &body("*")).await.expect(200);
    assert_eq!(routed.header("x-negotiated-model"), "beta");
    assert_eq!(hub.provider.count_where(|call| call.model == "alpha"), before);
    assert!(hub.provider.calls().iter().all(|call| call.finished != Finished::Pending));
    hub.finish(Disturbance::None).await;
}

pub async fn exploration_is_everywhere_and_once() {
    // At temperature 1 the second of two goes first in 26.9 % of requests; that none of 60 does has a chance of 7e-9.
    let hub = installation()
        .models(vec![model("alpha", 7), model("beta", 6)])
        .environment("TOKENHUB_EXPLORATION_TEMPERATURE", "1")
        .environment("TOKENHUB_LIVE_SIGNALS", "false")
        .start()
        .await;
    for is_stream in [false, true] {
        let mut first = BTreeSet::new();
        for _ in 0..60 {
            let answer = chat(&hub, &with(body("*"), &json!({"stream": is_stream}))).await.expect(200);
            first.insert(answer.header("x-negotiated-model").to_owned());
        }
        assert_eq!(first.len(), 2, "stream: {is_stream}");
    }
    for seed in 0..60 {
        let asked = json!({"mode": "thompson", "seed": seed});
        let drawn = admin(&hub, Method::POST, "routing/simulate", &asked).await.expect(200).body;
        let rate = |rank: usize| drawn["eligible"][rank]["parts"]["drawn"].as_f64().unwrap();
        assert!(rate(0) >= rate(1), "what was drawn decides alone: {drawn:#}");
    }
    hub.finish(Disturbance::None).await;
}

pub async fn losers_are_settled_and_failures_count() {
    let hub = installation().models(vec![model("alpha", 9), model("beta", 5), model("gamma", 1)]).start().await;
    hub.provider.script(Rule::model("alpha", [Reply::failure(500, "dead").delay_ms(300)]));
    hub.provider.script(Rule::model("beta", [Reply::text("too late").delay_ms(20_000)]));
    for _ in 0..2 {
        let headers = [("x-tokenhub-durability", "none"), ("x-tokenhub-hedge-after-ms", "50")];
        let answer = hub.post_with(CHAT, &headers, &body("*")).await.expect(200);
        assert_eq!(answer.header("x-negotiated-model"), "gamma");
        tokio::time::sleep(Duration::from_millis(400)).await;
    }
    // Alpha is cut off in its first call before it has failed, beta while it is silent.
    let rows = Evidence::of(&hub).await.ended(usize::try_from(hub.provider.count()).unwrap()).await;
    let lost = rows.iter().filter(|row| row.model.as_str() != "gamma");
    assert!(lost.clone().count() >= 4 && lost.clone().all(|row| row.error_class.is_some()), "{rows:?}");

    hub.provider.clear_script();
    hub.provider.script(Rule::model("alpha", [Reply::failure(503, "busy")]));
    let headers = [("x-tokenhub-durability", "none"), ("x-tokenhub-hedge-after-ms", "2000")];
    hub.post_with(CHAT, &headers, &body("*")).await.expect(200);
    let health = health_of(&hub, "alpha").await;
    assert!(health["total_errors"].as_u64().unwrap() >= 1, "a failure of a hedged call counts: {health}");
    assert_eq!(health["last_error"], "overloaded", "{health}");
    assert_eq!(health_of(&hub, "beta").await["total_errors"], 0, "who was cut off has not failed");
    hub.finish(Disturbance::None).await;
}
