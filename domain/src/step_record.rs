//! What was used: one step as it is shown to the caller, and the sums over all of them.

use serde::{Deserialize, Serialize};

use crate::{ErrorClass, ModelId, NanoDollars, ProviderId, Role, StepId};

/// One step as it is shown to the caller.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepRecord {
    /// Its id within the run.
    pub id: StepId,
    /// What it was for.
    pub role: Role,
    /// The model of its last try.
    #[serde(default)]
    pub model: Option<ModelId>,
    /// The provider of its last try.
    #[serde(default)]
    pub provider: Option<ProviderId>,
    /// Provider calls made, duplicates not counted.
    pub attempts: u32,
    /// Calls sent again because a process died while one was in flight.
    #[serde(default)]
    pub duplicate_calls: u32,
    /// Prompt tokens.
    #[serde(default)]
    pub input_tokens: u64,
    /// Answer tokens.
    #[serde(default)]
    pub output_tokens: u64,
    /// What it cost.
    #[serde(default)]
    pub cost: NanoDollars,
    /// Milliseconds spent in provider calls.
    #[serde(default)]
    pub latency_ms: u64,
    /// Why it failed.
    #[serde(default)]
    pub error_class: Option<ErrorClass>,
    /// Names of what a conversion of its answer lost.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub losses: Vec<String>,
    /// Those of its calls that were made to deployments that lost against a faster one.
    #[serde(default, skip_serializing_if = "crate::is_default")]
    pub hedged: u32,
    /// Tokens of answers that died with their process or broke off, and that nobody used.
    #[serde(default, skip_serializing_if = "crate::is_default")]
    pub wasted_tokens: u64,
}

/// The sums over the steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Provider calls, duplicates not counted.
    pub calls: u32,
    /// Calls sent again because a process died while one was in flight.
    pub duplicate_calls: u32,
    /// Prompt tokens.
    pub input_tokens: u64,
    /// Answer tokens.
    pub output_tokens: u64,
    /// What it cost.
    pub cost: NanoDollars,
    /// Tokens of answers that died with their process or broke off, and that nobody used. No part of the others.
    #[serde(default, skip_serializing_if = "crate::is_default")]
    pub wasted_tokens: u64,
}

impl Usage {
    /// The sums over `steps`.
    pub fn of(steps: &[StepRecord]) -> Self {
        let mut usage = Self::default();
        for step in steps {
            usage.calls += step.attempts;
            usage.duplicate_calls += step.duplicate_calls;
            usage.input_tokens += step.input_tokens;
            usage.output_tokens += step.output_tokens;
            usage.cost += step.cost;
            usage.wasted_tokens += step.wasted_tokens;
        }
        usage
    }
}
