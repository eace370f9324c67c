//! Why something that is asked of a run is not done.

use axum::http::StatusCode;
use tokenhub_domain::{RunStatus, limits};

/// A signal that is refused. Nothing of it was kept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SteeringRefusal {
    /// Nothing can be asked of it any more.
    #[error("the plan `{id}` has ended: {}", .status.as_str())]
    Ended {
        /// The id.
        id: String,
        /// How.
        status: RunStatus,
    },
    /// It is a chat, or a plan that a chat asked for.
    #[error("the run `{id}` cannot be steered: only what `POST /v1/plan` has begun can")]
    NotSteerable {
        /// The id.
        id: String,
    },
    /// It was asked too often.
    #[error("the plan `{id}` has had {} signals, and takes no more", limits::PLAN_SIGNALS_MAX)]
    TooMany {
        /// The id.
        id: String,
    },
}

impl SteeringRefusal {
    /// Status and code.
    pub(super) fn facts(&self) -> (StatusCode, &'static str) {
        match self {
            Self::Ended { .. } => (StatusCode::CONFLICT, "plan_ended"),
            Self::NotSteerable { .. } => (StatusCode::CONFLICT, "plan_not_steerable"),
            Self::TooMany { .. } => (StatusCode::CONFLICT, "too_many_signals"),
        }
    }
}
