//! What outlives a process: runs, journal, contents, request log, penalties and the ledger, on `SQLite` or `PostgreSQL`.
//!
//! Owns every table and the spool files; gives out typed rows and never an entity or a connection. Must not know HTTP,
//! providers or workflows: it is told what happened and answers what was stored.
//! Each claim and lease is one conditional statement, so both databases behave alike and no lock outlives a query.

mod approvals;
mod budgets;
mod bulk;
mod catalogue_records;
mod cipher;
mod columns;
mod contents;
mod cooldowns;
mod decisions;
mod entities;
mod error;
mod journal;
mod ledger;
mod ledger_rows;
mod observations;
mod plan_deltas;
mod plan_events;
mod plan_templates;
mod request_log;
mod runs;
mod seal;
mod signals;
mod store;
mod tenants;
mod webhook_deliveries;

pub use approvals::{ApprovalRow, Approvals, NewApproval, NewDecision};
pub use budgets::{Budgets, Room};
pub use catalogue_records::{CatalogueChange, CatalogueRecords, Changed, RecordRow};
pub use cipher::{CIPHER_KEY_BYTES, Cipher, CipherError};
pub use contents::Contents;
pub use cooldowns::{CooldownRow, CooldownScope, Cooldowns};
pub use decisions::{DecisionRow, Decisions};
pub use error::StoreError;
pub use journal::{
    BackgroundCall, Completed, HandedIn, Journal, JournalEntry, JournalRow, Lease, LeaseHeld, LeaseRequest,
};
pub use ledger::{AttemptOpen, Ledger, Settlement, Waste};
pub use ledger_rows::{LedgerRow, LedgerRows, LedgerState};
pub use observations::Observations;
pub use plan_deltas::{Delta, DeltaPlace, PURGED_AT_ONCE, PlanDeltas};
pub use plan_events::{EventRow, NewEvent, PlanEvents, Progress};
pub use plan_templates::{NewTemplate, PlanTemplates, TemplateLine, TemplateRow, TemplateStanding};
pub use request_log::{Keyset, RequestLog, RequestLogRow};
pub use runs::{Claim, FinishRow, IdempotencyScope, Inserted, NewRun, RunRow, Runs, Unfinished, WantedRuns};
pub use seal::{Seal, SealError};
pub use signals::{Accepted, NewSignal, SignalRow, Signals, UntoldSignal};
pub use store::Store;
pub use webhook_deliveries::{AfterTry, DeliveryRow, DeliveryState, Redelivery, TryEnd, WebhookDeliveries};
