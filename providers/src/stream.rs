//! Reads a streamed answer event by event, in any of the three protocols, and keeps its clocks.
//!
//! A payload is passed on byte for byte where the client speaks the provider's protocol, and converted where it does not.
//! The reader itself only looks for what the gateway must know: whether there is content yet, the token counts, the end,
//! and an error in place of an event. A stream that ends before its protocol's last event is broken, however politely the
//! connection was closed.

mod chat;
mod converted;
mod messages;
mod responses;
mod sight;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::unfold;
use reqwest::Response;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value};
use tokenhub_domain::{AttemptId, Dialect, ErrorClass, ModelQuirks, ProviderFailure, TokenUsage, limits};
use tokio::time::{Instant, timeout, timeout_at};

use crate::call::{EventKind, StreamEvent, Streaming};
use crate::classify::{ErrorEvidence, classify};
use crate::convert::{ReplyContext, usage};
use crate::quirks;
use crate::redact::redact;
use crate::sse::{EVENT_BYTES, Event, Framer};
use sight::{Sight, is_keep_alive, look};

/// A comment or a ping is shorter than this.
const KEEP_ALIVE_BYTES_MAX: usize = 16 * 1024;
/// After the last event the end of the body is awaited this long, so that the connection can be used again.
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

/// Which protocol comes in, and which one goes out.
#[derive(Clone, Debug)]
pub(crate) enum Reading {
    /// Provider and client speak the same one.
    Same(Dialect),
    /// They do not.
    Converted { upstream: Dialect, client: Dialect, context: Box<ReplyContext> },
}

/// The events of `response`, in the client's protocol and without the quirks of the model.
pub(crate) fn open(
    response: Response,
    clocks: Clocks,
    credential: Option<SecretString>,
    (reading, quirks): (Reading, Option<(Arc<ModelQuirks>, AttemptId)>),
) -> Streaming {
    let (upstream, conversion) = match reading {
        Reading::Same(dialect) => (dialect, None),
        Reading::Converted { upstream, client, context } => (upstream, Some((client, context))),
    };
    let reader = Box::new(Reader::new(response, clocks, credential, upstream));
    let events = unfold(reader, |mut reader| async move { reader.next().await.map(|item| (item, reader)) }).boxed();
    let events = match quirks {
        None => events,
        Some((quirks, attempt)) => quirks::stream(quirks, attempt, events),
    };
    let events = match conversion {
        None => events,
        Some((client, context)) => converted::convert(events, upstream, client, *context),
    };
    Streaming { losses: Vec::new(), events }
}

/// The failure of a stream whose first token did not come.
pub(crate) fn no_first_token() -> ProviderFailure {
    ProviderFailure::of(ErrorClass::FirstTokenTimeout, "the first token did not come in time")
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// Not one event came.
    Empty,
    BeforeContent,
    InContent,
    /// The last event was passed on.
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
    dialect: Dialect,
    progress: Progress,
    finish: Finish,
    /// Messages reports its counts in pieces; this is what they add up to.
    counted: Map<String, Value>,
    read_bytes: usize,
    /// When silence has lasted too long.
    idle_by: Instant,
    /// Whether the last event was more than a sign that the connection lives.
    has_advanced: bool,
}

impl Reader {
    fn new(response: Response, clocks: Clocks, credential: Option<SecretString>, dialect: Dialect) -> Self {
        Self {
            response,
            framer: Framer::new(EVENT_BYTES),
            clocks,
            credential,
            dialect,
            progress: Progress::Empty,
            finish: Finish::Missing,
            counted: Map::new(),
            read_bytes: 0,
            idle_by: Instant::now() + clocks.idle,
            has_advanced: true,
        }
    }

    async fn next(&mut self) -> Option<Result<StreamEvent, ProviderFailure>> {
        match self.progress {
            Progress::Closed => return None,
            Progress::Done => {
                let _ = timeout(DRAIN_WAIT, self.response.chunk()).await;
                self.progress = Progress::Closed;
                return None;
            }
            Progress::Empty | Progress::BeforeContent | Progress::InContent => {}
        }
        // From when the event is waited for: a client that reads slowly is not the provider's silence.
        if std::mem::take(&mut self.has_advanced) {
            self.idle_by = Instant::now() + self.clocks.idle;
        }
        let mut item = self.next_item().await.transpose();
        if let Some(Ok(event)) = &item
            && self.ends_without_a_word(event)
        {
            item = Some(Err(self.broken("the stream ended without content and without a finish reason")));
        }
        match &item {
            Some(Ok(event)) => self.note(event),
            Some(Err(_)) | None => self.progress = Progress::Closed,
        }
        item
    }

