//! The tables as sea-orm sees them. Only the repositories of this crate use them; what leaves the crate is a typed row.
//!
//! Columns that nothing writes yet (session, tags of most tables) are in the schema and not here.

#![expect(clippy::struct_field_names, reason = "sea-orm calls each row type `Model`, and some columns are models")]

pub(crate) mod approvals;
pub(crate) mod budgets;
pub(crate) mod catalogue_records;
pub(crate) mod contents;
pub(crate) mod cooldowns;
pub(crate) mod decisions;
pub(crate) mod journal;
pub(crate) mod ledger;
pub(crate) mod observations;
pub(crate) mod plan_deltas;
pub(crate) mod plan_events;
pub(crate) mod plan_templates;
pub(crate) mod request_log;
pub(crate) mod run_tags;
pub(crate) mod runs;
pub(crate) mod signals;
pub(crate) mod step_budgets;
pub(crate) mod webhook_deliveries;
