//! The forms of an error body, chosen by the route and never by the Accept header.

use axum::{
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::{Map, Value, json};
use tokenhub_domain::RequestId;

use super::{Report, RetryAdvice};
use crate::{render, request_id};

/// Anthropic's own status for a provider without capacity.
pub(super) const OVERLOADED_STATUS: u16 = 529;
/// The code of a refusal, for the forms that have no place for it.
const CODE_HEADER: HeaderName = HeaderName::from_static("x-tokenhub-error-code");
/// The routes of each protocol are also served below its vendor's name.
const OPENAI_PREFIX: &str = "/openai";
const ANTHROPIC_PREFIX: &str = "/anthropic";
const CODE_URN: &str = "urn:tokenhub:error:";

/// The form of an error body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// OpenAI's error object, all four keys present.
    OpenAi,
    /// Anthropic's error object, with the id of the request.
    Anthropic,
    /// RFC 9457, on the plan and admin routes.
    Problem,
    /// TokenHub's own `{"error": text}`, with the code beside it.
    Native,
}

impl Shape {
    /// The form of the route at `path`. The protocol of a route wins over the prefix that it is served below.
    pub(crate) fn of(path: &str, headers: &HeaderMap) -> Self {
        let (prefix, route) = split_prefix(path.trim_end_matches('/'));
        let is_under =
            |root: &str| route.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        if is_under("/v1/messages") {
            Self::Anthropic
        } else if ["/v1/chat/completions", "/v1/responses", "/v1/embeddings"].into_iter().any(is_under) {
            Self::OpenAi
        } else if prefix == ANTHROPIC_PREFIX || (is_under("/v1/models") && headers.contains_key("anthropic-version")) {
            Self::Anthropic
        } else if prefix == OPENAI_PREFIX {
            Self::OpenAi
        } else if is_under("/v1/plan") || is_under("/admin") {
            Self::Problem
        } else if route == "/v1/chat" {
            Self::Native
        } else {
            Self::OpenAi
        }
    }

    pub(super) fn respond(self, report: Report) -> Response {
        let status = report.status;
        let retry_after_ms = report.retry_after_ms;
        let advice = report.advice;
        let content_type = match self {
            Self::OpenAi | Self::Anthropic | Self::Native => "application/json",
            Self::Problem => "application/problem+json",
        };
        let code = report.code.clone();
        let body = match self {
            Self::OpenAi => openai_error(&report),
            Self::Anthropic => anthropic_error(&report, request_id::current().as_ref()),
            Self::Native => json!({"error": report.message, "code": report.code}),
            Self::Problem => problem_document(report),
        };
        let mut response = (status, body.to_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        if let Some(code) = code {
            render::insert(headers, CODE_HEADER, &code);
        }
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

/// Anthropic's error object; also the last event of a stream that breaks off.
pub(crate) fn anthropic_error(report: &Report, request_id: Option<&RequestId>) -> Value {
    json!({
        "type": "error",
        "error": {"type": anthropic_type(report.status), "message": report.message},
        "request_id": request_id,
    })
}

/// Anthropic has one type for each status, and one for each half of the rest.
fn anthropic_type(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        504 => "timeout_error",
        OVERLOADED_STATUS => "overloaded_error",
        400..=499 => "invalid_request_error",
        _ => "api_error",
    }
}

fn split_prefix(path: &str) -> (&str, &str) {
    for prefix in [OPENAI_PREFIX, ANTHROPIC_PREFIX] {
        if let Some(route) = path.strip_prefix(prefix).filter(|route| route.is_empty() || route.starts_with('/')) {
            return (prefix, route);
        }
    }
    ("", path)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Problem;

    #[test]
    fn a_route_speaks_its_own_protocol_and_the_rest_that_of_its_prefix() {
        let of = |path: &str| Shape::of(path, &HeaderMap::new());
        for path in [
            "/v1/messages",
            "/openai/v1/messages/count_tokens",
            "/anthropic",
            "/anthropic/v1/models/x",
            "/anthropic/no",
        ] {
            assert_eq!(of(path), Shape::Anthropic, "{path}");
        }
        for path in [
            "/v1/chat/completions/",
            "/anthropic/v1/chat/completions",
            "/v1/responses/resp_1/cancel",
            "/v1/embeddings",
            "/v1/models",
            "/openai/v1/plan",
            "/anthropics",
            "/v1/messagesx",
            "/",
        ] {
            assert_eq!(of(path), Shape::OpenAi, "{path}");
        }
        assert_eq!(of("/v1/plan/plan_1"), Shape::Problem);
        assert_eq!(of("/v1/chat/"), Shape::Native);
    }

    #[test]
    fn the_list_of_models_is_anthropics_for_those_who_say_so() {
        let headers = HeaderMap::from_iter([(
            HeaderName::from_static("anthropic-version"),
            HeaderValue::from_static("2023-06-01"),
        )]);
        assert_eq!(Shape::of("/v1/models", &headers), Shape::Anthropic);
        assert_eq!(Shape::of("/v1/models/a", &headers), Shape::Anthropic);
        assert_eq!(Shape::of("/v1/chat/completions", &headers), Shape::OpenAi);
    }

    #[tokio::test]
    async fn a_refusal_in_anthropics_form_has_type_message_and_a_code_beside_it() {
        let refusal = Problem::UnknownModel { param: "model", model: "gpt-9".into() };
        let response = refusal.into_response(Shape::Anthropic);
        assert_eq!(
            (response.status().as_u16(), &response.headers()["x-should-retry"]),
            (404, &"false".parse().unwrap())
        );
        assert_eq!(response.headers()["x-tokenhub-error-code"], "model_not_found");
        let bytes = axum::body::to_bytes(response.into_body(), 1 << 16).await.unwrap();
        let body: Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(
            body,
            json!({"type": "error", "error": {"type": "not_found_error", "message": "the model `gpt-9` does not exist"},
                "request_id": null})
        );
    }

    #[test]
    fn each_status_has_the_type_of_anthropics_table() {
        for (status, kind) in [
            (400, "invalid_request_error"),
            (401, "authentication_error"),
            (402, "billing_error"),
            (403, "permission_error"),
            (404, "not_found_error"),
            (405, "invalid_request_error"),
            (413, "request_too_large"),
            (422, "invalid_request_error"),
            (429, "rate_limit_error"),
            (500, "api_error"),
            (502, "api_error"),
            (503, "api_error"),
            (504, "timeout_error"),
            (529, "overloaded_error"),
        ] {
            assert_eq!(anthropic_type(StatusCode::from_u16(status).unwrap()), kind, "{status}");
        }
    }
}
