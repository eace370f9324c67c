//! The rules of ends: finish reasons, counts, truncation and errors.

use serde_json::{Value, json};
use tokenhub_domain::Dialect::{self, Chat, Messages, Responses};

use super::whole::whole;
use super::{InEvent, chat_delta, chat_stream, complete, converted, outline};
use crate::call::EventKind;
use crate::convert::stream::{ReplyPlace, StreamError, StreamFault, error_event};

fn messages_stream(start_usage: &Value, end_usage: &Value) -> Vec<InEvent> {
    let block = json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}});
    let delta = json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "hi"}});
    let end = json!({"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": null},
        "usage": end_usage});
    vec![
        ("message_start", json!({"type": "message_start", "message": {"usage": start_usage}}).to_string()),
        ("ping", json!({"type": "ping"}).to_string()),
        ("content_block_start", block.to_string()),
        ("content_block_delta", delta.to_string()),
        ("content_block_stop", json!({"type": "content_block_stop", "index": 0}).to_string()),
        ("message_delta", end.to_string()),
        ("message_stop", json!({"type": "message_stop"}).to_string()),
    ]
}

fn responses_stream() -> Vec<InEvent> {
    let delta = json!({"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": "hi"});
    let end = json!({"type": "response.completed", "response": {"status": "completed",
        "usage": {"input_tokens": 7, "output_tokens": 2, "total_tokens": 9}}});
    vec![
        ("response.created", json!({"type": "response.created", "response": {}}).to_string()),
        ("response.output_text.delta", delta.to_string()),
        ("response.completed", end.to_string()),
    ]
}

