//! The framer against another reader of server-sent events, and against the inputs that fuzzing has found.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::convert::Infallible;
use std::path::Path;
use std::{fs, iter};

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, stream};
use proptest::prelude::*;
use sseer::event_stream::EventStream;
use tokenhub_providers::{EVENT_BYTES, EventTooLarge, Framer};

type Named = (String, String);

fn chunks<'a>(stream: &'a [u8], sizes: &'a [usize]) -> impl Iterator<Item = &'a [u8]> {
    let (mut rest, mut sizes) = (stream, sizes.iter().copied().cycle());
    iter::from_fn(move || {
        let size = sizes.next()?.clamp(1, rest.len().max(1)).min(rest.len());
        let (chunk, after) = rest.split_at(size);
        rest = after;
        (!chunk.is_empty()).then_some(chunk)
    })
}

fn ours(stream: &[u8], sizes: &[usize], limit_bytes: usize) -> Result<Vec<Named>, EventTooLarge> {
    let mut framer = Framer::new(limit_bytes);
    let mut events = Vec::new();
    for chunk in chunks(stream, sizes) {
        framer.push(chunk);
        while let Some(event) = framer.next_event()? {
            events.push(event);
        }
    }
    let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
    Ok(events.iter().map(|event| (text(&event.name), text(&event.data))).collect())
}

fn theirs(stream: &[u8], sizes: &[usize]) -> Vec<Named> {
    let chunks: Vec<Result<Bytes, Infallible>> =
        chunks(stream, sizes).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
    // Its source is always ready, so it is, too.
    let events: Vec<_> = EventStream::new(stream::iter(chunks)).collect().now_or_never().unwrap();
    // It gives a name to events that have none.
    let name = |name: &str| if name == "message" { String::new() } else { name.to_owned() };
    events.into_iter().map(Result::unwrap).map(|event| (name(&event.event), event.data.to_string())).collect()
}

fn line() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "data: ?[a-zé€😀:{}\" ]{0,12}",
        1 => Just("data".to_owned()),
        2 => "event: ?[a-z]{1,6}",
        1 => ": ?[a-z:é]{0,6}",
        1 => "(id|retry|other): ?[0-9]{0,3}",
        1 => "[a-z]{1,4}",
        4 => Just(String::new()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn the_framer_reads_what_another_reader_reads(
        byte_order_mark in prop_oneof![4 => Just(""), 1 => Just("\u{FEFF}")],
        lines in prop::collection::vec((line(), prop_oneof!["\n", "\r\n", "\r"]), 0..24),
        our_sizes in prop::collection::vec(1_usize..9, 1..6),
        their_sizes in prop::collection::vec(1_usize..9, 1..6),
    ) {
        // Both have seen a whole last event then; where it may lack its end is a decision of ours.
        let lines = lines.iter().map(|(line, end)| format!("{line}{end}"));
        let stream: String = iter::once(byte_order_mark.to_owned()).chain(lines).chain(["\n\ndata: end\n\n".to_owned()]).collect();
        let stream = stream.as_bytes();
        prop_assert_eq!(ours(stream, &our_sizes, EVENT_BYTES).unwrap(), theirs(stream, &their_sizes));
    }

    #[test]
    fn any_bytes_in_any_chunks_are_framed_alike(
        stream in prop::collection::vec(prop_oneof![3 => prop::sample::select(b"\r\n: dataevent".to_vec()), 1 => any::<u8>()], 0..200),
        sizes in prop::collection::vec(1_usize..9, 1..6),
    ) {
        prop_assert_eq!(ours(&stream, &sizes, EVENT_BYTES), ours(&stream, &[usize::MAX], EVENT_BYTES));
    }
}

#[test]
fn the_fuzz_corpus_is_framed_alike_in_any_chunks() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/framer");
    let mut count = 0;
    for path in fs::read_dir(corpus).unwrap().map(|entry| entry.unwrap().path()) {
        let input = fs::read(&path).unwrap();
        let whole = ours(&input, &[usize::MAX], EVENT_BYTES);
        for sizes in [&[1][..], &[2, 1, 3], &[7]] {
            assert_eq!(ours(&input, sizes, EVENT_BYTES), whole, "{}", path.display());
        }
        count += 1;
    }
    assert!(count > 0, "the corpus is committed");
}
