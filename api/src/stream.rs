//! A streamed answer as server-sent events.
//!
//! The provider's payloads pass unchanged. No `id:` and no `retry:` lines: the decoders of the official clients emit an
//! empty event for them and fail to parse it.

use std::time::Duration;

use axum::{
    body::Body,
    http::{HeaderMap, HeaderValue, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures_util::stream;
use tokenhub_activities::stream::StreamItem;
use tokenhub_domain::{ProviderFailure, StopReason};
use tokio::sync::mpsc;

use crate::{
    error::{FailedRun, Problem, Shape, openai_error},
    parse::completions::UsageChunk,
};

/// Proxies close connections that say nothing for a minute or less.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
const KEEP_ALIVE_COMMENT: &[u8] = b": ping\n\n";
const DONE: &[u8] = b"data: [DONE]\n\n";

enum State {
    Open(mpsc::Receiver<StreamItem>),
    Over,
}

/// The response that passes `items` on.
pub(crate) fn response(items: mpsc::Receiver<StreamItem>, usage_chunk: UsageChunk, extra: HeaderMap) -> Response {
    let frames = stream::unfold(State::Open(items), move |state| async move {
        let State::Open(mut items) = state else { return None };
        let (frame, next) = next_frame(&mut items, usage_chunk, KEEP_ALIVE).await;
        let state = match next {
            Next::More => State::Open(items),
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

enum Next {
    More,
    Close,
}

async fn next_frame(
    items: &mut mpsc::Receiver<StreamItem>,
    usage_chunk: UsageChunk,
    keep_alive: Duration,
) -> (Bytes, Next) {
    loop {
        return match tokio::time::timeout(keep_alive, items.recv()).await {
            Err(_) => (Bytes::from_static(KEEP_ALIVE_COMMENT), Next::More),
            Ok(None) => (Bytes::from_static(DONE), Next::Close),
            Ok(Some(StreamItem::Data(payload))) => (frame(&payload), Next::More),
            Ok(Some(StreamItem::Usage(payload))) => match usage_chunk {
                UsageChunk::Shown => (frame(&payload), Next::More),
                UsageChunk::Dropped => continue,
            },
            Ok(Some(StreamItem::Failed(failure))) => (frame(error_payload(failure).as_bytes()), Next::Close),
        };
    }
}

fn frame(payload: &[u8]) -> Bytes {
    let mut frame = Vec::with_capacity(payload.len() + 8);
    frame.extend_from_slice(b"data: ");
    frame.extend_from_slice(payload);
    frame.extend_from_slice(b"\n\n");
    frame.into()
}

fn error_payload(failure: ProviderFailure) -> String {
    let run = FailedRun { failure: Some(failure), stop_reason: StopReason::AllFailed, ..FailedRun::default() };
    openai_error(&Problem::RunFailed(Box::new(run)).report(Shape::OpenAi)).to_string()
}

#[cfg(test)]
mod tests {
    use tokenhub_domain::ErrorClass;

    use super::*;

    async fn body_of(items: Vec<StreamItem>, usage_chunk: UsageChunk) -> String {
        let (sender, receiver) = mpsc::channel(16);
        for item in items {
            sender.send(item).await.unwrap();
        }
        drop(sender);
        let response = response(receiver, usage_chunk, HeaderMap::new());
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let bytes = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    fn data(text: &'static str) -> StreamItem {
        StreamItem::Data(Bytes::from_static(text.as_bytes()))
    }

    #[tokio::test]
    async fn payloads_pass_unchanged_and_the_end_is_marked() {
        let items = || vec![data(r#"{"a":1}"#), StreamItem::Usage(Bytes::from_static(b"{\"usage\":2}"))];
        assert_eq!(body_of(items(), UsageChunk::Dropped).await, "data: {\"a\":1}\n\ndata: [DONE]\n\n");
        assert_eq!(
            body_of(items(), UsageChunk::Shown).await,
            "data: {\"a\":1}\n\ndata: {\"usage\":2}\n\ndata: [DONE]\n\n"
        );
    }

    #[tokio::test]
    async fn an_error_after_the_start_is_an_event_and_no_end_mark_follows() {
        let failure = ProviderFailure::of(ErrorClass::StreamBroken, "connection reset");
        let body = body_of(vec![data("{}"), StreamItem::Failed(failure)], UsageChunk::Dropped).await;
        let (_, error) = body.split_once("\n\n").unwrap();
        let error: serde_json::Value = serde_json::from_str(error.trim().strip_prefix("data: ").unwrap()).unwrap();
        assert_eq!(error["error"]["code"], "stream_broken");
        assert!(!body.contains("[DONE]"));
    }

    #[tokio::test]
    async fn a_silent_stream_is_kept_alive_by_comments() {
        let (sender, mut receiver) = mpsc::channel(1);
        let (first, _) = next_frame(&mut receiver, UsageChunk::Dropped, Duration::from_millis(1)).await;
        assert_eq!(first, ": ping\n\n");
        drop(sender);
    }
}
