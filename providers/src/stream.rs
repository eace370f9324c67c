//! Reads a streamed Chat Completions answer event by event and keeps its clocks.
//!
//! Every payload is passed on byte for byte; the reader only looks for what the gateway must know: whether there is
//! content yet, the token counts, the end, and an error in place of an event. A stream that ends without a finish
//! reason or its `[DONE]` is broken, however politely the connection was closed.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::unfold;
use reqwest::Response;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use tokenhub_domain::{ErrorClass, ProviderFailure, limits};
use tokio::time::{Instant, timeout, timeout_at};

use crate::call::{EventKind, StreamEvent, Streaming};
use crate::classify::{ErrorEvidence, classify};
use crate::redact::redact;
use crate::sse::{EVENT_BYTES, Event, Framer};
use crate::usage::usage_of;

/// After `[DONE]` the end of the body is awaited this long, so that the connection can be used again.
const DRAIN_WAIT: Duration = Duration::from_millis(50);
/// Longest description of a broken connection.
const CAUSE_BYTES: usize = 512;

/// When a stream is given up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clocks {
    pub(crate) first_token: Instant,
    pub(crate) end: Instant,
    pub(crate) idle: Duration,
}

/// The events of `response`.
pub(crate) fn open(response: Response, clocks: Clocks, credential: Option<SecretString>) -> Streaming {
    let reader = Box::new(Reader {
        response,
        framer: Framer::new(EVENT_BYTES),
        clocks,
        credential,
        progress: Progress::BeforeContent,
        finish: Finish::Missing,
        read_bytes: 0,
    });
    let events = unfold(reader, |mut reader| async move { reader.next().await.map(|item| (item, reader)) });
    Streaming { events: events.boxed() }
}

