//! What an answer is, what it costs, and how often it is bought.

use reqwest::Method;
use serde_json::{Value, json};
use tokenhub_demo::{Noise, Part, Reply, Rule};
use tokenhub_domain::Dialect;

use super::{admin, body, chat, installation, with};
use crate::{
    dialogue::{model_at, upstream},
    evidence::Evidence,
    harness::{Disturbance, model},
};

/// Longer than TokenHub (Go) waits.
const LONG_MS: u64 = 31_000;

pub async fn a_long_answer_is_waited_for_and_bought_once() {
    let hub = installation().models(vec![model("alpha", 7)]).start().await;
    hub.provider.script(Rule::any([Reply::text("at last").delay_ms(LONG_MS)]));
    let answer = chat(&hub, &body("alpha")).await.expect(200);
    assert_eq!(answer.body["choices"][0]["message"]["content"], "at last");
    assert_eq!(hub.provider.count(), 1);
    hub.finish(Disturbance::None).await;
}

pub async fn a_stream_is_billed_and_judged() {
    let hub = installation().models(vec![model("alpha", 7), model("beta", 6)]).start().await;
    let error = Reply::text("never seen").first(Noise::error("server_error", "out of order"));
    hub.provider.script(Rule::model("alpha", [error]));
    hub.provider.script(Rule::model("beta", [Reply::text("fine").usage(1_000, 500)]));
    let answer = chat(&hub, &with(body("*"), &json!({"stream": true}))).await.expect(200);
    assert_eq!(answer.header("x-negotiated-model"), "beta", "{}", answer.text);
    let asked = hub.provider.calls().pop().unwrap().body;
    assert_eq!(asked["stream_options"]["include_usage"], true, "{asked}");
    assert!(!answer.text.contains("\"usage\":{"), "the caller did not ask for it: {}", answer.text);
    let rows = Evidence::of(&hub).await.ended(usize::try_from(hub.provider.count()).unwrap()).await;
    let last = rows.last().unwrap();
    assert_eq!((last.model.as_str(), last.input_tokens, last.output_tokens), ("beta", 1_000, 500));
    assert_eq!(last.cost.0, 2_000_000, "1,000 tokens at 0.001 and 500 at 0.002 a thousand");
    assert!(rows[..rows.len() - 1].iter().all(|row| row.model.as_str() == "alpha" && row.error_class.is_some()));
    hub.finish(Disturbance::None).await;
}

