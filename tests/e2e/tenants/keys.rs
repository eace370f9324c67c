//! Keys that come and go with a reload, show nowhere, and may bound what their tenant has under way.

use std::{fs, time::Duration};

use nix::sys::signal::Signal;
use reqwest::Method;
use serde_json::{Value, json};
use tokenhub_demo::{Reply, Rule};

use super::{ACME, PATIENCE, ZETA, ended, get_as, id_of, installation, post_as, single};
use crate::harness::{Disturbance, TestHub, eventually, exchange};

const NEXT: &str = "sk-acme-next-canary";

/// Writes the list of client keys into the credentials file and has the API read it.
fn reload(hub: &TestHub, keys: &Value) {
    let path = &hub.environment()["TOKENHUB_CREDENTIALS_FILE"];
    let mut file: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    file["client_keys"] = keys.clone();
    fs::write(path, file.to_string()).unwrap();
    hub.apis[0].0.signal(Signal::SIGHUP);
}

async fn wait_for_status(hub: &TestHub, key: &str, status: u16) {
    eventually("the keys are read again", PATIENCE, || async {
        (get_as(hub, key, "/v1/plan").await.status.as_u16() == status).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_lets_keys_in_and_out_and_a_replaced_one_keeps_what_was_its_own() {
    let hub = TestHub::builder().temporal_off().start().await;
    get_as(&hub, ACME, "/v1/plan").await.expect(401);
    reload(&hub, &json!([{"name": "acme-ci", "key": ACME, "tenant": "acme"}]));
    wait_for_status(&hub, ACME, 200).await;
    let id = id_of(&post_as(&hub, ACME, "/v1/plan", &single("mine")).await.expect(200));
    get_as(&hub, hub.environment()["TOKENHUB_CLIENT_KEY"].as_str(), &format!("/v1/plan/{id}")).await.expect(404);

    // A list that makes no sense changes nothing.
    let doubled =
        json!([{"name": "acme-ci", "key": NEXT, "tenant": "acme"}, {"name": "acme-ci", "key": "k", "tenant": "b"}]);
    reload(&hub, &doubled);
    eventually("the list is refused", PATIENCE, || async {
        let said = "client key `acme-ci`: is already defined";
        hub.apis[0].0.output().contains(said).then_some(())
    })
    .await;
    get_as(&hub, ACME, "/v1/plan").await.expect(200);

    reload(&hub, &json!([{"name": "acme-ci", "key": NEXT, "tenant": "acme"}]));
    wait_for_status(&hub, NEXT, 200).await;
    get_as(&hub, ACME, "/v1/plan").await.expect(401);
    let listed = get_as(&hub, NEXT, "/v1/plan").await.expect(200);
    assert_eq!(listed.body["data"][0]["id"], id.as_str(), "{}", listed.text);
    assert!(!hub.apis[0].0.output().contains("canary"));
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_has_no_more_unfinished_runs_than_its_key_allows() {
    let keys = json!([
        {"name": "acme-ci", "key": ACME, "tenant": "acme", "max_unfinished_runs": 2},
        {"name": "zeta-app", "key": ZETA, "tenant": "zeta", "max_unfinished_runs": 2},
    ]);
    for hub in [
        installation().environment("TOKENHUB_CLIENT_KEYS", &keys.to_string()).start().await,
        installation().environment("TOKENHUB_CLIENT_KEYS", &keys.to_string()).temporal_off().start().await,
    ] {
        hub.provider.script(Rule::any([Reply::hang()]).containing("slow"));
        let mut slow = single("slow");
        slow["background"] = json!(true);
        let begin = |key: &'static str, name: &'static str| {
            let request = hub.request_as(key, Method::POST, "/v1/plan").header("idempotency-key", name);
            exchange(request.json(&slow))
        };
        let first = begin(ACME, "first").await.unwrap().expect(202);
        begin(ACME, "second").await.unwrap().expect(202);
        let refused = begin(ACME, "third").await.unwrap().expect(429);
        assert_eq!(refused.body["code"], "too_many_unfinished_runs", "{}", refused.text);
        assert!(!refused.header("retry-after").is_empty() && refused.header("x-should-retry").is_empty());
        // A repetition is no further run.
        let again = begin(ACME, "first").await.unwrap().expect(202);
        assert_eq!(again.body["id"], first.body["id"]);
        let chat = json!({"model": "alpha", "max_tokens": 9, "messages": [{"role": "user", "content": "hello"}]});
        let refused = post_as(&hub, ACME, "/v1/chat/completions", &chat).await.expect(429);
        assert_eq!(refused.body["error"]["code"], "too_many_unfinished_runs", "{}", refused.text);
        let refused = post_as(&hub, ACME, "/v1/messages", &chat).await.expect(429);
        assert_eq!(refused.body["error"]["type"], "rate_limit_error", "{}", refused.text);
        // Others have their own bound, or none.
        post_as(&hub, ZETA, "/v1/plan", &single("hello")).await.expect(200);
        hub.post("/v1/plan", &single("hello")).await.expect(200);
        post_as(&hub, ACME, &format!("/v1/plan/{}/cancel", id_of(&first)), &json!({})).await.expect(200);
        ended(&hub, ACME, &id_of(&first)).await;
        post_as(&hub, ACME, "/v1/plan", &single("hello")).await.expect(200);
        for run in get_as(&hub, ACME, "/v1/plan").await.expect(200).body["data"].as_array().unwrap() {
            let path = format!("/v1/plan/{}/cancel", run["id"].as_str().unwrap());
            post_as(&hub, ACME, &path, &json!({})).await.expect(200);
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        hub.finish(Disturbance::None).await;
    }
}
