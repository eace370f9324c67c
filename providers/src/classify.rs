//! What a provider's error means: structured fields first, then narrow phrases, then the status.
//!
//! Pure, and the only place that reads an error. Broad words such as "billing", "capacity" or "too long" are no evidence:
//! they occur in messages about something else, and a client's mistake would then take a provider out of service.

use std::time::{Duration, SystemTime};

use http::HeaderMap;
use tokenhub_domain::{ErrorClass, ProviderFailure, limits};

use crate::evidence::ErrorFields;
use crate::quota::{self, UsedUp};
use crate::redact::redact;

/// Longest `code`, `type` or `param` that is kept.
const FIELD_BYTES: usize = 256;

/// Everything an error answer says.
#[derive(Clone, Copy, Debug)]
pub struct ErrorEvidence<'a> {
    /// The HTTP status; 200 for an error inside an answer.
    pub status: u16,
    /// The header `retry-after-ms`.
    pub retry_after_ms: Option<&'a str>,
    /// The header `retry-after`.
    pub retry_after: Option<&'a str>,
    /// The header `x-should-retry`.
    pub should_retry: Option<&'a str>,
    /// All of them, for those that tell when a limit ends.
    pub headers: Option<&'a HeaderMap>,
    /// The body.
    pub body: &'a [u8],
    /// The present, for a `retry-after` that is a date.
    pub now: SystemTime,
    /// The credential in use, to be masked wherever the provider repeats it.
    pub credential: Option<&'a str>,
}

impl<'a> ErrorEvidence<'a> {
    /// An error object inside a 200, in a body or in a stream.
    pub fn inside_answer(body: &'a [u8], credential: Option<&'a str>) -> Self {
        Self {
            status: 200,
            retry_after_ms: None,
            retry_after: None,
            should_retry: None,
            headers: None,
            body,
            now: SystemTime::UNIX_EPOCH,
            credential,
        }
    }
}

/// The failure that the evidence amounts to.
pub fn classify(evidence: &ErrorEvidence<'_>) -> ProviderFailure {
    let fields = ErrorFields::of(evidence.body);
    // A gateway that answers 200 puts the upstream's status into the code.
    let status = match (evidence.status, fields.status) {
        (200..300, Some(inner)) => inner,
        (outer, _) => outer,
    };
    let clean = |text: &str, max_bytes: usize| redact(text, evidence.credential, max_bytes);
    let message = if fields.message.is_empty() {
        format!("the provider answered with status {}", evidence.status)
    } else {
        clean(&fields.message, limits::PROVIDER_ERROR_BYTES)
    };
    let used_up = match evidence.headers {
        Some(headers) if status == 429 => quota::used_up(headers, evidence.body, evidence.now),
        Some(_) | None => UsedUp::default(),
    };
    let named = class_of(status, &fields, evidence.should_retry);
    // Of such a limit the name says only that it is one; when it ends says which.
    let is_quota = named == ErrorClass::RateLimited && used_up.window.is_some();
    let class = if is_quota { ErrorClass::QuotaExhausted } else { named };
    let waits = [used_up.window, used_up.limit].map(|wait| wait.map(millis));
    ProviderFailure {
        class,
        status: Some(status),
        message,
        code: fields.code.as_deref().map(|code| clean(code, FIELD_BYTES)),
        param: fields.param.as_deref().map(|param| clean(param, FIELD_BYTES)),
        retry_after_ms: retry_hint_ms(evidence).or_else(|| waits.into_iter().flatten().max()),
        quota_resets_in_ms: waits[0],
    }
}

fn class_of(status: u16, fields: &ErrorFields, should_retry: Option<&str>) -> ErrorClass {
    let named = [&fields.code, &fields.kind].into_iter().flatten().find_map(|name| class_of_name(name));
    match named {
        // A single request above the provider's rate: waiting does not make it smaller.
        Some(ErrorClass::RateLimited) if status == 413 => return ErrorClass::ContextTooLong,
        Some(class) => return class,
        None => {}
    }
    let message = fields.message.to_ascii_lowercase();
    class_of_phrase(status, &message)
        .or_else(|| fields.kind.as_deref().filter(|_| status < 400).and_then(class_of_vague_name))
        .unwrap_or_else(|| class_of_status(status, should_retry))
}

