//! Thompson sampling: each deployment is believed to please with some probability, and is tried as often as it may be
//! the best.
//!
//! Owns the reward, the beliefs and how they age. A belief holds the weight of at most [`WINDOW`] calls and halves with
//! time, so that a model that changes is found out; failures are calls without a reward.

use serde::{Deserialize, Serialize};
use tokenhub_domain::{NanoDollars, UnixMicros};

use crate::{
    random::Random,
    signals::{SampleResult, faded},
};

/// Calls that a belief rests on, at most.
const WINDOW: f64 = 100.0;
/// A belief that nobody renewed rests on half as many calls after this long.
const HALF_LIFE_MS: f64 = 1_800_000.0;
/// What an answer earns by being one.
const REWARD_ANSWER: f64 = 0.4;
/// What it earns beside that by costing nothing, and by taking no time.
const REWARD_CHEAP: f64 = 0.3;
const REWARD_FAST: f64 = 0.3;
/// A call at this price or more earns nothing for it: 0.10 dollars.
const COST_WORST: NanoDollars = NanoDollars(100_000_000);
/// A call that takes this long earns nothing for it.
const LATENCY_WORST_MS: u64 = 10_000;

/// The size of a request: a model that is best for short ones need not be for long ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bucket {
    /// Below 1,000 input tokens.
    Small,
    /// Up to 10,000.
    Medium,
    /// More.
    Large,
}

impl Bucket {
    /// Every bucket, in the order of size.
    pub const ALL: [Self; 3] = [Self::Small, Self::Medium, Self::Large];

    /// The bucket of a request.
    pub fn of(input_tokens: u64) -> Self {
        match input_tokens {
            0..1_000 => Self::Small,
            1_000..=10_000 => Self::Medium,
            10_001.. => Self::Large,
        }
    }

    /// The stable name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Small => "small",
            Self::Medium => "medium",
            Self::Large => "large",
        }
    }

    /// Of three beliefs the one of this bucket.
    pub(crate) fn arm(self, arms: &[Arm; 3]) -> Arm {
        let [small, medium, large] = *arms;
        match self {
            Self::Small => small,
            Self::Medium => medium,
            Self::Large => large,
        }
    }
}

/// What is believed of one deployment for requests of one size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Arm {
    rewards: f64,
    calls: f64,
    noted_at: UnixMicros,
}

impl Arm {
    /// Takes in one more reward, 0 to 1.
    pub(crate) fn note(&mut self, reward: f64, at: UnixMicros) {
        *self = self.at(at);
        self.rewards += reward.clamp(0.0, 1.0);
        self.calls += 1.0;
        self.bound();
    }

    /// This belief and another process's, as they are at `now`.
    pub(crate) fn and(self, other: Self, now: UnixMicros) -> Self {
        let (one, other) = (self.at(now), other.at(now));
        let mut both =
            Self { rewards: one.rewards + other.rewards, calls: one.calls + other.calls, noted_at: one.noted_at };
        both.bound();
        both
    }

    fn bound(&mut self) {
        if self.calls > WINDOW {
            self.rewards *= WINDOW / self.calls;
            self.calls = WINDOW;
        }
    }

    /// The belief as it is at `now`.
    pub(crate) fn at(self, now: UnixMicros) -> Self {
        let factor = faded(now.millis_since(self.noted_at), HALF_LIFE_MS);
        Self { rewards: self.rewards * factor, calls: self.calls * factor, noted_at: self.noted_at.max(now) }
    }

    /// The first parameter of its beta distribution.
    pub fn alpha(&self) -> f64 {
        1.0 + self.rewards
    }

    /// The second one.
    pub fn beta(&self) -> f64 {
        1.0 + (self.calls - self.rewards).max(0.0)
    }

    /// The weight of the calls it rests on.
    pub fn calls(&self) -> f64 {
        self.calls
    }

    /// A success rate that this may well have.
    pub(crate) fn draw(&self, random: &mut Random) -> f64 {
        random.beta(self.alpha(), self.beta())
    }
}

