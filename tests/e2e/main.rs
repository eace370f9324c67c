//! End-to-end tests: real processes, real sockets, a real Temporal server, and counts at a scripted provider.
//!
//! One binary, so that it links once. Each module is a promise of the README; each test has an installation of its own.

#![expect(unreachable_pub, reason = "the harness is a library for the modules beside it")]
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "measurements and the logs of failed tests are shown")]

#[path = "../../store/tests/store/databases.rs"]
#[expect(dead_code, unused_imports, unused_macros, reason = "the store's tests use all of it")]
mod databases;
mod dialogue;
mod draw;
mod evidence;
mod harness;
mod relay;
mod scripted;
mod verifier;

mod abandoned;
mod affinity;
mod approval;
mod background;
mod bounds;
mod breaker;
mod catalogue;
mod chaos;
mod checks;
mod clients;
mod compatibility;
mod cooldown;
mod crashes;
mod deltas;
mod directives;
mod early_stop;
mod estimate;
mod explain;
mod failures;
mod figures;
mod fork;
mod formats;
mod hedging;
mod idempotency;
mod inherited;
mod losses;
mod make_run;
mod many_connections;
mod many_hosts;
mod openai_sdk;
mod operator_view;
mod panics;
mod parity;
mod payload_codec;
mod plan_docs;
mod plan_events;
mod plans_later;
mod probes;
mod protocols;
mod quirks;
mod rates;
mod routing;
mod schemas;
mod smoke;
mod steering;
mod strategies;
mod stream_clients;
mod stream_faults;
mod stream_usage;
mod templates;
mod tenants;
mod versions;
mod webhooks;
