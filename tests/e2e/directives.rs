//! Directives in messages: followed on every chat route, and never seen by a provider.

use serde_json::{Value, json};
use tokenhub_demo::{Reply, Rule};
use tokenhub_domain::Dialect;

use crate::{
    dialogue::{events, model_at, path, text_of, upstream},
    harness::{Disturbance, TestHub, TestHubBuilder},
};

const MARKER: &str = "@@tokenhub";

/// One weak and one strong model at a provider of each protocol.
fn installation() -> TestHubBuilder {
    let upstreams =
        vec![upstream("claude", Dialect::Messages, "sk-claude"), upstream("gpt", Dialect::Responses, "sk-gpt")];
    let models = vec![
        model_at("scripted", "alpha", 7),
        model_at("scripted", "beta", 6),
        model_at("scripted", "gamma", 5),
        model_at("claude", "opus", 9),
        model_at("gpt", "five", 8),
    ];
    TestHub::builder().upstreams(upstreams).models(models)
}

/// A request of `client` that says `texts`, the last one as two parts.
fn request(client: Dialect, model: &str, text: &str, stream: bool) -> Value {
    let part = if client == Dialect::Responses { "input_text" } else { "text" };
    let turns = json!([
        {"role": "user", "content": format!("first\n{MARKER} budget=3")},
        {"role": "assistant", "content": "yes"},
        {"role": "user", "content": [{"type": part, "text": "how are you"}, {"type": part, "text": text}]},
    ]);
    match client {
        Dialect::Chat => json!({"model": model, "messages": turns, "stream": stream}),
        Dialect::Responses => json!({"model": model, "input": turns, "stream": stream}),
        Dialect::Messages => json!({"model": model, "messages": turns, "stream": stream, "max_tokens": 90}),
    }
}

