//! Money in integer nano-dollars: sums are exact, and a cheap token still has a price.
//!
//! 1 nano-dollar is 1e-9 USD. A price of 0.15 USD for a million tokens is 150 nano-dollars for one token.

use std::{iter::Sum, ops};

use serde::{Deserialize, Serialize};

const NANOS_PER_DOLLAR: f64 = 1e9;
const TOKENS_PER_MILLION: i128 = 1_000_000;
const TOKENS_PER_MILLION_SMALL: i64 = 1_000_000;

/// An amount of money.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NanoDollars(pub i64);

impl NanoDollars {
    /// The amount nearest to `usd`; `None` when it is not a finite number that fits.
    #[expect(clippy::cast_possible_truncation, reason = "the range is checked before the cast")]
    pub fn from_usd(usd: f64) -> Option<Self> {
        let nanos = (usd * NANOS_PER_DOLLAR).round();
        (nanos.is_finite() && nanos.abs() < 9.2e18).then_some(Self(nanos as i64))
    }

    /// The amount in dollars, for JSON answers.
    #[expect(clippy::cast_precision_loss, reason = "answers show dollars; sums are kept as integers")]
    pub fn as_usd(self) -> f64 {
        self.0 as f64 / NANOS_PER_DOLLAR
    }
}

impl ops::Add for NanoDollars {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl ops::AddAssign for NanoDollars {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sum for NanoDollars {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::default(), ops::Add::add)
    }
}

/// A price: nano-dollars for a million tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PricePerMillion(pub i64);

impl PricePerMillion {
    /// From dollars for a thousand tokens, the unit of the credentials file.
    pub fn from_usd_per_thousand(usd: f64) -> Option<Self> {
        NanoDollars::from_usd(usd * 1_000.0).map(|amount| Self(amount.0))
    }

    /// What `tokens` cost, rounded up to the next nano-dollar.
    pub fn cost_of(self, tokens: u64) -> NanoDollars {
        // Nearly every product fits 64 bits, where a division costs a tenth; a selection makes hundreds of them.
        if let Some(exact) = i64::try_from(tokens).ok().and_then(|tokens| self.0.checked_mul(tokens)) {
            let per_million = TOKENS_PER_MILLION_SMALL;
            return NanoDollars(exact.div_euclid(per_million) + i64::from(exact.rem_euclid(per_million) != 0));
        }
        let exact = i128::from(self.0) * i128::from(tokens);
        let rounded_up = exact.div_euclid(TOKENS_PER_MILLION) + i128::from(exact.rem_euclid(TOKENS_PER_MILLION) != 0);
        NanoDollars(i64::try_from(rounded_up).unwrap_or(i64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thousand_tokens_cost_the_price_per_thousand() {
        let price = PricePerMillion::from_usd_per_thousand(0.01).unwrap();
        assert_eq!(price.cost_of(1_000), NanoDollars::from_usd(0.01).unwrap());
        assert_eq!(price.cost_of(0), NanoDollars(0));
    }

    #[test]
    fn a_fraction_is_rounded_up_and_sums_are_exact() {
        assert_eq!(PricePerMillion(1).cost_of(1), NanoDollars(1));
        let total: NanoDollars = (0..10).map(|_| NanoDollars::from_usd(0.1).unwrap()).sum();
        assert!((total.as_usd() - 1.0).abs() < f64::EPSILON);
    }

    #[test]
    fn numbers_that_do_not_fit_are_refused() {
        assert_eq!(NanoDollars::from_usd(f64::NAN), None);
        assert_eq!(NanoDollars::from_usd(1e300), None);
    }
}
