//! When enough voters have answered: pure rules over the counts of a tally.
//!
//! Owns the arithmetic, in whole numbers, so that every process and every replay decides alike. Must not know who voted
//! or how answers are compared.
//!
//! Source of the posterior: adaptive consistency (arXiv 2305.11860). With a uniform prior over two answers, the leader is
//! the more likely one with the probability that a fair coin shows it at most `leader` times in `leader + second + 1`
//! throws.

use tokenhub_domain::StopRule;

const PER_MILLE: u128 = 1_000;

/// The two largest groups of a tally, and how many have not answered yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) leader: usize,
    pub(crate) second: usize,
    pub(crate) open: usize,
}

/// Whether nobody else needs to be asked. A tie is never enough, because the first voter breaks it.
pub(crate) fn is_enough(rule: StopRule, count: Count) -> bool {
    let Count { leader, second, open } = count;
    if open == 0 || leader <= second {
        return false;
    }
    let is_decided = leader > second + open;
    match rule {
        StopRule::All | StopRule::FirstPass => false,
        StopRule::Decided => is_decided,
        StopRule::Posterior { per_mille } => is_decided || reaches(per_mille, leader, second),
        StopRule::Margin { votes } => is_decided || leader - second >= usize::try_from(votes).unwrap_or(usize::MAX),
    }
}

/// Whether the posterior of the leader is at least `per_mille` / 1000.
fn reaches(per_mille: u32, leader: usize, second: usize) -> bool {
    let throws = leader + second + 1;
    // Two to the power of more throws than voters exist would not fit; nothing reaches the threshold there.
    let Some(all) = u32::try_from(throws).ok().and_then(|throws| 1_u128.checked_shl(throws)) else { return false };
    let mut ways = 1_u128;
    let mut favourable = 0_u128;
    for shown in 0..=leader {
        favourable += ways;
        // The next binomial coefficient; the division is exact.
        ways = ways.saturating_mul((throws - shown) as u128) / (shown as u128 + 1);
    }
    favourable.saturating_mul(PER_MILLE) >= all.saturating_mul(u128::from(per_mille))
}

#[cfg(test)]
mod tests {
    use std::cmp::Ordering;

    use super::*;

    const SURE: StopRule = StopRule::Posterior { per_mille: 950 };

    fn enough(rule: StopRule, leader: usize, second: usize, open: usize) -> bool {
        is_enough(rule, Count { leader, second, open })
    }

    #[test]
    fn the_posterior_of_095_is_reached_at_these_counts_and_not_one_vote_before() {
        for (leader, second) in [(4, 0), (6, 1), (8, 2)] {
            assert!(enough(SURE, leader, second, 30), "{leader}-{second}");
            assert!(!enough(SURE, leader - 1, second, 30), "{}-{second}", leader - 1);
        }
        assert!(!enough(SURE, 0, 0, 3));
        assert!(enough(SURE, 2, 0, 1), "decided");
    }

    #[test]
    fn a_margin_is_a_lead_and_a_tie_is_never_enough() {
        let margin = StopRule::Margin { votes: 2 };
        assert!(enough(margin, 3, 1, 30) && !enough(margin, 2, 1, 30) && !enough(margin, 2, 1, 0));
        for rule in [StopRule::All, StopRule::FirstPass, StopRule::Decided, SURE, StopRule::Margin { votes: 0 }] {
            assert!(!enough(rule, 2, 2, 1), "{rule:?}");
        }
    }

    /// Asked one at a time until the rule or the cap: expected calls, and the chance that the right answer wins, a draw
    /// counting half.
    #[expect(clippy::cast_precision_loss, reason = "small counts")]
    fn expected(p: f64, cap: usize) -> (f64, f64) {
        let mut reached = vec![vec![0.0; cap + 1]; cap + 1];
        reached[0][0] = 1.0;
        let (mut calls, mut right_wins) = (0.0, 0.0);
        for asked in 0..=cap {
            for right in 0..=asked {
                let (wrong, chance) = (asked - right, reached[right][asked - right]);
                if chance == 0.0 {
                    continue;
                }
                if asked == cap || enough(SURE, right.max(wrong), right.min(wrong), cap - asked) {
                    calls += chance * asked as f64;
                    let share = match right.cmp(&wrong) {
                        Ordering::Greater => 1.0,
                        Ordering::Equal => 0.5,
                        Ordering::Less => 0.0,
                    };
                    right_wins += chance * share;
                } else {
                    reached[right + 1][wrong] += chance * p;
                    reached[right][wrong + 1] += chance * (1.0 - p);
                }
            }
        }
        (calls, right_wins)
    }

    #[test]
    fn expected_calls_and_accuracy_are_those_of_the_published_rule() {
        for (p, cap, calls, accuracy) in [
            (0.6, 15, 11.0247, 0.7827),
            (0.7, 15, 9.4038, 0.9461),
            (0.8, 15, 7.4006, 0.9944),
            (0.9, 15, 5.4995, 0.9999),
            (0.6, 41, 23.1259, 0.8798),
            (0.7, 41, 14.7273, 0.9856),
            (0.8, 41, 8.6956, 0.9981),
            (0.9, 41, 5.6217, 0.9999),
        ] {
            let (made, right) = expected(p, cap);
            assert!((made - calls).abs() < 1e-4 && (right - accuracy).abs() < 1e-4, "{p} cap {cap}: {made} {right}");
        }
    }
}
