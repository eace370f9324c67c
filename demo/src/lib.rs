//! A model provider that answers by a script: real loopback HTTP in the forms of `OpenAI` Chat Completions, `OpenAI`
//! Responses and Anthropic Messages, streaming and not.
//!
//! Owns two faces of one server. [`Face::DemoModels`] has three models with canned answers, for a hub that has no other
//! provider. [`ScriptedProvider`] does what a test tells it (errors, delays, cuts, silence) and remembers every call.
//! Depends on no other part of the product, so that it is a witness and not an accomplice.

mod access;
mod background;
mod calls;
mod control;
mod dialect;
mod fast;
mod held_stream;
mod judging;
mod models;
mod playback;
mod provider;
mod rate_limits;
mod raw_body;
mod reply;
mod request;
mod rule;
mod script;
mod server;
mod speech;
mod validation;
mod wire;

pub use access::{Credential, Demands, Validation};
pub use calls::{Finished, SeenCall};
pub use dialect::{Dialect, Route};
pub use models::{DEMO_MODELS, DemoModel};
pub use provider::ScriptedProvider;
pub use rate_limits::{Allowance, RateLimits};
pub use raw_body::RawBody;
pub use reply::{
    ByDialect, Content, Ending, ErrorBody, Finish, Interlude, Noise, Omission, Part, Reasoning, Reply, TokenDetails,
    ToolCall, ToolOrder,
};
pub use rule::Rule;
pub use script::Script;
pub use server::{DemoServer, Face};
