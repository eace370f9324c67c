//! What an operator sees of a process: log lines and metrics.
//!
//! Owns the tracing set-up, the names of metrics and logged fields, and the redaction of secrets in free text.
//! Must not know what the numbers mean to the product; it counts what it is told.

mod logs;
pub mod metrics;
pub mod redaction;

pub use logs::{InitError, init};
pub use metrics::{CircuitState, FallbackReason, Metrics, RequestKind, RequestStatus};
pub use redaction::redact;
pub use tokenhub_config::LogFormat;
