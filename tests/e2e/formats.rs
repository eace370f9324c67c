//! The forms of answers: the text changes, and id, token counts, tool calls and finish reason do not.

use serde_json::{Value, json};
use tokenhub_demo::{Reply, Rule};
use tokenhub_domain::Dialect;

use crate::{
    dialogue::path,
    harness::{Disturbance, TestHub},
};

fn native(tag: &str, format: &Value) -> Value {
    let request = json!({"messages": [{"role": "user", "content": tag}], "model_hint": "alpha"});
    json!({"request": request, "output_format": format})
}

#[tokio::test(flavor = "multi_thread")]
async fn each_form_is_made_alike_by_both_executors_and_by_directives() {
    let hub = TestHub::builder().environment("TOKENHUB_START_DEADLINE_MS", "15000").start().await;
    let think = "<think>hm `x`</think>";
    for (name, format, said, expected) in [
        ("json", "json", "Here:\n```json\n{\"a\": 1}\n```\nDone.".to_owned(), "{\"a\": 1}"),
        ("no-json", "json", "nothing".to_owned(), "nothing"),
        ("markdown", "markdown", "\n# Title\n\n".to_owned(), "# Title"),
        ("text", "text", "# Title\n2 * 3 = **6** `ok`".to_owned(), "Title\n2 * 3 = 6 ok"),
        ("xml", "xml", "Sure: <a><b>1</b></a> there".to_owned(), "<a><b>1</b></a>"),
        ("thinking", "text", format!("{think}\n*yes*"), "yes"),
    ] {
        let tag = format!("({name})");
        hub.provider.script(Rule::any([Reply::text(said)]).containing(&tag));
        for durability in ["required", "none"] {
            let headers = [("x-tokenhub-durability", durability)];
            let wish = native(&tag, &json!({"type": format, "strip_think": true}));
            let answer = hub.post_with("/v1/chat", &headers, &wish).await.expect(200);
            let response = &answer.body["response"];
            assert_eq!(response["choices"][0]["message"]["content"], expected, "{name} {durability}");
            let whole = hub.post_with("/v1/chat", &headers, &native(&tag, &json!({}))).await.expect(200);
            let mut unshaped = whole.body["response"].clone();
            unshaped["choices"][0]["message"]["content"] = json!(expected);
            for volatile in ["id", "created"] {
                assert!(response[volatile].is_string() || response[volatile].is_u64(), "{}", answer.text);
                unshaped[volatile] = response[volatile].clone();
            }
            assert_eq!(*response, unshaped, "everything else is the provider's");
            let directive = format!("{tag}\n@@tokenhub output_format={format} strip_think=true");
            let body =
                json!({"model": "alpha", "max_tokens": 90, "messages": [{"role": "user", "content": directive}]});
            let chat = hub.post_with(path(Dialect::Chat), &headers, &body).await.expect(200);
            assert_eq!(chat.body["choices"][0]["message"]["content"], expected, "{name}");
            let messages = hub.post_with(path(Dialect::Messages), &headers, &body).await.expect(200);
            assert_eq!(messages.body["content"][0]["text"], expected, "{name}");
        }
    }
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tool_calls_and_a_cut_answer_survive_and_the_limit_is_the_providers_to_count() {
    let hub = TestHub::builder().temporal_off().start().await;
    let call =
        json!([{"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{\"a\": \"# `x`\"}"}}]);
    let message = json!({"role": "assistant", "content": "# T", "tool_calls": call});
    hub.provider.script(Rule::any([Reply::message(message)]).containing("(tools)"));
    let mut asked = native("(tools)", &json!({"type": "text", "schema": {"type": "object"}}));
    asked["output_format"]["schema"] = json!({"type": "object", "required": ["never"]});
    let answer = hub.post("/v1/chat", &asked).await.expect(200);
    let choice = &answer.body["response"]["choices"][0];
    assert_eq!((&choice["message"]["tool_calls"], &choice["finish_reason"]), (&call, &json!("tool_calls")));
    assert_eq!(hub.provider.calls().len(), 1, "a turn that calls tools is no answer to be checked");

    hub.provider.script(Rule::any([Reply::text("ein längerer Text").finish_reason("length")]).containing("(cut)"));
    let answer = hub.post("/v1/chat", &native("(cut)", &json!({"type": "text", "max_tokens": 3}))).await.expect(200);
    assert_eq!(answer.body["response"]["choices"][0]["finish_reason"], "length");
    assert_eq!(hub.provider.calls().pop().unwrap().body["max_completion_tokens"], 3);
    let mut streamed = native("(cut)", &json!({"max_tokens": 3}));
    streamed["request"]["stream"] = json!(true);
    hub.post("/v1/chat", &streamed).await.expect(200);
    streamed["output_format"] = json!({"type": "text"});
    let refused = hub.post("/v1/chat", &streamed).await.expect(400);
    assert!(refused.body["error"].as_str().unwrap().starts_with("request.stream: "), "{}", refused.text);
    hub.finish(Disturbance::None).await;
}
