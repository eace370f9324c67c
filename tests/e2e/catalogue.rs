//! The catalogue as administrators change it: over HTTP, against versions, in force in every process, kept over restarts.

use std::time::{Duration, Instant};

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use tokenhub_demo::{Reply, Rule};

use crate::{
    evidence::Evidence,
    harness::{Answer, Disturbance, TestHub, TestHubBuilder, eventually, exchange, http, model},
};

const ADMIN_TOKEN: &str = "tokenhub_of_an_administrator";
const PATIENCE: Duration = Duration::from_secs(30);
/// What another process may take to follow.
const CONVERGENCE: Duration = Duration::from_secs(2);
const CHAT: &str = "/v1/chat/completions";
/// A name with what paths give a meaning to.
const SLASHED: &str = "meta-llama/llama-3.1/8b:free";

fn installation() -> TestHubBuilder {
    TestHub::builder()
        .environment("TOKENHUB_ADMIN_TOKEN", ADMIN_TOKEN)
        .environment("TOKENHUB_START_DEADLINE_MS", "15000")
}

fn admin_at(hub: &TestHub, api: usize, method: Method, path: &str) -> RequestBuilder {
    http().request(method, format!("{}/admin/v1/{path}", hub.apis[api].1)).bearer_auth(ADMIN_TOKEN)
}

async fn admin(hub: &TestHub, method: Method, path: &str, body: Value) -> Answer {
    let request = admin_at(hub, 0, method, path);
    exchange(if body.is_null() { request } else { request.json(&body) }).await.unwrap()
}

async fn get(hub: &TestHub, path: &str) -> Answer {
    admin(hub, Method::GET, path, Value::Null).await
}

async fn chat_at(hub: &TestHub, api: usize, durability: &str, model: &str) -> Answer {
    let body = json!({"model": model, "messages": [{"role": "user", "content": "a question"}]});
    let request = hub.request_to(api, Method::POST, CHAT).header("x-tokenhub-durability", durability).json(&body);
    exchange(request).await.unwrap()
}

