//! The events of an upstream in the client's protocol.
//!
//! What the reader saw of the upstream (counts, finish reason) stays with the events that are made of it: the bill is in
//! the upstream's words, whatever the client is told.

use std::collections::VecDeque;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{BoxStream, unfold};
use tokenhub_domain::{Dialect, ErrorClass, ProviderFailure, TokenUsage};

use crate::call::{EventKind, StreamEvent};
use crate::classify::{ErrorEvidence, classify};
use crate::convert::ReplyContext;
use crate::convert::stream::{OutEvent, StreamConverter, StreamError};

type Item = Result<StreamEvent, ProviderFailure>;

/// `events` of `upstream`, converted for `client`.
pub(super) fn convert(
    events: BoxStream<'static, Item>,
    upstream: Dialect,
    client: Dialect,
    context: ReplyContext,
) -> BoxStream<'static, Item> {
    let converter = Some(StreamConverter::new(upstream, client, context));
    let state = Converting { events, converter, ready: VecDeque::new(), seen: Seen::default(), failure: None };
    unfold(state, |mut state| async move { state.next().await.map(|item| (item, state)) }).boxed()
}

struct Converting {
    events: BoxStream<'static, Item>,
    /// Gone once the stream has ended or failed.
    converter: Option<StreamConverter>,
    ready: VecDeque<StreamEvent>,
    seen: Seen,
    /// To be told once everything before it is.
    failure: Option<ProviderFailure>,
}

/// What was read and not yet handed on.
#[derive(Default)]
struct Seen {
    usage: Option<TokenUsage>,
    usage_json: Option<String>,
    finish_reason: Option<String>,
}

impl Converting {
    async fn next(&mut self) -> Option<Item> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(Ok(event));
            }
            if let Some(failure) = self.failure.take() {
                return Some(Err(failure));
            }
            let mut converter = self.converter.take()?;
            let outcome = match self.events.next().await {
                Some(Ok(event)) => {
                    let outcome = converter.push(&String::from_utf8_lossy(&event.name), &event.raw);
                    self.see(event);
                    if outcome.is_ok() {
                        self.converter = Some(converter);
                    }
                    outcome
                }
                Some(Err(failure)) => {
                    self.fail(failure);
                    continue;
                }
                None => converter.finish(),
            };
            match outcome {
                Ok(events) => self.queue(events),
                Err(error) => self.fail(failure_of(&error)),
            }
        }
    }

    /// Counts that no event of the client's tells are billed all the same.
    fn fail(&mut self, failure: ProviderFailure) {
        if self.seen.usage.is_some() {
            self.queue(vec![OutEvent { name: "", data: String::new(), kind: EventKind::UsageOnly }]);
        }
        self.failure = Some(failure);
    }

    fn see(&mut self, event: StreamEvent) {
        if event.usage.is_some() {
            self.seen.usage = event.usage;
            self.seen.usage_json = event.usage_json;
        }
        self.seen.finish_reason = event.finish_reason.or(self.seen.finish_reason.take());
    }

    fn queue(&mut self, events: Vec<OutEvent>) {
        let events = events.into_iter().map(|event| StreamEvent {
            name: Bytes::from_static(event.name.as_bytes()),
            raw: event.data.into(),
            kind: event.kind,
            usage: None,
            usage_json: None,
            finish_reason: None,
        });
        self.ready.extend(events);
        // On the first one, so that it counts even when the client is gone before the others.
        if let Some(first) = self.ready.front_mut() {
            let Seen { usage, usage_json, finish_reason } = std::mem::take(&mut self.seen);
            (first.usage, first.usage_json, first.finish_reason) = (usage, usage_json, finish_reason);
        }
    }
}

/// The reader finds errors and broken ends before the converter does; what is left is a stream that makes no sense.
fn failure_of(error: &StreamError) -> ProviderFailure {
    match error {
        StreamError::Upstream { body } => classify(&ErrorEvidence::inside_answer(body, None)),
        StreamError::Truncated | StreamError::Unreadable(_) => {
            ProviderFailure::of(ErrorClass::StreamBroken, error.to_string())
        }
    }
}
