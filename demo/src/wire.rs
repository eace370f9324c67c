//! The OpenAI Chat Completions wire form: what is read of a request and how an answer is written.
//!
//! Reads as little as it can; the rest of a request is nobody's business here.

use std::fmt::Write as _;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

/// A fixed moment, so that the same request always gives the same bytes.
const CREATED: u64 = 1_760_000_000;

/// A request for an answer.
#[derive(Clone, Debug)]
pub(crate) struct ChatRequest {
    pub(crate) raw: Bytes,
    pub(crate) model: String,
    pub(crate) delivery: Delivery,
}

/// How the client wants the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delivery {
    Whole,
    Streamed,
    StreamedWithUsage,
}

/// One message of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) role: String,
    pub(crate) text: String,
}

#[derive(Deserialize)]
struct Probe {
    #[serde(default)]
    model: String,
    #[serde(default)]
    stream: Option<bool>,
    #[serde(default)]
    stream_options: Option<StreamOptions>,
}

#[derive(Deserialize)]
struct StreamOptions {
    #[serde(default)]
    include_usage: Option<bool>,
}

impl ChatRequest {
    /// Reads the fields that decide about the form of the answer.
    pub(crate) fn read(raw: Bytes) -> Result<Self, serde_json::Error> {
        let probe: Probe = serde_json::from_slice(&raw)?;
        let with_usage = probe.stream_options.and_then(|options| options.include_usage).unwrap_or(false);
        let delivery = match (probe.stream.unwrap_or(false), with_usage) {
            (false, _) => Delivery::Whole,
            (true, false) => Delivery::Streamed,
            (true, true) => Delivery::StreamedWithUsage,
        };
        Ok(Self { model: probe.model, delivery, raw })
    }

    /// The messages, text parts joined.
    pub(crate) fn messages(&self) -> Vec<Message> {
        #[derive(Deserialize)]
        struct Body<'a> {
            #[serde(borrow, default)]
            messages: Option<&'a RawValue>,
        }
        let body: Option<Body<'_>> = serde_json::from_slice(&self.raw).ok();
        let messages = body.and_then(|body| body.messages);
        let messages: Vec<Value> =
            messages.and_then(|messages| serde_json::from_str(messages.get()).ok()).unwrap_or_default();
        let read = |message: &Value| Message {
            role: message.get("role").and_then(Value::as_str).unwrap_or_default().to_owned(),
            text: content_text(message.get("content")),
        };
        messages.iter().map(read).collect()
    }
}

fn content_text(content: Option<&Value>) -> String {
    match content {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(parts)) => {
            let texts: Vec<&str> = parts.iter().filter_map(|part| part.get("text")?.as_str()).collect();
            texts.join("\n")
        }
        Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_)) | None => String::new(),
    }
}

/// Tokens as this provider counts them: four characters each.
pub(crate) fn tokens_in(text: &str) -> u64 {
    text.chars().count().div_ceil(4) as u64
}

/// Prompt and completion tokens as a usage object.
pub(crate) fn usage(prompt_tokens: u64, completion_tokens: u64) -> Value {
    json!({"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens})
}

/// What is to be said.
#[derive(Debug)]
pub(crate) struct Speech<'a> {
    pub(crate) id: &'a str,
    pub(crate) model: &'a str,
    pub(crate) message: &'a Value,
    pub(crate) finish_reason: &'a str,
    pub(crate) usage: Value,
}

impl Speech<'_> {
    /// As one body.
    pub(crate) fn whole(&self) -> Bytes {
        let mut message = json!({"role": "assistant", "content": null});
        if let (Value::Object(message), Value::Object(given)) = (&mut message, self.message) {
            message.extend(given.clone());
        }
        let choice = json!({"index": 0, "message": message, "logprobs": null, "finish_reason": self.finish_reason});
        let body = json!({"id": self.id, "object": "chat.completion", "created": CREATED, "model": self.model,
            "choices": [choice], "usage": self.usage, "system_fingerprint": "scripted"});
        Bytes::from(body.to_string())
    }

    /// As the events of a stream, each with its framing.
    pub(crate) fn events(&self, delivery: Delivery) -> Vec<Bytes> {
        let with_usage = delivery == Delivery::StreamedWithUsage;
        let chunk = |delta: Value, finish_reason: Option<&str>| {
            let mut chunk = self.chunk(&json!([{"index": 0, "delta": delta, "finish_reason": finish_reason}]));
            if with_usage {
                chunk["usage"] = Value::Null;
            }
            event(&chunk.to_string())
        };
        let mut events = vec![chunk(json!({"role": "assistant", "content": ""}), None)];
        for (field, value) in self.message.as_object().into_iter().flatten() {
            match (field.as_str(), value) {
                ("role", _) | (_, Value::Null) => {}
                ("content", Value::String(text)) => {
                    events.extend(text.split_inclusive(' ').map(|piece| chunk(json!({"content": piece}), None)));
                }
                (_, other) => events.push(chunk(json!({ field: other }), None)),
            }
        }
        events.push(chunk(json!({}), Some(self.finish_reason)));
        if with_usage {
            let mut last = self.chunk(&json!([]));
            last["usage"] = self.usage.clone();
            events.push(event(&last.to_string()));
        }
        events.push(event("[DONE]"));
        events
    }

    fn chunk(&self, choices: &Value) -> Value {
        json!({"id": self.id, "object": "chat.completion.chunk", "created": CREATED, "model": self.model,
            "choices": choices})
    }
}

