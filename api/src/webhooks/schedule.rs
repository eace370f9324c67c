//! When a webhook that failed is tried again. Pure: time and chance are handed in.

/// The pauses after the first failure, the second and so on, in units of the first: 5 s, 5 min, 30 min, 2 h, 5 h, 10 h,
/// 14 h, 20 h and 24 h with the usual unit.
const PAUSES: [u64; 9] = [1, 60, 360, 1_440, 3_600, 7_200, 10_080, 14_400, 17_280];
/// When a webhook is given up, in the same unit: 72 h.
const SPAN: u64 = 51_840;
/// A pause is longer by up to this share, so that webhooks that failed together are not sent together again.
const JITTER_PERMILLE: u64 = 200;
/// The largest draw.
pub(super) const DRAW_MAX: u64 = 1_000;

/// A try that failed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Failure {
    /// Tries until now, this one included.
    pub(super) tries: u32,
    /// Time since the webhook was first due.
    pub(super) since_due_ms: u64,
    /// How long the receiver wants to be left alone.
    pub(super) retry_after_ms: Option<u64>,
}

/// How long to wait before the next try; nothing when there is none. `draw` is from 0 to [`DRAW_MAX`].
pub(super) fn pause_ms(failure: Failure, base_ms: u64, draw: u64) -> Option<u64> {
    let index = usize::try_from(failure.tries.saturating_sub(1)).unwrap_or(usize::MAX);
    let planned = PAUSES.get(index)?.saturating_mul(base_ms);
    let left = SPAN.saturating_mul(base_ms).checked_sub(failure.since_due_ms).filter(|left| *left > 0)?;
    let longer = planned.saturating_mul(JITTER_PERMILLE).saturating_mul(draw.min(DRAW_MAX)) / (1_000 * DRAW_MAX);
    let wished = failure.retry_after_ms.unwrap_or(0);
    // The last try is at the end of the span, however long the receiver wants to be left alone.
    Some((planned + longer).max(wished).min(left))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE_MS: u64 = 5_000;
    const HOUR_MS: u64 = 3_600_000;

    fn after(tries: u32, since_due_ms: u64) -> Failure {
        Failure { tries, since_due_ms, retry_after_ms: None }
    }

    #[test]
    fn the_pauses_grow_to_a_day_and_end_after_three() {
        let pauses: Vec<_> = (1..=10).map(|tries| pause_ms(after(tries, 0), BASE_MS, 0)).collect();
        let minutes = |count: u64| Some(count * 60_000);
        let hours = |count: u64| Some(count * HOUR_MS);
        assert_eq!(
            pauses,
            [
                Some(5_000),
                minutes(5),
                minutes(30),
                hours(2),
                hours(5),
                hours(10),
                hours(14),
                hours(20),
                hours(24),
                None
            ]
        );
    }

    #[test]
    fn a_receiver_that_stays_away_is_tried_ten_times_and_last_after_72_hours() {
        for draw in [0, DRAW_MAX / 2, DRAW_MAX] {
            let (mut tries, mut elapsed_ms) = (1, 0);
            while let Some(pause) = pause_ms(after(tries, elapsed_ms), BASE_MS, draw) {
                (tries, elapsed_ms) = (tries + 1, elapsed_ms + pause);
            }
            assert_eq!(elapsed_ms, 72 * HOUR_MS, "{draw}");
            assert!((9..=10).contains(&tries), "{draw}: {tries}");
        }
    }

    #[test]
    fn jitter_only_makes_a_pause_longer_and_by_a_bounded_share() {
        assert_eq!(pause_ms(after(2, 0), BASE_MS, DRAW_MAX), Some(360_000));
        assert_eq!(pause_ms(after(2, 0), BASE_MS, 7 * DRAW_MAX), Some(360_000));
    }

    #[test]
    fn a_receiver_is_left_alone_as_long_as_it_asks_but_not_for_ever() {
        let asked = |millis| Failure { retry_after_ms: Some(millis), ..after(1, 0) };
        assert_eq!(pause_ms(asked(60_000), BASE_MS, 0), Some(60_000));
        assert_eq!(pause_ms(asked(1), BASE_MS, 0), Some(5_000));
        assert_eq!(pause_ms(asked(u64::MAX), BASE_MS, 0), Some(72 * HOUR_MS));
        assert_eq!(pause_ms(after(1, 72 * HOUR_MS), BASE_MS, 0), None);
    }
}
