//! Which deployment to call, what to do when a call failed, and whether the durable path is open.
//!
//! Owns eligibility, scoring, the class table, penalties and the breaker, all as pure functions and machines: time, jitter and
//! health come in as values. Must not know HTTP, a database, Temporal or a clock, so that the workflow's activities, the
//! in-process path and the tests reach the same decision from the same facts.

mod bandit;
mod breaker;
mod class;
mod condition;
mod cooldown;
mod decision;
mod kin;
mod names;
mod random;
mod score;
mod select;
mod signals;

pub use bandit::{Arm, Bucket};
pub use breaker::{Admission, Breaker, BreakerFailure, BreakerSettings, BreakerSnapshot, BreakerState};
pub use class::{Jitter, next_move};
pub use condition::Condition;
pub use cooldown::{CallTimes, Cooldown, Cooldowns, DEADLINE_EVIDENCE_MS, Scope, Standing};
pub use decision::{Considered, Decision, Extent, LeftOut, Replayed};
pub use kin::set_apart;
pub use names::{Asker, Resolved, UnknownName, choose, resolve_model};
pub use score::ScoreParts;
pub use select::{Ranked, Ranking, Situation, Skipped, Temperature, ranking, shortlist};
pub use signals::{LiveSignals, Observations, Probe, Record, Sample, SampleResult, Signal, Signals};
