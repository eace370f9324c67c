//! What goes over a socket in every dialect: answers, streams, faults and refusals, byte by byte where it matters.

#![expect(clippy::unwrap_used, reason = "a failing set-up is a failing test")]

mod answers;
mod background;
mod client;
mod demands;
mod faults;
mod streams;
