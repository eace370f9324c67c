//! The HTTP API: routes, keys, error forms, and the dispatch of runs to Temporal or to this process.
//!
//! Owns everything a client sees. Must not know how a provider is called, how models are ranked or how a program works:
//! those are the activities', routing's and orchestrate's. Wiring and the order of start and stop are in [`serve`].

mod admin;
mod approval_link;
mod auth;
mod body;
mod codec_cors;
mod cors;
mod dispatch;
mod durability;
mod error;
mod event_streams;
mod hedging;
mod idempotency;
mod lanes;
mod leftovers;
mod parse;
mod protocol;
mod render;
mod request_id;
mod routes;
mod serve;
mod state;
mod stream;
mod trace;
mod validation;
mod webhooks;

pub use serve::{serve, serve_with};
