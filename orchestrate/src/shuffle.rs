//! The order in which answers are shown to a judge: shuffled, because judges prefer places, and the same on every
//! replay, because the seed is the run id.
//!
//! FNV-1a (64 bit) turns the id into a seed, SplitMix64 into numbers, Fisher-Yates numbers into an order. None of them
//! may change while runs are in flight: a replayed judge would read the ballots in another order.

use tokenhub_domain::RunId;

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;

/// For each place on the judge's list, the index of the answer shown there.
pub fn ballot_order(run: &RunId, answers: usize) -> Vec<usize> {
    let mut state = fnv_1a(run.as_str().as_bytes());
    let mut order: Vec<usize> = (0..answers).collect();
    for place in (1..answers).rev() {
        let other = below(split_mix(&mut state), place + 1);
        order.swap(place, other);
    }
    order
}

fn fnv_1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(FNV_OFFSET, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(FNV_PRIME))
}

fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// `random` scaled to 0..bound; the bias for bounds of a few dozen is below 2^-58.
fn below(random: u64, bound: usize) -> usize {
    let scaled = (u128::from(random) * bound as u128) >> 64;
    usize::try_from(scaled).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generators_give_the_published_numbers() {
        assert_eq!(fnv_1a(b"foobar"), 0x8594_4171_f739_67e8); // FNV reference test vectors
        let mut state = 1_234_567;
        // Sebastiano Vigna's splitmix64.c with seed 1234567.
        assert_eq!(
            [split_mix(&mut state), split_mix(&mut state)],
            [6_457_827_717_110_365_317, 3_203_168_211_198_807_973]
        );
    }

    #[test]
    fn an_order_is_a_permutation_and_depends_on_the_run_alone() {
        for answers in 0..20 {
            let order = ballot_order(&"plan_1".into(), answers);
            assert_eq!(order, ballot_order(&"plan_1".into(), answers));
            let mut sorted = order;
            sorted.sort_unstable();
            assert_eq!(sorted, (0..answers).collect::<Vec<_>>());
        }
    }

    #[test]
    fn every_order_of_three_is_about_equally_frequent() {
        let mut counts = std::collections::BTreeMap::<Vec<usize>, u32>::new();
        for run in 0..6_000 {
            *counts.entry(ballot_order(&RunId::new(format!("plan_{run}")), 3)).or_default() += 1;
        }
        // 1,000 expected; five standard deviations are 144.
        assert_eq!(counts.len(), 6);
        assert!(counts.values().all(|count| count.abs_diff(1_000) < 144), "{counts:?}");
    }
}
