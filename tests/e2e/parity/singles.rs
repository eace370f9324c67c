//! Chats and single-answer plans.

use serde_json::json;
use tokenhub_demo::Reply;

use super::cases::{Case, DELTA_WINDOW_TOKENS, boom, slow_down, too_long};

/// All of them.
pub fn cases() -> Vec<Case> {
    let mut cases = answers();
    cases.extend(shaped());
    cases.extend(failures());
    cases.extend(overflows());
    cases
}

fn answers() -> Vec<Case> {
    vec![
        Case::completion("chat-named", Some("beta"))
            .says("beta", "hello")
            .calls([("beta", 1)])
            .fact("/choices/0/message/content", "hello")
            .fact("/model", "beta"),
        Case::completion("chat-routed", None).says("alpha", "hello").calls([("alpha", 1)]).fact("/model", "alpha"),
        Case::completion("chat-tools", Some("alpha"))
            .with("/tools", json!([{"type": "function", "function": {"name": "f", "parameters": {}}}]))
            .replies("alpha", [Reply::message(json!({"tool_calls": [{"id": "c", "type": "function"}]}))])
            .calls([("alpha", 1)])
            .fact("/choices/0/finish_reason", "tool_calls"),
        Case::native("native-routed")
            .says("alpha", "hello")
            .calls([("alpha", 1)])
            .fact("/negotiated_model", "alpha")
            .fact("/routing_reason", "routed")
            .fact("/response/choices/0/message/content", "hello"),
        Case::plan("plan-plain", json!({}))
            .says("alpha", "hello")
            .calls([("alpha", 1)])
            .fact("/status", "completed")
            .fact("/stop_reason", "answered")
            .fact("/response/choices/0/message/content", "hello"),
        Case::plan("plan-planning", json!({"mode": "planning", "primary_model_id": "gamma"}))
            .says("gamma", "first, second")
            .calls([("gamma", 1)])
            .fact("/routing_reason", "model-named")
            .fact("/steps/0/role", "answer"),
        Case::plan("plan-big", json!({"mode": "planning"}))
            .replies("alpha", [Reply::big(100_000)])
            .calls([("alpha", 1)])
            .fact("/status", "completed"),
    ]
}

