//! Providers and models come and go while the process runs.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use super::{admin, body, chat, installation};
use crate::harness::{Disturbance, eventually};

const PATIENCE: Duration = Duration::from_secs(30);

pub async fn a_model_needs_its_provider() {
    let hub = installation().start().await;
    let orphan = json!({"id": "orphan", "provider_id": "nobody"});
    let refused = admin(&hub, Method::POST, "models", &orphan).await.expect(400);
    assert_eq!(refused.body["param"], "provider_id", "{}", refused.text);
    admin(&hub, Method::GET, "models/orphan", &Value::Null).await.expect(404);
    chat(&hub, &body("orphan")).await.expect(404);
    hub.finish(Disturbance::None).await;
}

pub async fn a_key_goes_with_its_provider() {
    let hub = installation().start().await;
    let keyed = json!({"id": "late", "base_url": hub.provider.base_url(), "api_key": "sk-of-late"});
    assert_eq!(admin(&hub, Method::POST, "providers", &keyed).await.expect(201).body["has_key"], true);
    admin(&hub, Method::DELETE, "providers/late", &Value::Null).await.expect(200);
    let again = json!({"id": "late", "base_url": hub.provider.base_url()});
    assert_eq!(admin(&hub, Method::POST, "providers", &again).await.expect(201).body["has_key"], false);
    admin(&hub, Method::POST, "models", &json!({"id": "m", "provider_id": "late"})).await.expect(201);
    chat(&hub, &body("m")).await.expect(200);
    assert_eq!(hub.provider.calls().pop().unwrap().authorization, None, "the old key is nowhere");
    hub.finish(Disturbance::None).await;
}

pub async fn a_late_provider_is_looked_at() {
    let hub = installation().environment("TOKENHUB_PROBE_INTERVAL_SECS", "86400").start().await;
    let late = json!({"id": "late", "base_url": hub.provider.base_url()});
    admin(&hub, Method::POST, "providers", &late).await.expect(201);
    let probe = eventually("it is looked at", PATIENCE, || async {
        let health = admin(&hub, Method::GET, "health", &Value::Null).await.expect(200).body;
        let late = health["providers"].as_array()?.iter().find(|one| one["provider_id"] == "late")?.clone();
        (!late["probe"].is_null()).then_some(late)
    });
    assert_eq!(probe.await["probe"]["reached"], true);
    hub.finish(Disturbance::None).await;
}
