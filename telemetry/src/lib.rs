//! What an operator sees of a process: log lines and metrics.
//!
//! Owns the tracing set-up and the names of metrics and logged fields.
//! Must not know what the numbers mean to the product; it counts what it is told.

mod logs;
pub mod metrics;
mod runs;
mod temporal;

pub use logs::{InitError, init};
pub use metrics::{
    CONTENT_TYPE, CircuitState, DeploymentCondition, FallbackReason, Metrics, RequestKind, RequestStatus, WebhookResult,
};
pub use temporal::TemporalFigures;
pub use tokenhub_config::LogFormat;