/// Answers that are brought into a form or must match a schema.
fn shaped() -> Vec<Case> {
    vec![
        Case::native("native-repaired")
            .with("/request/output_schema", json!({"type": "object", "required": ["a"]}))
            .replies("alpha", [Reply::text("no"), Reply::text("Here: {\"a\": 1}")])
            .calls([("alpha", 2)])
            .fact("/response/choices/0/message/content", "{\"a\": 1}"),
        Case::native("native-not-repaired")
            .with("/request/output_schema", json!({"type": "object", "required": ["a"]}))
            .replies("alpha", [Reply::text("no"), Reply::text("never")])
            .calls([("alpha", 2)])
            .status(502)
            .fact("/code", "bad_output"),
        Case::native("native-shaped")
            .with("/output_format", json!({"type": "text", "strip_think": true}))
            .says("alpha", "<think>hm</think># Title")
            .calls([("alpha", 1)])
            .fact("/response/choices/0/message/content", "Title"),
        Case::plan("plan-big-with-a-schema", json!({"output_schema": {"maxLength": 5}}))
            .replies("alpha", [Reply::big(100_000), Reply::text("\"x\"")])
            .calls([("alpha", 2)])
            .fact("/steps/1/id", "answer/repair")
            .fact("/usage/calls", 2),
    ]
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn failures() -> Vec<Case> {
    vec![
        Case::completion("chat-500-then-next", None)
            .replies("alpha", [boom()])
            .says("beta", "second best")
            .calls([("alpha", 3), ("beta", 1)])
            .fact("/model", "beta"),
        Case::native("native-500-then-next")
            .replies("alpha", [boom()])
            .calls([("alpha", 3), ("beta", 1)])
            .fact("/negotiated_model", "beta")
            .fact("/routing_reason", "routed-after-failover"),
        Case::completion("chat-named-500", Some("alpha"))
            .replies("alpha", [boom()])
            .status(502)
            .calls([("alpha", 3)])
            .fact("/error/code", "provider_error"),
        Case::completion("chat-hint", Some("alpha"))
            .replies("alpha", [slow_down(), Reply::text("now")])
            .calls([("alpha", 2)])
            .fact("/choices/0/message/content", "now"),
        Case::completion("chat-hint-for-ever", Some("alpha"))
            .replies("alpha", [slow_down()])
            .status(429)
            .calls([("alpha", 3)])
            .fact("/error/code", "rate_limit_exceeded"),
        Case::completion("chat-503-for-ever", Some("alpha"))
            .replies("alpha", [Reply::error(503, "overloaded", "full")])
            .status(503)
            .calls([("alpha", 3)])
            .fact("/error/code", "server_is_overloaded"),
        Case::completion("chat-refused", None)
            .replies("alpha", [Reply::error(400, "invalid_value", "no such temperature")])
            .status(400)
            .calls([("alpha", 1)])
            .fact("/error/message", "no such temperature"),
        Case::completion("chat-with-a-refusal-of-the-model", None)
            .replies("alpha", [Reply::message(json!({"role": "assistant", "content": null, "refusal": "I cannot"}))])
            .calls([("alpha", 1)])
            .fact("/choices/0/message/refusal", "I cannot"),
        Case::native("native-filtered")
            .replies("alpha", [Reply::error(400, "content_filter", "no")])
            .status(400)
            .calls([("alpha", 1)]),
        Case::plan("plan-cut", json!({"mode": "planning", "primary_model_id": "alpha"}))
            .replies("alpha", [Reply::text("x").cut_after_bytes(20), Reply::text("whole")])
            .calls([("alpha", 2)])
            .fact("/steps/0/attempts", 2)
            .fact("/response/choices/0/message/content", "whole"),
        Case::plan("plan-deadline", json!({"mode": "planning"}))
            .with("/policy", json!({"max_latency_ms": 5_000}))
            .replies("alpha", [Reply::text("late").delay_ms(60_000)])
            .status(504)
            .calls([("alpha", 1)])
            .fact("/stop_reason", "deadline_exceeded")
            .fact("/steps/0/error_class", "step_deadline"),
        Case::plan("plan-all-500", json!({}))
            .replies("alpha", [boom()])
            .replies("beta", [boom()])
            .replies("gamma", [boom()])
            .replies("delta", [Reply::error(401, "invalid_api_key", "no")])
            .status(502)
            .calls([("alpha", 3), ("beta", 3), ("gamma", 3), ("delta", 1)])
            .fact("/run_status", "failed")
            .fact("/steps/0/attempts", 10)
            .fact("/stop_reason", "all_failed"),
    ]
}

/// With costs first, delta is asked first.
fn overflows() -> Vec<Case> {
    let cheap = json!({"mode": "cheap"});
    vec![
        // Once with a smaller limit, then a larger window and no other model of the same size.
        Case::plan("overflow-larger", json!({}))
            .with("/policy", cheap.clone())
            .with("/request/parameters/max_tokens", DELTA_WINDOW_TOKENS)
            .with("/request/estimated_input_tokens", 500)
            .replies("delta", [too_long()])
            .says("alpha", "there is room here")
            .calls([("delta", 2), ("alpha", 1)])
            .fact("/negotiated_model", "alpha")
            .fact("/steps/0/attempts", 3),
        Case::plan("overflow-shrunk", json!({}))
            .with("/policy", cheap.clone())
            .with("/request/parameters/max_tokens", DELTA_WINDOW_TOKENS)
            .with("/request/estimated_input_tokens", 500)
            .replies("delta", [too_long(), Reply::text("short")])
            .calls([("delta", 2)])
            .fact("/negotiated_model", "delta")
            .fact("/routing_reason", "routed"),
        // The prompt alone fills the window: shrinking the answer would not help.
        Case::native("overflow-full")
            .with("/policy", cheap)
            .with("/request/estimated_input_tokens", 1_730)
            .replies("delta", [too_long()])
            .says("alpha", "there is room here")
            .calls([("delta", 1), ("alpha", 1)])
            .fact("/negotiated_model", "alpha"),
        Case::completion("overflow-named", Some("delta"))
            .replies("delta", [too_long()])
            .status(400)
            .fact("/error/code", "context_length_exceeded")
            .calls([("delta", 1)]),
    ]
}
