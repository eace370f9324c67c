//! Who may call from a browser: every page. A page has no key unless its user gives it one, and no cookie opens anything.

use std::time::Duration;

use axum::http::{HeaderName, Method};
use tower_http::cors::{AllowHeaders, Any, CorsLayer};

/// How long a browser keeps the answer to its question.
const MAX_AGE: Duration = Duration::from_mins(10);

/// What a page may read beside the body.
const EXPOSED: [&str; 32] = [
    "request-id",
    "x-request-id",
    "retry-after",
    "retry-after-ms",
    "x-should-retry",
    "openai-processing-ms",
    "idempotent-replayed",
    "x-negotiated-model",
    "x-tokenhub-request-id",
    "x-tokenhub-run-id",
    "x-tokenhub-workflow-id",
    "x-tokenhub-durability",
    "x-tokenhub-model",
    "x-tokenhub-provider",
    "x-tokenhub-cost-usd",
    "x-tokenhub-trace",
    "x-tokenhub-estimate",
    "x-tokenhub-loss",
    "x-tokenhub-error-code",
    "ratelimit",
    "ratelimit-policy",
    "x-ratelimit-limit-requests",
    "x-ratelimit-limit-tokens",
    "x-ratelimit-remaining-requests",
    "x-ratelimit-remaining-tokens",
    "x-ratelimit-reset-requests",
    "x-ratelimit-reset-tokens",
    "anthropic-ratelimit-requests-limit",
    "anthropic-ratelimit-requests-remaining",
    "anthropic-ratelimit-requests-reset",
    "anthropic-ratelimit-tokens-limit",
    "anthropic-ratelimit-tokens-remaining",
];

/// Answers what a browser asks before it sends, without a key, and marks every answer as readable.
pub(crate) fn layer() -> CorsLayer {
    CorsLayer::new()
        .allow_origin(Any)
        .allow_methods([Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE])
        // A wildcard would not cover Authorization.
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers(EXPOSED.map(HeaderName::from_static))
        .max_age(MAX_AGE)
}
