//! The Temporal side of the orchestration programs: the activity contract, the executor and one shell per workflow.
//!
//! Owns the names and payloads that histories are made of. Must not know any activity's implementation, client,
//! database or HTTP library: this crate is the deterministic one, and its dependencies keep it so.

pub mod contract;
mod durable;
mod failure;
mod metadata;
mod options;
mod shells;
mod stream_log;

pub use durable::Durable;
pub use failure::FAILED_RUN;
pub use metadata::{RUN_ID, STRATEGY, SearchAttribute, TENANT, search_attributes, summary, workflow_type};
pub use shells::{
    AdversarialWorkflow, BestOfNWorkflow, CascadeWorkflow, ChatWorkflow, FuseWorkflow, RefineWorkflow, RunOutput,
    VoteWorkflow,
};
pub use stream_log::StreamLogWorkflow;
