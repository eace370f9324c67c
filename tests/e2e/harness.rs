//! Real processes for the end-to-end tests: Temporal, workers, APIs and a scripted provider, each test its own.
//!
//! A test builds a [`TestHub`], talks HTTP to it and ends with [`TestHub::finish`], which stops everything and asserts
//! the ledger's invariants. Dropping a hub without finishing it fails the test; every process dies with its handle.

mod client;
mod hub;
mod invariants;
mod operator;
mod process;
mod temporal;

pub use client::{Answer, exchange, http};
pub use hub::{TestHub, TestHubBuilder, model};
pub use invariants::Disturbance;
pub use operator::Operator;
pub use process::{Process, binary, eventually, free_port};
