//! Reasoning effort and thinking budget: the table between the two ways to ask a model to think.
//!
//! Owns the figures. A budget that came from an effort gives an effort of at most one step away.

use super::Effort;

/// The smallest budget that Messages takes.
pub(crate) const BUDGET_MIN_TOKENS: u64 = 1024;

impl Effort {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Minimal => "minimal",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::ExtraHigh => "xhigh",
            Self::Max => "max",
        }
    }

    /// Reads the word on the wire.
    pub fn parse(word: &str) -> Option<Self> {
        let all = [Self::None, Self::Minimal, Self::Low, Self::Medium, Self::High, Self::ExtraHigh, Self::Max];
        all.into_iter().find(|effort| effort.as_str() == word)
    }
}

/// The thinking budget that stands for `effort`; `None` for no thinking.
pub(crate) fn budget_of(effort: Effort) -> Option<u64> {
    match effort {
        Effort::None => None,
        Effort::Minimal | Effort::Low => Some(1024),
        Effort::Medium => Some(2048),
        Effort::High => Some(4096),
        Effort::ExtraHigh => Some(8192),
        Effort::Max => Some(16_384),
    }
}

/// The effort that stands for a budget.
pub(crate) fn effort_of(budget_tokens: u64) -> Effort {
    match budget_tokens {
        0 => Effort::None,
        1..=1024 => Effort::Low,
        1025..=4095 => Effort::Medium,
        4096..=8191 => Effort::High,
        8192.. => Effort::ExtraHigh,
    }
}

/// `wanted`, or the nearest effort that the model takes: the next lower one, else its lowest. Of a model whose efforts are
/// not known only the three oldest are asked, and no thinking cannot be asked at all.
pub(crate) fn fit(known: &[Effort], wanted: Effort) -> Option<Effort> {
    if known.is_empty() {
        return match wanted {
            Effort::None => None,
            Effort::Minimal | Effort::Low => Some(Effort::Low),
            Effort::Medium => Some(Effort::Medium),
            Effort::High | Effort::ExtraHigh | Effort::Max => Some(Effort::High),
        };
    }
    let lower = known.iter().copied().filter(|effort| *effort <= wanted).max();
    lower.or_else(|| known.iter().copied().min())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Effort; 7] =
        [Effort::None, Effort::Minimal, Effort::Low, Effort::Medium, Effort::High, Effort::ExtraHigh, Effort::Max];

    #[test]
    fn an_effort_that_becomes_a_budget_and_comes_back_is_at_most_one_step_away() {
        for effort in ALL {
            let back = budget_of(effort).map_or(Effort::None, effort_of);
            assert!((effort as i32 - back as i32).abs() <= 1, "{effort:?} became {back:?}");
            assert_eq!(Effort::parse(effort.as_str()), Some(effort));
        }
    }

    #[test]
    fn a_model_gets_an_effort_that_it_takes() {
        let known = [Effort::Low, Effort::Medium, Effort::High];
        assert_eq!(fit(&known, Effort::Max), Some(Effort::High));
        assert_eq!(fit(&known, Effort::None), Some(Effort::Low));
        assert_eq!(fit(&[], Effort::None), None);
        assert_eq!(fit(&[], Effort::ExtraHigh), Some(Effort::High));
        assert_eq!(fit(&ALL, Effort::ExtraHigh), Some(Effort::ExtraHigh));
    }
}
