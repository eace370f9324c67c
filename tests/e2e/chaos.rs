//! Many plans of every strategy while processes die at drawn moments: none is lost, stuck or wrong, and what was paid twice
//! is told.
//!
//! `make test` runs a small load; what takes minutes is ignored there and run by `make chaos`. A run is drawn from a seed,
//! which it prints; `CHAOS_SEED` sets it.

mod clients;
mod load;
mod matrix;
mod outages;
mod reckoning;
mod storm;

use std::{collections::BTreeMap, time::SystemTime};

use serde_json::Value;

use crate::{
    harness::{TestHub, TestHubBuilder},
    scripted::{self, Case, Program, STRATEGIES},
};

/// Cases of a load are counted from here; those before are run undisturbed.
const FIRST_CASE: usize = 100;

/// Who answers a step must not depend on how slow a loaded machine was for the steps before.
fn installation() -> TestHubBuilder {
    scripted::installation().environment("TOKENHUB_LIVE_SIGNALS", "false").environment("TOKENHUB_PENALTIES", "false")
}

/// What each strategy answers when nothing dies.
async fn undisturbed(hub: &TestHub) -> BTreeMap<&'static str, Value> {
    let mut answers = BTreeMap::new();
    for (number, program) in STRATEGIES.iter().enumerate() {
        answers.insert(program.name, Case::new(program, number).undisturbed(hub).await);
    }
    answers
}

/// A number that whoever starts the tests may set.
#[expect(clippy::disallowed_methods, reason = "a switch of the tests, not a setting of the product")]
fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().unwrap_or_else(|_| panic!("{name} is no number")))
}

/// The seed of this run.
fn seed() -> u64 {
    let seed = setting("CHAOS_SEED", 20_261_126);
    eprintln!("CHAOS_SEED={seed}");
    seed
}

/// Now, on the clock of the scripted provider.
fn now_micros() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    u64::try_from(since.as_micros()).unwrap()
}

/// The programs of the crash matrix.
static MATRIX: [&Program; 4] =
    [&scripted::FIVE_VOTERS, &scripted::BEST_OF_THREE, &scripted::ADVERSARIAL, &scripted::REFINE];
