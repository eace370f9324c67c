//! Habits of single servers that the protocols do not forbid, and what must not wait.

use serde_json::json;
use tokenhub_domain::Dialect::{Chat, Messages, Responses};

use super::whole::{Call, whole};
use super::{InEvent, StreamConverter, call_delta, chat_delta, chat_stream, complete, context, outline};

fn responses_event(name: &'static str, fields: serde_json::Value) -> InEvent {
    let mut data = json!({"type": name});
    if let (Some(data), serde_json::Value::Object(fields)) = (data.as_object_mut(), fields) {
        data.extend(fields);
    }
    (name, data.to_string())
}

#[test]
fn what_is_complete_is_sent_at_once() {
    let mut converter = StreamConverter::new(Chat, Messages, context());
    let mut push = |delta: &str| outline(&converter.push("", chat_delta(delta).as_bytes()).unwrap());
    assert_eq!(push(r#"{"content":"a"}"#), ["message_start", "start 0 text", "delta 0 a"]);
    assert_eq!(push(&call_delta(0, Some("f"), "{\"x\"")), ["stop 0", "start 1 tool_use", "delta 1 {\"x\""]);
    assert_eq!(push(&call_delta(1, Some("g"), "{")), Vec::<String>::new());
    assert_eq!(push(&call_delta(1, None, "}")), Vec::<String>::new());
    assert_eq!(push(&call_delta(0, None, ":1}")), ["delta 1 :1}", "stop 1", "start 2 tool_use", "delta 2 {}"]);
    assert_eq!(push(r#"{"content":"b"}"#), ["stop 2", "start 3 text", "delta 3 b"]);
}

#[test]
fn white_space_behind_a_complete_call_is_dropped_and_anything_else_is_an_error() {
    let (first, second) = (call_delta(0, Some("f"), "{}"), call_delta(1, Some("g"), "{}"));
    let blank = call_delta(0, None, " \n");
    let out = complete(Chat, Messages, &chat_stream(&[&first, &second, &blank], "tool_calls"));
    assert_eq!(whole(Messages, &out).calls[0].arguments, "{}");
    let more = call_delta(0, None, "{\"x\":1}");
    let (_, end) = super::converted(Chat, Messages, &chat_stream(&[&first, &second, &more], "tool_calls"));
    assert!(matches!(end, Err(super::StreamError::Unreadable(_))));
}

#[test]
fn the_older_form_of_a_chat_call_and_arguments_that_are_an_object_are_read() {
    let older = [r#"{"function_call":{"name":"f","arguments":"{\"a\""}}"#, r#"{"function_call":{"arguments":":1}"}}"#];
    let object = [r#"{"tool_calls":[{"index":0,"id":"c","function":{"name":"f","arguments":{"a":1}}}]}"#];
    for (deltas, id) in [(&older[..], "call_7_0"), (&object[..], "c")] {
        let out = complete(Chat, Messages, &chat_stream(deltas, "function_call"));
        assert_eq!(whole(Messages, &out).calls, [Call::of(id, "f", "{\"a\":1}")]);
    }
}

#[test]
fn calls_with_the_same_id_get_ids_that_differ() {
    let same = |index: usize| call_delta(index, Some("f"), "{}").replace(&format!("call_{index}"), "same");
    let out = complete(Chat, Messages, &chat_stream(&[&same(0), &same(1)], "tool_calls"));
    let ids: Vec<String> = whole(Messages, &out).calls.into_iter().map(|call| call.id).collect();
    assert_eq!(ids, ["same", "call_7_1"]);
}

#[test]
fn chat_content_in_parts_is_read_thoughts_among_them() {
    let deltas = [
        r#"{"content":[{"type":"thinking","thinking":[{"type":"text","text":"hm"}]}]}"#,
        r#"{"content":[{"type":"text","text":"yes"}]}"#,
        r#"{"reasoning":"", "reasoning_content":null, "content":"!"}"#,
    ];
    let reply = whole(Responses, &complete(Chat, Responses, &chat_stream(&deltas, "stop")));
    assert_eq!((reply.reasoning.as_str(), reply.text.as_str()), ("hm", "yes!"));
}

#[test]
fn a_thought_that_is_told_in_both_fields_is_told_once() {
    let both = [r#"{"reasoning":"hm","reasoning_content":"hm"}"#];
    assert_eq!(whole(Messages, &complete(Chat, Messages, &chat_stream(&both, "stop"))).reasoning, "hm");
}

#[test]
fn items_without_a_place_and_with_changing_ids_are_told_apart() {
    let message = json!({"type": "message", "content": [{"type": "output_text", "text": "hi"}]});
    let call = json!({"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"});
    let events = [
        responses_event("response.output_item.added", json!({"item": {"type": "message", "id": "a"}})),
        responses_event("response.output_text.delta", json!({"item_id": "b", "delta": "hi"})),
        responses_event("response.output_item.done", json!({"item": message})),
        responses_event(
            "response.output_item.added",
            json!({"item": {"type": "function_call", "call_id": "c", "name": "f"}}),
        ),
        responses_event("response.function_call_arguments.delta", json!({"item_id": "d", "delta": "{}"})),
        responses_event("response.output_item.done", json!({"item": call})),
        responses_event("response.completed", json!({"response": {"status": "completed", "output": [message, call]}})),
    ];
    let reply = whole(Messages, &complete(Responses, Messages, &events));
    assert_eq!((reply.text.as_str(), &reply.calls[..]), ("hi", &[Call::of("c", "f", "{}")][..]));
}

#[test]
fn a_summary_and_the_thought_itself_are_not_both_told() {
    let item = json!({"type": "reasoning", "summary": [{"type": "summary_text", "text": "short"}],
        "content": [{"type": "reasoning_text", "text": "long"}]});
    let end = responses_event("response.completed", json!({"response": {"status": "completed", "output": [item]}}));
    assert_eq!(whole(Chat, &complete(Responses, Chat, std::slice::from_ref(&end))).reasoning, "short");
    let piece = responses_event("response.reasoning_text.delta", json!({"output_index": 0, "delta": "long"}));
    assert_eq!(whole(Chat, &complete(Responses, Chat, &[piece, end])).reasoning, "long");
}

#[test]
fn a_free_form_call_of_a_responses_upstream_is_wrapped_for_other_clients() {
    let item = json!({"type": "custom_tool_call", "call_id": "c", "name": "edit", "input": "a \"b\""});
    let events = [
        responses_event(
            "response.output_item.added",
            json!({"output_index": 0, "item": {"type": "custom_tool_call", "call_id": "c", "name": "edit", "input": ""}}),
        ),
        responses_event("response.custom_tool_call_input.delta", json!({"output_index": 0, "delta": "a"})),
        responses_event("response.output_item.done", json!({"output_index": 0, "item": item})),
        responses_event("response.completed", json!({"response": {"status": "completed", "output": [item]}})),
    ];
    for to in [Chat, Messages] {
        let reply = whole(to, &complete(Responses, to, &events));
        assert_eq!(reply.calls, [Call::of("c", "edit", r#"{"input":"a \"b\""}"#)]);
    }
}

#[test]
fn a_citation_without_an_address_and_a_link_towards_messages_are_losses() {
    let lost = |from, to, events: &[InEvent]| {
        let mut converter = StreamConverter::new(from, to, context());
        for (name, data) in events {
            converter.push(name, data.as_bytes()).unwrap();
        }
        converter.losses().iter().map(|loss| loss.field.clone()).collect::<Vec<_>>()
    };
    let block = |delta: &str| {
        let events = [
            r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#.to_owned(),
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"a"}}"#.to_owned(),
            format!(
                r#"{{"type":"content_block_delta","index":0,"delta":{{"type":"citations_delta","citation":{delta}}}}}"#
            ),
            r#"{"type":"content_block_stop","index":0}"#.to_owned(),
        ];
        events.map(|data| ("", data))
    };
    let document = block(r#"{"type":"char_location","document_index":0,"cited_text":"b"}"#);
    let page = block(r#"{"type":"web_search_result_location","url":"https://example.com","title":null}"#);
    for to in [Chat, Responses] {
        assert_eq!(lost(Messages, to, &document), ["content[0].citations"]);
        assert_eq!(lost(Messages, to, &page), Vec::<String>::new());
    }
    let annotation =
        r#"[{"type":"url_citation","url_citation":{"url":"https://example.com","start_index":0,"end_index":1}}]"#;
    let said = |content: &str| [("", chat_delta(&format!(r#"{{"content":{content},"annotations":{annotation}}}"#)))];
    assert_eq!(lost(Chat, Messages, &said("\"a\"")), ["annotations"]);
    assert_eq!(lost(Chat, Responses, &said("\"a\"")), Vec::<String>::new());
    assert_eq!(lost(Chat, Responses, &said("null")), ["annotations"], "there is no text yet");
    // What nobody can read is left out, and the answer goes on.
    let odd = ("", chat_delta(r#"{"content":"a","annotations":{"x":1}}"#));
    assert_eq!(lost(Chat, Responses, &[odd]), Vec::<String>::new());
}
