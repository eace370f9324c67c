//! How a run shares the workers with others, when more is to be done than they can do at once.
//!
//! Urgency goes first: nothing of a later one is begun while something of an earlier one waits. Among runs of one urgency
//! tenants take turns, in proportion to their weights. Must not know who keeps the queue.

use serde::{Deserialize, Serialize};

/// How soon somebody needs the answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Urgency {
    /// Somebody waits for it.
    #[default]
    Interactive,
    /// Somebody comes back for it.
    Background,
    /// When there is nothing else to do.
    Batch,
}

impl Urgency {
    /// Every urgency, the first one first.
    pub const ALL: [Self; 3] = [Self::Interactive, Self::Background, Self::Batch];

    /// The stable name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Interactive => "interactive",
            Self::Background => "background",
            Self::Batch => "batch",
        }
    }

    /// The urgency named `name`.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|urgency| urgency.as_str() == name)
    }
}

/// The weight of a tenant that is given none, in thousandths.
const WEIGHT_MILLI: u32 = 1_000;

/// The place of a run among others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Share {
    /// How soon somebody needs it.
    pub urgency: Urgency,
    /// How often its tenant's turn comes, in thousandths of once.
    pub weight_milli: u32,
}

impl Default for Share {
    fn default() -> Self {
        Self { urgency: Urgency::default(), weight_milli: WEIGHT_MILLI }
    }
}

impl Share {
    /// Whether it is what holds where nothing is said.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// The same with no more than this urgency.
    #[must_use]
    pub fn at_most(self, urgency: Urgency) -> Self {
        Self { urgency: self.urgency.max(urgency), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_made_less_urgent_and_never_more() {
        let batch = Share { urgency: Urgency::Batch, weight_milli: 7 };
        assert_eq!(Share::default().at_most(Urgency::Background).urgency, Urgency::Background);
        assert_eq!(batch.at_most(Urgency::Background), batch);
        assert_eq!(serde_json::from_str::<Share>("{}").unwrap(), Share::default());
        assert!(Urgency::ALL.into_iter().all(|urgency| Urgency::parse(urgency.as_str()) == Some(urgency)));
    }
}
