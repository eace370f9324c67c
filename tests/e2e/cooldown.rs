//! A provider that failed is left out by later requests: whoever carries them, across restarts, until an administrator or
//! time ends it.

use std::time::{Duration, SystemTime};

use reqwest::Method;
use serde_json::{Value, json};
use tokenhub_demo::{Reply, Rule};

use crate::harness::{Answer, Disturbance, TestHub, TestHubBuilder, eventually, exchange, http, model};

const ADMIN_TOKEN: &str = "tokenhub_of_an_administrator";
const PATIENCE: Duration = Duration::from_secs(30);

/// A model at each of `providers`; a hint of half a minute does not fit the deadline, so nobody waits for it.
fn installation(providers: Vec<Value>) -> TestHubBuilder {
    let at = |provider: &Value| {
        let mut entry = model("m", 5);
        entry["provider_id"] = provider["id"].clone();
        entry
    };
    let models = providers.iter().map(at).collect();
    TestHub::builder()
        .upstreams(providers)
        .models(models)
        .environment("TOKENHUB_START_DEADLINE_MS", "15000")
        .environment("TOKENHUB_DEFAULT_MAX_LATENCY_MS", "20000")
        .environment("TOKENHUB_ADMIN_TOKEN", ADMIN_TOKEN)
}

fn two_providers() -> Vec<Value> {
    vec![json!({"id": "first", "api_key": "key of first"}), json!({"id": "second", "api_key": "key of second"})]
}

/// How a chat is carried.
#[derive(Clone, Copy, Debug)]
enum Way {
    Workflow,
    InProcess,
    Stream,
}

const WAYS: [Way; 3] = [Way::Workflow, Way::InProcess, Way::Stream];

async fn chat(hub: &TestHub, way: Way) -> Answer {
    let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "a question"}]});
    let durability = match way {
        Way::Workflow => "preferred",
        Way::InProcess => "none",
        Way::Stream => {
            body["stream"] = true.into();
            "preferred"
        }
    };
    let answer = hub.post_with("/v1/chat/completions", &[("x-tokenhub-durability", durability)], &body).await;
    if matches!(way, Way::Workflow) {
        assert_eq!(answer.header("x-tokenhub-durability"), "durable", "{}", answer.text);
    }
    answer
}

/// Calls that came with `key`.
fn calls_with(hub: &TestHub, key: &str) -> usize {
    let bearer = format!("Bearer {key}");
    hub.provider.count_where(|call| call.authorization.as_deref() == Some(&bearer))
}

async fn admin(hub: &TestHub, method: Method, path: &str, token: &str) -> Answer {
    let url = format!("{}/admin/v1/providers/{path}", hub.apis[0].1);
    exchange(http().request(method, url).bearer_auth(token)).await.unwrap()
}

async fn penalties(hub: &TestHub) -> Vec<Value> {
    let answer = admin(hub, Method::GET, "health", ADMIN_TOKEN).await.expect(200);
    answer.body["data"].as_array().unwrap().clone()
}