/// The failure of a stream whose first token did not come.
pub(crate) fn no_first_token() -> ProviderFailure {
    ProviderFailure::of(ErrorClass::FirstTokenTimeout, "the first token did not come in time")
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    BeforeContent,
    InContent,
    /// `[DONE]` was passed on.
    Done,
    /// Nothing more comes.
    Closed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Finish {
    Missing,
    Seen,
}

struct Reader {
    response: Response,
    framer: Framer,
    clocks: Clocks,
    credential: Option<SecretString>,
    progress: Progress,
    finish: Finish,
    read_bytes: usize,
}

impl Reader {
    async fn next(&mut self) -> Option<Result<StreamEvent, ProviderFailure>> {
        match self.progress {
            Progress::Closed => return None,
            Progress::Done => {
                let _ = timeout(DRAIN_WAIT, self.response.chunk()).await;
                self.progress = Progress::Closed;
                return None;
            }
            Progress::BeforeContent | Progress::InContent => {}
        }
        let item = self.next_item().await.transpose();
        match &item {
            Some(Ok(event)) => self.note(event),
            Some(Err(_)) | None => self.progress = Progress::Closed,
        }
        item
    }

    fn note(&mut self, event: &StreamEvent) {
        if event.finish_reason.is_some() {
            self.finish = Finish::Seen;
        }
        match event.kind {
            EventKind::Done => self.progress = Progress::Done,
            EventKind::Content if self.progress == Progress::BeforeContent => self.progress = Progress::InContent,
            EventKind::Content | EventKind::Preamble | EventKind::Finish | EventKind::UsageOnly => {}
        }
    }

    async fn next_item(&mut self) -> Result<Option<StreamEvent>, ProviderFailure> {
        loop {
            let framed = self.framer.next_event();
            let framed = framed.map_err(|error| ProviderFailure::of(ErrorClass::ResultTooLarge, error.to_string()))?;
            if let Some(event) = framed {
                return self.read(event).map(Some);
            }
            match self.next_chunk().await? {
                Some(chunk) => self.take(&chunk)?,
                None => return self.end(),
            }
        }
    }

    async fn next_chunk(&mut self) -> Result<Option<Bytes>, ProviderFailure> {
        let patience = match self.progress {
            Progress::BeforeContent => self.clocks.first_token,
            Progress::InContent | Progress::Done | Progress::Closed => Instant::now() + self.clocks.idle,
        };
        match timeout_at(patience.min(self.clocks.end), self.response.chunk()).await {
            Ok(Ok(chunk)) => Ok(chunk),
            Ok(Err(error)) => {
                let error = error.without_url();
                Err(self.broken(&format!("the stream broke off: {error}")))
            }
            Err(_) => Err(self.out_of_time()),
        }
    }

    fn out_of_time(&self) -> ProviderFailure {
        if Instant::now() >= self.clocks.end {
            return ProviderFailure::of(ErrorClass::StepDeadline, "the stream did not end in time");
        }
        match self.progress {
            Progress::BeforeContent => no_first_token(),
            Progress::InContent | Progress::Done | Progress::Closed => self.broken("the stream fell silent"),
        }
    }

    fn take(&mut self, chunk: &[u8]) -> Result<(), ProviderFailure> {
        self.read_bytes += chunk.len();
        if self.read_bytes > limits::PROVIDER_ANSWER_BYTES {
            let message = format!("the stream is larger than {} bytes", limits::PROVIDER_ANSWER_BYTES);
            return Err(ProviderFailure::of(ErrorClass::ResultTooLarge, message));
        }
        self.framer.push(chunk);
        Ok(())
    }

    fn end(&mut self) -> Result<Option<StreamEvent>, ProviderFailure> {
        let framer = std::mem::replace(&mut self.framer, Framer::new(EVENT_BYTES));
        if let Some(event) = framer.finish() {
            return self.read(event).map(Some);
        }
        match self.finish {
            Finish::Seen => Ok(None),
            Finish::Missing => Err(self.broken("the stream ended without a finish reason")),
        }
    }

    fn read(&self, event: Event) -> Result<StreamEvent, ProviderFailure> {
        read_event(event, self.secret()).ok_or_else(|| self.broken("an event of the stream is not JSON"))?
    }

    fn broken(&self, message: &str) -> ProviderFailure {
        ProviderFailure::of(ErrorClass::StreamBroken, redact(message, self.secret(), CAUSE_BYTES))
    }

    fn secret(&self) -> Option<&str> {
        self.credential.as_ref().map(ExposeSecret::expose_secret)
    }
}

/// The parts of a chunk that matter here.
#[derive(Default, Deserialize)]
struct Chunk<'a> {
    #[serde(borrow, default)]
    choices: Option<Vec<Choice<'a>>>,
    #[serde(borrow, default)]
    usage: Option<&'a RawValue>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
    #[serde(default)]
    object: Option<String>,
}

#[derive(Deserialize)]
struct Choice<'a> {
    #[serde(borrow, default)]
    delta: Option<BTreeMap<String, &'a RawValue>>,
    #[serde(default)]
    finish_reason: Option<String>,
}

/// One event, or the error that it is; nothing when it is not JSON.
fn read_event(event: Event, credential: Option<&str>) -> Option<Result<StreamEvent, ProviderFailure>> {
    let blank = |raw: Bytes, kind| StreamEvent { raw, kind, usage: None, usage_json: None, finish_reason: None };
    if event.data.trim_ascii() == b"[DONE]" {
        return Some(Ok(blank(event.data, EventKind::Done)));
    }
    let chunk: Chunk<'_> = match serde_json::from_slice(&event.data) {
        Ok(chunk) => chunk,
        // JSON of an unknown form is the client's to read.
        Err(_) if serde_json::from_slice::<IgnoredAny>(&event.data).is_ok() => Chunk::default(),
        Err(_) => return None,
    };
    if chunk.error.is_some() || event.name.as_ref() == b"error" || chunk.object.as_deref() == Some("error") {
        return Some(Err(classify(&ErrorEvidence::inside_answer(&event.data, credential))));
    }
    let usage_json = chunk.usage.map(|usage| usage.get().to_owned());
    let usage = usage_json.as_deref().and_then(|usage| serde_json::from_str(usage).ok()).map(|usage| usage_of(&usage));
    let choices = chunk.choices.unwrap_or_default();
    let kind = kind_of(&choices, usage_json.as_deref());
    let finish_reason = choices.into_iter().find_map(|choice| choice.finish_reason);
    Some(Ok(StreamEvent { kind, usage, usage_json, finish_reason, raw: event.data }))
}

