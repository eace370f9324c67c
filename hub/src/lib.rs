//! `tokenhub`: everything on one machine with one command.
//!
//! Owns the supervision of the local parts (Temporal's dev server, a worker, the local model), the order of start and
//! stop, and what is printed. Must not know how a request is answered: the API and the worker are started, not changed.

mod backoff;
mod banner;
mod config_command;
mod demo_models;
mod ephemeral;
mod local_model;
mod migrate;
mod parts;
mod pid_files;
mod plan;
mod ports;
mod readiness;
mod signals;
mod supervise;
mod temporal_server;
mod up;

pub use config_command::{ConfigCommand, run as run_config};
pub use migrate::run as run_migrate;
pub use up::{UpArguments, run as run_up};