fn stream_of(dialect: Dialect) -> Vec<InEvent> {
    match dialect {
        Chat => chat_stream(&[r#"{"content":"hi"}"#], "stop"),
        Messages => messages_stream(&json!({"input_tokens": 7}), &json!({"output_tokens": 2})),
        Responses => responses_stream(),
    }
}

#[test]
fn rule_10_chunks_behind_the_finish_reason_are_read_for_their_counts_only() {
    let mut events = chat_stream(&[r#"{"content":"hi"}"#], "stop");
    events.insert(2, ("", chat_delta(r#"{"content":"late"}"#)));
    events.insert(
        3,
        ("", r#"{"choices":[{"delta":{},"finish_reason":"length"}],"usage":{"prompt_tokens":1}}"#.to_owned()),
    );
    let out = complete(Chat, Messages, &events);
    let wanted = ["message_start", "start 0 text", "delta 0 hi", "stop 0", "message_delta", "message_stop"];
    assert_eq!(outline(&out), wanted);
    let reply = whole(Messages, &out);
    assert_eq!((reply.finish.as_str(), &reply.usage["input_tokens"]), ("end_turn", &json!(10)));
}

#[test]
fn the_end_of_a_message_waits_for_the_counts_and_not_for_the_mark() {
    let mut events = chat_stream(&[r#"{"content":"hi"}"#], "stop");
    events.truncate(3);
    let mut converter = super::StreamConverter::new(Chat, Messages, super::context());
    let mut ends = Vec::new();
    for (_, data) in &events {
        ends.push(converter.push("", data.as_bytes()).unwrap().iter().any(|event| event.kind == EventKind::Finish));
    }
    assert_eq!(ends, [false, false, true]);
}

#[test]
fn rule_11_the_mark_is_sent_to_chat_clients_on_success_only() {
    for from in [Messages, Responses] {
        let events = stream_of(from);
        assert_eq!(complete(from, Chat, &events).last().unwrap().data, "[DONE]");
        let (out, end) = converted(from, Chat, &events[..events.len() - 1]);
        assert_eq!(end, Err(StreamError::Truncated));
        assert!(out.iter().all(|event| event.data != "[DONE]"));
    }
}

#[test]
fn rule_12_a_stream_without_its_last_event_is_truncated_wherever_it_stops() {
    for from in Dialect::ALL {
        let events = stream_of(from);
        // A Chat stream may leave out its mark, and its counts, once it has told the finish reason.
        let enough = if from == Chat { 2 } else { events.len() };
        for to in Dialect::ALL {
            for length in 0..events.len() {
                let (out, end) = converted(from, to, &events[..length]);
                let wanted = if length < enough { Err(StreamError::Truncated) } else { Ok(()) };
                assert_eq!(end, wanted, "{from:?} to {to:?}, {length} events");
                assert_eq!(out.iter().any(|event| event.kind == EventKind::Done), length >= enough);
            }
        }
    }
}

#[test]
fn rule_12_a_last_event_is_no_reason_and_none_is_made_up() {
    for from in [Chat, Messages] {
        let tells_why = |(_, data): &InEvent| data.contains("finish_reason\":\"") || data.contains("stop_reason\":\"");
        let events: Vec<InEvent> = stream_of(from).into_iter().filter(|event| !tells_why(event)).collect();
        for to in Dialect::ALL {
            let (out, end) = converted(from, to, &events);
            assert_eq!(end, Err(StreamError::Truncated), "{from:?} to {to:?}");
            assert!(out.iter().all(|event| !matches!(event.kind, EventKind::Finish | EventKind::Done)));
        }
    }
}

#[test]
fn rule_13_an_error_of_the_upstream_is_handed_out_and_ends_nothing() {
    let failed = json!({"type": "response.failed", "response": {"error": {"code": "x", "message": "m"}}}).to_string();
    let error = json!({"type": "error", "error": {"type": "overloaded_error", "message": "m"}}).to_string();
    let cases = [
        (Chat, "", json!({"error": {"message": "m"}}).to_string()),
        (Messages, "error", error),
        (Responses, "error", json!({"type": "error", "code": "x", "message": "m"}).to_string()),
        (Responses, "response.failed", failed),
    ];
    for (from, name, data) in cases {
        let mut events = stream_of(from);
        events[2] = (name, data.clone());
        for to in Dialect::ALL {
            let (out, end) = converted(from, to, &events);
            assert_eq!(end, Err(StreamError::Upstream { body: data.clone().into_bytes() }));
            assert!(out.iter().all(|event| event.kind != EventKind::Done));
        }
    }
    let null = r#"{"choices":[{"index":0,"delta":{"content":"a"}}],"error":null}"#.to_owned();
    assert!(converted(Chat, Messages, &[("", null)]).0.len() > 1);
}

#[test]
fn rule_13_an_error_has_the_form_of_the_clients_protocol() {
    let fault = StreamFault {
        message: "broke",
        kind: "server_error",
        code: Some("overloaded"),
        param: None,
        request_id: Some("req_1"),
    };
    let context = super::context();
    let place = ReplyPlace { context: &context, response_id: None, sequence_number: 9 };
    let event = |dialect| {
        let event = error_event(dialect, &fault, &place);
        (event.name, serde_json::from_str::<Value>(&event.data).unwrap())
    };
    let error = json!({"message": "broke", "type": "server_error", "param": null, "code": "overloaded"});
    assert_eq!(event(Chat), ("", json!({"error": error})));
    let error = json!({"type": "server_error", "message": "broke"});
    assert_eq!(event(Messages), ("error", json!({"type": "error", "error": error, "request_id": "req_1"})));
    let (name, data) = event(Responses);
    assert_eq!(
        (name, &data["type"], &data["sequence_number"]),
        ("response.failed", &json!("response.failed"), &json!(9))
    );
    let response = &data["response"];
    assert_eq!(response["error"], json!({"code": "overloaded", "message": "broke"}));
    let told = (&response["id"], &response["status"], &response["model"]);
    assert_eq!(told, (&json!("resp_7"), &json!("failed"), &json!("asked-for")));
    let passed_on = ReplyPlace { response_id: Some("resp_upstream"), ..place };
    assert!(error_event(Responses, &fault, &passed_on).data.contains(r#""id":"resp_upstream""#));
}

#[test]
fn messages_counts_replace_what_is_told_again_and_keep_what_is_not() {
    let start = json!({"input_tokens": 100, "output_tokens": 1});
    let told_last = json!({"input_tokens": null, "output_tokens": 25});
    let reply = whole(Chat, &complete(Messages, Chat, &messages_stream(&start, &told_last)));
    assert_eq!((&reply.usage["prompt_tokens"], &reply.usage["completion_tokens"]), (&json!(100), &json!(25)));

    let start = json!({"input_tokens": 5, "cache_read_input_tokens": 100, "cache_creation_input_tokens": 20});
    let told_again = json!({"input_tokens": 5, "cache_read_input_tokens": 100, "output_tokens": 3});
    for (to, total) in [(Chat, "prompt_tokens"), (Responses, "input_tokens")] {
        let reply = whole(to, &complete(Messages, to, &messages_stream(&start, &told_again)));
        assert_eq!(reply.usage[total], 125);
        assert_eq!(reply.usage[format!("{total}_details")]["cached_tokens"], 100);
    }
}

#[test]
fn the_counts_at_the_start_of_a_cut_stream_are_known() {
    let events = messages_stream(&json!({"input_tokens": 5, "cache_read_input_tokens": 100}), &json!({}));
    let mut converter = super::StreamConverter::new(Messages, Responses, super::context());
    converter.push(events[0].0, events[0].1.as_bytes()).unwrap();
    assert_eq!(converter.usage().unwrap().input, 105);
}

#[test]
fn a_limit_wins_over_tool_calls_and_a_refusal_is_told_as_one() {
    let call = super::call_delta(0, Some("f"), "{\"half\":");
    let finish = |to, deltas: &[&str], reason| whole(to, &complete(Chat, to, &chat_stream(deltas, reason))).finish;
    assert_eq!(finish(Messages, &[&call], "length"), "max_tokens");
    assert_eq!(finish(Messages, &[&call], "stop"), "tool_use");
    assert_eq!(finish(Messages, &[r#"{"refusal":"no"}"#], "stop"), "refusal");
    assert_eq!(finish(Responses, &[r#"{"refusal":"no"}"#], "stop"), "completed");
    assert_eq!(finish(Responses, &[r#"{"content":"par"}"#], "content_filter"), "incomplete content_filter");
    assert_eq!(finish(Messages, &[r#"{"content":"x"}"#], "eos"), "end_turn");
}

#[test]
fn what_a_client_cannot_be_told_is_a_loss() {
    let mut events = messages_stream(&json!({}), &json!({}));
    let server_tool = json!({"type": "content_block_start", "index": 1,
        "content_block": {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}});
    events.insert(5, ("content_block_start", server_tool.to_string()));
    let mut converter = super::StreamConverter::new(Messages, Chat, super::context());
    for (name, data) in &events {
        converter.push(name, data.as_bytes()).unwrap();
    }
    let lost: Vec<&str> = converter.losses().iter().map(|loss| loss.field.as_str()).collect();
    assert_eq!(lost, ["content[1] (server_tool_use)"]);
}
