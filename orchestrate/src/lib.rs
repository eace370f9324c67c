//! The orchestration programs, written once over [`Steps`] and run by two executors.
//!
//! Owns the programs and their decisions: prompts, reading a judge, counting votes. Must not know Temporal, tokio, HTTP,
//! a database, a clock or a random source. The outcome of a step is the only thing that may differ between two
//! executions, so a program asks for the same steps in the same order whenever the steps answer alike.

mod adversarial;
mod approval;
mod ask;
mod ballots;
mod best_of_n;
mod cascade;
mod chat;
mod check;
mod completions;
mod conform;
mod ending;
mod fuse;
mod hedge;
mod judging;
mod lineup;
mod normalise;
mod program;
mod prompts;
mod recount;
mod refine;
mod shuffle;
mod steering;
mod steps;
mod stopping;
mod tally;
mod tournament;
mod verdict;
mod vote;

pub use completions::Completions;
pub use ending::no_eligible_model;
pub use hedge::{Lanes, is_the_requests_own, lanes_of as hedge_lanes};
pub use program::{Finished, resume, run};
pub use recount::recount;
pub use shuffle::ballot_order;
pub use steps::Steps;
