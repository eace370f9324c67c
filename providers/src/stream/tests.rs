//! What the reader sees in the events of each protocol.

mod reading;

use bytes::Bytes;
use tokenhub_domain::{Dialect, ErrorClass, ProviderFailure};

use super::sight::{Sight, look};
use crate::call::EventKind::{self, Content, Done, Finish, Preamble, UsageOnly};
use crate::classify::{ErrorEvidence, classify};
use crate::sse::Event;

fn event(name: &str, data: &str) -> Event {
    Event { name: Bytes::copy_from_slice(name.as_bytes()), data: Bytes::copy_from_slice(data.as_bytes()) }
}

fn kind(dialect: Dialect, name: &str, data: &str) -> Option<EventKind> {
    match look(dialect, &event(name, data))? {
        Sight::Event { kind, .. } => Some(kind),
        Sight::Failure(_) | Sight::Skipped => None,
    }
}

fn usage_and_finish(dialect: Dialect, data: &str) -> (Option<String>, Option<String>) {
    match look(dialect, &event("", data)) {
        Some(Sight::Event { usage, finish_reason, .. }) => {
            (usage.map(|usage| usage.get().to_owned()), finish_reason.map(|reason| reason.to_string()))
        }
        other => panic!("{data}: {other:?}"),
    }
}

fn failure(dialect: Dialect, name: &str, data: &str) -> ProviderFailure {
    match look(dialect, &event(name, data)) {
        Some(Sight::Failure(body)) => classify(&ErrorEvidence::inside_answer(&body, Some("hush-hush"))),
        other => panic!("{data}: {other:?}"),
    }
}

