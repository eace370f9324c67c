//! The table of error answers and the class that each of them is, misreadings of others included.

mod cases;

use super::*;
use ErrorClass::{
    AuthFailed, BadRequest, ContentFiltered, ContextTooLong, Overloaded, QuotaExhausted, RateLimited, ServerError,
};

const NOW: SystemTime = SystemTime::UNIX_EPOCH;

fn evidence(status: u16, body: &str) -> ErrorEvidence<'_> {
    ErrorEvidence {
        status,
        retry_after_ms: None,
        retry_after: None,
        should_retry: None,
        headers: None,
        body: body.as_bytes(),
        now: NOW,
        credential: Some("hush-hush-1"),
    }
}

fn class(status: u16, body: &str) -> ErrorClass {
    classify(&evidence(status, body)).class
}

#[test]
fn every_status_alone_has_its_class() {
    for status in 100..=599 {
        let wanted = match status {
            401 | 403 => AuthFailed,
            402 => QuotaExhausted,
            413 => ContextTooLong,
            429 => RateLimited,
            503 | 529 => Overloaded,
            408 => ServerError,
            400..=499 => BadRequest,
            _ => ServerError,
        };
        for body in ["", "{}", "<html>", r#"{"error":{"message":"no","type":"x","param":null,"code":null}}"#] {
            assert_eq!(class(status, body), wanted, "{status} {body}");
        }
    }
}

