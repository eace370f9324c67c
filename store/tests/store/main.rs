//! The store's promises, each on `SQLite` and on `PostgreSQL`.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod approvals;
mod budgets;
mod catalogue;
mod cooldowns;
mod databases;
mod journal;
mod killed;
mod ledger;
mod migrating;
mod observations;
mod plan_deltas;
mod plan_events;
mod rows;
mod runs;
mod signals;
mod spool;
mod templates;
mod texts;
mod webhooks;
