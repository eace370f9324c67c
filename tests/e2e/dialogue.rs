//! A chat in each of the three protocols, as a client sends it and reads the answer, and as an installation offers it.

use serde_json::{Value, json};
use tokenhub_domain::Dialect;

use crate::harness::model;

/// Where each protocol is asked.
pub fn path(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Chat => "/v1/chat/completions",
        Dialect::Responses => "/v1/responses",
        Dialect::Messages => "/v1/messages",
    }
}

/// A provider for the credentials file that speaks one protocol.
pub fn upstream(id: &str, dialect: Dialect, key: &str) -> Value {
    let kind = if dialect == Dialect::Messages { "anthropic" } else { "openai" };
    json!({"id": id, "type": kind, "api_key": key, "protocols": [dialect]})
}

/// A model for the credentials file, at `provider`.
pub fn model_at(provider: &str, id: &str, weight: u32) -> Value {
    let mut entry = model(id, weight);
    entry["provider_id"] = json!(provider);
    entry["max_output_tokens"] = json!(1_000);
    entry
}

/// A request for a streamed answer of `model`.
pub fn request(client: Dialect, model: &str) -> (&'static str, Value) {
    let turn = json!([{"role": "user", "content": "how are you"}]);
    let body = match client {
        Dialect::Chat => json!({"model": model, "messages": turn, "stream": true}),
        Dialect::Responses => json!({"model": model, "input": turn, "stream": true}),
        Dialect::Messages => json!({"model": model, "max_tokens": 100, "messages": turn, "stream": true}),
    };
    (path(client), body)
}

/// The events of a body: name and payload. Comments are none.
pub fn events(body: &str) -> Vec<(&str, Value)> {
    let mut events = Vec::new();
    for frame in body.split("\n\n").filter(|frame| !frame.is_empty() && !frame.starts_with(':')) {
        let name = frame.lines().find_map(|line| line.strip_prefix("event: ")).unwrap_or_default();
        let data = frame.lines().find_map(|line| line.strip_prefix("data: ")).unwrap_or_default();
        let payload = if data == "[DONE]" { json!(data) } else { serde_json::from_str(data).unwrap() };
        events.push((name, payload));
    }
    events
}

/// The text that a client reads.
pub fn text_of(client: Dialect, events: &[(&str, Value)]) -> String {
    let piece = |(name, payload): &(&str, Value)| match client {
        Dialect::Chat => payload.pointer("/choices/0/delta/content").cloned(),
        Dialect::Messages => payload.pointer("/delta/text").cloned(),
        Dialect::Responses if *name == "response.output_text.delta" => payload.get("delta").cloned(),
        Dialect::Responses => None,
    };
    events.iter().filter_map(|event| piece(event)?.as_str().map(str::to_owned)).collect()
}

/// How often a client is told that an answer begins.
pub fn beginnings(client: Dialect, events: &[(&str, Value)]) -> usize {
    let begins = |(name, payload): &&(&str, Value)| match client {
        Dialect::Chat => payload.pointer("/choices/0/delta/role").is_some(),
        Dialect::Messages => *name == "message_start",
        Dialect::Responses => *name == "response.created",
    };
    events.iter().filter(begins).count()
}

/// Whether an event is the last one of an answer that is whole.
pub fn is_end(client: Dialect, (name, payload): &(&str, Value)) -> bool {
    match client {
        Dialect::Chat => payload == "[DONE]",
        Dialect::Messages => *name == "message_stop",
        Dialect::Responses => ["response.completed", "response.incomplete"].contains(name),
    }
}

/// The error that an event tells, in the protocol's own place for it.
pub fn told_error<'a>(client: Dialect, (name, payload): &'a (&str, Value)) -> Option<&'a str> {
    let place = match client {
        Dialect::Chat => "/error/code",
        Dialect::Messages if *name == "error" => "/error/type",
        Dialect::Responses if *name == "response.failed" => "/response/error/code",
        Dialect::Messages | Dialect::Responses => return None,
    };
    payload.pointer(place)?.as_str()
}
