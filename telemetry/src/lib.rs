//! What an operator sees of a process: log lines and metrics.
//!
//! Owns the tracing set-up and the names of metrics and logged fields.
//! Must not know what the numbers mean to the product; it counts what it is told.

mod logs;
pub mod metrics;

pub use logs::{InitError, init};
pub use metrics::{
    CircuitState, DeploymentCondition, FallbackReason, Metrics, RequestKind, RequestStatus, WebhookResult,
};
pub use tokenhub_config::LogFormat;
