//! What the tests of stream conversion share: a converter's output, put together again as a strict client would.

mod replay;
mod rules;
mod rules_of_ends;
mod whole;
mod writing;

use std::collections::BTreeSet;

use tokenhub_domain::Dialect;

use super::{OutEvent, StreamConverter, StreamError};
use crate::convert::{Issuer, ReplyContext};

fn context() -> ReplyContext {
    ReplyContext {
        attempt: "att_7".into(),
        model: "asked-for".to_owned(),
        created_secs: 1_700_000_000,
        issuer: Issuer { provider: "p".into(), model: "m".into() },
        tool_names: [("short".to_owned(), LONG_NAME.repeat(8))].into(),
        free_form_tools: BTreeSet::from(["patch".to_owned()]),
    }
}

/// Eight of them are a name of 80 characters.
const LONG_NAME: &str = "long_name_";

/// An upstream's event: its name and its data.
type InEvent = (&'static str, String);

/// What the client got, and how it ended.
fn converted(from: Dialect, to: Dialect, events: &[InEvent]) -> (Vec<OutEvent>, Result<(), StreamError>) {
    let mut converter = StreamConverter::new(from, to, context());
    let mut out = Vec::new();
    for (name, data) in events {
        match converter.push(name, data.as_bytes()) {
            Ok(events) => out.extend(events),
            Err(error) => return (out, Err(error)),
        }
    }
    match converter.finish() {
        Ok(events) => {
            out.extend(events);
            (out, Ok(()))
        }
        Err(error) => (out, Err(error)),
    }
}

fn complete(from: Dialect, to: Dialect, events: &[InEvent]) -> Vec<OutEvent> {
    let (out, end) = converted(from, to, events);
    assert_eq!(end, Ok(()), "{from:?} to {to:?}");
    out
}

/// The short form of Messages events that the rules are told in.
fn outline(events: &[OutEvent]) -> Vec<String> {
    let shorten = |event: &OutEvent| {
        let data: serde_json::Value = serde_json::from_str(&event.data).unwrap();
        let index = &data["index"];
        match event.name {
            "content_block_start" => format!("start {index} {}", data["content_block"]["type"].as_str().unwrap()),
            "content_block_delta" => {
                let delta = data["delta"].as_object().unwrap();
                let text =
                    ["text", "thinking", "partial_json", "signature"].into_iter().find_map(|name| delta.get(name));
                format!("delta {index} {}", text.and_then(serde_json::Value::as_str).unwrap())
            }
            "content_block_stop" => format!("stop {index}"),
            name => name.to_owned(),
        }
    };
    events.iter().map(shorten).collect()
}

/// The pieces of a Chat upstream: each delta as JSON, the finish reason, the usage chunk, the mark.
fn chat_stream(deltas: &[&str], finish: &str) -> Vec<InEvent> {
    let mut events: Vec<InEvent> = deltas.iter().map(|delta| ("", chat_delta(delta))).collect();
    events.push(("", format!(r#"{{"choices":[{{"index":0,"delta":{{}},"finish_reason":"{finish}"}}]}}"#)));
    events.push((
        "",
        r#"{"choices":[],"usage":{"prompt_tokens":10,"completion_tokens":4,"total_tokens":14}}"#.to_owned(),
    ));
    events.push(("", "[DONE]".to_owned()));
    events
}

fn chat_delta(delta: &str) -> String {
    format!(r#"{{"id":"c","choices":[{{"index":0,"delta":{delta},"finish_reason":null}}],"usage":null}}"#)
}

/// A piece of the call at `index`; its first piece has id and name.
fn call_delta(index: usize, name: Option<&str>, arguments: &str) -> String {
    let head = name.map(|_| format!(r#""id":"call_{index}","type":"function","#)).unwrap_or_default();
    let name = name.map(|name| format!(r#""name":"{name}","#)).unwrap_or_default();
    let arguments = serde_json::Value::from(arguments);
    format!(r#"{{"tool_calls":[{{"index":{index},{head}"function":{{{name}"arguments":{arguments}}}}}]}}"#)
}