/// What a call was worth, 0 to 1.
pub(crate) fn reward(result: &SampleResult) -> f64 {
    let (latency_ms, cost) = match result {
        SampleResult::Whole { latency_ms, cost } => (*latency_ms, *cost),
        SampleResult::Streamed { first_token_ms, cost } => (*first_token_ms, *cost),
        SampleResult::Failed { .. } => return 0.0,
    };
    let share = |value: f64, worst: f64| 1.0 - (value / worst).clamp(0.0, 1.0);
    #[expect(clippy::cast_precision_loss, reason = "compared with seconds and cents")]
    let (cost, latency) = ((cost.0 as f64, COST_WORST.0 as f64), (latency_ms as f64, LATENCY_WORST_MS as f64));
    REWARD_ANSWER + REWARD_CHEAP * share(cost.0, cost.1) + REWARD_FAST * share(latency.0, latency.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cheap_and_fast_answer_is_worth_most_and_a_failure_nothing() {
        let whole =
            |latency_ms, usd| reward(&SampleResult::Whole { latency_ms, cost: NanoDollars::from_usd(usd).unwrap() });
        assert!((whole(0, 0.0) - 1.0).abs() < 1e-9);
        assert!((whole(5_000, 0.05) - 0.7).abs() < 1e-9);
        assert!((whole(60_000, 5.0) - 0.4).abs() < 1e-9);
        assert!(
            reward(&SampleResult::Failed { class: tokenhub_domain::ErrorClass::ServerError, elapsed_ms: 1 }).abs()
                < 1e-9
        );
    }

    #[test]
    fn a_belief_is_bounded_by_its_window_and_ages() {
        let mut arm = Arm::default();
        let start = UnixMicros(1_700_000_000_000_000);
        for _ in 0..1_000 {
            arm.note(1.0, start);
        }
        assert!((arm.alpha() - 101.0).abs() < 1e-6 && (arm.beta() - 1.0).abs() < 1e-6, "{arm:?}");
        let later = arm.at(start.plus_millis(1_800_000));
        assert!((later.alpha() - 51.0).abs() < 1e-6, "{later:?}");
    }

    #[test]
    fn sizes_are_as_they_are_documented() {
        for (tokens, name) in [(0, "small"), (999, "small"), (1_000, "medium"), (10_000, "medium"), (10_001, "large")] {
            assert_eq!(Bucket::of(tokens).as_str(), name);
        }
    }

    /// Success rates .9 .7 .5 .5 .3, a call every 3.6 seconds, 3,000 calls; the best and the worst swap after 2,000.
    struct Simulation {
        random: Random,
        arms: [Arm; 5],
        rates: [f64; 5],
        now: UnixMicros,
    }

    impl Simulation {
        fn new(seed: u64) -> Self {
            let now = UnixMicros(1_700_000_000_000_000);
            Self { random: Random::new(seed), arms: [Arm::default(); 5], rates: [0.9, 0.7, 0.5, 0.5, 0.3], now }
        }

        /// Whether the best arm was pulled.
        fn pull(&mut self) -> bool {
            self.now = self.now.plus_millis(3_600);
            let drawn = self.arms.map(|arm| arm.at(self.now).draw(&mut self.random));
            let first = |values: [f64; 5]| (0..5).max_by(|a, b| values[*a].total_cmp(&values[*b])).unwrap();
            let pulled = first(drawn);
            let reward = f64::from(u8::from(self.random.share() < self.rates[pulled]));
            self.arms[pulled].note(reward, self.now);
            pulled == first(self.rates)
        }

        fn best_of(&mut self, pulls: usize) -> usize {
            (0..pulls).filter(|_| self.pull()).count()
        }
    }

    #[test]
    fn the_best_arm_is_found_and_found_again_after_a_swap() {
        for seed in 0..20 {
            let mut simulation = Simulation::new(seed);
            simulation.best_of(500);
            let share = simulation.best_of(1_500);
            assert!(share * 100 >= 85 * 1_500, "seed {seed}: {share} of 1,500");
            simulation.rates.swap(0, 4);
            simulation.best_of(500);
            let share = simulation.best_of(500);
            assert!(share * 100 >= 85 * 500, "seed {seed}: {share} of 500, from 500 pulls after the swap on");
        }
    }
}
