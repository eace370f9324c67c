//! The steps themselves: one function per activity, and the two shells that call it.
//!
//! `temporal` wraps the functions as Temporal activities, `direct` as an in-process executor; neither adds behaviour, so
//! a run does the same whichever carried it. Owns the order of journal, ledger and bytes. Must not know HTTP routes.

pub mod approval;
mod bill;
mod classify;
mod clock;
pub mod condition;
mod counts;
mod curator;
mod direct;
pub mod discovery;
mod error;
pub mod events;
pub mod fault_points;
mod health;
mod log;
mod losses;
mod observed;
mod pace;
mod payload_codec;
pub mod plan_events;
mod presence;
pub mod prober;
pub mod rehearsal;
mod select;
mod send;
pub mod stream;
mod temporal;
mod verify;
mod warm;
mod world;

pub use counts::Counts;
pub use curator::{CatalogueFault, Curator, Edit, KeptRecord, NewSecrets};
pub use direct::{Direct, Keeping};
pub use error::ActivityFault;
pub use fault_points::FaultPoints;
pub use health::{Health, Penalties};
pub use log::log_stream;
pub use observed::Observed;
pub use payload_codec::{PayloadCodec, PayloadFault};
pub use select::shortlists;
pub use temporal::Activities;
pub use verify::Verifiers;
pub use warm::WarmPrefixes;
pub use world::{World, WorldError, WorldParts, upstreams};
