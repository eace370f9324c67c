//! A streamed answer as server-sent events.
//!
//! The frames come in the caller's protocol and pass unchanged; what a protocol has around them is written here. No `id:` and no `retry:` lines: the decoders of the official clients emit an
//! empty event for them and fail to parse it.

mod failure;

use std::time::Duration;

use axum::{
    body::Body,
    http::{HeaderMap, HeaderValue, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures_util::stream;
use tokenhub_activities::stream::StreamItem;
use tokenhub_domain::{Dialect, RequestId};
use tokio::sync::mpsc::{self, error::TryRecvError};

use crate::parse::protocol::UsageChunk;
use failure::Sent;

/// Proxies close connections that say nothing for a minute or less.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
const KEEP_ALIVE_COMMENT: &[u8] = b": ping\n\n";
/// Clients of Messages measure silence by events, not by bytes.
const KEEP_ALIVE_EVENT: &[u8] = b"event: ping\ndata: {\"type\": \"ping\"}\n\n";
const DONE: &[u8] = b"data: [DONE]\n\n";

/// Enough for one write; what comes behind waits for the next.
const WRITE_BYTES: usize = 64 * 1024;

/// How the events of one stream are written.
#[derive(Clone, Debug)]
pub(crate) struct Framing {
    /// The caller's protocol.
    pub(crate) dialect: Dialect,
    /// Whether the caller sees the usage chunk.
    pub(crate) usage_chunk: UsageChunk,
    /// For an error event.
    pub(crate) request_id: Option<RequestId>,
}

enum State {
    Open(Writer),
    Over,
}

/// The response that passes on `first`, which is there already, and then `items`.
pub(crate) fn response(
    first: Vec<StreamItem>,
    items: mpsc::Receiver<StreamItem>,
    framing: Framing,
    extra: HeaderMap,
) -> Response {
    let writer = Writer { first: first.into_iter(), items, framing, sent: Sent::default() };
    let frames = stream::unfold(State::Open(writer), |state| async move {
        let State::Open(mut writer) = state else { return None };
        let (frame, next) = writer.next(KEEP_ALIVE).await?;
        let state = match next {
            Next::More => State::Open(writer),
            Next::Close => State::Over,
        };
        Some((Ok::<Bytes, std::convert::Infallible>(frame), state))
    });
    let mut response = Body::from_stream(frames).into_response();
    let headers = response.headers_mut();
    headers.extend(extra);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

#[derive(Debug, PartialEq, Eq)]
enum Next {
    More,
    Close,
}

struct Writer {
    first: std::vec::IntoIter<StreamItem>,
    items: mpsc::Receiver<StreamItem>,
    framing: Framing,
    sent: Sent,
}

/// What can be had without waiting.
enum Ready {
    Item(StreamItem),
    End,
    Nothing,
}

impl Writer {
    /// The next frames, as many as are there, and whether others may follow; `None` where the stream simply ends.
    async fn next(&mut self, keep_alive: Duration) -> Option<(Bytes, Next)> {
        let mut frames = Frames::default();
        loop {
            let item = match self.ready() {
                Ready::Item(item) => Some(item),
                Ready::End => None,
                Ready::Nothing if !frames.is_empty() => return Some((frames.join(), Next::More)),
                Ready::Nothing => match tokio::time::timeout(keep_alive, self.items.recv()).await {
                    Err(_) => return Some((keep_alive_frame(self.framing.dialect), Next::More)),
                    Ok(item) => item,
                },
            };
            match item {
                None => {
                    if let Some(mark) = end_mark(self.framing.dialect) {
                        frames.push(mark);
                    }
                    return (!frames.is_empty()).then(|| (frames.join(), Next::Close));
                }
                Some(StreamItem::Data(frame)) => {
                    self.sent.note(&frame);
                    frames.push(frame);
                }
                Some(StreamItem::Usage(frame)) => match self.framing.usage_chunk {
                    UsageChunk::Shown => frames.push(frame),
                    UsageChunk::Dropped => {}
                },
                Some(StreamItem::Failed(failure)) => {
                    let Framing { dialect, request_id, .. } = &self.framing;
                    frames.push(failure::frame(*dialect, failure, &self.sent, request_id.as_ref()));
                    return Some((frames.join(), Next::Close));
                }
            }
            if frames.is_full() {
                return Some((frames.join(), Next::More));
            }
        }
    }

    fn ready(&mut self) -> Ready {
        if let Some(item) = self.first.next() {
            return Ready::Item(item);
        }
        match self.items.try_recv() {
            Ok(item) => Ready::Item(item),
            Err(TryRecvError::Empty) => Ready::Nothing,
            Err(TryRecvError::Disconnected) => Ready::End,
        }
    }
}

/// Frames that go out in one write.
#[derive(Default)]
struct Frames {
    all: Vec<Bytes>,
    bytes: usize,
}

impl Frames {
    fn push(&mut self, frame: Bytes) {
        self.bytes += frame.len();
        self.all.push(frame);
    }

    fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    fn is_full(&self) -> bool {
        self.bytes >= WRITE_BYTES
    }

    fn join(self) -> Bytes {
        match <[Bytes; 1]>::try_from(self.all) {
            Ok([only]) => only,
            Err(all) => all.concat().into(),
        }
    }
}

fn keep_alive_frame(dialect: Dialect) -> Bytes {
    Bytes::from_static(match dialect {
        Dialect::Chat | Dialect::Responses => KEEP_ALIVE_COMMENT,
        Dialect::Messages => KEEP_ALIVE_EVENT,
    })
}

/// Only Chat has a mark of its own; the last event of the others is part of the answer.
fn end_mark(dialect: Dialect) -> Option<Bytes> {
    match dialect {
        Dialect::Chat => Some(Bytes::from_static(DONE)),
        Dialect::Responses | Dialect::Messages => None,
    }
}

#[cfg(test)]
mod tests {
    use tokenhub_domain::{ErrorClass, ProviderFailure};

    use super::*;

    fn framing(dialect: Dialect, usage_chunk: UsageChunk) -> Framing {
        Framing { dialect, usage_chunk, request_id: None }
    }

    async fn body_of(items: Vec<StreamItem>, framing: Framing) -> String {
        let (sender, receiver) = mpsc::channel(16);
        for item in items {
            sender.send(item).await.unwrap();
        }
        drop(sender);
        let first = vec![data(": first\n\n")];
        let response = response(first, receiver, framing, HeaderMap::new());
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let bytes = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
        String::from_utf8(bytes.to_vec()).unwrap().strip_prefix(": first\n\n").unwrap().to_owned()
    }

    fn data(text: &'static str) -> StreamItem {
        StreamItem::Data(Bytes::from_static(text.as_bytes()))
    }

    #[tokio::test]
    async fn frames_pass_unchanged_and_the_end_of_chat_is_marked() {
        let items =
            || vec![data("data: {\"a\":1}\n\n"), StreamItem::Usage(Bytes::from_static(b"data: {\"usage\":2}\n\n"))];
        assert_eq!(
            body_of(items(), framing(Dialect::Chat, UsageChunk::Dropped)).await,
            "data: {\"a\":1}\n\ndata: [DONE]\n\n"
        );
        assert_eq!(
            body_of(items(), framing(Dialect::Chat, UsageChunk::Shown)).await,
            "data: {\"a\":1}\n\ndata: {\"usage\":2}\n\ndata: [DONE]\n\n"
        );
    }

    #[tokio::test]
    async fn the_other_protocols_end_with_their_own_last_event() {
        for dialect in [Dialect::Responses, Dialect::Messages] {
            let stop = "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";
            assert_eq!(body_of(vec![data(stop)], framing(dialect, UsageChunk::Dropped)).await, stop);
        }
    }

    #[tokio::test]
    async fn an_error_after_the_start_is_the_last_event_and_no_end_mark_follows() {
        for dialect in Dialect::ALL {
            let failure = ProviderFailure::of(ErrorClass::StreamBroken, "connection reset");
            let items = vec![data("data: {}\n\n"), StreamItem::Failed(failure), data("data: {\"late\":1}\n\n")];
            let body = body_of(items, framing(dialect, UsageChunk::Dropped)).await;
            let (_, error) = body.split_once("\n\n").unwrap();
            assert!(error.contains("connection reset"), "{error}");
            assert!(!error.contains("[DONE]") && !error.contains("late"), "{error}");
        }
    }

    fn writer(first: Vec<StreamItem>, items: mpsc::Receiver<StreamItem>, dialect: Dialect) -> Writer {
        let framing = framing(dialect, UsageChunk::Dropped);
        Writer { first: first.into_iter(), items, framing, sent: Sent::default() }
    }

    #[tokio::test]
    async fn what_is_there_goes_out_in_one_write_and_a_large_frame_by_itself() {
        let (sender, items) = mpsc::channel(16);
        let large = StreamItem::Data(Bytes::from(vec![b'x'; WRITE_BYTES]));
        for item in [data("b"), large, data("c")] {
            sender.send(item).await.unwrap();
        }
        let mut writer = writer(vec![data("a")], items, Dialect::Chat);
        let (first, next) = writer.next(KEEP_ALIVE).await.unwrap();
        assert_eq!((&first[..3], first.len(), next), (&b"abx"[..], WRITE_BYTES + 2, Next::More));
        assert_eq!(writer.next(KEEP_ALIVE).await, Some((Bytes::from_static(b"c"), Next::More)));
        sender.send(data("d")).await.unwrap();
        drop(sender);
        assert_eq!(writer.next(KEEP_ALIVE).await, Some((Bytes::from_static(b"ddata: [DONE]\n\n"), Next::Close)));
    }

    #[tokio::test]
    async fn a_silent_stream_is_kept_alive_in_the_way_of_its_protocol() {
        for (dialect, expected) in [
            (Dialect::Chat, ": ping\n\n"),
            (Dialect::Responses, ": ping\n\n"),
            (Dialect::Messages, "event: ping\ndata: {\"type\": \"ping\"}\n\n"),
        ] {
            let (sender, items) = mpsc::channel(1);
            let mut writer = writer(Vec::new(), items, dialect);
            let (frame, next) = writer.next(Duration::from_millis(1)).await.unwrap();
            assert_eq!((frame, next), (Bytes::from_static(expected.as_bytes()), Next::More));
            drop(sender);
        }
    }
}