/// Every process stops and is started again.
async fn restart(hub: &mut TestHub) {
    for (api, _) in std::mem::take(&mut hub.apis) {
        api.stop(PATIENCE).await;
    }
    for worker in std::mem::take(&mut hub.workers) {
        worker.stop(PATIENCE).await;
    }
    hub.start_worker(&[]);
    hub.start_api().await;
    hub.wait_until_durable().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_credential_is_called_once_and_then_not_again_until_it_is_reset() {
    let keys = json!([{"id": "a", "api_key": "key a"}, {"id": "b", "api_key": "key b"}]);
    let mut hub = installation(vec![json!({"id": "keyed", "credentials": keys})]).start().await;
    hub.provider.script(Rule::any([Reply::failure(401, "the key was revoked")]).credential("key a"));
    hub.provider.script(Rule::any([Reply::text("from b")]).credential("key b"));
    let first = chat(&hub, Way::Workflow).await.expect(200);
    assert_eq!(first.body["choices"][0]["message"]["content"], "from b");
    assert_eq!((calls_with(&hub, "key a"), calls_with(&hub, "key b")), (1, 1));

    // The listing reads the table, so the other processes have it from now on at the latest.
    let listed = eventually("the API knows of the penalty", PATIENCE, || async {
        let listed = penalties(&hub).await;
        (!listed.is_empty()).then_some(listed)
    });
    let listed = listed.await;
    assert_eq!(listed.len(), 1, "{listed:?}");
    let shown = ["scope", "provider", "credential", "model", "reason", "failures", "is_penalty"];
    let shown: Value = shown.iter().map(|name| listed[0][name].clone()).collect();
    assert_eq!(shown, json!(["credential", "keyed", "a", null, "auth_failed", 1, true]));
    assert!(!listed[0].to_string().contains("key a"), "{listed:?}");
    for way in WAYS {
        chat(&hub, way).await.expect(200);
    }
    assert_eq!((calls_with(&hub, "key a"), calls_with(&hub, "key b")), (1, 4));

    restart(&mut hub).await;
    for way in WAYS {
        chat(&hub, way).await.expect(200);
    }
    assert_eq!((calls_with(&hub, "key a"), calls_with(&hub, "key b")), (1, 7), "after the restart");

    let client_key = hub.environment()["TOKENHUB_CLIENT_KEY"].clone();
    for (path, token, status, code) in [
        ("keyed/reset", client_key.as_str(), 401, "invalid_admin_token"),
        ("nobody/reset", ADMIN_TOKEN, 404, "provider_not_found"),
    ] {
        let refused = admin(&hub, Method::POST, path, token).await.expect(status);
        assert_eq!(refused.header("content-type"), "application/problem+json");
        assert_eq!(refused.body["code"], code);
        assert_eq!(refused.body["error"], refused.body["detail"], "{}", refused.text);
    }
    admin(&hub, Method::GET, "health", &client_key).await.expect(401);
    assert_eq!(penalties(&hub).await.len(), 1);
    let reset = admin(&hub, Method::POST, "keyed/reset", ADMIN_TOKEN).await.expect(200);
    assert_eq!(reset.body, json!({"provider": "keyed", "cleared": 1}));
    assert!(penalties(&hub).await.is_empty());

    hub.provider.clear_script();
    hub.provider.script(Rule::any([Reply::text("from a")]).credential("key a"));
    let answer = chat(&hub, Way::InProcess).await.expect(200);
    assert_eq!(answer.body["choices"][0]["message"]["content"], "from a");
    eventually("the worker calls with the credential again", PATIENCE, || async {
        let before = calls_with(&hub, "key a");
        chat(&hub, Way::Workflow).await.expect(200);
        (calls_with(&hub, "key a") > before).then_some(())
    })
    .await;
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_asked_to_wait_gets_nothing_while_another_has_the_model() {
    let hub = installation(two_providers()).start().await;
    hub.provider.script(Rule::any([Reply::rate_limited(30)]).credential("key of first"));
    hub.provider.script(Rule::any([Reply::text("from second")]).credential("key of second"));
    for (at, way) in WAYS.into_iter().cycle().take(6).enumerate() {
        let answer = chat(&hub, way).await.expect(200);
        assert_eq!(answer.header("x-tokenhub-provider"), "second", "{way:?}");
        if at == 0 {
            eventually("the API knows of it", PATIENCE, || async { (!penalties(&hub).await.is_empty()).then_some(()) })
                .await;
        }
    }
    assert_eq!((calls_with(&hub, "key of first"), calls_with(&hub, "key of second")), (1, 6));
    let listed = penalties(&hub).await;
    let shown = ["scope", "provider", "credential", "model", "reason"].map(|name| listed[0][name].clone());
    assert_eq!(json!(shown), json!(["credential_model", "first", null, "m", "rate_limited"]));
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_are_wrong_themselves_leave_their_provider_to_the_others() {
    let hub = installation(two_providers()).start().await;
    let too_long = Reply::error(400, "context_length_exceeded", "too many tokens");
    for (reply, status) in [(too_long, 400), (Reply::failure(400, "no such parameter"), 400)] {
        hub.provider.clear_script();
        hub.provider.script(Rule::any([reply]));
        for way in WAYS {
            chat(&hub, way).await.expect(status);
        }
    }
    hub.provider.clear_script();
    hub.provider.script(Rule::any([Reply::text("fine")]));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(penalties(&hub).await, Vec::<Value>::new());
    for way in WAYS {
        assert_eq!(chat(&hub, way).await.expect(200).header("x-tokenhub-provider"), "first", "{way:?}");
    }
    hub.finish(Disturbance::None).await;
}

/// Seconds since 1970 in so many seconds from now, as a header has them.
fn in_secs(secs: u64) -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    (now.as_secs() + secs).to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_whose_week_is_used_up_is_left_out_until_the_week_is_over() {
    const DAYS: u64 = 3 * 24 * 3_600;
    let keys = json!([{"id": "subscription", "api_key": "key a"}, {"id": "spare", "api_key": "key b"}]);
    let mut hub = installation(vec![json!({"id": "keyed", "credentials": keys})]).start().await;
    let used_up = |window: &str, secs: u64| {
        Reply::error(429, "rate_limit_error", "This request would exceed your account's rate limit.")
            .header("anthropic-ratelimit-unified-status", "rejected")
            .header(format!("anthropic-ratelimit-unified-{window}-status"), "rejected")
            .header(format!("anthropic-ratelimit-unified-{window}-reset"), in_secs(secs))
            .header("anthropic-ratelimit-unified-5h-reset", in_secs(600))
    };
    hub.provider.script(Rule::any([used_up("7d", DAYS)]).credential("key a"));
    hub.provider.script(Rule::any([Reply::text("from the spare")]).credential("key b"));
    chat(&hub, Way::InProcess).await.expect(200);
    let listed = penalties(&hub).await;
    let shown = ["scope", "credential", "model", "reason"].map(|name| listed[0][name].clone());
    assert_eq!(json!(shown), json!(["credential", "subscription", null, "quota_exhausted"]), "{listed:?}");
    let ready_at = chrono::DateTime::parse_from_rfc3339(listed[0]["ready_at"].as_str().unwrap()).unwrap();
    let expected: i64 = in_secs(DAYS).parse().unwrap();
    assert!((ready_at.timestamp() - expected).abs() < 30, "{listed:?}");
    eventually("the worker knows of it", PATIENCE, || async {
        let before = calls_with(&hub, "key a");
        chat(&hub, Way::Workflow).await.expect(200);
        (calls_with(&hub, "key a") == before).then_some(())
    })
    .await;
    let called = calls_with(&hub, "key a");
    restart(&mut hub).await;
    for way in WAYS {
        chat(&hub, way).await.expect(200);
    }
    assert_eq!(calls_with(&hub, "key a"), called, "after the restart");

    // A window that ends soon ends by itself.
    admin(&hub, Method::POST, "keyed/reset", ADMIN_TOKEN).await.expect(200);
    hub.provider.clear_script();
    hub.provider.script(Rule::any([used_up("5h", 4), Reply::text("from the subscription")]).credential("key a"));
    hub.provider.script(Rule::any([Reply::text("from the spare")]).credential("key b"));
    let answers = eventually("the subscription answers again", PATIENCE, || async {
        let answer = chat(&hub, Way::InProcess).await.expect(200);
        let text = answer.body["choices"][0]["message"]["content"].clone();
        tokio::time::sleep(Duration::from_millis(200)).await;
        (text == "from the subscription").then_some(())
    });
    answers.await;
    assert_eq!(calls_with(&hub, "key a"), called + 2, "one that found it closed, and one that found it open");
    assert!(penalties(&hub).await.is_empty());
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_of_the_caller_is_not_held_against_a_provider_that_had_no_time() {
    let hub = installation(vec![json!({"id": "first", "api_key": "key of first"})])
        .environment("TOKENHUB_DEFAULT_MAX_LATENCY_MS", "700")
        .start()
        .await;
    hub.provider.script(Rule::any([Reply::text("too late for this caller").stall_after_tokens(0)]));
    for _ in 0..4 {
        let refused = chat(&hub, Way::Stream).await.expect(504);
        assert_eq!(refused.body["error"]["code"], "deadline_exceeded", "{}", refused.text);
    }
    assert_eq!(penalties(&hub).await, Vec::<Value>::new());
    hub.finish(Disturbance::None).await;
}