/// Codes and types that mean one thing wherever they appear.
const NAMES: [(ErrorClass, &[&str]); 8] = [
    (
        ErrorClass::RateLimited,
        &[
            "rate_limit_exceeded",
            "rate_limit_error",
            "rate_limit_reached",
            "rate_limit_reached_error",
            "rate_limited",
            "too_many_requests",
            "resource_exhausted",
            "throttlingexception",
        ],
    ),
    (
        ErrorClass::QuotaExhausted,
        &[
            "insufficient_quota",
            "billing_error",
            "billing_hard_limit_reached",
            "billing_not_active",
            "quota_exceeded",
            "exceeded_current_quota_error",
            "insufficient_credits",
            "insufficient_balance",
            "payment_required",
            "spend_limit_reached",
        ],
    ),
    (
        ErrorClass::Overloaded,
        &[
            "overloaded_error",
            "overloaded",
            "server_is_overloaded",
            "slow_down",
            "engine_overloaded",
            "engine_overloaded_error",
            "model_overloaded",
            "unavailable",
            "service_unavailable_error",
        ],
    ),
    (ErrorClass::ServerError, &["server_error", "internal_server_error", "internal_error", "timeout_error"]),
    (
        ErrorClass::ContextTooLong,
        &[
            "context_length_exceeded",
            "context_window_exceeded",
            "model_context_window_exceeded",
            "exceed_context_size_error",
            "prompt_too_long",
            "request_too_large",
        ],
    ),
    (
        ErrorClass::AuthFailed,
        &[
            "invalid_api_key",
            "incorrect_api_key",
            "authentication_error",
            "invalid_authentication_error",
            "unauthenticated",
            "account_deactivated",
        ],
    ),
    (
        ErrorClass::ContentFiltered,
        &[
            "content_filter",
            "content_filtered",
            "content_policy_violation",
            "responsibleaipolicyviolation",
            "image_content_policy_violation",
            "refusal",
        ],
    ),
    (
        ErrorClass::BadRequest,
        &[
            "model_not_found",
            "not_found_error",
            "unsupported_parameter",
            "unsupported_value",
            "unknown_parameter",
            "invalid_value",
            "invalid_type",
            "missing_required_parameter",
            "string_above_max_length",
        ],
    ),
];

/// Codes and types that mean one thing wherever they occur.
fn class_of_name(name: &str) -> Option<ErrorClass> {
    let name = name.to_ascii_lowercase();
    NAMES.iter().find(|(_, names)| names.contains(&name.as_str())).map(|(class, _)| *class)
}

/// Types that providers use for several things; worth something only where there is no status.
fn class_of_vague_name(name: &str) -> Option<ErrorClass> {
    match name.to_ascii_lowercase().as_str() {
        "invalid_request_error" => Some(ErrorClass::BadRequest),
        "permission_error" => Some(ErrorClass::AuthFailed),
        _ => None,
    }
}

/// Sentences that providers are known to send, each only with statuses under which it means what it says.
fn class_of_phrase(status: u16, message: &str) -> Option<ErrorClass> {
    const CONTEXT: [&str; 9] = [
        "maximum context length",
        "prompt is too long",
        "context_length_exceeded",
        "exceeds the context window",
        "exceeds the available context size",
        "exceed context limit",
        "exceeds the model's context",
        "input is too long for requested model",
        "exceeds the maximum number of tokens allowed",
    ];
    const QUOTA: [&str; 9] = [
        "exceeded your current quota",
        "quota exceeded",
        "monthly quota",
        "credit balance is too low",
        "insufficient credits",
        "insufficient balance",
        "billing hard limit",
        "spend limit",
        "spending limit",
    ];
    const FILTER: [&str; 2] = ["content management policy", "violating our usage policy"];
    let says = |phrases: &[&str]| phrases.iter().any(|phrase| message.contains(phrase));
    // "Quota exceeded for requests per minute" is a rate, not a bill.
    let names_a_rate = says(&["per minute", "per second"]);
    match status {
        200..300 | 400 | 413 | 422 | 500 if says(&CONTEXT) => Some(ErrorClass::ContextTooLong),
        200..300 | 400 | 403 | 429 if says(&QUOTA) && !names_a_rate => Some(ErrorClass::QuotaExhausted),
        200..300 | 400 | 403 | 422 if says(&FILTER) => Some(ErrorClass::ContentFiltered),
        200..300 | 500..600 if message.contains("overloaded") => Some(ErrorClass::Overloaded),
        _ => None,
    }
}

fn class_of_status(status: u16, should_retry: Option<&str>) -> ErrorClass {
    match status {
        401 | 403 => ErrorClass::AuthFailed,
        402 => ErrorClass::QuotaExhausted,
        408 => ErrorClass::ServerError,
        413 => ErrorClass::ContextTooLong,
        // A limit that the provider says no waiting helps against is a spent budget.
        429 if should_retry == Some("false") => ErrorClass::QuotaExhausted,
        429 => ErrorClass::RateLimited,
        409 | 425 if should_retry == Some("true") => ErrorClass::ServerError,
        400..500 => ErrorClass::BadRequest,
        503 | 529 => ErrorClass::Overloaded,
        // 5xx, an error inside a 200, and a redirect, which no API answers on purpose.
        _ => ErrorClass::ServerError,
    }
}

fn retry_hint_ms(evidence: &ErrorEvidence<'_>) -> Option<u64> {
    let exact = evidence.retry_after_ms.and_then(|text| parse_units(text, 0.001));
    let hint = exact.or_else(|| {
        let text = evidence.retry_after?;
        parse_units(text, 1.0).or_else(|| {
            let date = httpdate::parse_http_date(text.trim()).ok()?;
            Some(date.duration_since(evidence.now).unwrap_or(Duration::ZERO))
        })
    })?;
    Some(millis(hint))
}

/// Rounded up, so that nobody comes back too early.
fn millis(wait: Duration) -> u64 {
    u64::try_from(wait.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

fn parse_units(text: &str, unit_seconds: f64) -> Option<Duration> {
    let count: f64 = text.trim().parse().ok()?;
    Duration::try_from_secs_f64(count * unit_seconds).ok()
}

#[cfg(test)]
mod tests;
