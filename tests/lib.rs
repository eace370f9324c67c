//! Tests over the whole workspace; the package has no code of its own.
//!
//! `architecture.rs` holds the layout, `e2e/` drives real processes, `replay/` replays golden histories.
