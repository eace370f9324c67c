//! The rules of blocks: when they begin, in which order they come, and that nothing of them is lost.

use serde_json::{Value, json};
use tokenhub_domain::Dialect::{Chat, Messages, Responses};

use super::whole::{Call, whole};
use super::{InEvent, LONG_NAME, call_delta, chat_delta, chat_stream, complete, outline};
use crate::convert::reasoning::wrap_signature;

fn messages_outline(deltas: &[&str], finish: &str) -> Vec<String> {
    outline(&complete(Chat, Messages, &chat_stream(deltas, finish)))
}

fn response(event: &'static str, mut fields: Value) -> InEvent {
    fields["type"] = json!(event);
    (event, fields.to_string())
}

fn completed(output: &Value) -> InEvent {
    response("response.completed", json!({"response": {"status": "completed", "output": output}}))
}

#[test]
fn rule_2_the_first_chat_chunk_has_the_role_and_empty_deltas_open_no_block() {
    let deltas =
        [r#"{"role":"assistant","content":"","refusal":null}"#, r#"{"content":""}"#, r#"{"reasoning_content":""}"#];
    assert_eq!(messages_outline(&deltas, "stop"), ["message_start", "message_delta", "message_stop"]);

    let start = [("message_start", json!({"type": "message_start", "message": {}}).to_string())];
    let first = super::converted(Messages, Chat, &start).0;
    let chunk: Value = serde_json::from_str(&first[0].data).unwrap();
    assert_eq!(chunk["choices"][0]["delta"]["role"], "assistant");
    assert_eq!(first.len(), 1);
}

#[test]
fn rule_3_interleaved_tool_deltas_come_out_one_block_after_the_other() {
    let deltas = [
        call_delta(0, Some("a"), "{\"x\""),
        call_delta(1, Some("b"), "{\"y\""),
        call_delta(0, None, ":1}"),
        call_delta(1, None, ":2}"),
    ];
    let deltas: Vec<&str> = deltas.iter().map(String::as_str).collect();
    let wanted = [
        "message_start",
        "start 0 tool_use",
        "delta 0 {\"x\"",
        "delta 0 :1}",
        "stop 0",
        "start 1 tool_use",
        "delta 1 {\"y\"",
        "delta 1 :2}",
        "stop 1",
        "message_delta",
        "message_stop",
    ];
    assert_eq!(messages_outline(&deltas, "tool_calls"), wanted);
}

#[test]
fn rule_4_text_and_tools_are_blocks_of_their_own_in_their_order() {
    let (first, second) = (call_delta(0, Some("a"), "{}"), call_delta(1, Some("b"), "{}"));
    let deltas = [r#"{"content":"one"}"#, &first, r#"{"content":"two"}"#, &second];
    let wanted = [
        "message_start",
        "start 0 text",
        "delta 0 one",
        "stop 0",
        "start 1 tool_use",
        "delta 1 {}",
        "stop 1",
        "start 2 text",
        "delta 2 two",
        "stop 2",
        "start 3 tool_use",
        "delta 3 {}",
        "stop 3",
        "message_delta",
        "message_stop",
    ];
    assert_eq!(messages_outline(&deltas, "tool_calls"), wanted);
}

#[test]
fn rule_4_text_that_interrupts_an_unfinished_tool_call_comes_after_it() {
    let (begun, rest) = (call_delta(0, Some("a"), "{\"x\":"), call_delta(0, None, "1}"));
    let deltas = [begun.as_str(), r#"{"content":"late"}"#, &rest, r#"{"content":"r"}"#];
    let wanted = [
        "message_start",
        "start 0 tool_use",
        "delta 0 {\"x\":",
        "delta 0 1}",
        "stop 0",
        "start 1 text",
        "delta 1 late",
        "delta 1 r",
        "stop 1",
        "message_delta",
        "message_stop",
    ];
    assert_eq!(messages_outline(&deltas, "tool_calls"), wanted);
}

#[test]
fn rule_4_thinking_closes_with_its_signature_which_only_its_issuer_can_use() {
    let signed = wrap_signature(&super::context().issuer, "sig");
    let item = json!({"type": "reasoning", "id": "r", "summary": [{"type": "summary_text", "text": "hm"}],
        "encrypted_content": "sig"});
    let done = response("response.output_item.done", json!({"output_index": 0, "item": item}));
    let out = outline(&complete(Responses, Messages, &[done, completed(&json!([item]))]));
    let signature = format!("delta 0 {signed}");
    assert_eq!(out[..5], ["message_start", "start 0 thinking", "delta 0 hm", signature.as_str(), "stop 0"]);
}

#[test]
fn rule_5_the_delta_that_opens_a_block_is_part_of_it() {
    let call = call_delta(0, Some("a"), "{\"x\":1}");
    let out = complete(Chat, Messages, &chat_stream(&[r#"{"reasoning":"R"}"#, r#"{"content":"T"}"#, &call], "stop"));
    let reply = whole(Messages, &out);
    assert_eq!((reply.reasoning.as_str(), reply.text.as_str()), ("R", "T"));
    assert_eq!(reply.calls, [Call::of("call_0", "a", "{\"x\":1}")]);
}

#[test]
fn rule_6_a_tool_block_waits_for_its_name_and_takes_it_once() {
    let deltas = [
        r#"{"tool_calls":[{"index":0,"function":{"arguments":"{\"x\""}}]}"#,
        r#"{"tool_calls":[{"index":0,"function":{"name":"a","arguments":":1"}}]}"#,
        r#"{"tool_calls":[{"index":0,"function":{"name":"a","arguments":"}"}}]}"#,
    ];
    for to in [Messages, Responses] {
        let out = complete(Chat, to, &chat_stream(&deltas, "tool_calls"));
        assert_eq!(whole(to, &out).calls, [Call::of("call_7_0", "a", "{\"x\":1}")]);
    }
    let unnamed = super::converted(Chat, Messages, &chat_stream(&deltas[..1], "tool_calls"));
    assert!(matches!(unnamed.1, Err(super::StreamError::Unreadable(_))));
}

#[test]
fn rule_6_calls_that_all_have_the_same_index_are_told_apart_by_their_ids() {
    let call = |id: &str| {
        format!(r#"{{"tool_calls":[{{"index":0,"id":"{id}","function":{{"name":"a","arguments":"{{}}"}}}}]}}"#)
    };
    let (first, second) = (call("x"), call("y"));
    let without_index = second.replace(r#""index":0,"#, "");
    for second in [second, without_index] {
        let out = complete(Chat, Messages, &chat_stream(&[&first, &second], "stop"));
        assert_eq!(whole(Messages, &out).calls, [Call::of("x", "a", "{}"), Call::of("y", "a", "{}")]);
    }
}

#[test]
fn rule_7_a_chunk_with_content_and_finish_reason_gives_both() {
    let last = r#"{"choices":[{"index":0,"delta":{"content":"all"},"finish_reason":"length"}]}"#.to_owned();
    for (to, finish) in [(Messages, "max_tokens"), (Responses, "incomplete max_output_tokens")] {
        let reply = whole(to, &complete(Chat, to, &[("", last.clone()), ("", "[DONE]".to_owned())]));
        assert_eq!((reply.text.as_str(), reply.finish.as_str()), ("all", finish));
    }
}

#[test]
fn rule_7_a_call_without_arguments_has_an_empty_object() {
    let start = json!({"type": "content_block_start", "index": 0,
        "content_block": {"type": "tool_use", "id": "t", "name": "n", "input": {}}});
    let events = [
        ("message_start", json!({"type": "message_start", "message": {}}).to_string()),
        ("content_block_start", start.to_string()),
        ("content_block_stop", json!({"type": "content_block_stop", "index": 0}).to_string()),
        ("message_delta", json!({"type": "message_delta", "delta": {"stop_reason": "tool_use"}}).to_string()),
        ("message_stop", json!({"type": "message_stop"}).to_string()),
    ];
    for to in [Chat, Responses] {
        assert_eq!(whole(to, &complete(Messages, to, &events)).calls, [Call::of("t", "n", "{}")]);
    }
    let call = call_delta(0, Some("n"), "");
    assert_eq!(whole(Messages, &complete(Chat, Messages, &chat_stream(&[&call], "stop"))).calls[0].arguments, "{}");
}

#[test]
fn rule_8_arguments_are_told_once_wherever_the_upstream_tells_them() {
    let item = |arguments: &str| json!({"type": "function_call", "call_id": "c", "name": "f", "arguments": arguments});
    let added = response("response.output_item.added", json!({"output_index": 0, "item": item("")}));
    let piece = |text: &str| {
        response("response.function_call_arguments.delta", json!({"output_index": 0, "item_id": "x", "delta": text}))
    };
    let done = response("response.function_call_arguments.done", json!({"output_index": 0, "arguments": "{\"a\":1}"}));
    let item_done = response("response.output_item.done", json!({"output_index": 0, "item": item("{\"a\":1}")}));
    let end = completed(&json!([item("{\"a\":1}")]));
    let all = [added, piece("{\"a\""), piece(":1}"), done, item_done, end];
    for kept in [&[0, 1, 2, 3, 4, 5][..], &[0, 3, 5], &[0, 1, 3, 5], &[0, 4, 5], &[1, 2, 4, 5], &[4, 5], &[5], &[0, 5]]
    {
        let events: Vec<InEvent> = kept.iter().map(|&index| all[index].clone()).collect();
        for to in [Chat, Messages] {
            let reply = whole(to, &complete(Responses, to, &events));
            assert_eq!(reply.calls, [Call::of("c", "f", "{\"a\":1}")], "{kept:?}");
        }
    }
}

#[test]
fn rule_9_the_index_of_a_chat_call_counts_calls_and_not_blocks() {
    let block = |index: usize, block: Value| {
        let start = json!({"type": "content_block_start", "index": index, "content_block": block});
        let stop = json!({"type": "content_block_stop", "index": index});
        [("content_block_start", start.to_string()), ("content_block_stop", stop.to_string())]
    };
    let mut events = vec![("message_start", json!({"type": "message_start", "message": {}}).to_string())];
    events.extend(block(0, json!({"type": "text", "text": "a"})));
    events.extend(block(1, json!({"type": "tool_use", "id": "t1", "name": "n", "input": {"x": 1}})));
    events.extend(block(2, json!({"type": "text", "text": "b"})));
    events.extend(block(3, json!({"type": "tool_use", "id": "t2", "name": "n", "input": {}})));
    events.push(("message_delta", json!({"type": "message_delta", "delta": {"stop_reason": "tool_use"}}).to_string()));
    events.push(("message_stop", json!({"type": "message_stop"}).to_string()));
    // The strict client asserts the indices.
    let reply = whole(Chat, &complete(Messages, Chat, &events));
    assert_eq!(reply.calls, [Call::of("t1", "n", "{\"x\": 1}".replace(' ', "").as_str()), Call::of("t2", "n", "{}")]);
    assert_eq!((reply.text.as_str(), reply.finish.as_str()), ("ab", "tool_calls"));
}

#[test]
fn rule_16_a_long_tool_name_comes_back_in_the_start_of_a_call() {
    let call = call_delta(0, Some("short"), "{}");
    for to in [Messages, Responses] {
        let reply = whole(to, &complete(Chat, to, &chat_stream(&[&call], "tool_calls")));
        assert_eq!(reply.calls[0].name, LONG_NAME.repeat(8));
    }
}

#[test]
fn rule_16_a_character_cut_in_two_halves_is_put_together() {
    let halves = [
        r#"{"tool_calls":[{"index":0,"id":"c","function":{"name":"f","arguments":"{\"a\":\"\ud83d"}}]}"#,
        r#"{"tool_calls":[{"index":0,"function":{"arguments":"\ude00\\u00e9\"}"}}]}"#,
    ];
    let out = complete(Chat, Messages, &chat_stream(&halves, "tool_calls"));
    assert_eq!(whole(Messages, &out).calls[0].arguments, "{\"a\":\"😀\\u00e9\"}");

    let text = [r#"{"content":"\ud83d"}"#, r#"{"content":"\ude00!"}"#, r#"{"content":"\ud83d"}"#];
    let out = complete(Chat, Responses, &chat_stream(&text, "stop"));
    assert_eq!(whole(Responses, &out).text, "😀!\u{FFFD}");
}

#[test]
fn a_free_form_call_is_unwrapped_for_its_client() {
    let pieces = [call_delta(0, Some("patch"), "{\"inp"), call_delta(0, None, "ut\":\"*** \\n\\\"x\\\"\"}")];
    let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
    let reply = whole(Responses, &complete(Chat, Responses, &chat_stream(&pieces, "tool_calls")));
    assert_eq!(reply.calls, [Call::of("call_0", "patch", "*** \n\"x\"")]);
}

#[test]
fn a_second_choice_is_not_mixed_into_the_first() {
    let second = chat_delta(r#"{"content":"no"}"#).replace(r#""index":0"#, r#""index":1"#);
    let mut events = chat_stream(&[r#"{"content":"yes"}"#], "stop");
    events.insert(1, ("", second));
    assert_eq!(whole(Messages, &complete(Chat, Messages, &events)).text, "yes");
}
