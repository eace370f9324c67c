//! The rules of conversion that one pair of files cannot show: what is refused, and what a conversation does over turns.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use serde_json::{Value, json};
use tokenhub_domain::Dialect;
use tokenhub_providers::convert::{
    self, Abilities, ConvertError, ConvertedRequest, Effort, Issuer, ReasoningBack, SystemBlocks, SystemInside, Target,
    ThinkingForm,
};

use Dialect::{Chat, Messages, Responses};

fn issuer(provider: &str) -> Issuer {
    Issuer { provider: provider.into(), model: "m".into() }
}

fn target_of(provider: &str) -> Target {
    Target { issuer: issuer(provider), max_output_tokens: None, abilities: Abilities::default() }
}

fn try_with(from: Dialect, to: Dialect, body: &Value, target: &Target) -> Result<ConvertedRequest, ConvertError> {
    convert::request(from, to, body.as_object().unwrap(), target)
}

fn request(from: Dialect, to: Dialect, body: &Value) -> Value {
    Value::Object(try_with(from, to, body, &target_of("p")).unwrap().body)
}

fn lost(from: Dialect, to: Dialect, body: &Value) -> Vec<String> {
    let converted = try_with(from, to, body, &target_of("p")).unwrap();
    converted.losses.into_iter().map(|loss| loss.field).collect()
}

/// The parameter that is refused.
fn refused(from: Dialect, to: Dialect, body: &Value) -> String {
    match try_with(from, to, body, &target_of("p")) {
        Err(ConvertError::Invalid { param, .. }) => param,
        other => format!("{other:?}"),
    }
}

fn user(content: impl Into<Value>) -> Value {
    json!({"role": "user", "content": content.into()})
}

fn chat(messages: impl Into<Value>) -> Value {
    json!({"model": "m", "messages": messages.into()})
}

fn messages(turns: impl Into<Value>) -> Value {
    json!({"model": "m", "max_tokens": 100, "messages": turns.into()})
}

#[test]
fn cache_marks_of_messages_do_not_reach_chat() {
    let mark = json!({"type": "ephemeral"});
    let mut body = messages(json!([user(json!([{"type": "text", "text": "a", "cache_control": mark}]))]));
    body["system"] = json!([{"type": "text", "text": "s1", "cache_control": mark}, {"type": "text", "text": "s2"}]);
    body["tools"] = json!([{"name": "f", "input_schema": {"type": "object"}, "cache_control": mark}]);
    let converted = try_with(Messages, Chat, &body, &target_of("p")).unwrap();
    assert!(!Value::Object(converted.body).to_string().contains("cache_control"));
    assert!(converted.losses.is_empty());
}

#[test]
fn results_before_text_become_tool_messages_in_order_and_then_a_user_message() {
    let call = |id| json!({"type": "tool_use", "id": id, "name": "f", "input": {}});
    let result = |id| json!({"type": "tool_result", "tool_use_id": id, "content": id});
    let body = messages(json!([user(json!("go")), {"role": "assistant", "content": [call("A"), call("B")]},
        user(json!([result("A"), result("B"), {"type": "text", "text": "now"}]))]));
    let out = request(Messages, Chat, &body);
    assert_eq!(
        out["messages"].as_array().unwrap()[2..],
        [
            json!({"role": "tool", "tool_call_id": "A", "content": "A"}),
            json!({"role": "tool", "tool_call_id": "B", "content": "B"}),
            user(json!("now")),
        ]
    );
}

fn codex_history(encrypted: &str) -> Value {
    let call = |id| json!({"type": "function_call", "call_id": id, "name": "f", "arguments": "{}"});
    let output = |id| json!({"type": "function_call_output", "call_id": id, "output": "ok"});
    json!({"model": "m", "reasoning": {"effort": "high"}, "max_output_tokens": 9000, "input": [
        user(json!("go")),
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}], "encrypted_content": encrypted},
        call("1"), call("2"), output("1"), output("2")]})
}

