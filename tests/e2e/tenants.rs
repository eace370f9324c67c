//! Several tenants behind one installation: nobody sees, stops or holds up what is another's.

mod flood;
mod isolation;
mod keys;

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Answer, TestHub, TestHubBuilder, eventually, exchange, http};

const PATIENCE: Duration = Duration::from_mins(1);
const ADMIN_TOKEN: &str = "tokenhub_of_an_administrator";
const ACME: &str = "sk-acme-canary";
const ZETA: &str = "sk-zeta-canary";

/// Two tenants beside the one that every installation has.
fn installation() -> TestHubBuilder {
    let keys = json!([
        {"name": "acme-ci", "key": ACME, "tenant": "acme"},
        {"name": "zeta-app", "key": ZETA, "tenant": "zeta"},
    ]);
    TestHub::builder()
        .environment("TOKENHUB_CLIENT_KEYS", &keys.to_string())
        .environment("TOKENHUB_ADMIN_TOKEN", ADMIN_TOKEN)
        .environment("TOKENHUB_START_DEADLINE_MS", "15000")
        .environment("TOKENHUB_PENALTIES", "false")
}

async fn get_as(hub: &TestHub, key: &str, path: &str) -> Answer {
    exchange(hub.request_as(key, Method::GET, path)).await.unwrap()
}

async fn post_as(hub: &TestHub, key: &str, path: &str, body: &Value) -> Answer {
    exchange(hub.request_as(key, Method::POST, path).json(body)).await.unwrap()
}

async fn admin(hub: &TestHub, path: &str) -> Answer {
    let url = format!("{}/admin/v1/{path}", hub.apis[0].1);
    exchange(http().get(url).bearer_auth(ADMIN_TOKEN)).await.unwrap()
}

/// A vote of three that is held to the end.
fn vote(question: &str) -> Value {
    json!({
        "request": {"messages": [{"role": "user", "content": question}]},
        "strategy": {"type": "vote", "voters": 3, "method": "majority"},
    })
}

/// Plans of one call.
fn single(question: &str) -> Value {
    json!({"request": {"messages": [{"role": "user", "content": question}]}})
}

fn id_of(answer: &Answer) -> String {
    answer.body["id"].as_str().unwrap_or_else(|| panic!("{}", answer.text)).to_owned()
}

/// The plan once it has ended.
async fn ended(hub: &TestHub, key: &str, id: &str) -> Answer {
    eventually("the plan ends", PATIENCE, || async {
        let plan = get_as(hub, key, &format!("/v1/plan/{id}")).await.expect(200);
        (!["pending", "running"].contains(&plan.body["status"].as_str().unwrap())).then_some(plan)
    })
    .await
}
