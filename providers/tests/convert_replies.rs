//! Replies: what is restored for the client, what the gateway reads out of them, and what is no reply.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tokenhub_domain::{AttemptId, Dialect, answer_text};
use tokenhub_providers::convert::{
    self, Abilities, ConvertError, ConvertedRequest, Finish, Issuer, ReplyContext, Target, ToolNames,
};

use Dialect::{Chat, Messages, Responses};

fn issuer(provider: &str) -> Issuer {
    Issuer { provider: provider.into(), model: "m".into() }
}

fn target_of(provider: &str) -> Target {
    Target { issuer: issuer(provider), max_output_tokens: None, abilities: Abilities::default() }
}

fn context_of(provider: &str, converted: Option<&ConvertedRequest>) -> ReplyContext {
    ReplyContext {
        attempt: AttemptId::new("att_1"),
        model: "asked-for".to_owned(),
        created_secs: 1,
        issuer: issuer(provider),
        tool_names: converted.map_or_else(ToolNames::new, |converted| converted.tool_names.clone()),
        free_form_tools: converted.map_or_else(BTreeSet::new, |converted| converted.free_form_tools.clone()),
    }
}

fn try_with(from: Dialect, to: Dialect, body: &Value, target: &Target) -> Result<ConvertedRequest, ConvertError> {
    convert::request(from, to, body.as_object().unwrap(), target)
}

fn request(from: Dialect, to: Dialect, body: &Value) -> Value {
    Value::Object(try_with(from, to, body, &target_of("p")).unwrap().body)
}

fn user(content: impl Into<Value>) -> Value {
    json!({"role": "user", "content": content.into()})
}

#[test]
fn cached_and_written_tokens_of_messages_are_inside_a_chat_prompt() {
    let usage = json!({"input_tokens": 5, "cache_read_input_tokens": 100, "cache_creation_input_tokens": 20,
        "output_tokens": 1});
    let body = json!({"content": [{"type": "text", "text": "a"}], "stop_reason": "end_turn", "usage": usage});
    let out = convert::reply(Messages, Chat, &body, &context_of("p", None)).unwrap().body;
    assert_eq!(out["usage"]["prompt_tokens"], 125);
    assert_eq!(out["usage"]["prompt_tokens_details"]["cached_tokens"], 100);
}

#[test]
fn a_limit_wins_over_tool_calls() {
    let call = json!({"id": "c", "type": "function", "function": {"name": "f", "arguments": "{\"a\":"}});
    let body = json!({"choices": [{"message": {"content": null, "tool_calls": [call]}, "finish_reason": "length"}]});
    let out = convert::reply(Chat, Messages, &body, &context_of("p", None)).unwrap().body;
    assert_eq!(out["stop_reason"], "max_tokens");
}

#[test]
fn a_signature_is_sent_to_its_issuer_only_and_comes_back_unchanged() {
    let thought = json!({"type": "thinking", "thinking": "hm\n ", "signature": "EqQB+/="});
    let reply = json!({"content": [thought, {"type": "text", "text": "a"}], "stop_reason": "end_turn"});
    let out = convert::reply(Messages, Responses, &reply, &context_of("p", None)).unwrap().body;
    let mut input = vec![user(json!("go"))];
    input.extend(out["output"].as_array().unwrap().clone());
    input.push(user(json!("on")));
    let body = json!({"model": "m", "input": input});
    let to_other = try_with(Responses, Messages, &body, &target_of("q")).unwrap();
    let text = Value::Object(to_other.body).to_string();
    assert!(!text.contains("EqQB") && !text.contains("thinking"), "{text}");
    let back = request(Responses, Messages, &body);
    assert_eq!(back["messages"][1]["content"][0], thought);
}

#[test]
fn a_free_form_tool_is_wrapped_and_its_call_unwrapped() {
    let body = json!({"model": "m", "input": "a", "tools": [{"type": "custom", "name": "apply_patch"}]});
    for to in [Chat, Messages] {
        let converted = try_with(Responses, to, &body, &target_of("p")).unwrap();
        let context = context_of("p", Some(&converted));
        let arguments = json!({"input": "*** \"x\""});
        let reply = if to == Chat {
            json!({"choices": [{"message": {"tool_calls": [{"id": "c", "type": "function",
                "function": {"name": "apply_patch", "arguments": arguments.to_string()}}]}}]})
        } else {
            json!({"content": [{"type": "tool_use", "id": "c", "name": "apply_patch", "input": arguments}]})
        };
        let item = convert::reply(to, Responses, &reply, &context).unwrap().body["output"][0].clone();
        assert_eq!((&item["type"], &item["input"]), (&json!("custom_tool_call"), &json!("*** \"x\"")));
    }
}