pub async fn tools_and_unknown_fields_survive() {
    let upstreams = vec![upstream("claude", Dialect::Messages, "sk-claude")];
    let models = vec![model("alpha", 7), model_at("claude", "opus", 6)];
    let hub = installation().upstreams(upstreams).models(models).start().await;
    hub.provider.script(Rule::model("opus", [Reply::parts([Part::tool_call("call_2", "add", ["{\"a\":1}"])])]));
    let tool = json!({"type": "function", "function": {"name": "add", "description": "adds",
        "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}}}});
    let call = json!({"id": "call_1", "type": "function", "function": {"name": "add", "arguments": "{\"a\":7}"}});
    let turns = json!([
        {"role": "user", "content": "add"},
        {"role": "assistant", "content": null, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "8"},
    ]);
    let answer = chat(&hub, &json!({"model": "opus", "messages": turns, "tools": [tool]})).await.expect(200);
    let sent = hub.provider.calls().pop().unwrap().body;
    assert_eq!(sent["tools"][0]["input_schema"]["properties"]["a"]["type"], "integer", "{sent}");
    assert_eq!(sent.pointer("/messages/1/content/0/id"), Some(&json!("call_1")), "{sent}");
    assert_eq!(sent.pointer("/messages/2/content/0/tool_use_id"), Some(&json!("call_1")), "{sent}");
    let called = &answer.body["choices"][0]["message"]["tool_calls"][0];
    assert_eq!((&called["id"], &called["function"]["name"]), (&json!("call_2"), &json!("add")), "{}", answer.text);

    let image = json!({"type": "image_url", "image_url": {"url": "data:image/png;base64,AA==", "detail": "low"}});
    let parts = json!([{"role": "user", "content": [{"type": "text", "text": "look"}, image]}]);
    let unknown = json!({"messages": parts, "a_field_of_tomorrow": {"deep": [1, 2]}});
    chat(&hub, &with(body("alpha"), &unknown)).await.expect(200);
    let sent = hub.provider.calls().pop().unwrap().body;
    assert_eq!((&sent["a_field_of_tomorrow"], &sent["messages"]), (&json!({"deep": [1, 2]}), &parts));
    hub.finish(Disturbance::None).await;
}

pub async fn a_schema_means_what_it_says() {
    let hub = installation().models(vec![model("alpha", 7)]).start().await;
    let schema = json!({"type": "object", "required": ["a"], "properties": {
        "a": {"type": "number"}, "b": {"enum": ["x", "y"]}, "c": {"type": "array", "items": {"type": "integer"}},
        "d": {"type": "object", "additionalProperties": false, "properties": {"e": {"type": "boolean"}}}}});
    let asked = json!({"request": {"messages": [{"role": "user", "content": "an object"}], "output_schema": schema}});
    let violations = [
        r#"{"a": "x"}"#,
        r#"{"a": 1, "b": "z"}"#,
        r#"{"a": 1, "c": [1, "2"]}"#,
        r#"{"a": 1, "d": {"e": "no"}}"#,
        r#"{"a": 1, "d": {"f": 1}}"#,
        r#""a string""#,
    ];
    for violation in violations {
        hub.provider.clear_script();
        hub.provider.script(Rule::any([Reply::text(violation), Reply::text(r#"{"a": 1}"#)]));
        let before = hub.provider.count();
        let answer = hub.post_with("/v1/chat", &[("x-tokenhub-durability", "none")], &asked).await.expect(200);
        assert_eq!(hub.provider.count() - before, 2, "{violation} is repaired once: {}", answer.text);
        assert!(answer.text.contains(r#"{\"a\": 1}"#), "{}", answer.text);
    }
    hub.provider.clear_script();
    hub.provider.script(Rule::any([Reply::text(violations[0])]));
    let before = hub.provider.count();
    hub.post_with("/v1/chat", &[("x-tokenhub-durability", "none")], &asked).await.expect(502);
    assert_eq!(hub.provider.count() - before, 2);
    hub.finish(Disturbance::None).await;
}

pub async fn a_judge_sees_answers_and_the_bill_sees_the_critic() {
    let models = vec![model("alpha", 7), model("beta", 6), model("delta", 5)];
    let hub = installation().models(models).start().await;
    hub.provider.script(Rule::model("alpha", [Reply::text("red").usage(10, 5)]));
    hub.provider.script(Rule::model("beta", [Reply::text("blue").usage(10, 5)]));
    hub.provider.script(Rule::model("delta", [Reply::judge_by("blue")]));
    let question = json!({"messages": [{"role": "user", "content": "which colour?"}]});
    let vote = json!({"mode": "vote", "voters": 2, "review_model_id": "delta"});
    let plan = hub.post("/v1/plan", &json!({"request": question, "orchestration": vote})).await.expect(200);
    assert!(plan.text.contains("blue"), "{}", plan.text);
    let judged = hub.provider.calls().into_iter().find(|call| call.model == "delta").unwrap();
    let shown = judged.body["messages"].to_string();
    assert!(shown.contains("red") && shown.contains("blue"), "{shown}");
    assert!(
        !shown.contains("alpha") && !shown.contains("beta"),
        "the judge must not know whose answer it reads: {shown}"
    );

    hub.provider.clear_script();
    hub.provider.script(Rule::any([Reply::text("a text").usage(1_000, 500)]));
    let duel = json!({"mode": "adversarial", "iterations": 1, "primary_model_id": "alpha", "review_model_id": "beta"});
    let plan = hub.post("/v1/plan", &json!({"request": question, "orchestration": duel})).await.expect(200);
    assert_eq!(plan.body["usage"]["calls"], 3, "plan, critique, revision: {}", plan.text);
    let cost = plan.body["usage"]["cost_usd"].as_f64().unwrap();
    assert!((cost - 3.0 * 0.002).abs() < 1e-9, "three calls of 0.002 dollars: {}", plan.text);
    let refine = json!({"mode": "refine", "iterations": 2, "primary_model_id": "alpha"});
    let plan = hub.post("/v1/plan", &json!({"request": question, "orchestration": refine})).await.expect(200);
    assert_eq!(plan.body["usage"]["calls"], 3, "an answer and two improvements: {}", plan.text);
    let stats: Value = admin(&hub, Method::GET, "rewards", &Value::Null).await.expect(200).body;
    assert!(stats["total"].as_u64().unwrap() >= 2, "{stats}");
    hub.finish(Disturbance::None).await;
}