#[test]
fn each_chat_chunk_has_its_kind() {
    for (payload, wanted) in [
        (r#"{"choices":[{"index":0,"delta":{"role":"assistant","content":"","refusal":null}}]}"#, Preamble),
        (r#"{"choices":[],"prompt_filter_results":[]}"#, Preamble),
        (r#"{"choices":[{"delta":{"content":"é"},"finish_reason":null}],"usage":null}"#, Content),
        (r#"{"choices":[{"delta":{"content":"\ud83d"}}]}"#, Content),
        (r#"{"choices":[{"delta":{"reasoning_content":"hm"}}]}"#, Content),
        (r#"{"choices":[{"delta":{"tool_calls":[{"index":0}]}}]}"#, Content),
        (r#"{"choices":[{"delta":{},"finish_reason":"stop"}]}"#, Finish),
        (r#"{"choices":[{"delta":{},"finish_reason":""}]}"#, Preamble),
        (r#"{"choices":[{"delta":{"content":"x"},"finish_reason":"stop"}]}"#, Content),
        (r#"{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}"#, UsageOnly),
        (r#"{"choices":[{"delta":{}}],"error":null}"#, Preamble),
        (r#"{"choices":"unknown form"}"#, Preamble),
        ("[DONE]", Done),
        (" [DONE] ", Done),
    ] {
        assert_eq!(kind(Dialect::Chat, "", payload), Some(wanted), "{payload}");
    }
    assert!(look(Dialect::Chat, &event("", r#"{"choices":[{"delta":{"cont"#)).is_none());
}

#[test]
fn each_messages_event_has_its_kind() {
    for (payload, wanted) in [
        (r#"{"type":"message_start","message":{"usage":{"input_tokens":3}}}"#, Preamble),
        (r#"{"type": "ping"}"#, Preamble),
        (r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}  }"#, Preamble),
        (
            r#"{"type":"content_block_start","content_block":{"type":"thinking","thinking":"","signature":""}}"#,
            Preamble,
        ),
        (r#"{"type":"content_block_start","content_block":{"type":"redacted_thinking","data":"x"}}"#, Content),
        (
            r#"{"type":"content_block_start","content_block":{"type":"tool_use","id":"t","name":"n","input":{}}}"#,
            Content,
        ),
        (r#"{"type":"content_block_delta","delta":{"type":"text_delta","text":"a"}}"#, Content),
        (r#"{"type":"content_block_delta","delta":{"type":"text_delta","text":""}}"#, Preamble),
        (r#"{"type":"content_block_delta","delta":{"type":"signature_delta","signature":"s"}}"#, Content),
        (r#"{"type":"content_block_stop","index":0}"#, Preamble),
        (r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":3}}"#, Finish),
        (r#"{"type":"message_stop"   }"#, Done),
        (r#"{"type":"added_later","delta":{"x":1}}"#, Preamble),
        (r#"{"no":"type"}"#, Preamble),
    ] {
        assert_eq!(kind(Dialect::Messages, "", payload), Some(wanted), "{payload}");
    }
    assert_eq!(kind(Dialect::Messages, "message_stop", "{}"), Some(Done));
}

#[test]
fn each_responses_event_has_its_kind() {
    for (payload, wanted) in [
        (r#"{"type":"response.created","response":{"error":null,"usage":null}}"#, Preamble),
        (r#"{"type":"response.in_progress","response":{}}"#, Preamble),
        (r#"{"type":"response.output_item.added","item":{"type":"message","content":[]}}"#, Preamble),
        (r#"{"type":"response.output_item.added","item":{"type":"reasoning","summary":[]}}"#, Preamble),
        (r#"{"type":"response.output_item.added","item":{"type":"function_call","name":"f"}}"#, Content),
        (r#"{"type":"response.content_part.added","part":{"type":"output_text","text":""}}"#, Preamble),
        (r#"{"type":"response.output_text.delta","delta":"a","logprobs":[]}"#, Content),
        (r#"{"type":"response.output_text.delta","delta":"","logprobs":[]}"#, Preamble),
        (r#"{"type":"response.function_call_arguments.done","arguments":"{}"}"#, Content),
        (r#"{"type":"response.completed","response":{"status":"completed"}}"#, Done),
        (r#"{"type":"response.incomplete","response":{"status":"incomplete"}}"#, Done),
        (r#"{"type":"response.added_later"}"#, Preamble),
    ] {
        assert_eq!(kind(Dialect::Responses, "", payload), Some(wanted), "{payload}");
    }
}

#[test]
fn usage_and_finish_reason_are_found_where_each_protocol_has_them() {
    let some = |text: &str| Some(text.to_owned());
    for (dialect, payload, usage, finish) in [
        (
            Dialect::Chat,
            r#"{"choices":[],"usage":{"prompt_tokens":1, "x":2}}"#,
            some(r#"{"prompt_tokens":1, "x":2}"#),
            None,
        ),
        (Dialect::Chat, r#"{"choices":[{"delta":{},"finish_reason":"length"}]}"#, None, some("length")),
        (
            Dialect::Messages,
            r#"{"type":"message_start","message":{"usage":{"input_tokens":1}}}"#,
            some(r#"{"input_tokens":1}"#),
            None,
        ),
        (
            Dialect::Messages,
            r#"{"type":"message_delta","delta":{"stop_reason":"max_tokens"},"usage":{"output_tokens":2}}"#,
            some(r#"{"output_tokens":2}"#),
            some("max_tokens"),
        ),
        (
            Dialect::Responses,
            r#"{"type":"response.completed","response":{"status":"completed","usage":{"input_tokens":1}}}"#,
            some(r#"{"input_tokens":1}"#),
            some("completed"),
        ),
        (
            Dialect::Responses,
            r#"{"type":"response.incomplete","response":{"status":"incomplete","incomplete_details":{"reason":"max_output_tokens"}}}"#,
            None,
            some("max_output_tokens"),
        ),
    ] {
        assert_eq!(usage_and_finish(dialect, payload), (usage, finish), "{payload}");
    }
}

#[test]
fn an_error_in_place_of_an_event_is_classified_and_masked() {
    let quota = failure(Dialect::Chat, "", r#"{"error":{"message":"hush-hush is out","code":"insufficient_quota"}}"#);
    assert_eq!((quota.class, quota.message.as_str()), (ErrorClass::QuotaExhausted, "[redacted] is out"));
    for (dialect, name, payload, class) in [
        (Dialect::Chat, "", r#"{"object":"error","message":"boom"}"#, ErrorClass::ServerError),
        (Dialect::Chat, "error", r#"{"message":"boom"}"#, ErrorClass::ServerError),
        (
            Dialect::Chat,
            "",
            r#"{"error":{"code":429,"message":"x"},"choices":[{"delta":{"content":""}}]}"#,
            ErrorClass::RateLimited,
        ),
        (
            Dialect::Messages,
            "error",
            r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#,
            ErrorClass::Overloaded,
        ),
        (Dialect::Messages, "", r#"{"error":{"type":"rate_limit_error","message":"x"}}"#, ErrorClass::RateLimited),
        (
            Dialect::Responses,
            "response.failed",
            r#"{"type":"response.failed","response":{"error":{"code":"context_length_exceeded","message":"too long"}}}"#,
            ErrorClass::ContextTooLong,
        ),
        (Dialect::Responses, "", r#"{"type":"response.failed","response":{}}"#, ErrorClass::ServerError),
        (
            Dialect::Responses,
            "error",
            r#"{"type":"error","code":"rate_limit_exceeded","message":"slow","param":null}"#,
            ErrorClass::RateLimited,
        ),
    ] {
        assert_eq!(failure(dialect, name, payload).class, class, "{payload}");
    }
    let told = failure(
        Dialect::Responses,
        "",
        r#"{"type":"response.failed","response":{"error":{"code":"x","message":"m"}}}"#,
    );
    assert_eq!((told.message.as_str(), told.code.as_deref()), ("m", Some("x")));
}

#[test]
fn the_end_mark_of_chat_means_nothing_in_the_other_protocols() {
    for dialect in [Dialect::Messages, Dialect::Responses] {
        assert!(matches!(look(dialect, &event("", "[DONE]")), Some(Sight::Skipped)));
    }
}
