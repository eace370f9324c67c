//! Acceptance cases of error reading: each known misreading, and each status with and without a hint.

use super::*;

/// Answers that a reader of loose words gets wrong, and what they are.
#[test]
fn every_answer_that_loose_words_misread_has_its_own_class() {
    for (status, kind, message, wanted) in [
        (401, "authentication_error", "invalid x-api-key", AuthFailed),
        (403, "permission_error", "Forbidden", AuthFailed),
        (403, "permission_error", "monthly quota exceeded, check billing", QuotaExhausted),
        (401, "authentication_error", "check your billing settings", AuthFailed),
        (400, "invalid_request_error", "max tokens must be >= 1", BadRequest),
        (400, "invalid_request_error", "tool name too long", BadRequest),
        (413, "request_too_large", "Request exceeds the maximum size", ContextTooLong),
        (529, "overloaded_error", "Overloaded", Overloaded),
        (404, "not_found_error", "model not found: no capacity", BadRequest),
        (429, "rate_limit_error", "prompt is too long for context window", RateLimited),
    ] {
        let own_type = format!(r#"{{"type":"error","error":{{"type":"{kind}","message":"{message}"}}}}"#);
        let no_type = format!(r#"{{"error":{{"message":"{message}"}}}}"#);
        for body in [own_type, no_type] {
            assert_eq!(class(status, &body), wanted, "{status} {body}");
        }
    }
    // The code alone makes a context error of a 429.
    let body = r#"{"error":{"message":"prompt is too long for context window","code":"context_length_exceeded"}}"#;
    assert_eq!(class(429, body), ContextTooLong);
}

#[test]
fn case_7_fields_come_before_the_status_and_what_a_chat_talks_about_triggers_nothing() {
    let spent = r#"{"error":{"message":"no","type":"x","code":"insufficient_quota"}}"#;
    for status in [400, 403, 429, 500] {
        assert_eq!(class(status, spent), QuotaExhausted, "{status}");
    }
    // The provider repeats the caller's words in other fields, or quotes them.
    for talk in [
        r#"{"error":{"message":"no tool of that name","input":"rate limit, overloaded, insufficient_quota"}}"#,
        r#"{"error":{"message":"unknown tool `rate_limit_exceeded`"}}"#,
        r#"{"error":{"message":"messages.0: text about a rate limit and billing"}}"#,
        r#"{"error":{"message":"x"},"messages":[{"content":"prompt is too long"}]}"#,
        "<html>too many requests? rate limit exceeded, capacity, billing</html>",
    ] {
        assert_eq!(class(400, talk), BadRequest, "{talk}");
        assert_eq!(class(502, talk), ServerError, "{talk}");
    }
}

#[test]
fn case_8_every_status_has_its_class_and_its_hint_changes_the_wait_alone() {
    for (status, body, wanted) in [
        (401, "", AuthFailed),
        (402, "", QuotaExhausted),
        (403, "", AuthFailed),
        (429, "", RateLimited),
        (503, "", Overloaded),
        (529, "", Overloaded),
        (400, "", BadRequest),
        (
            400,
            r#"{"error":{"type":"invalid_request_error","message":"Your credit balance is too low"}}"#,
            QuotaExhausted,
        ),
    ] {
        let plain = classify(&evidence(status, body));
        let hinted = classify(&ErrorEvidence { retry_after: Some("3"), ..evidence(status, body) });
        assert_eq!((plain.class, plain.retry_after_ms), (wanted, None), "{status} {body}");
        assert_eq!((hinted.class, hinted.retry_after_ms), (wanted, Some(3_000)), "{status} {body}");
    }
}
