//! How a failure is written in each dialect: as a body and inside a stream.

use bytes::Bytes;
use serde_json::{Value, json};

use crate::dialect::Dialect;
use crate::reply::ErrorBody;
use crate::speech::Speech;
use crate::wire::responses;
use crate::wire::sse::{event, named_event};

/// The types of errors that Messages knows.
const MESSAGES_KINDS: [&str; 10] = [
    "invalid_request_error",
    "authentication_error",
    "billing_error",
    "permission_error",
    "not_found_error",
    "request_too_large",
    "rate_limit_error",
    "timeout_error",
    "api_error",
    "overloaded_error",
];

/// What an error in a stream counts as when its script does not say.
const STATUS_IN_A_STREAM: u16 = 500;

/// In Responses an error in a stream is written in one of two ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StreamForm {
    /// `response.failed`
    Failed,
    /// `error`
    Bare,
}

/// The body of an answer with this status.
pub(crate) fn body(dialect: Dialect, status: u16, error: &ErrorBody, request_id: &str) -> Value {
    match dialect {
        Dialect::Chat | Dialect::Responses => openai(status, error),
        Dialect::Messages => messages(status, error, request_id),
    }
}

/// The event that tells of `error` after `sequence_number` others.
pub(crate) fn in_stream(
    dialect: Dialect,
    error: &ErrorBody,
    form: StreamForm,
    speech: &Speech<'_>,
    sequence_number: usize,
) -> Bytes {
    match (dialect, form) {
        (Dialect::Chat, _) => event(&openai(STATUS_IN_A_STREAM, error).to_string()),
        (Dialect::Responses, StreamForm::Failed) => named_event(&responses::failed(speech, error, sequence_number)),
        (Dialect::Responses, StreamForm::Bare) => named_event(&responses::error_event(error, sequence_number)),
        (Dialect::Messages, _) => named_event(&messages(STATUS_IN_A_STREAM, error, "req_scripted")),
    }
}

fn openai(status: u16, error: &ErrorBody) -> Value {
    let (kind, code) = match status {
        401 => ("invalid_request_error", Some("invalid_api_key")),
        402 => ("insufficient_quota", Some("insufficient_quota")),
        403 => ("permission_error", None),
        404 => ("invalid_request_error", Some("model_not_found")),
        413 => ("invalid_request_error", Some("request_too_large")),
        429 => ("requests", Some("rate_limit_exceeded")),
        503 | 529 => ("service_unavailable_error", Some("server_is_overloaded")),
        500.. => ("server_error", None),
        _ => ("invalid_request_error", None),
    };
    let kind = error.kind.as_deref().unwrap_or(kind);
    // A script that names the type alone does not want a code of another kind.
    let code = error.code.as_deref().or(code.filter(|_| error.kind.is_none()));
    json!({"error": {"message": error.message, "type": kind, "param": error.param, "code": code}})
}

fn messages(status: u16, error: &ErrorBody, request_id: &str) -> Value {
    let by_status = match status {
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        504 => "timeout_error",
        529 => "overloaded_error",
        500.. => "api_error",
        _ => "invalid_request_error",
    };
    let kind = error.kind.as_deref().filter(|kind| MESSAGES_KINDS.contains(kind)).unwrap_or(by_status);
    json!({"type": "error", "error": {"type": kind, "message": error.message}, "request_id": request_id})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_takes_its_type_from_the_script_or_from_the_status() {
        let of = |dialect, status, error: &ErrorBody| body(dialect, status, error, "req_1");
        let plain = ErrorBody { message: "m".to_owned(), ..ErrorBody::default() };
        assert_eq!(of(Dialect::Messages, 529, &plain)["error"]["type"], "overloaded_error");
        assert_eq!(of(Dialect::Messages, 429, &plain)["request_id"], "req_1");
        assert_eq!(of(Dialect::Responses, 401, &plain)["error"]["code"], "invalid_api_key");
        let named = ErrorBody { kind: Some("x".to_owned()), ..plain };
        assert_eq!(
            of(Dialect::Chat, 429, &named)["error"],
            json!({"message": "m", "type": "x", "param": null, "code": null})
        );
        assert_eq!(of(Dialect::Messages, 400, &named)["error"]["type"], "invalid_request_error");
    }
}
