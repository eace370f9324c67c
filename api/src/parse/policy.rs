//! The `policy` object of the native routes.

use serde_json::{Map, Value};
use tokenhub_domain::{NanoDollars, Policy, RoutingProfile, limits};

use super::Fields;
use crate::error::Problem;

/// What the caller says; the configuration fills the rest.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct PolicyWish {
    /// How to rank.
    pub(crate) profile: Option<RoutingProfile>,
    /// Most that a call may cost.
    pub(crate) max_budget: Option<NanoDollars>,
    /// The run must end within this.
    pub(crate) max_latency_ms: Option<u64>,
    /// No model of a smaller weight.
    pub(crate) min_weight: u32,
    /// When the next deployment is asked as well; 0 is never.
    pub(crate) hedge_after_ms: Option<u64>,
}

impl PolicyWish {
    /// The policy, with `default_profile` and `default_max_budget` where the caller says nothing.
    pub(crate) fn or_default(
        &self,
        default_profile: RoutingProfile,
        default_max_budget: Option<NanoDollars>,
    ) -> Policy {
        Policy {
            profile: self.profile.unwrap_or(default_profile),
            max_budget: self.max_budget.or(default_max_budget),
            max_latency_ms: self.max_latency_ms,
            min_weight: self.min_weight,
            hedge_after_ms: self.hedge_after_ms,
        }
    }
}

/// The policy in `body`. Zero means no limit, as it does for TokenHub clients.
pub(super) fn parse(body: &Map<String, Value>) -> Result<PolicyWish, Problem> {
    let policy = Fields::of(body, "policy")?;
    policy.only(&["mode", "max_budget_usd", "max_latency_ms", "min_weight", "hedge_after_ms"])?;
    let profile = match policy.text("mode")? {
        "" => None,
        mode => Some(RoutingProfile::parse(mode).ok_or_else(|| {
            Problem::invalid(
                policy.path("mode"),
                "must be cheap, normal, high_confidence, planning, adversarial or thompson",
            )
        })?),
    };
    let budget = policy.number("max_budget_usd", limits::POLICY_BUDGET_USD_MAX)?.filter(|usd| *usd > 0.0);
    let latency = policy.whole("max_latency_ms", limits::POLICY_LATENCY_MS_MAX)?.filter(|millis| *millis > 0);
    Ok(PolicyWish {
        profile,
        max_budget: budget.and_then(NanoDollars::from_usd),
        max_latency_ms: latency,
        min_weight: policy.small("min_weight", limits::WEIGHT_MAX)?,
        hedge_after_ms: policy.whole("hedge_after_ms", limits::POLICY_LATENCY_MS_MAX)?,
    })
}