fn kind_of(choices: &[Choice<'_>], usage_json: Option<&str>) -> EventKind {
    let shows = |(field, value): (&String, &&RawValue)| {
        field != "role" && !matches!(value.get(), "null" | "\"\"" | "[]" | "{}")
    };
    if choices.is_empty() && usage_json.is_some() {
        EventKind::UsageOnly
    } else if choices.iter().any(|choice| choice.delta.iter().flatten().any(shows)) {
        EventKind::Content
    } else if choices.iter().any(|choice| choice.finish_reason.is_some()) {
        EventKind::Finish
    } else {
        EventKind::Preamble
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(payload: &str) -> Option<Result<StreamEvent, ProviderFailure>> {
        read_event(Event { name: Bytes::new(), data: Bytes::copy_from_slice(payload.as_bytes()) }, Some("hush-hush"))
    }

    #[test]
    fn each_event_has_its_kind_and_keeps_its_bytes() {
        for (payload, wanted) in [
            (
                r#"{"choices":[{"index":0,"delta":{"role":"assistant","content":"","refusal":null}}]}"#,
                EventKind::Preamble,
            ),
            (r#"{"choices":[],"prompt_filter_results":[]}"#, EventKind::Preamble),
            (r#"{"choices":[{"delta":{"content":"é"},"finish_reason":null}],"usage":null}"#, EventKind::Content),
            (r#"{"choices":[{"delta":{"reasoning_content":"hm"}}]}"#, EventKind::Content),
            (r#"{"choices":[{"delta":{"tool_calls":[{"index":0}]}}]}"#, EventKind::Content),
            (r#"{"choices":[{"delta":{},"finish_reason":"stop"}]}"#, EventKind::Finish),
            (r#"{"choices":[{"delta":{"content":"x"},"finish_reason":"stop"}]}"#, EventKind::Content),
            (r#"{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}"#, EventKind::UsageOnly),
            (r#"{"choices":"unknown form"}"#, EventKind::Preamble),
            ("[DONE]", EventKind::Done),
            (" [DONE] ", EventKind::Done),
        ] {
            let event = read(payload).unwrap().unwrap();
            assert_eq!(event.kind, wanted, "{payload}");
            assert_eq!(event.raw, payload);
        }
    }

    #[test]
    fn usage_and_finish_reason_are_found() {
        let event = read(r#"{"choices":[],"usage":{"prompt_tokens":1, "completion_tokens":2}}"#).unwrap().unwrap();
        assert_eq!(event.usage.map(|usage| (usage.input_tokens, usage.output_tokens)), Some((1, 2)));
        assert_eq!(event.usage_json.as_deref(), Some(r#"{"prompt_tokens":1, "completion_tokens":2}"#));
        let event = read(r#"{"choices":[{"delta":{},"finish_reason":"length"}]}"#).unwrap().unwrap();
        assert_eq!(event.finish_reason.as_deref(), Some("length"));
        assert_eq!(event.usage, None);
    }

    #[test]
    fn an_error_in_place_of_an_event_is_classified_and_masked() {
        let failure =
            read(r#"{"error":{"message":"hush-hush is out","code":"insufficient_quota"}}"#).unwrap().unwrap_err();
        assert_eq!(failure.class, ErrorClass::QuotaExhausted);
        assert_eq!(failure.message, "[redacted] is out");
        let failure = read(r#"{"object":"error","message":"boom"}"#).unwrap().unwrap_err();
        assert_eq!(failure.class, ErrorClass::ServerError);
        assert!(read(r#"{"choices":[{"delta":{"cont"#).is_none());
    }
}
