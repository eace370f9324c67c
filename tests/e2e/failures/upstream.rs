//! A provider fails: how often it is called, who is called next, and what the caller is told.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;
use tokenhub_demo::{Reply, Rule};

use super::{EXECUTORS, assert_openai_error, called, chat, installation};
use crate::harness::{Answer, Disturbance, TestHub};

/// The same chat in both executors, each with its own tag and a script of its own.
async fn in_both(hub: &TestHub, model: Option<&str>, name: &str, replies: &[Reply]) -> Vec<(Answer, Vec<String>)> {
    join_all(EXECUTORS.map(|executor| async move {
        let tag = format!("{name}-{executor}");
        hub.provider.script(Rule::model("alpha", replies.to_vec()).containing(format!("({tag})")));
        let headers = [("x-tokenhub-durability", executor)];
        let answer = hub.post_with("/v1/chat/completions", &headers, &chat(model, &tag)).await;
        let calls = called(hub, &tag);
        (answer, calls)
    }))
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rate_limit_with_a_hint_is_waited_out_and_costs_three_calls() {
    let hub = installation().start().await;
    let slow_down = Reply::error(429, "rate_limit_exceeded", "slow down").header("retry-after", "1");
    let replies = [slow_down.clone(), slow_down, Reply::text("at last")];
    for (answer, calls) in in_both(&hub, Some("alpha"), "patience", &replies).await {
        let answer = answer.expect(200);
        assert_eq!(answer.body["choices"][0]["message"]["content"], "at last");
        assert_eq!(calls, ["alpha", "alpha", "alpha"]);
        assert!(answer.took >= Duration::from_secs(2), "{:?}", answer.took);
        assert!(answer.took < Duration::from_secs(8), "{:?}", answer.took);
    }
    for executor in EXECUTORS {
        let calls = hub.provider.calls();
        let tag = format!("(patience-{executor})");
        let mine = calls.iter().filter(|call| call.body.to_string().contains(&tag));
        let times: Vec<u64> = mine.map(|call| call.at_micros).collect();
        assert!(times.windows(2).all(|pair| pair[1] - pair[0] >= 1_000_000), "{executor} waited {times:?}");
    }
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hint_beyond_the_deadline_is_not_waited_for() {
    let hub = installation().start().await;
    let tomorrow = [Reply::error(429, "rate_limit_exceeded", "come back tomorrow").header("retry-after", "86400")];
    for (answer, calls) in in_both(&hub, None, "elsewhere", &tomorrow).await {
        assert_eq!(answer.expect(200).header("x-tokenhub-model"), "beta");
        assert_eq!(calls, ["alpha", "beta"]);
    }
    for (answer, calls) in in_both(&hub, Some("alpha"), "tomorrow", &tomorrow).await {
        assert_eq!(assert_openai_error(&answer, 429)["code"], "rate_limit_exceeded");
        assert_eq!((answer.header("retry-after"), answer.header("x-should-retry")), ("86400", ""));
        assert_eq!(calls, ["alpha"]);
    }
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_request_costs_one_call_and_the_providers_words_are_passed_on() {
    let hub = installation().start().await;
    let full = json!({"message": "temperature must be at most 2", "type": "invalid_request_error",
        "param": "temperature", "code": "decimal_above_max_value"});
    let bare = json!({"message": "no tool of that name", "type": "invalid_request_error", "param": null, "code": null});
    for (name, status, error) in [("full", 400, &full), ("bare", 422, &bare), ("gone", 404, &bare)] {
        let replies = [Reply::status(status, json!({ "error": error }))];
        for (answer, calls) in in_both(&hub, None, name, &replies).await {
            assert_eq!(assert_openai_error(&answer, status), error, "{name}");
            assert_eq!(answer.header("x-should-retry"), "false");
            assert_eq!(calls, ["alpha"], "{name}");
        }
    }
    let plan = json!({"request": {"messages": [{"role": "user", "content": "a question (plan)"}]}});
    let refusal = Reply::status(400, json!({ "error": full }));
    hub.provider.script(Rule::model("alpha", [refusal]).containing("(plan)"));
    let answer = hub.post("/v1/plan", &plan).await.expect(400);
    assert_eq!(answer.header("content-type"), "application/problem+json");
    assert_eq!(answer.header("x-should-retry"), "false");
    assert_eq!(answer.body["detail"], full["message"]);
    assert_eq!((&answer.body["code"], &answer.body["param"]), (&full["code"], &full["param"]));
    assert_eq!(called(&hub, "plan"), ["alpha"]);
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_model_is_tried_three_times_and_replaced_only_when_nobody_named_it() {
    let hub = installation().start().await;
    let boom = [Reply::error(500, "server_error", "boom")];
    let cut = [Reply::text("x").cut_before_bytes()];
    let full = [Reply::error(503, "overloaded", "full").header("retry-after", "2")];
    let (routed, named, unreachable, overloaded) = tokio::join!(
        in_both(&hub, None, "routed", &boom),
        in_both(&hub, Some("alpha"), "named", &boom),
        in_both(&hub, Some("alpha"), "cut", &cut),
        in_both(&hub, Some("alpha"), "overloaded", &full),
    );
    for (answer, calls) in routed {
        let answer = answer.expect(200);
        assert_eq!(calls, ["alpha", "alpha", "alpha", "beta"]);
        assert_eq!((answer.header("x-tokenhub-model"), &answer.body["model"]), ("beta", &json!("beta")));
    }
    for (answer, calls) in named {
        assert_eq!(assert_openai_error(&answer, 502)["code"], "provider_error");
        assert_eq!(answer.header("x-should-retry"), "");
        assert_eq!(calls, ["alpha", "alpha", "alpha"]);
    }
    for (answer, calls) in unreachable {
        assert_eq!(assert_openai_error(&answer, 502)["code"], "provider_unreachable");
        assert_eq!(calls, ["alpha", "alpha", "alpha"]);
    }
    for (answer, calls) in overloaded {
        assert_eq!(assert_openai_error(&answer, 503)["code"], "server_is_overloaded");
        assert_eq!(answer.header("retry-after"), "2");
        assert_eq!(calls, ["alpha", "alpha", "alpha"]);
        assert!(answer.took >= Duration::from_secs(4), "the hint is a floor: {:?}", answer.took);
    }
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_a_named_model_is_never_answered_by_another() {
    let hub = installation().start().await;
    hub.provider.script(Rule::model("alpha", [Reply::error(500, "server_error", "boom")]));
    let mut body = chat(Some("alpha"), "stream");
    body["stream"] = true.into();
    let answer = hub.post("/v1/chat/completions", &body).await;
    assert_eq!(assert_openai_error(&answer, 502)["code"], "provider_error");
    assert_eq!(called(&hub, "stream"), ["alpha", "alpha", "alpha"]);
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn our_credentials_troubles_are_no_fault_of_the_caller() {
    let hub = installation().start().await;
    let wrong_key = [Reply::error(401, "invalid_api_key", "Incorrect API key provided: sk-canary.")];
    for (answer, calls) in in_both(&hub, Some("alpha"), "key", &wrong_key).await {
        assert_eq!(assert_openai_error(&answer, 502)["code"], "provider_auth_failed");
        assert!(!answer.text.contains("sk-canary"), "{}", answer.text);
        assert_eq!(answer.header("www-authenticate"), "");
        assert_eq!(calls, ["alpha"]);
    }
    let forbidden = [Reply::error(403, "forbidden", "not for you")];
    for (answer, calls) in in_both(&hub, None, "forbidden", &forbidden).await {
        assert_eq!(answer.expect(200).header("x-tokenhub-model"), "beta");
        assert_eq!(calls, ["alpha", "beta"]);
    }
    let unpaid = [Reply::error(429, "insufficient_quota", "You exceeded your current quota")];
    for (answer, calls) in in_both(&hub, Some("alpha"), "unpaid", &unpaid).await {
        assert_eq!(assert_openai_error(&answer, 429)["code"], "insufficient_quota");
        assert_eq!(answer.header("x-should-retry"), "false");
        assert_eq!(calls, ["alpha"]);
    }
    hub.finish(Disturbance::None).await;
}
