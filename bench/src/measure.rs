//! Samples and what is said of them.

use std::time::Duration;

use serde::Serialize;

/// Durations of one kind of request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Samples(Vec<Duration>);

/// What is said of some samples, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Summary {
    /// How many there are.
    pub(crate) count: usize,
    /// The median.
    pub p50_ms: f64,
    /// Of twenty, one is slower.
    pub p95_ms: f64,
    /// Of a hundred, one is slower.
    pub p99_ms: f64,
    /// The slowest.
    pub(crate) max_ms: f64,
}

impl Samples {
    /// Adds one.
    pub(crate) fn push(&mut self, sample: Duration) {
        self.0.push(sample);
    }

    /// Adds others.
    pub(crate) fn extend(&mut self, others: &Self) {
        self.0.extend_from_slice(&others.0);
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The summary; nothing of nothing.
    pub(crate) fn summary(&self) -> Option<Summary> {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let at = |percent: usize| nearest_rank(&sorted, percent).map(milliseconds);
        Some(Summary { count: sorted.len(), p50_ms: at(50)?, p95_ms: at(95)?, p99_ms: at(99)?, max_ms: at(100)? })
    }
}

impl FromIterator<Duration> for Samples {
    fn from_iter<I: IntoIterator<Item = Duration>>(samples: I) -> Self {
        Self(samples.into_iter().collect())
    }
}

/// The smallest sample that `percent` of all do not exceed.
fn nearest_rank(sorted: &[Duration], percent: usize) -> Option<Duration> {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied()
}

/// In milliseconds.
pub(crate) fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}

/// The middle one; nothing of nothing.
pub(crate) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

/// How many times in a second, or how much for each; a count that does not fit 32 bits is none of ours.
pub(crate) fn count(number: usize) -> f64 {
    u32::try_from(number).map_or(f64::INFINITY, f64::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_samples_that_were_measured() {
        let samples: Samples = (1..=200).rev().map(Duration::from_millis).collect();
        let expected = Summary { count: 200, p50_ms: 100.0, p95_ms: 190.0, p99_ms: 198.0, max_ms: 200.0 };
        assert_eq!(samples.summary(), Some(expected));
    }

    #[test]
    fn one_sample_is_all_its_percentiles_and_none_has_no_summary() {
        let one: Samples = [Duration::from_millis(7)].into_iter().collect();
        assert_eq!(one.summary().map(|summary| (summary.p50_ms, summary.max_ms)), Some((7.0, 7.0)));
        assert_eq!(Samples::default().summary(), None);
    }

    #[test]
    fn the_median_ignores_the_order() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(Vec::new()), None);
    }
}
