//! How often a provider may be called.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The longest pause between two calls that makes sense is a quarter of an hour.
const MICROS_MAX: f64 = 900e6;
/// Ten thousand calls a second are more than any provider allows.
const MICROS_MIN: f64 = 100.0;
const MICROS_PER_SECOND: f64 = 1e6;

/// A rate, kept as the pause between two calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CallRate {
    micros: u64,
}

impl CallRate {
    /// So many calls a second; `None` outside of what makes sense.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range is checked before the cast")]
    pub fn per_second(calls: f64) -> Option<Self> {
        let micros = (MICROS_PER_SECOND / calls).round();
        (MICROS_MIN..=MICROS_MAX).contains(&micros).then_some(Self { micros: micros as u64 })
    }

    /// Calls a second.
    #[expect(clippy::cast_precision_loss, reason = "a quarter of an hour fits")]
    pub fn as_per_second(self) -> f64 {
        MICROS_PER_SECOND / self.micros as f64
    }

    /// Between two calls.
    pub fn pause(self) -> Duration {
        Duration::from_micros(self.micros)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_between_one_in_a_quarter_of_an_hour_and_ten_thousand_a_second() {
        let pause = |calls| CallRate::per_second(calls).map(CallRate::pause);
        assert_eq!(pause(5.0), Some(Duration::from_millis(200)));
        assert_eq!(pause(0.5), Some(Duration::from_secs(2)));
        assert!((CallRate::per_second(5.0).unwrap().as_per_second() - 5.0).abs() < f64::EPSILON);
        for nonsense in [0.0, -1.0, f64::NAN, f64::INFINITY, 0.001, 20_000.0] {
            assert_eq!(pause(nonsense), None, "{nonsense}");
        }
    }
}
