//! What a problem is in terms of HTTP, whatever form it is told in.

use axum::http::StatusCode;
use serde_json::{Map, Value};

/// What a client should do with the same request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RetryAdvice {
    /// The client's own judgement.
    Unsaid,
    /// The same request cannot succeed, or would be paid for again.
    Never,
}

/// A problem in terms of HTTP, before it takes a shape.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) status: StatusCode,
    pub(crate) kind: &'static str,
    pub(crate) code: Option<String>,
    pub(crate) param: Option<String>,
    pub(crate) message: String,
    pub(crate) retry_after_ms: Option<u64>,
    pub(crate) advice: RetryAdvice,
    pub(crate) members: Map<String, Value>,
}
