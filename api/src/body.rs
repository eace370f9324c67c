//! Reading a request body within its limit.

use axum::{body::Body, http::HeaderMap};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;

use crate::error::Problem;

/// What is still read and thrown away behind a body that is too large, so that the client finishes sending and reads
/// the refusal instead of a connection reset.
const DISCARD_BYTES: usize = 64 * 1024 * 1024;

/// The whole body, or a refusal when it exceeds `limit_bytes`.
pub(crate) async fn read(headers: &HeaderMap, body: Body, limit_bytes: usize) -> Result<Bytes, Problem> {
    let declared = headers
        .get(axum::http::header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.parse::<usize>().ok());
    let mut chunks = body.into_data_stream();
    let mut kept = BytesMut::new();
    let mut too_large = declared.is_some_and(|bytes| bytes > limit_bytes);
    if too_large && declared.is_some_and(|bytes| bytes > DISCARD_BYTES) {
        return Err(Problem::BodyTooLarge { limit_bytes });
    }
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
}