/// One server-sent event.
pub(crate) fn event(payload: &str) -> Bytes {
    let mut text = String::with_capacity(payload.len() + 8);
    // Writing into a string does not fail.
    let _ = write!(text, "data: {payload}\n\n");
    Bytes::from(text)
}

/// The answer to `GET /v1/models`.
pub(crate) fn model_list<'a>(models: impl IntoIterator<Item = (&'a str, Option<u64>)>) -> Value {
    let entry = |(id, window): (&str, Option<u64>)| {
        let mut entry = json!({"id": id, "object": "model", "created": CREATED, "owned_by": "tokenhub-demo"});
        if let Some(window) = window {
            entry["context_length"] = json!(window);
        }
        entry
    };
    json!({"object": "list", "data": models.into_iter().map(entry).collect::<Vec<_>>()})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(body: &Value) -> ChatRequest {
        ChatRequest::read(Bytes::from(body.to_string())).unwrap()
    }

    #[test]
    fn the_request_decides_how_the_answer_comes() {
        assert_eq!(request(&json!({"model": "m"})).delivery, Delivery::Whole);
        assert_eq!(request(&json!({"stream": true})).delivery, Delivery::Streamed);
        let asked = json!({"stream": true, "stream_options": {"include_usage": true}});
        assert_eq!(request(&asked).delivery, Delivery::StreamedWithUsage);
        assert!(ChatRequest::read(Bytes::from_static(b"{")).is_err());
    }

    #[test]
    fn messages_are_read_with_their_text_parts() {
        let body = json!({"messages": [{"role": "system", "content": "a \"b\""},
            {"role": "user", "content": [{"type": "text", "text": "c"}, {"type": "image_url"}, {"type": "text", "text": "d"}]}]});
        let texts: Vec<String> = request(&body).messages().into_iter().map(|message| message.text).collect();
        assert_eq!(texts, ["a \"b\"", "c\nd"]);
    }

    #[test]
    fn a_token_is_four_characters_rounded_up() {
        assert_eq!((tokens_in(""), tokens_in("abcd"), tokens_in("abcdé")), (0, 1, 2));
    }

    #[test]
    fn a_stream_says_the_same_as_the_body() {
        let message = json!({"content": "one two", "tool_calls": [{"id": "c"}]});
        let speech = Speech { id: "i", model: "m", message: &message, finish_reason: "stop", usage: usage(1, 2) };
        let whole: Value = serde_json::from_slice(&speech.whole()).unwrap();
        assert_eq!(whole["choices"][0]["message"]["content"], "one two");
        assert_eq!(whole["usage"]["total_tokens"], 3);

        let payloads: Vec<String> = speech
            .events(Delivery::StreamedWithUsage)
            .iter()
            .map(|event| String::from_utf8(event.to_vec()).unwrap()["data: ".len()..].trim_end().to_owned())
            .collect();
        assert_eq!(payloads.last().unwrap(), "[DONE]");
        let chunks: Vec<Value> =
            payloads[..payloads.len() - 1].iter().map(|payload| serde_json::from_str(payload).unwrap()).collect();
        let text: String =
            chunks.iter().filter_map(|chunk| chunk.pointer("/choices/0/delta/content")?.as_str()).collect();
        assert_eq!(text, "one two");
        assert_eq!(chunks.last().unwrap()["usage"], usage(1, 2));
        assert_eq!(chunks.last().unwrap()["choices"], json!([]));
        assert_eq!(chunks[0]["usage"], Value::Null);
        assert!(chunks[0].get("usage").is_some());
        assert_eq!(speech.events(Delivery::Streamed).len(), speech.events(Delivery::StreamedWithUsage).len() - 1);
    }
}