/// Waits for the next snapshot of every process that follows.
async fn until_answered(hub: &TestHub, api: usize, durability: &str, model: &str) -> Answer {
    let asked = Instant::now();
    let answer = eventually("the others follow", PATIENCE, || async {
        let answer = chat_at(hub, api, durability, model).await;
        answer.status.is_success().then_some(answer)
    });
    let answer = answer.await;
    assert!(asked.elapsed() < CONVERGENCE, "it took {:?}", asked.elapsed());
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_administrator_writes_is_in_force_everywhere_and_after_a_restart() {
    let mut hub = installation().apis(2).start().await;
    let upstream = json!({"id": "second", "base_url": hub.provider.base_url(), "api_key": "sk-of-the-second"});
    let made = admin(&hub, Method::POST, "providers", upstream).await.expect(201);
    assert_eq!((made.header("etag"), &made.body["has_key"]), ("\"1\"", &json!(true)));
    assert_eq!((&made.body["source"], &made.body["version"]), (&json!("stored"), &json!(1)));
    assert!(!made.text.contains("sk-of-the-second"), "{}", made.text);
    let entry = json!({"id": SLASHED, "provider_id": "second", "weight": 9, "input_per_1k": 0.5, "output_per_1k": 1.5});
    admin(&hub, Method::POST, "models", entry).await.expect(201);
    let shown = get(&hub, &format!("models/{SLASHED}")).await.expect(200);
    assert_eq!((&shown.body["id"], &shown.body["pricing_source"]), (&json!(SLASHED), &json!("manual")));

    chat_at(&hub, 0, "none", SLASHED).await.expect(200);
    until_answered(&hub, 1, "none", SLASHED).await;
    let durable = until_answered(&hub, 1, "preferred", SLASHED).await;
    assert_eq!(durable.header("x-tokenhub-durability"), "durable", "the worker follows, too");
    let call = hub.provider.calls().pop().unwrap();
    assert_eq!(call.authorization.as_deref(), Some("Bearer sk-of-the-second"));
    let rows = Evidence::of(&hub).await.ended(usize::try_from(hub.provider.count()).unwrap()).await;
    let row = rows.last().unwrap();
    assert_eq!((row.input_price.0, row.output_price.0), (500_000_000_000, 1_500_000_000_000), "a price at its time");
    assert_eq!(row.price_rule.as_deref(), Some("per_token:manual"));

    // Only what is named changes; what is taken back is as if it had never been said.
    let patched = json!({"weight": 2, "output_per_1k": null});
    let patched = admin(&hub, Method::PATCH, &format!("models/{SLASHED}"), patched).await.expect(200);
    assert_eq!(
        (&patched.body["weight"], &patched.body["input_per_1k"], &patched.body["output_per_1k"]),
        (&json!(2), &json!(0.5), &json!(0.0))
    );
    for (api, _) in std::mem::take(&mut hub.apis) {
        api.stop(PATIENCE).await;
    }
    hub.start_api().await;
    let kept = get(&hub, &format!("models/{SLASHED}")).await.expect(200);
    assert_eq!((&kept.body, kept.header("etag")), (&patched.body, patched.header("etag")));
    let answer = chat_at(&hub, 0, "none", SLASHED).await.expect(200);
    assert_eq!(answer.header("x-tokenhub-provider"), "second");

    // With its provider a model goes, and so does the key.
    admin(&hub, Method::DELETE, "providers/second", Value::Null).await.expect(200);
    get(&hub, &format!("models/{SLASHED}")).await.expect(404);
    chat_at(&hub, 0, "none", SLASHED).await.expect(404);
    let again = json!({"id": "second", "base_url": hub.provider.base_url()});
    let again = admin(&hub, Method::POST, "providers", again).await.expect(201);
    assert_eq!(again.body["has_key"], false);
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_administrators_who_saw_the_same_one_is_told_to_look_again() {
    let hub = installation().temporal_off().apis(2).start().await;
    let seen = get(&hub, "models/alpha").await.expect(200);
    let etag = seen.header("etag").to_owned();
    assert_eq!((etag.as_str(), &seen.body["source"]), ("\"0\"", &json!("configured")));
    let change = |api: usize, weight: u32| {
        let request = admin_at(&hub, api, Method::PATCH, "models/alpha").header("if-match", &etag);
        exchange(request.json(&json!({"weight": weight})))
    };
    let (first, second) = tokio::join!(change(0, 1), change(1, 2));
    let (first, second) = (first.unwrap(), second.unwrap());
    let mut statuses = [first.status.as_u16(), second.status.as_u16()];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 412], "{} {}", first.text, second.text);
    let refused = if first.status.is_success() { second } else { first };
    assert_eq!(refused.body["code"], "version_mismatch");
    assert!(refused.text.contains("version 1"), "{}", refused.text);
    assert_eq!(refused.body["current_version"], 1);
    let in_body = json!({"weight": 3, "version": 1});
    admin(&hub, Method::PATCH, "models/alpha", in_body.clone()).await.expect(200);
    admin(&hub, Method::PATCH, "models/alpha", in_body.clone()).await.expect(412);
    // A version does not come back, not even for an entry that was taken away and made again.
    admin(&hub, Method::DELETE, "models/alpha", Value::Null).await.expect(200);
    admin(&hub, Method::PATCH, "models/alpha", json!({"weight": 4})).await.expect(200);
    admin(&hub, Method::PATCH, "models/alpha", in_body).await.expect(412);
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_makes_no_sense_is_refused_with_its_field_and_nothing_of_it_is_stored() {
    let hub = installation().temporal_off().start().await;
    let cases = [
        ("models", json!({"id": "m", "provider_id": "nobody"}), 400, "provider_id"),
        ("models", json!({"id": "m"}), 400, "provider_id"),
        ("models", json!({"provider_id": "scripted"}), 400, "id"),
        ("models", json!({"id": "m", "provider_id": "scripted", "weight": 11}), 400, "weight"),
        ("models", json!({"id": "m", "provider_id": "scripted", "weight": "9"}), 400, "weight"),
        ("models", json!({"id": "m", "provider_id": "scripted", "wait": 1}), 400, "wait"),
        ("models", json!({"id": "m", "provider_id": "scripted", "input_per_1k": -1}), 400, "input_per_1k"),
        ("models", json!({"id": "plan/m", "provider_id": "scripted"}), 400, "id"),
        ("models", json!({"id": "alpha", "provider_id": "scripted"}), 409, "id"),
        ("providers", json!({"id": "p", "base_url": "ftp://h"}), 400, "base_url"),
        ("providers", json!({"id": "p", "base_url": "http://169.254.169.254"}), 400, "base_url"),
        ("providers", json!({"id": "p", "type": "vllm"}), 400, "base_url"),
        ("providers", json!({"id": "p", "type": "oracle"}), 400, "type"),
        ("providers", json!({"id": "p", "base_url": "http://h", "api_key_env": "NO_SUCH_KEY"}), 400, "api_key_env"),
        (
            "providers",
            json!({"id": "p", "base_url": "http://h", "api_key_env": "TOKENHUB_ADMIN_TOKEN"}),
            400,
            "api_key_env",
        ),
        ("providers", json!({"id": "scripted"}), 409, "id"),
        ("aliases", json!({"name": "a", "variants": []}), 400, "variants"),
        ("aliases", json!({"name": "*", "variants": [{"model": "alpha"}]}), 400, "name"),
    ];
    let before = get(&hub, "models").await.expect(200).body;
    for (path, body, status, param) in cases {
        let refused = admin(&hub, Method::POST, path, body.clone()).await.expect(status);
        assert_eq!(refused.header("content-type"), "application/problem+json", "{body}");
        assert_eq!(refused.body["param"], param, "{body}: {}", refused.text);
        assert!(refused.body["error"].is_string(), "{}", refused.text);
    }
    assert_eq!(get(&hub, "models").await.expect(200).body, before);
    assert_eq!(get(&hub, "providers").await.expect(200).body["total"], 1);
    assert_eq!(get(&hub, "aliases").await.expect(200).body["total"], 0);
    let elsewhere = admin(&hub, Method::DELETE, "models/alpha", Value::Null).await.expect(409);
    assert!(elsewhere.text.contains("credentials.json"), "it says where: {}", elsewhere.text);
    admin(&hub, Method::PATCH, "models/alpha", json!({"id": "omega"})).await.expect(400);
    admin(&hub, Method::PATCH, "models/nobody", json!({"weight": 1})).await.expect(404);
    admin(&hub, Method::GET, "models?limit=0", Value::Null).await.expect(400);
    for (method, path) in [(Method::GET, "providers"), (Method::POST, "models"), (Method::DELETE, "aliases/x")] {
        let url = format!("{}/admin/v1/{path}", hub.apis[0].1);
        exchange(http().request(method, url).bearer_auth("somebody")).await.unwrap().expect(401);
    }
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_stored_lies_over_the_file_until_it_is_taken_away() {
    let at = |provider: &str| {
        let mut entry = model("shared", 5);
        entry["provider_id"] = json!(provider);
        entry
    };
    let hub = installation()
        .temporal_off()
        .upstreams(vec![json!({"id": "other"})])
        .models(vec![at("scripted"), at("other"), model("alpha", 7)])
        .start()
        .await;
    let ambiguous = admin(&hub, Method::PATCH, "models/shared", json!({"enabled": false})).await.expect(400);
    assert_eq!((&ambiguous.body["code"], &ambiguous.body["param"]), (&json!("ambiguous_model"), &json!("provider")));
    admin(&hub, Method::PATCH, "models/shared?provider=other", json!({"enabled": false})).await.expect(200);
    let refused = chat_at(&hub, 0, "none", "other/shared").await.expect(400);
    assert_eq!(refused.body["error"]["code"], "model_refused");
    chat_at(&hub, 0, "none", "scripted/shared").await.expect(200);
    admin(&hub, Method::DELETE, "models/shared?provider=other", Value::Null).await.expect(200);
    chat_at(&hub, 0, "none", "other/shared").await.expect(200);

    let variants = json!({"variants": [{"model": "alpha"}], "fallbacks": ["shared"]});
    let made = admin(&hub, Method::PUT, "aliases/team/smart", variants).await.expect(200);
    assert_eq!((&made.body["name"], &made.body["sticky_by"]), (&json!("team/smart"), &json!("user")));
    let answer = chat_at(&hub, 0, "none", "team/smart").await.expect(200);
    assert_eq!(answer.header("x-alias-from"), "team/smart");
    admin(&hub, Method::PATCH, "aliases/team/smart", json!({"enabled": false})).await.expect(200);
    chat_at(&hub, 0, "none", "team/smart").await.expect(404);
    let page = get(&hub, "models?limit=1&offset=1").await.expect(200).body;
    assert_eq!((&page["items"][0]["provider_id"], &page["total"]), (&json!("other"), &json!(3)));
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listed_model_comes_and_goes_with_its_list_and_an_edit_of_it_stays() {
    let hub = installation().temporal_off().start().await;
    hub.provider.models(["listed", "edited"]);
    hub.provider.script(Rule::any([Reply::text("fine")]));
    let provider =
        json!({"id": "lister", "base_url": hub.provider.base_url(), "autoload_models": true, "api_key": "sk-x"});
    admin(&hub, Method::POST, "providers", provider).await.expect(201);
    let listed = eventually("the list was read", PATIENCE, || async {
        let shown = get(&hub, "models/edited?provider=lister").await;
        shown.status.is_success().then_some(shown.body)
    });
    assert_eq!(listed.await["source"], "listed");
    let discovered = get(&hub, "providers/lister/discover").await.expect(200).body;
    assert_eq!((&discovered["total"], &discovered["models"][0]["registered"]), (&json!(2), &json!(true)));
    admin(&hub, Method::PATCH, "models/edited?provider=lister", json!({"weight": 1})).await.expect(200);
    admin(&hub, Method::DELETE, "models/listed?provider=lister", Value::Null).await.expect(409);
    hub.provider.models(["another"]);
    // Any change of the catalogue asks for the lists again.
    admin(&hub, Method::PATCH, "providers/lister", json!({"enabled": true})).await.expect(200);
    eventually("the list was read again", PATIENCE, || async {
        get(&hub, "models/another?provider=lister").await.status.is_success().then_some(())
    })
    .await;
    get(&hub, "models/listed?provider=lister").await.expect(404);
    assert_eq!(get(&hub, "models/edited?provider=lister").await.expect(200).body["weight"], 1);
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stored_entry_that_lost_its_provider_harms_nobody_else() {
    let mut hub = installation().temporal_off().upstreams(vec![json!({"id": "leaving"})]).start().await;
    hub.provider.script(Rule::any([Reply::text("fine")]));
    admin(&hub, Method::POST, "models", json!({"id": "stranded", "provider_id": "leaving"})).await.expect(201);
    admin(&hub, Method::PATCH, "models/alpha", json!({"weight": 3})).await.expect(200);
    chat_at(&hub, 0, "none", "stranded").await.expect(200);
    hub.get("/v1/models/stranded").await.unwrap().expect(200);
    let path = hub.environment()["TOKENHUB_CREDENTIALS_FILE"].clone();
    let mut file: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    file["providers"].as_array_mut().unwrap().retain(|provider| provider["id"] != "leaving");
    std::fs::write(&path, file.to_string()).unwrap();

    hub.apis[0].0.signal(nix::sys::signal::Signal::SIGHUP);
    // A request that the reload overtakes has a row and no call, so nobody asks before it is in force.
    eventually("the reload is in force", PATIENCE, || async {
        (hub.get("/v1/models/stranded").await.unwrap().status == 404).then_some(())
    })
    .await;
    chat_at(&hub, 0, "none", "stranded").await.expect(404);
    for (api, _) in std::mem::take(&mut hub.apis) {
        api.stop(PATIENCE).await;
    }
    hub.start_api().await;
    chat_at(&hub, 0, "none", "alpha").await.expect(200);
    assert_eq!(get(&hub, "models/alpha").await.expect(200).body["weight"], 3, "the others count as before");
    admin(&hub, Method::PATCH, "models/beta", json!({"weight": 4})).await.expect(200);
    hub.finish(Disturbance::None).await;
}
