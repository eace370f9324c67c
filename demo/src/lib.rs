//! A model provider that answers by a script: real loopback HTTP, OpenAI Chat Completions, streaming and not.
//!
//! Owns two faces of one server. [`Face::DemoModels`] has three models with canned answers, for a hub that has no other
//! provider. [`ScriptedProvider`] does what a test tells it (errors, delays, cuts, silence) and remembers every call.
//! Depends on no other part of the product, so that it is a witness and not an accomplice.

mod calls;
mod control;
mod judging;
mod models;
mod playback;
mod provider;
mod reply;
mod script;
mod server;
mod wire;

pub use calls::{Finished, SeenCall};
pub use models::{DEMO_MODELS, DemoModel};
pub use provider::ScriptedProvider;
pub use reply::{Content, Ending, Reply, Rule};
pub use script::Script;
pub use server::{DemoServer, Face};
