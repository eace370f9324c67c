//! How long to wait before a part that died is started again.
//!
//! Pure: doubles while the part keeps dying, starts over once it lived long enough to count as started.

use std::time::Duration;

const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// A part that lived this long had started; its death is a new event, not the old fault again.
const SETTLED: Duration = Duration::from_secs(30);

/// The pauses between starts of one part.
#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
}

impl Backoff {
    pub(crate) fn new() -> Self {
        Self { next: FIRST_PAUSE }
    }

    /// The pause after a part that lived for `lived`.
    pub(crate) fn pause_after(&mut self, lived: Duration) -> Duration {
        if lived >= SETTLED {
            self.next = FIRST_PAUSE;
        }
        let pause = self.next;
        self.next = (pause * 2).min(LONGEST_PAUSE);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_ten_seconds_and_start_over_after_a_long_life() {
        let mut backoff = Backoff::new();
        let short = Duration::from_secs(1);
        let pauses: Vec<u128> = (0..8).map(|_| backoff.pause_after(short).as_millis()).collect();
        assert_eq!(pauses, [250, 500, 1_000, 2_000, 4_000, 8_000, 10_000, 10_000]);
        assert_eq!(backoff.pause_after(SETTLED), FIRST_PAUSE);
        assert_eq!(backoff.pause_after(short), FIRST_PAUSE * 2);
    }
}