#[test]
fn reasoning_calls_and_outputs_become_one_assistant_turn_and_one_user_turn() {
    let own = convert::wrap_signature(&issuer("p"), "SIG");
    let out = request(Responses, Messages, &codex_history(&own));
    let kinds = |message: &Value| -> Vec<Value> {
        message["content"].as_array().unwrap().iter().map(|block| block["type"].clone()).collect()
    };
    assert_eq!(out["messages"].as_array().unwrap().len(), 3);
    assert_eq!(kinds(&out["messages"][1]), ["thinking", "tool_use", "tool_use"]);
    assert_eq!(out["messages"][1]["content"][0]["signature"], "SIG");
    assert_eq!(kinds(&out["messages"][2]), ["tool_result", "tool_result"]);
    assert_eq!(out["thinking"], json!({"type": "enabled", "budget_tokens": 4096}));
}

#[test]
fn an_answered_call_whose_thinking_is_another_s_switches_thinking_off() {
    let foreign = convert::wrap_signature(&issuer("q"), "SIG");
    let out = request(Responses, Messages, &codex_history(&foreign));
    assert_eq!(out["messages"][1]["content"][0]["type"], "tool_use");
    assert_eq!(out.get("thinking"), None);
    assert_eq!(lost(Responses, Messages, &codex_history(&foreign)), ["input[1]", "reasoning.effort"]);
}

#[test]
fn without_tools_there_is_neither_a_choice_nor_a_parallel_flag() {
    let mut body = chat(json!([user(json!("a"))]));
    body["parallel_tool_calls"] = json!(false);
    assert_eq!(request(Chat, Messages, &body).get("tool_choice"), None);
    assert_eq!(request(Chat, Responses, &body).get("parallel_tool_calls"), None);
    body["tools"] = json!([{"type": "function", "function": {"name": "f"}}]);
    let out = request(Chat, Messages, &body);
    assert_eq!(out["tool_choice"], json!({"type": "auto", "disable_parallel_tool_use": true}));
    body["tool_choice"] = json!("none");
    assert_eq!(request(Chat, Messages, &body)["tool_choice"], json!({"type": "none"}));
}

#[test]
fn state_that_only_a_responses_server_keeps_is_refused_by_name() {
    let cases = [
        ("previous_response_id", json!("resp_1")),
        ("conversation", json!({"id": "conv_1"})),
        ("background", json!(true)),
        ("prompt", json!({"id": "pmpt_1"})),
    ];
    for to in [Chat, Messages] {
        for (name, value) in &cases {
            let mut body = json!({"model": "m", "input": "a"});
            body[*name] = value.clone();
            assert_eq!(refused(Responses, to, &body), *name);
        }
        let reference = json!({"model": "m", "input": [{"type": "item_reference", "id": "msg_1"}]});
        assert_eq!(refused(Responses, to, &reference), "input[0]");
        assert_eq!(request(Responses, to, &json!({"input": "a", "background": false}))["messages"][0]["role"], "user");
    }
}

#[test]
fn a_budget_stays_below_the_output_limit_and_needs_room() {
    let ask = |max_tokens: u64| {
        let mut body = chat(json!([user(json!("a"))]));
        body["reasoning_effort"] = json!("high");
        body["max_tokens"] = json!(max_tokens);
        request(Chat, Messages, &body).get("thinking").cloned()
    };
    assert_eq!(ask(1000), None);
    assert_eq!(ask(1024), None);
    assert_eq!(ask(3000), Some(json!({"type": "enabled", "budget_tokens": 2999})));
    assert_eq!(ask(9000), Some(json!({"type": "enabled", "budget_tokens": 4096})));
}

#[test]
fn tools_are_part_of_the_estimate() {
    let tool = |index: u32| json!({"name": format!("t{index}"), "input_schema": {"type": "object"}});
    let mut body = messages(json!([user(json!("Hello"))]));
    let bare = convert::estimate_input_tokens(Messages, body.as_object().unwrap());
    body["tools"] = (0..30).map(tool).collect();
    assert!(convert::estimate_input_tokens(Messages, body.as_object().unwrap()) > bare + 30);
}

