//! The Temporal side of the orchestration programs: the activity contract, the executor and one shell per workflow.
//!
//! Owns the names and payloads that histories are made of. Must not know any activity's implementation, client,
//! database or HTTP library: this crate is the deterministic one, and its dependencies keep it so.

mod board;
pub mod contract;
mod durable;
mod failure;
pub mod fault;
mod metadata;
mod options;
mod priority;
mod shells;
mod stream_log;

pub use durable::Durable;
pub use failure::FAILED_RUN;
pub use metadata::{
    AttributeForm, RUN_ID, STRATEGY, SearchAttribute, TAGS, TEMPLATE, TENANT, search_attributes, summary, workflow_type,
};
pub use priority::priority;
pub use shells::{
    AdversarialWorkflow, BestOfNWorkflow, CascadeWorkflow, ChatWorkflow, FuseWorkflow, RefineWorkflow, RunOutput,
    VoteWorkflow,
};
pub use stream_log::StreamLogWorkflow;
