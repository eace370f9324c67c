//! The identity of one HTTP request: made here, sent back on every response, put on every log line.
//!
//! A client's own id is logged and nothing else: two clients may choose the same one.

use std::time::Instant;

use axum::{
    extract::Request,
    http::{HeaderMap, HeaderName, HeaderValue, Method},
    response::Response,
};
use tokenhub_domain::RequestId;
use tracing::Instrument;

use crate::error::Shape;

/// Longest part of a client's id that is logged.
const CLIENT_ID_CHARS: usize = 128;
const OURS: HeaderName = HeaderName::from_static("x-tokenhub-request-id");
const STANDARD: HeaderName = HeaderName::from_static("x-request-id");
const CLIENT: &str = "x-client-request-id";
/// What clients of the Messages protocol look for.
const ANTHROPIC: HeaderName = HeaderName::from_static("request-id");
const PROCESSING: HeaderName = HeaderName::from_static("openai-processing-ms");

tokio::task_local! {
    /// What an error body says about its request, wherever in its handling it is written.
    static REQUEST: (RequestId, Shape);
}

/// The id of the request in hand, if there is one.
pub(crate) fn current() -> Option<RequestId> {
    REQUEST.try_with(|(id, _)| id.clone()).ok()
}

/// The form in which the request in hand is refused.
pub(crate) fn shape() -> Shape {
    REQUEST.try_with(|(_, shape)| *shape).unwrap_or(Shape::OpenAi)
}

/// When the request came in; deadlines count from here.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival(pub Instant);

/// Gives the request its id and stamps whatever answer it gets.
pub(crate) async fn stamp<F: Future<Output = Response>>(
    mut request: Request,
    next: impl FnOnce(Request) -> F,
) -> Response {
    let id = RequestId::generate();
    let arrival = Instant::now();
    request.extensions_mut().insert(id.clone());
    request.extensions_mut().insert(Arrival(arrival));
    // Probes and listings come every few seconds and say nothing.
    let is_question = request.method() == Method::GET;
    let span = tracing::info_span!(
        "request",
        request_id = %id,
        client_request_id = client_id(request.headers()),
        method = %request.method(),
        path = request.uri().path(),
    );
    let shape = Shape::of(request.uri().path(), request.headers());
    let mut response = REQUEST.scope((id.clone(), shape), next(request).instrument(span.clone())).await;
    let millis = u64::try_from(arrival.elapsed().as_millis()).unwrap_or(u64::MAX);
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(id.as_str()) {
        headers.insert(OURS, value.clone());
        let name = if shape == Shape::Anthropic { ANTHROPIC } else { STANDARD };
        headers.insert(name, value);
    }
    if shape == Shape::OpenAi {
        headers.insert(PROCESSING, HeaderValue::from(millis));
    }
    let status = response.status().as_u16();
    span.in_scope(|| {
        if is_question {
            tracing::debug!(status, millis, "answered");
        } else {
            tracing::info!(status, millis, "answered");
        }
    });
    response
}

fn client_id(headers: &HeaderMap) -> String {
    let value = headers.get(STANDARD).or_else(|| headers.get(CLIENT));
    let text = value.and_then(|value| value.to_str().ok()).unwrap_or_default();
    text.chars().take(CLIENT_ID_CHARS).collect()
}