#[test]
fn a_structured_code_beats_phrase_and_status() {
    for (status, name, wanted) in [
        (429, "insufficient_quota", QuotaExhausted),
        (429, "context_length_exceeded", ContextTooLong),
        (429, "engine_overloaded", Overloaded),
        (429, "RESOURCE_EXHAUSTED", RateLimited),
        (400, "rate_limit_exceeded", RateLimited),
        (413, "rate_limit_exceeded", ContextTooLong),
        (400, "billing_error", QuotaExhausted),
        (400, "context_length_exceeded", ContextTooLong),
        (400, "exceed_context_size_error", ContextTooLong),
        (400, "content_filter", ContentFiltered),
        (400, "invalid_api_key", AuthFailed),
        (400, "invalid_value", BadRequest),
        (404, "model_not_found", BadRequest),
        (500, "overloaded_error", Overloaded),
        (503, "slow_down", Overloaded),
        (503, "server_error", ServerError),
        (401, "authentication_error", AuthFailed),
        (200, "rate_limit_exceeded", RateLimited),
    ] {
        let message = "quota exceeded: prompt is too long, overloaded";
        for field in ["code", "type"] {
            let body = format!(r#"{{"error":{{"message":"{message}","{field}":"{name}"}}}}"#);
            assert_eq!(class(status, &body), wanted, "{status} {body}");
        }
    }
}

#[test]
fn phrases_are_narrow_and_bound_to_statuses() {
    for (status, message, wanted) in [
        (400, "prompt is too long: 210000 tokens > 200000 maximum", ContextTooLong),
        (400, "This model's maximum context length is 8192 tokens. However, you requested 9000 tokens", ContextTooLong),
        (400, "input length and `max_tokens` exceed context limit: 199000 + 8000 > 200000", ContextTooLong),
        (500, "the request exceeds the available context size, try increasing it", ContextTooLong),
        (400, "max tokens must be >= 1", BadRequest),
        (400, "tool name too long", BadRequest),
        (400, "max_tokens is too large: 9000", BadRequest),
        (429, "prompt is too long for context window", RateLimited),
        (413, "request exceeds the maximum size", ContextTooLong),
        (403, "monthly quota exceeded, check billing", QuotaExhausted),
        (403, "Forbidden", AuthFailed),
        (401, "check your billing settings: quota exceeded", AuthFailed),
        (401, "prompt is too long", AuthFailed),
        (400, "Your credit balance is too low to access the API", QuotaExhausted),
        (400, "unknown field billing", BadRequest),
        (429, "You exceeded your current quota, please check your plan and billing details", QuotaExhausted),
        (429, "Quota exceeded for metric requests per minute", RateLimited),
        (429, "The model is overloaded", RateLimited),
        (404, "model not found: no capacity", BadRequest),
        (404, "quota exceeded", BadRequest),
        (500, "The engine is currently overloaded", Overloaded),
        (502, "upstream broke", ServerError),
        (400, "The response was filtered due to the prompt triggering our content management policy", ContentFiltered),
        (422, "Input should be a valid string", BadRequest),
        (405, "Method Not Allowed", BadRequest),
    ] {
        for body in [
            format!(r#"{{"error":{{"message":"{message}","type":"invalid_request_error","code":null}}}}"#),
            format!(r#"{{"message":"{message}"}}"#),
            message.to_owned(),
        ] {
            assert_eq!(class(status, &body), wanted, "{status} {body}");
        }
    }
}

#[test]
fn an_error_inside_an_answer_is_read_by_its_code_and_else_blamed_on_the_server() {
    let inside = |body: &str| classify(&ErrorEvidence::inside_answer(body.as_bytes(), None));
    let limited = inside(r#"{"error":{"message":"slow down","code":429}}"#);
    assert_eq!((limited.class, limited.status), (RateLimited, Some(429)));
    assert_eq!(inside(r#"{"error":{"message":"x","type":"overloaded_error"}}"#).class, Overloaded);
    assert_eq!(inside(r#"{"error":{"message":"x","type":"invalid_request_error"}}"#).class, BadRequest);
    assert_eq!(inside(r#"{"error":{"message":"boom"}}"#).class, ServerError);
    assert_eq!(inside(r#"{"error":"boom"}"#).message, "boom");
}

#[test]
fn should_retry_decides_only_where_nothing_else_does() {
    let with =
        |status, value, body| classify(&ErrorEvidence { should_retry: Some(value), ..evidence(status, body) }).class;
    assert_eq!(with(429, "false", "{}"), QuotaExhausted);
    assert_eq!(with(429, "true", "{}"), RateLimited);
    assert_eq!(with(429, "false", r#"{"error":{"code":"rate_limit_exceeded"}}"#), RateLimited);
    assert_eq!(with(409, "true", "{}"), ServerError);
    assert_eq!(with(409, "false", "{}"), BadRequest);
    assert_eq!(with(400, "true", "{}"), BadRequest);
}

#[test]
fn the_wait_is_milliseconds_first_then_seconds_then_a_date() {
    let hint = |ms, seconds| {
        let evidence = ErrorEvidence { retry_after_ms: ms, retry_after: seconds, ..evidence(429, "") };
        classify(&evidence).retry_after_ms
    };
    assert_eq!(hint(Some("1500"), Some("9")), Some(1_500));
    assert_eq!(hint(Some("0.5"), None), Some(1));
    assert_eq!(hint(Some("soon"), Some("2")), Some(2_000));
    assert_eq!(hint(None, Some("1")), Some(1_000));
    assert_eq!(hint(None, Some(" 0.25 ")), Some(250));
    assert_eq!(hint(None, Some("Thu, 01 Jan 1970 00:00:07 GMT")), Some(7_000));
    for rubbish in ["-1", "NaN", "inf", "1e300", "tomorrow", ""] {
        assert_eq!(hint(None, Some(rubbish)), None, "{rubbish}");
    }
    assert_eq!(hint(None, None), None);
    let late = ErrorEvidence {
        retry_after: Some("Thu, 01 Jan 1970 00:00:07 GMT"),
        now: NOW + Duration::from_mins(1),
        ..evidence(429, "")
    };
    assert_eq!(classify(&late).retry_after_ms, Some(0));
}

#[test]
fn the_fields_are_kept_bounded_and_without_the_credential() {
    let body = r#"{"error":{"message":"key hush-hush-1 and sk-abcdefgh12 are bad","type":"t","param":"p","code":"c-hush-hush-1"}}"#;
    let failure = classify(&evidence(400, body));
    assert_eq!(failure.message, "key [redacted] and [redacted] are bad");
    assert_eq!(failure.code.as_deref(), Some("c-[redacted]"));
    assert_eq!(failure.param.as_deref(), Some("p"));
    assert_eq!(failure.status, Some(400));

    let long = classify(&ErrorEvidence { body: "é".repeat(20_000).as_bytes(), ..evidence(500, "") });
    assert_eq!(long.message.len(), limits::PROVIDER_ERROR_BYTES);
    assert_eq!(classify(&evidence(502, "")).message, "the provider answered with status 502");
}

#[test]
fn a_type_does_not_stand_in_for_a_missing_code() {
    let body = r#"{"error":{"message":"no","type":"invalid_request_error","param":"tools","code":null}}"#;
    let failure = classify(&evidence(400, body));
    assert_eq!((failure.class, failure.code, failure.param.as_deref()), (BadRequest, None, Some("tools")));
}

#[test]
fn a_429_that_names_an_exhausted_window_is_a_spent_quota_with_the_windows_end() {
    let body =
        r#"{"type":"error","error":{"type":"rate_limit_error","message":"This request would exceed your rate limit"}}"#;
    let with = |status: u16, names: &[(&'static str, &'static str)], retry_after| {
        let headers = names
            .iter()
            .map(|(name, value)| (http::HeaderName::from_static(name), http::HeaderValue::from_static(value)));
        let headers: HeaderMap = headers.collect();
        let failure = classify(&ErrorEvidence { headers: Some(&headers), retry_after, ..evidence(status, body) });
        (failure.class, failure.quota_resets_in_ms, failure.retry_after_ms)
    };
    let week =
        [("anthropic-ratelimit-unified-7d-status", "rejected"), ("anthropic-ratelimit-unified-7d-reset", "86400")];
    assert_eq!(with(429, &week, None), (QuotaExhausted, Some(86_400_000), Some(86_400_000)));
    assert_eq!(with(429, &week, Some("5")), (QuotaExhausted, Some(86_400_000), Some(5_000)));
    assert_eq!(with(529, &week, None).1, None);
    let minute = [("x-ratelimit-remaining-requests", "0"), ("x-ratelimit-reset-requests", "6m0s")];
    assert_eq!(with(429, &minute, None), (RateLimited, None, Some(10_000)));
    assert_eq!(with(429, &minute, Some("2")), (RateLimited, None, Some(2_000)));
}
