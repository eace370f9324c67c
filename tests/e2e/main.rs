//! End-to-end tests: real processes, real sockets, a real Temporal server, and counts at a scripted provider.
//!
//! One binary, so that it links once. Each module is a promise of the README; each test has an installation of its own.

#![expect(unreachable_pub, reason = "the harness is a library for the modules beside it")]

mod harness;

mod smoke;
