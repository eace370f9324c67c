//! Calls to model providers: one request out, one answer, stream or classified failure back.
//!
//! Owns the HTTP clients, the wire forms and the reading of errors. Retries nothing, chooses nothing and stores nothing:
//! those belong to `orchestrate`, `routing` and `store`. Credentials enter here and never leave in a failure's text.

mod answer;
mod base_url;
mod call;
mod classify;
pub mod convert;
mod endpoint;
mod error;
mod evidence;
mod quirks;
mod quota;
mod redact;
mod registry;
mod sse;
mod stream;
mod usage;
mod verifier;
mod wire;

pub use base_url::{LinkLocal, is_metadata_host, normalise_base_url};
pub use call::{
    Begun, Call, Completion, EventKind, ListedModel, Reported, Sight, StreamEvent, Streaming, Timeouts, Upstream,
};
pub use classify::{ErrorEvidence, classify};
pub use error::{BaseUrlError, ProvidersError};
pub use registry::{Providers, install_tls};
pub use sse::{EVENT_BYTES, Event, EventTooLarge, Framer};
pub use usage::usage_of;
pub use verifier::{VerifierClient, VerifierFailure, VerifierUrl, VerifierUrlError};
