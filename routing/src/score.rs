//! The score that ranks deployments: lower is better.
//!
//! Owns the weights of each profile and how figures become parts of a score. Each part is a share of the largest figure
//! among those that are eligible, as TokenHub (Go) has it, with two differences: latencies that nobody would notice count
//! alike, and small failure rates are not stretched, because noise must not decide.

use serde::{Deserialize, Serialize};
use tokenhub_domain::RoutingProfile;

/// A latency below this is as good as none: networks differ by as much from call to call.
const LATENCY_NOISE_MS: f64 = 250.0;
/// The failure rate that costs a deployment the whole part, unless another one's is higher.
const FAILURE_WHOLE: f64 = 0.5;
/// A failure rate below this is none, so that a deployment that failed once is as good as the others some minutes later.
const FAILURE_NOISE: f64 = 0.02;
/// What a deployment whose latest calls failed in a row has to make up for.
const DEGRADED: f64 = 0.25;
/// What it is worth that somebody has the beginning of the prompt in its cache: cached tokens cost a tenth to a half and
/// come sooner. Less than a row of failures costs, and nothing to one that has them.
const WARM: f64 = 0.15;

/// The figures of one deployment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Figures {
    pub(crate) cost: f64,
    pub(crate) latency_ms: f64,
    pub(crate) failure_ratio: f64,
    pub(crate) weight: f64,
    pub(crate) degraded: bool,
    pub(crate) warm: bool,
}

impl Figures {
    /// The larger of each.
    pub(crate) fn largest(self, other: &Self) -> Self {
        Self {
            cost: self.cost.max(other.cost),
            latency_ms: self.latency_ms.max(other.latency_ms),
            failure_ratio: self.failure_ratio.max(other.failure_ratio),
            weight: self.weight.max(other.weight),
            degraded: false,
            warm: false,
        }
    }
}

/// What each figure adds to a score.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ScoreParts {
    /// The estimated cost.
    pub cost: f64,
    /// The recent latency.
    pub latency: f64,
    /// The recent failures.
    pub failure: f64,
    /// The weight; never above zero.
    pub weight: f64,
    /// A row of failures.
    pub degraded: f64,
    /// The prompt's beginning in its cache; never above zero.
    pub affinity: f64,
    /// The success rate that Thompson sampling drew, where it ranks; the other parts then do not count.
    pub drawn: Option<f64>,
}

impl ScoreParts {
    /// The score.
    pub fn total(&self) -> f64 {
        match self.drawn {
            Some(rate) => -rate,
            None => self.cost + self.latency + self.failure + self.weight + self.degraded + self.affinity,
        }
    }
}

/// How much each part counts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weights {
    cost: f64,
    latency: f64,
    failure: f64,
    weight: f64,
}

impl Weights {
    pub(crate) fn of(profile: RoutingProfile) -> Self {
        let [cost, latency, failure, weight] = match profile {
            RoutingProfile::Cheap => [0.70, 0.10, 0.10, 0.10],
            RoutingProfile::Normal | RoutingProfile::Thompson => [0.25, 0.25, 0.25, 0.25],
            RoutingProfile::HighConfidence => [0.05, 0.10, 0.15, 0.70],
            RoutingProfile::Planning | RoutingProfile::Adversarial => [0.10, 0.10, 0.20, 0.60],
        };
        Self { cost, latency, failure, weight }
    }

    /// The parts of `figures`, where `largest` are those of everybody.
    pub(crate) fn parts(&self, figures: &Figures, largest: &Figures) -> ScoreParts {
        let audible = |millis: f64| millis.max(LATENCY_NOISE_MS);
        ScoreParts {
            cost: self.cost * ratio(figures.cost, largest.cost),
            latency: self.latency * ratio(audible(figures.latency_ms), audible(largest.latency_ms)),
            failure: self.failure
                * ratio(figures.failure_ratio.max(FAILURE_NOISE), largest.failure_ratio.max(FAILURE_WHOLE)),
            weight: -self.weight * ratio(figures.weight, largest.weight),
            degraded: if figures.degraded { DEGRADED } else { 0.0 },
            affinity: if figures.warm && !figures.degraded { -WARM } else { 0.0 },
            drawn: None,
        }
    }
}

