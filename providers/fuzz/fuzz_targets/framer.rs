//! Fuzzes the cutting of a byte stream into events: no input may panic it, and no cut may change what comes out.
//!
//! The first byte says how the rest is cut. Run with `cargo +nightly fuzz run framer` in `providers`.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tokenhub_providers::{Event, EventTooLarge, Framer};

/// Small, so that inputs reach it.
const LIMIT_BYTES: usize = 256;

fn framed(stream: &[u8], size: usize) -> Result<Vec<Event>, EventTooLarge> {
    let mut framer = Framer::new(LIMIT_BYTES);
    let mut events = Vec::new();
    for chunk in stream.chunks(size) {
        framer.push(chunk);
        while let Some(event) = framer.next_event()? {
            events.push(event);
        }
    }
    events.extend(framer.finish());
    Ok(events)
}

fuzz_target!(|input: &[u8]| {
    let Some((size, stream)) = input.split_first() else { return };
    let whole = framed(stream, stream.len().max(1));
    let cut = framed(stream, usize::from(*size).max(1));
    // Where a limit is met depends on how much of a line has come.
    if let (Ok(whole), Ok(cut)) = (whole, cut) {
        assert_eq!(whole, cut);
    }
});
