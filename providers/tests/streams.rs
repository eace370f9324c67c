//! Recorded streams: what each becomes in another protocol, however it is cut on its way.
//!
//! `streams/<from>_<to>/<case>.in.sse` is what an upstream sends and `<case>.out.sse` what the client gets. With
//! `UPDATE_GOLDEN=1` the test writes the latter; the change is then read before it is committed.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::{env, fs};

use proptest::prelude::*;
use tokenhub_domain::Dialect;
use tokenhub_providers::convert::stream::{OutEvent, StreamConverter, StreamError};
use tokenhub_providers::convert::{Issuer, ReplyContext};
use tokenhub_providers::{EVENT_BYTES, Event, Framer};

/// Pairs of protocols, and cases for each.
const GOLDEN_STREAMS: usize = 6 * 8;

struct Case {
    path: PathBuf,
    from: Dialect,
    to: Dialect,
    input: Vec<u8>,
}

fn dialect(name: &str) -> Dialect {
    Dialect::ALL.into_iter().find(|dialect| dialect.as_str() == name).unwrap()
}

fn cases() -> Vec<Case> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/streams");
    let mut cases = Vec::new();
    for folder in fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()) {
        let (from, to) = folder.file_name().unwrap().to_str().unwrap().split_once('_').unwrap();
        for path in fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.to_str().unwrap().ends_with(".in.sse") {
                let input = fs::read(&path).unwrap();
                cases.push(Case { path, from: dialect(from), to: dialect(to), input });
            }
        }
    }
    cases
}

fn context() -> ReplyContext {
    ReplyContext {
        attempt: "att_golden".into(),
        model: "asked-for".to_owned(),
        created_secs: 1_760_000_001,
        issuer: Issuer { provider: "upstream".into(), model: "upstream-model".into() },
        tool_names: BTreeMap::from([("now".to_owned(), "name.that.only.the.client.may.use".to_owned())]),
        free_form_tools: BTreeSet::new(),
    }
}

/// The events of a stream that arrives in chunks of these sizes, over and over.
fn events(stream: &[u8], sizes: &[usize]) -> Vec<Event> {
    let mut framer = Framer::new(EVENT_BYTES);
    let (mut events, mut rest, mut sizes) = (Vec::new(), stream, sizes.iter().copied().cycle());
    while !rest.is_empty() {
        let (chunk, after) = rest.split_at(sizes.next().unwrap().clamp(1, rest.len()));
        rest = after;
        framer.push(chunk);
        while let Some(event) = framer.next_event().unwrap() {
            events.push(event);
        }
    }
    events.extend(framer.finish());
    events
}

fn converted(from: Dialect, to: Dialect, stream: &[u8], sizes: &[usize]) -> Result<String, StreamError> {
    let mut converter = StreamConverter::new(from, to, context());
    let mut out = Vec::new();
    for event in events(stream, sizes) {
        let events = converter.push(std::str::from_utf8(&event.name).unwrap(), &event.data)?;
        out.extend(events.iter().flat_map(OutEvent::frame));
    }
    out.extend(converter.finish()?.iter().flat_map(OutEvent::frame));
    Ok(String::from_utf8(out).unwrap())
}

#[test]
fn every_recorded_stream_becomes_what_is_recorded() {
    let cases = cases();
    assert_eq!(cases.len(), GOLDEN_STREAMS);
    let update = env::var_os("UPDATE_GOLDEN").is_some();
    for case in cases {
        let wanted = PathBuf::from(case.path.to_str().unwrap().replace(".in.sse", ".out.sse"));
        let out = converted(case.from, case.to, &case.input, &[usize::MAX]).unwrap();
        if update {
            fs::write(&wanted, out).unwrap();
        } else {
            assert_eq!(out, fs::read_to_string(&wanted).unwrap(), "{}", wanted.display());
        }
    }
}

#[test]
fn rule_1_a_cut_at_any_byte_and_other_line_ends_change_nothing() {
    for case in cases().iter().filter(|case| case.to != Dialect::Chat || case.from == Dialect::Messages) {
        let whole = events(&case.input, &[usize::MAX]);
        for cut in 1..case.input.len() {
            assert_eq!(events(&case.input, &[cut, usize::MAX]), whole, "{} cut at {cut}", case.path.display());
        }
        let text = String::from_utf8(case.input.clone()).unwrap();
        for line_end in ["\r\n", "\r"] {
            assert_eq!(events(text.replace('\n', line_end).as_bytes(), &[1]), whole);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn rule_1_a_recorded_stream_in_any_chunks_gives_the_same_output(sizes in prop::collection::vec(1_usize..200, 1..9)) {
        for case in cases() {
            let whole = converted(case.from, case.to, &case.input, &[usize::MAX]);
            prop_assert!(whole.is_ok());
            prop_assert_eq!(converted(case.from, case.to, &case.input, &sizes), whole);
        }
    }
}

#[test]
fn a_recorded_stream_that_is_cut_off_ends_in_no_clients_protocol() {
    for case in cases() {
        let text = std::str::from_utf8(&case.input).unwrap();
        let finished = text.find("\"finish_reason\":\"").unwrap_or(text.len());
        let ends: Vec<usize> = text.match_indices("\n\n").map(|(at, _)| at + 2).filter(|end| *end < finished).collect();
        for end in ends.into_iter().filter(|end| *end < text.len()) {
            let out = converted(case.from, case.to, &case.input[..end], &[usize::MAX]);
            assert_eq!(out, Err(StreamError::Truncated), "{} up to {end}", case.path.display());
        }
    }
}
