//! How a deployment does, in one word.
//!
//! Owns what counts as degraded, on trial and down. Must not know where penalties and signals are kept.

use serde::{Deserialize, Serialize};

use crate::cooldown::Standing;

/// How a deployment or a provider does, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// It answers.
    Healthy,
    /// Its latest calls have failed in a row; it ranks behind.
    Degraded,
    /// A penalty has ended and nobody has looked again: the next call is its trial.
    HalfOpen,
    /// It is left out.
    Down,
}

impl Condition {
    /// Every one, the best first.
    pub const ALL: [Self; 4] = [Self::Healthy, Self::Degraded, Self::HalfOpen, Self::Down];

    /// The stable name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Degraded => "degraded",
            Self::HalfOpen => "half_open",
            Self::Down => "down",
        }
    }

    /// What penalties and signals say together.
    pub fn of(standing: Standing, degraded: bool) -> Self {
        match standing {
            Standing::Cooling { .. } => Self::Down,
            Standing::Probe => Self::HalfOpen,
            Standing::Free if degraded => Self::Degraded,
            Standing::Free => Self::Healthy,
        }
    }

    /// How a provider does whose deployments do so: down when nothing of it is up, degraded when something is not well.
    pub fn of_all(deployments: impl IntoIterator<Item = Self>) -> Self {
        let (best, worst) =
            deployments.into_iter().fold((None, None), |(best, worst): (Option<Self>, Option<Self>), one| {
                (Some(best.map_or(one, |best| best.min(one))), worst.max(Some(one)))
            });
        match (best, worst) {
            (Some(Self::Down), _) => Self::Down,
            (Some(Self::HalfOpen), _) => Self::HalfOpen,
            (_, Some(Self::Degraded | Self::HalfOpen | Self::Down)) => Self::Degraded,
            (_, Some(Self::Healthy) | None) => Self::Healthy,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Condition::{Degraded, Down, HalfOpen, Healthy};
    use super::*;

    #[test]
    fn a_provider_is_down_when_nothing_of_it_is_up() {
        for (deployments, expected) in [
            (vec![], Healthy),
            (vec![Healthy, Healthy], Healthy),
            (vec![Healthy, Down], Degraded),
            (vec![Healthy, HalfOpen], Degraded),
            (vec![Degraded], Degraded),
            (vec![HalfOpen, Down], HalfOpen),
            (vec![Down, Down], Down),
        ] {
            assert_eq!(Condition::of_all(deployments.clone()), expected, "{deployments:?}");
        }
        assert_eq!(Condition::of(Standing::Probe, true), HalfOpen);
        assert_eq!(Condition::of(Standing::Free, true), Degraded);
    }
}
