//! The programs against scripted steps: no server, no runtime, no clock, every completion order.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod approvals;
mod checks;
mod class_table;
mod early_stop;
mod failures;
mod fusion;
mod grace;
mod judges;
mod majority;
mod orders;
mod pairs;
mod prompts;
mod schemas;
mod script;
mod sendable;
mod specs;
mod stages;
mod steering;
mod triad;
