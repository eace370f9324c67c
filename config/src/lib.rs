//! Configuration: what every process of TokenHub is told, from where, and whether it makes sense.
//!
//! Owns the four layers (flag, environment, `tokenhub.toml`, default), the origin of every value, the sources of
//! providers and models, the key files of the data directory and the live snapshot that a reload swaps.
//! Must not know any HTTP library, database, executor or the process environment outside [`Environment::of_process`]:
//! tests give it a snapshot of their own.

mod aliases;
mod catalogue;
mod client_keys;
mod configured;
mod cors;
mod credentials;
mod entries;
mod environment;
mod error;
mod event_streams;
mod file;
mod flags;
mod key;
pub mod keys;
mod layers;
mod live;
mod origin;
mod parse;
mod payload_keys;
pub mod published;
mod settings;
mod temporal;
mod variables;
mod verifiers;
mod webhooks;
mod worker;

pub use catalogue::Secrets;
pub use client_keys::{ClientKey, ClientKeys};
pub use configured::{Configured, Record, RecordKey, RecordKind, RecordSecrets, misread_field};
pub use cors::CorsOrigins;
pub use environment::Environment;
pub use error::ConfigError;
pub use event_streams::EventStreamSettings;
pub use flags::{Flags, ListenFlags, SharedFlags, flags_as_variables};
pub use live::{Live, Reloaded};
pub use origin::{Origin, OriginRow, Origins};
pub use payload_keys::{PayloadKey, PayloadKeys};
pub use secrecy::{ExposeSecret, SecretString};
pub use settings::{BreakerSettings, Loaded, LogFormat, Settings, TemporalSettings, Timeouts, UpSettings};
pub use variables::KNOWN_VARIABLES;
pub use verifiers::VerifierSettings;
pub use webhooks::{AllowedHosts, WebhookSecret, WebhookSettings};
pub use worker::{WorkerDeployment, WorkerSettings};