    /// An end mark behind nothing is no answer. An empty answer has a finish reason; in Responses the last event is one.
    fn ends_without_a_word(&self, event: &StreamEvent) -> bool {
        let has_words = match self.progress {
            Progress::Empty | Progress::BeforeContent => false,
            Progress::InContent | Progress::Done | Progress::Closed => true,
        };
        event.kind == EventKind::Done
            && self.dialect != Dialect::Responses
            && self.finish == Finish::Missing
            && event.finish_reason.is_none()
            && !has_words
    }

    fn note(&mut self, event: &StreamEvent) {
        if event.finish_reason.is_some() {
            self.finish = Finish::Seen;
        }
        self.has_advanced = !is_keep_alive(event);
        self.progress = match (event.kind, self.progress) {
            (EventKind::Done, _) => Progress::Done,
            (EventKind::Content, _) => Progress::InContent,
            (EventKind::Preamble | EventKind::Finish | EventKind::UsageOnly, Progress::Empty) => {
                Progress::BeforeContent
            }
            (EventKind::Preamble | EventKind::Finish | EventKind::UsageOnly, progress) => progress,
        };
    }

    async fn next_item(&mut self) -> Result<Option<StreamEvent>, ProviderFailure> {
        loop {
            let framed = self.framer.next_event();
            let framed = framed.map_err(|error| ProviderFailure::of(ErrorClass::ResultTooLarge, error.to_string()))?;
            if let Some(event) = framed {
                match self.read(event)? {
                    Some(event) => return Ok(Some(event)),
                    None => continue,
                }
            }
            match self.next_chunk().await? {
                Some(chunk) => {
                    self.take(&chunk)?;
                    // What is on its way is larger than any keep-alive: the provider is not silent, only slow.
                    if self.framer.unfinished_bytes() > KEEP_ALIVE_BYTES_MAX {
                        self.idle_by = Instant::now() + self.clocks.idle;
                    }
                }
                None => return self.end(),
            }
        }
    }

    async fn next_chunk(&mut self) -> Result<Option<Bytes>, ProviderFailure> {
        let patience = match self.progress {
            Progress::Empty | Progress::BeforeContent => self.clocks.first_token,
            Progress::InContent | Progress::Done | Progress::Closed => self.idle_by,
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
            Progress::Empty | Progress::BeforeContent => no_first_token(),
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
        if let Some(event) = framer.finish()
            && let Some(event) = self.read(event)?
        {
            return Ok(Some(event));
        }
        match (self.dialect, self.finish, self.progress) {
            (_, _, Progress::Empty) => Err(self.broken("the stream was empty")),
            // Some compatible servers leave out the mark; their finish reason says that nothing is missing.
            (Dialect::Chat, Finish::Seen, _) => Ok(None),
            (Dialect::Chat, Finish::Missing, _) => Err(self.broken("the stream ended without a finish reason")),
            (Dialect::Responses | Dialect::Messages, _, _) => {
                Err(self.broken("the stream ended before its last event"))
            }
        }
    }

    /// The event with what was seen in it; nothing for one that is not of the protocol and says nothing.
    fn read(&mut self, event: Event) -> Result<Option<StreamEvent>, ProviderFailure> {
        let (kind, usage, usage_json, finish_reason) = match look(self.dialect, &event) {
            None => return Err(self.broken("an event of the stream is not JSON")),
            Some(Sight::Skipped) => return Ok(None),
            Some(Sight::Failure(body)) => return Err(classify(&ErrorEvidence::inside_answer(&body, self.secret()))),
            Some(Sight::Event { kind, usage, finish_reason }) => {
                let (usage, usage_json) = usage.and_then(|usage| self.count(usage.get())).unzip();
                (kind, usage, usage_json, finish_reason.map(std::borrow::Cow::into_owned))
            }
        };
        Ok(Some(StreamEvent { name: event.name, raw: event.data, kind, usage, usage_json, finish_reason }))
    }

    /// The counts so far. Messages repeats some of its fields and leaves others out: what is there replaces, nothing adds.
    fn count(&mut self, usage_json: &str) -> Option<(TokenUsage, String)> {
        let reported: Value = serde_json::from_str(usage_json).ok()?;
        let (reported, usage_json) = match (self.dialect, reported) {
            (Dialect::Messages, Value::Object(fields)) => {
                self.counted.extend(fields.into_iter().filter(|(_, value)| !value.is_null()));
                let counted = Value::Object(self.counted.clone());
                let usage_json = counted.to_string();
                (counted, usage_json)
            }
            (Dialect::Messages | Dialect::Chat | Dialect::Responses, reported) => (reported, usage_json.to_owned()),
        };
        let counts = usage(self.dialect, &reported);
        Some((TokenUsage { input_tokens: counts.input, output_tokens: counts.output }, usage_json))
    }

    fn broken(&self, message: &str) -> ProviderFailure {
        ProviderFailure::of(ErrorClass::StreamBroken, redact(message, self.secret(), CAUSE_BYTES))
    }

    fn secret(&self) -> Option<&str> {
        self.credential.as_ref().map(ExposeSecret::expose_secret)
    }
}

#[cfg(test)]
mod tests;