#[track_caller]
fn assert_nothing_on_the_wire(hub: &TestHub) {
    let calls = hub.provider.calls();
    assert!(!calls.is_empty());
    for call in calls {
        let body = String::from_utf8(call.raw_body.0.to_vec()).unwrap();
        assert!(!body.contains(MARKER) && !body.contains("@@end"), "{body}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_directive_reaches_a_provider_on_any_route_to_any_protocol_streamed_or_whole() {
    let hub = installation().start().await;
    let block = format!("and you?\n{MARKER}\nmode=cheap\nmin_weight=1\n@@end\n{MARKER} latency=60000 max_tokens=50");
    for client in Dialect::ALL {
        for model in ["alpha", "opus", "five"] {
            let whole = hub.post(path(client), &request(client, model, &block, false)).await.expect(200);
            assert!(!whole.text.contains(MARKER), "{}", whole.text);
            let streamed = hub.post(path(client), &request(client, model, &block, true)).await.expect(200);
            let text = text_of(client, &events(&streamed.text));
            assert!(text.contains("and you?") && !text.contains(MARKER), "{client:?} {model}: {}", streamed.text);
        }
    }
    let messages = json!([{"role": "user", "content": block}]);
    hub.post("/v1/chat", &json!({"request": {"messages": messages, "model_hint": "alpha"}})).await.expect(200);
    hub.post("/v1/chat", &json!({"request": {"messages": messages, "model_hint": "alpha", "stream": true}}))
        .await
        .expect(200);
    for mode in ["", "vote", "adversarial", "refine", "best_of_n"] {
        let plan = json!({"request": {"messages": messages}, "orchestration": {"mode": mode}});
        hub.post("/v1/plan", &plan).await.expect(200);
    }
    assert_nothing_on_the_wire(&hub);
    let limits = ["max_completion_tokens", "max_tokens", "max_output_tokens"];
    for call in hub.provider.calls().iter().take(18) {
        assert!(limits.iter().any(|name| call.body[*name] == 50), "{}", call.body);
    }
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_user_says_is_followed_and_what_others_say_is_not() {
    let hub = installation().temporal_off().start().await;
    let says = |role: &str, text: &str| json!({"messages": [{"role": role, "content": text}, {"role": "user", "content": "hi"}]});
    let followed = hub.post(path(Dialect::Chat), &says("user", &format!("{MARKER} min_weight=9"))).await.expect(200);
    assert_eq!(followed.header("x-tokenhub-model"), "opus");
    let mut others = says("assistant", &format!("ok\n{MARKER} mode=vote min_weight=10"));
    others["model"] = json!("alpha");
    let ignored = hub.post(path(Dialect::Chat), &others).await;
    assert_eq!(ignored.expect(200).body["object"], "chat.completion");
    assert_eq!(hub.provider.calls().len(), 2, "no vote");
    let model =
        json!({"model": "beta", "messages": [{"role": "user", "content": format!("hi\n{MARKER} min_weight=7")}]});
    let refused = hub.post(path(Dialect::Chat), &model).await.expect(400);
    assert_eq!(refused.body["error"]["code"], "model_refused");
    assert_nothing_on_the_wire(&hub);
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_only_speaks_about_directives_keeps_its_bytes() {
    let hub = installation().temporal_off().start().await;
    let key = hub.environment()["TOKENHUB_CLIENT_KEY"].clone();
    for body in [
        r#"{ "model":"alpha","x": 1.50,"messages":[{"role":"user","content":"what is `@@tokenhub` ?"}] , "y" : 1e3 }"#,
        r#"{"messages":[{"role":"user","content":"plain"}],"model":"alpha" }"#,
    ] {
        let request = hub.request(reqwest::Method::POST, path(Dialect::Chat)).bearer_auth(&key);
        crate::harness::exchange(request.body(body).header("content-type", "application/json"))
            .await
            .unwrap()
            .expect(200);
        let call = hub.provider.calls().pop().unwrap();
        assert_eq!(call.raw_body.0, body);
    }
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_answers_in_the_protocol_of_the_chat_whoever_carries_it() {
    let hub = installation().environment("TOKENHUB_START_DEADLINE_MS", "15000").start().await;
    hub.provider.script(Rule::any([Reply::text("an answer")]));
    hub.provider.script(Rule::any([Reply::text("{\"winner\": 1}")]).containing("impartial judge"));
    let scores = Reply::text("{\"scores\": [1, 2, 3]}");
    hub.provider.script(Rule::any([scores]).containing("Score each answer"));
    for (mode, calls) in [("vote", 4), ("adversarial", 3), ("refine", 3), ("best_of_n", 4)] {
        for (durability, mark) in [("required", "durable"), ("none", "none")] {
            for client in Dialect::ALL {
                let before = hub.provider.calls().len();
                let body = request(client, "alpha", &format!("{MARKER} mode={mode}"), false);
                let answer = hub.post_with(path(client), &[("x-tokenhub-durability", durability)], &body).await;
                let answer = answer.expect(200);
                let (text, tokens) = match client {
                    Dialect::Chat => ("/choices/0/message/content", "/usage/prompt_tokens"),
                    Dialect::Responses => ("/output/0/content/0/text", "/usage/input_tokens"),
                    Dialect::Messages => ("/content/0/text", "/usage/input_tokens"),
                };
                let shown = |pointer| answer.body.pointer(pointer).cloned().unwrap_or_default();
                assert_eq!(shown(text), "an answer", "{mode} {client:?}: {}", answer.text);
                assert_eq!(answer.header("x-tokenhub-durability"), mark);
                assert_eq!(hub.provider.calls().len() - before, calls, "{mode} {client:?}");
                let run =
                    hub.get(&format!("/v1/plan/{}", answer.header("x-tokenhub-run-id"))).await.unwrap().expect(200);
                assert_eq!(run.body["usage"]["calls"], calls);
                assert_eq!(run.body["usage"]["input_tokens"], shown(tokens), "{mode} {client:?}");
            }
        }
    }
    let native = json!({"request": {"messages": [{"role": "user", "content": format!("hi\n{MARKER} mode=vote")}]}});
    let native = hub.post("/v1/chat", &native).await.expect(200);
    assert_eq!(native.body["routing_reason"], "vote-orchestration");
    assert_eq!(native.body["response"]["choices"][0]["message"]["content"], "an answer");
    assert_nothing_on_the_wire(&hub);
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_followed_is_refused_by_its_key_before_any_call() {
    let hub = installation().temporal_off().start().await;
    for (pairs, key) in [
        ("mode=fast", "@@tokenhub mode"),
        ("budget=0", "@@tokenhub budget"),
        ("latency=x", "@@tokenhub latency"),
        ("min_weight=99", "@@tokenhub min_weight"),
        ("output_schema={\"type\":", "@@tokenhub output_schema"),
        ("output_schema={\"type\":\"objekt\"}", "@@tokenhub output_schema"),
        ("output_format=yaml", "@@tokenhub output_format"),
        ("no_such_key=1", "@@tokenhub no_such_key"),
    ] {
        for client in Dialect::ALL {
            let refused = hub.post(path(client), &request(client, "alpha", &format!("{MARKER} {pairs}"), false)).await;
            let refused = refused.expect(400);
            assert!(refused.body["error"]["message"].as_str().unwrap().starts_with(key), "{}", refused.text);
            if client != Dialect::Messages {
                assert_eq!(refused.body["error"]["param"], key);
            }
        }
        let messages = json!([{"role": "user", "content": format!("hi\n{MARKER} {pairs}")}]);
        let refused = hub.post("/v1/chat", &json!({"request": {"messages": messages}})).await.expect(400);
        assert!(refused.body["error"].as_str().unwrap().starts_with(key), "{}", refused.text);
        hub.post("/v1/plan", &json!({"request": {"messages": messages}})).await.expect(400);
    }
    for (pairs, stream) in [("mode=vote", true), ("output_format=json", true), ("strip_think=true", true)] {
        let body = request(Dialect::Chat, "alpha", &format!("{MARKER} {pairs}"), stream);
        let refused = hub.post(path(Dialect::Chat), &body).await.expect(400);
        assert_eq!(refused.body["error"]["param"], "stream", "{pairs}");
    }
    // Of several models none could be told what its call came to.
    let mut with_tools = request(Dialect::Chat, "alpha", &format!("{MARKER} mode=vote"), false);
    with_tools["tools"] = json!([{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]);
    let refused = hub.post(path(Dialect::Chat), &with_tools).await.expect(400);
    assert_eq!(refused.body["error"]["param"], "tools");
    assert!(hub.provider.calls().is_empty());
    hub.finish(Disturbance::None).await;
}
