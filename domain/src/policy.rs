//! What a request asks of routing.

use serde::{Deserialize, Serialize};

use crate::NanoDollars;

/// The weighting that ranks the eligible models (TokenHub's mode profiles).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RoutingProfile {
    /// Cost first.
    Cheap,
    /// All four parts alike.
    #[default]
    Normal,
    /// Weight first.
    HighConfidence,
    /// Weight, then reliability.
    Planning,
    /// Weight, then reliability.
    Adversarial,
    /// Drawn from what is known of each model's success, so that the better it did, the more often it is first.
    Thompson,
}

impl RoutingProfile {
    /// Every profile, for tables and tests.
    pub const ALL: [Self; 6] =
        [Self::Cheap, Self::Normal, Self::HighConfidence, Self::Planning, Self::Adversarial, Self::Thompson];

    /// The stable name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cheap => "cheap",
            Self::Normal => "normal",
            Self::HighConfidence => "high_confidence",
            Self::Planning => "planning",
            Self::Adversarial => "adversarial",
            Self::Thompson => "thompson",
        }
    }

    /// The profile named `name`, or `None`.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|profile| profile.as_str() == name)
    }
}

/// The limits that a request puts on each of its calls.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Policy {
    /// How to rank.
    pub profile: RoutingProfile,
    /// No call whose estimate exceeds this.
    pub max_budget: Option<NanoDollars>,
    /// The whole run must end within this.
    pub max_latency_ms: Option<u64>,
    /// No model of a smaller weight.
    pub min_weight: u32,
    /// The next deployment is asked as well when nobody has answered within this; never without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hedge_after_ms: Option<u64>,
}
