//! Reading a request body within its limit.

use axum::{body::Body, http::HeaderMap};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;

use crate::error::Problem;

/// What is still read and thrown away behind a body that is too large, so that the client finishes sending and reads
/// the refusal instead of a connection reset.
const DISCARD_BYTES: usize = 64 * 1024 * 1024;

/// Most that is set aside on the strength of a Content-Length alone.
const RESERVED_BYTES: usize = 4 * 1024 * 1024;

/// The whole body, or a refusal when it exceeds `limit_bytes`.
pub(crate) async fn read(headers: &HeaderMap, body: Body, limit_bytes: usize) -> Result<Bytes, Problem> {
    let declared = headers
        .get(axum::http::header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.parse::<usize>().ok());
    let mut too_large = declared.is_some_and(|bytes| bytes > limit_bytes);
    // Who asks before sending, or would send for long, is told at once.
    let is_unsent = headers.contains_key(axum::http::header::EXPECT);
    if too_large && (is_unsent || declared.is_some_and(|bytes| bytes > DISCARD_BYTES)) {
        return Err(Problem::BodyTooLarge { limit_bytes });
    }
    let mut chunks = body.into_data_stream();
    let mut kept = BytesMut::with_capacity(declared.map_or(0, |bytes| bytes.min(RESERVED_BYTES)));
    let mut seen = 0_usize;
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|_| Problem::ReadBody)?;
        seen = seen.saturating_add(chunk.len());
        too_large |= seen > limit_bytes;
        if seen > limit_bytes.saturating_add(DISCARD_BYTES) {
            break;
        }
        if !too_large {
            kept.extend_from_slice(&chunk);
        }
    }
    if too_large { Err(Problem::BodyTooLarge { limit_bytes }) } else { Ok(kept.freeze()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_body_at_the_limit_is_read_and_one_byte_more_is_refused() {
        let read_len = |bytes: usize| async move {
            read(&HeaderMap::new(), Body::from(vec![b'x'; bytes]), 10).await.map(|body| body.len())
        };
        assert_eq!(read_len(10).await.unwrap(), 10);
        assert!(matches!(read_len(11).await, Err(Problem::BodyTooLarge { limit_bytes: 10 })));
    }

    /// A body of ten chunks, each of which is counted when it is taken.
    fn counted() -> (Body, std::sync::Arc<std::sync::atomic::AtomicUsize>) {
        let taken = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let counter = std::sync::Arc::clone(&taken);
        let chunks = futures_util::stream::iter(0..10).map(move |_| {
            counter.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            Ok::<_, std::convert::Infallible>(Bytes::from_static(b"chunk"))
        });
        (Body::from_stream(chunks), taken)
    }

    #[tokio::test]
    async fn a_client_that_asks_before_sending_too_much_is_refused_before_anything_is_read() {
        let (body, taken) = counted();
        let headers = HeaderMap::from_iter([
            (axum::http::header::CONTENT_LENGTH, "50".parse().unwrap()),
            (axum::http::header::EXPECT, "100-continue".parse().unwrap()),
        ]);
        assert!(matches!(read(&headers, body, 10).await, Err(Problem::BodyTooLarge { .. })));
        assert_eq!(taken.load(std::sync::atomic::Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn a_body_of_undeclared_length_is_refused_in_the_middle_and_taken_to_its_end() {
        let (body, taken) = counted();
        assert!(matches!(read(&HeaderMap::new(), body, 10).await, Err(Problem::BodyTooLarge { .. })));
        assert_eq!(taken.load(std::sync::atomic::Ordering::Relaxed), 10);
    }
}
