//! The three forms of an error body, chosen by the route and never by the Accept header.

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::{Map, Value, json};

use super::{Report, RetryAdvice};

const CODE_URN: &str = "urn:tokenhub:error:";

/// The form of an error body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// OpenAI's error object, all four keys present.
    OpenAi,
    /// RFC 9457, on the plan routes.
    Problem,
    /// TokenHub's own `{"error": text}`, with the code beside it.
    Native,
}

impl Shape {
    /// The form of the route at `path`.
    pub(crate) fn of_path(path: &str) -> Self {
        match path.trim_end_matches('/') {
            "/v1/chat" => Self::Native,
            path if path == "/v1/plan" || path.starts_with("/v1/plan/") => Self::Problem,
            _ => Self::OpenAi,
        }
    }

    pub(super) fn respond(self, report: Report) -> Response {
        let status = report.status;
        let retry_after_ms = report.retry_after_ms;
        let advice = report.advice;
        let content_type = match self {
            Self::OpenAi | Self::Native => "application/json",
            Self::Problem => "application/problem+json",
        };
        let body = match self {
            Self::OpenAi => openai_error(&report),
            Self::Native => json!({"error": report.message, "code": report.code}),
            Self::Problem => problem_document(report),
        };
        let mut response = (status, body.to_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        if let Some(millis) = retry_after_ms {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(millis.div_ceil(1_000).max(1)));
            headers.insert("retry-after-ms", HeaderValue::from(millis));
        }
        if advice == RetryAdvice::Never {
            headers.insert("x-should-retry", HeaderValue::from_static("false"));
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// OpenAI's error object; also the last event of a stream that breaks off.
pub(crate) fn openai_error(report: &Report) -> Value {
    json!({"error": {
        "message": report.message, "type": report.kind, "param": report.param, "code": report.code,
    }})
}

fn problem_document(report: Report) -> Value {
    let code = report.code.unwrap_or_default();
    let mut document = Map::from_iter([
        ("type".to_owned(), Value::from(format!("{CODE_URN}{code}"))),
        ("title".to_owned(), report.status.canonical_reason().unwrap_or("Error").into()),
        ("status".to_owned(), report.status.as_u16().into()),
        ("detail".to_owned(), report.message.into()),
        ("code".to_owned(), code.into()),
    ]);
    if let Some(param) = report.param {
        document.insert("param".to_owned(), param.into());
    }
    for (name, value) in report.members {
        // `status` is the document's own HTTP status by RFC 9457; the run's state has another name there.
        let name = if name == "status" { "run_status".to_owned() } else { name };
        document.entry(name).or_insert(value);
    }
    Value::Object(document)
}