#[test]
fn a_missing_result_is_empty_and_an_image_in_one_is_a_placeholder_and_a_loss() {
    let history = |content: Value| {
        messages(json!([user(json!("go")),
            {"role": "assistant", "content": [{"type": "tool_use", "id": "A", "name": "f", "input": {}}]},
            user(json!([{"type": "tool_result", "tool_use_id": "A", "content": content}]))]))
    };
    for to in [Chat, Responses] {
        let out = request(Messages, to, &history(Value::Null));
        let result = if to == Chat { &out["messages"][2]["content"] } else { &out["input"][2]["output"] };
        assert_eq!(result, "", "{out}");
    }
    let image = json!([{"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "QUJD"}}]);
    assert_eq!(request(Messages, Chat, &history(image.clone()))["messages"][2]["content"], "[image]");
    assert_eq!(lost(Messages, Chat, &history(image)), ["messages[2].content[0].content[0].source"]);
}

#[test]
fn towards_responses_a_function_is_strict_only_when_it_says_so() {
    let mut body = messages(json!([user(json!("a"))]));
    body["tools"] = json!([{"type": "custom", "name": "f"}, {"name": "g", "strict": true}]);
    let out = request(Messages, Responses, &body);
    assert_eq!(out["tools"][0]["strict"], false);
    assert_eq!(out["tools"][0]["type"], "function");
    assert_eq!(out["tools"][1]["strict"], true);
}

#[test]
fn a_turn_of_tool_calls_only_has_null_content() {
    let call = json!({"type": "tool_use", "id": "A", "name": "f", "input": {}});
    let body = messages(json!([user(json!("a")), {"role": "assistant", "content": [call]}]));
    let out = request(Messages, Chat, &body);
    assert_eq!(out["messages"][1].get("content"), Some(&Value::Null));
    assert_eq!(out["messages"][2]["tool_call_id"], "A", "a call is always answered");
}

#[test]
fn an_unknown_tool_list_is_refused_and_an_unknown_tool_among_others_is_lost() {
    let mut body = json!({"model": "m", "input": "a", "tools": [{"type": "web_search"}]});
    assert_eq!(refused(Responses, Messages, &body), "tools");
    body["tools"] = json!([{"type": "web_search"}, {"type": "function", "name": "f"}]);
    assert_eq!(lost(Responses, Messages, &body), ["tools[0]"]);
}

#[test]
fn allowed_tools_filter_the_declarations_unless_none_is_known() {
    let allowed = |name: &str| {
        json!({"model": "m", "input": "a", "tools": [{"type": "function", "name": "f"}, {"type": "function", "name": "g"}],
            "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": name}]}})
    };
    let tools = |name| request(Responses, Messages, &allowed(name))["tools"].as_array().unwrap().len();
    assert_eq!((tools("g"), tools("unknown")), (1, 2));
}

#[test]
fn wrong_types_and_values_are_refused_with_their_path() {
    let image = |url: &str| {
        let plain = chat(json!([user(json!("a")), user(json!("b"))]));
        let mut body = plain;
        body["messages"][1]["content"] = json!([{"type": "image_url", "image_url": {"url": url}}]);
        body
    };
    let path = "messages[1].content[0].image_url.url";
    assert_eq!(refused(Chat, Messages, &image("data:image/png;base64,@@@@")), path);
    assert_eq!(refused(Chat, Responses, &image("data:image/png,abcd")), path);
    assert_eq!(refused(Chat, Messages, &image("file:///etc/passwd")), path);
    let with = |name: &str, value: Value| {
        let mut body = chat(json!([user(json!("a"))]));
        body[name] = value;
        refused(Chat, Messages, &body)
    };
    assert_eq!(with("n", json!(2)), "n");
    assert_eq!(with("temperature", json!("hot")), "temperature");
    assert_eq!(with("temperature", json!(3)), "temperature");
    assert_eq!(with("max_tokens", json!(-1)), "max_tokens");
    assert_eq!(with("max_tokens", json!(0)), "max_tokens");
    assert_eq!(with("stop", json!([1])), "stop[0]");
    assert_eq!(with("tools", json!([{"type": "function", "function": {}}])), "tools[0].function.name");
    assert_eq!(with("reasoning_effort", json!(1)), "reasoning_effort");
    assert_eq!(with("messages", json!([{"role": "wizard"}])), "messages[0].role");
    assert_eq!(with("messages", json!("a")), "messages");
    let audio = chat(json!([user(json!([{"type": "input_audio", "input_audio": {"data": "QUJD", "format": "wav"}}]))]));
    assert_eq!(refused(Chat, Messages, &audio), "messages[0].content[0].input_audio");
    assert_eq!(request(Chat, Responses, &audio)["input"][0]["content"][0]["type"], "input_audio");
    let file = messages(json!([user(json!([{"type": "image", "source": {"type": "file", "file_id": "f_1"}}]))]));
    assert_eq!(refused(Messages, Chat, &file), "messages[0].content[0].source");
    assert_eq!(refused(Messages, Responses, &file), "messages[0].content[0].source");
}