#[test]
fn the_facts_of_a_reply_are_the_same_in_every_protocol() {
    let context = context_of("p", None);
    let chat_reply = json!({"model": "real", "choices": [{"message": {"content": "a\nb", "reasoning_content": "hm"},
        "finish_reason": "length"}], "usage": {"prompt_tokens": 7, "completion_tokens": 3}});
    let of_chat = convert::facts(Chat, &chat_reply);
    assert_eq!(of_chat.text, answer_text(&chat_reply));
    assert_eq!((of_chat.finish_raw.as_deref(), of_chat.model.as_deref()), (Some("length"), Some("real")));
    assert_eq!(of_chat.usage_json.as_deref(), Some(r#"{"prompt_tokens":7,"completion_tokens":3}"#));
    for to in [Responses, Messages] {
        let other = Value::Object(convert::reply(Chat, to, &chat_reply, &context).unwrap().body);
        let facts = convert::facts(to, &other);
        assert_eq!((&facts.text, &facts.finish, &facts.usage), (&of_chat.text, &of_chat.finish, &of_chat.usage));
    }
    assert_eq!(of_chat.finish, Some(Finish::Length));
}

#[test]
fn only_a_reply_without_an_answer_is_a_refusal() {
    let refusal = |dialect, body: Value| convert::facts(dialect, &body).refusal;
    let of_chat = |message: Value, reason: &str| {
        refusal(Chat, json!({"choices": [{"message": message, "finish_reason": reason}]}))
    };
    assert_eq!(of_chat(json!({"content": null, "refusal": "no"}), "stop").as_deref(), Some("no"));
    assert!(of_chat(json!({"content": ""}), "content_filter").is_some());
    assert_eq!(of_chat(json!({"content": "partly"}), "content_filter"), None);
    assert!(refusal(Messages, json!({"content": [], "stop_reason": "refusal"})).is_some());
    let part = json!({"type": "message", "content": [{"type": "refusal", "refusal": "no"}]});
    assert_eq!(refusal(Responses, json!({"status": "completed", "output": [part]})).as_deref(), Some("no"));
    assert_eq!(convert::facts(Messages, &json!("nonsense")), convert::ReplyFacts::default());
}

#[test]
fn what_is_no_reply_of_its_protocol_is_an_error() {
    let context = context_of("p", None);
    let bodies = [
        (Chat, json!({"choices": []})),
        (Chat, json!({"error": {"message": "x"}})),
        (Messages, json!({"type": "error", "error": {"type": "api_error", "message": "x"}})),
        (Responses, json!({"status": "failed", "error": {"code": "server_error", "message": "x"}, "output": []})),
        (Responses, json!([])),
    ];
    for (from, body) in bodies {
        let to = if from == Messages { Chat } else { Messages };
        assert!(matches!(convert::reply(from, to, &body, &context), Err(ConvertError::Reply(_))), "{body}");
    }
}

#[test]
fn a_completed_response_with_calls_calls_tools_whatever_else_is_in_it() {
    let body = json!({"status": "completed", "error": null, "output": [{"type": "file_search_call", "id": "x"},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": ""}]});
    let out = convert::reply(Responses, Messages, &body, &context_of("p", None)).unwrap();
    assert_eq!(out.body["stop_reason"], "tool_use");
    assert_eq!(out.body["content"], json!([{"type": "tool_use", "id": "c", "name": "f", "input": {}}]));
    let fields: Vec<_> = out.losses.iter().map(|loss| loss.field.as_str()).collect();
    assert_eq!(fields, ["output[0]", "usage"]);
}

#[test]
fn reasoning_of_which_nothing_is_shown_or_kept_leaves_no_empty_block() {
    let item = json!({"type": "reasoning", "id": "rs_1", "summary": []});
    let text = json!({"type": "message", "content": [{"type": "output_text", "text": "a"}]});
    let body = json!({"status": "completed", "output": [item, text], "usage": {}});
    let out = convert::reply(Responses, Messages, &body, &context_of("p", None)).unwrap().body;
    assert_eq!(out["content"], json!([{"type": "text", "text": "a"}]));
}

#[test]
fn places_of_links_are_counted_in_the_whole_text() {
    let citation = json!({"type": "web_search_result_location", "url": "https://example.com", "title": "t"});
    let body = json!({"content": [{"type": "text", "text": "\u{e9}\u{e9} "}, {"type": "text", "text": "cd",
        "citations": [citation]}], "stop_reason": "end_turn"});
    let out = convert::reply(Messages, Chat, &body, &context_of("p", None)).unwrap().body;
    let link = &out["choices"][0]["message"]["annotations"][0]["url_citation"];
    assert_eq!((&link["start_index"], &link["end_index"]), (&json!(3), &json!(5)));
}