fn ratio(value: f64, largest: f64) -> f64 {
    if largest > 0.0 { (value / largest).clamp(0.0, 1.0) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn figures() -> impl Strategy<Value = Figures> {
        (0.0..100.0, 0.0..20_000.0, 0.0..1.0, 0_u32..=10, any::<(bool, bool)>()).prop_map(
            |(cost, latency_ms, failure_ratio, weight, (degraded, warm))| Figures {
                warm,
                cost,
                latency_ms,
                failure_ratio,
                weight: f64::from(weight),
                degraded,
            },
        )
    }

    fn profile() -> impl Strategy<Value = RoutingProfile> {
        proptest::sample::select(&RoutingProfile::ALL[..])
    }

    /// How far `one` is behind `other`, among the two and `rest`.
    fn behind(profile: RoutingProfile, one: &Figures, other: &Figures, rest: &[Figures]) -> f64 {
        let largest = rest.iter().fold(one.largest(other), Figures::largest);
        let weights = Weights::of(profile);
        weights.parts(one, &largest).total() - weights.parts(other, &largest).total()
    }

    const ROUNDING: f64 = 1e-9;

    proptest! {
        #[test]
        fn a_worse_figure_never_helps(
            one in figures(),
            other in figures(),
            rest in proptest::collection::vec(figures(), 0..4),
            profile in profile(),
            (cost, latency_ms, failure_ratio, weight) in (0.0..50.0_f64, 0.0..9_000.0_f64, 0.0..0.5_f64, 0_u32..=10),
        ) {
            let before = behind(profile, &one, &other, &rest);
            for worse in [
                Figures { cost: one.cost + cost, ..one },
                Figures { latency_ms: one.latency_ms + latency_ms, ..one },
                Figures { failure_ratio: f64::min(one.failure_ratio + failure_ratio, 1.0), ..one },
                Figures { weight: (one.weight - f64::from(weight)).max(0.0), ..one },
                Figures { degraded: true, ..one },
            ] {
                prop_assert!(behind(profile, &worse, &other, &rest) >= before - ROUNDING, "{one:?} {worse:?}");
            }
        }

        #[test]
        fn whoever_is_better_in_everything_is_in_front(
            worse in figures(),
            rest in proptest::collection::vec(figures(), 0..4),
            profile in profile(),
            (cost, latency_ms, failure_ratio, weight) in (0.0..1.0_f64, 0.0..1.0_f64, 0.0..1.0_f64, 0.0..1.0_f64),
        ) {
            prop_assume!(worse.cost > 0.01 && worse.latency_ms > 1.0 && worse.failure_ratio > 0.001);
            let better = Figures {
                cost: worse.cost * cost,
                latency_ms: worse.latency_ms * latency_ms,
                failure_ratio: worse.failure_ratio * failure_ratio,
                weight: worse.weight + 0.001 + weight,
                degraded: false,
                warm: worse.warm,
            };
            prop_assert!(behind(profile, &better, &worse, &rest) < 0.0, "{better:?} {worse:?}");
        }
    }

    #[test]
    fn noise_does_not_decide() {
        let weights = Weights::of(RoutingProfile::Normal);
        let largest = Figures { latency_ms: 200.0, failure_ratio: 0.05, ..Figures::default() };
        let quick = weights.parts(&Figures { latency_ms: 3.0, ..Figures::default() }, &largest);
        let slow = weights.parts(&Figures { latency_ms: 200.0, ..Figures::default() }, &largest);
        assert!((quick.total() - slow.total()).abs() < ROUNDING);
        let once = weights.parts(&Figures { failure_ratio: 0.05, ..Figures::default() }, &largest);
        assert!(once.failure < 0.03, "{once:?}");
        let healed = weights.parts(&Figures { failure_ratio: 0.01, ..Figures::default() }, &largest);
        assert!((healed.total() - quick.total()).abs() < ROUNDING, "{healed:?}");
    }
}