#[test]
fn a_conversation_begins_with_a_user_and_has_something_to_say() {
    let assistant = json!({"role": "assistant", "content": "a"});
    assert_eq!(refused(Chat, Messages, &chat(json!([assistant, user(json!("b"))]))), "messages");
    assert_eq!(refused(Responses, Messages, &json!({"input": [user(json!("  "))]})), "input");
    assert_eq!(refused(Messages, Chat, &messages(json!([user(json!(""))]))), "messages");
    let blank_between = chat(json!([user(json!("a")), {"role": "assistant", "content": " "}, user(json!("b"))]));
    assert_eq!(request(Chat, Messages, &blank_between)["messages"].as_array().unwrap().len(), 1);
    assert_eq!(lost(Messages, Chat, &messages(json!([user(json!("a")), assistant]))), ["messages"]);
}

#[test]
fn what_the_target_is_known_to_understand_changes_its_request() {
    let abilities = Abilities {
        thinking: ThinkingForm::Adaptive,
        efforts: vec![Effort::Low, Effort::High],
        system_inside: SystemInside::Taken,
        system_blocks: SystemBlocks::Parts,
        reasoning_back: ReasoningBack::Sent,
        ..Abilities::default()
    };
    let target = Target { abilities, ..target_of("p") };
    let of = |from, to, body: &Value| Value::Object(try_with(from, to, body, &target).unwrap().body);
    let system = json!({"role": "system", "content": "s"});
    let mut body = chat(json!([user(json!("a")), system, user(json!("b"))]));
    body["reasoning_effort"] = json!("medium");
    let out = of(Chat, Messages, &body);
    assert_eq!(out["messages"][1]["role"], "system");
    assert_eq!((&out["thinking"]["type"], &out["output_config"]["effort"]), (&json!("adaptive"), &json!("low")));
    let thought = json!({"type": "thinking", "thinking": "hm", "signature": "s"});
    let mut body = messages(json!([user(json!("a")), {"role": "assistant", "content": [thought,
        {"type": "text", "text": "b"}]}, user(json!("c"))]));
    body["system"] = json!([{"type": "text", "text": "x"}, {"type": "text", "text": "y"}]);
    body["thinking"] = json!({"type": "disabled"});
    let out = of(Messages, Chat, &body);
    assert_eq!(out["messages"][0]["content"].as_array().unwrap().len(), 2);
    assert_eq!(out["messages"][2]["reasoning_content"], "hm");
    assert_eq!(out["reasoning_effort"], "low");
}

#[test]
fn an_absent_output_limit_is_the_model_s_own_or_a_large_one() {
    let body = chat(json!([user(json!("a"))]));
    assert_eq!(request(Chat, Messages, &body)["max_tokens"], convert::UNKNOWN_OUTPUT_LIMIT_TOKENS);
    let target = Target { max_output_tokens: Some(64_000), ..target_of("p") };
    assert_eq!(try_with(Chat, Messages, &body, &target).unwrap().body["max_tokens"], 64_000);
    let small = json!({"max_tokens": 1, "messages": [user(json!("a"))]});
    assert_eq!(request(Messages, Responses, &small)["max_output_tokens"], 16);
}

#[test]
fn a_same_protocol_request_is_returned_as_it_is() {
    let body = json!({"anything": [1, null], "messages": "not even a list"});
    for dialect in Dialect::ALL {
        assert_eq!(request(dialect, dialect, &body), body);
    }
}
