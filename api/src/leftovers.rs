//! What a handler did not read of a request, as when it refused the key: read and thrown away here.
//!
//! HTTP/1 cannot go on after a body that was left unread, so the server would close the connection without a word and
//! the client's next request on it would fail; a client that is still sending would lose the answer, too.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::{Body, BodyDataStream, HttpBody},
    extract::Request,
    http::{HeaderValue, Version, header},
    response::Response,
};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use tokio::sync::oneshot;

/// More than this is not waited for, nor read from somebody who may have no key: the connection closes, and says so.
const DISCARD_BYTES: usize = 8 * 1024 * 1024;
const DISCARD_TIMEOUT: Duration = Duration::from_secs(2);

/// A body that comes back when it is dropped before its end.
struct Lent {
    body: Option<BodyDataStream>,
    back: Option<oneshot::Sender<BodyDataStream>>,
}

impl Stream for Lent {
    type Item = Result<Bytes, axum::Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let polled = body.poll_next_unpin(context);
        if matches!(polled, Poll::Ready(None | Some(Err(_)))) {
            self.body = None;
        }
        polled
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let (Some(body), Some(back)) = (self.body.take(), self.back.take()) {
            // Nobody waits when the client has gone.
            let _ = back.send(body);
        }
    }
}

/// Leaves nothing of a request unread, or closes the connection with its answer.
pub(crate) async fn discard<F: Future<Output = Response>>(
    request: Request,
    next: impl FnOnce(Request) -> F,
) -> Response {
    if request.body().is_end_stream() || request.version() >= Version::HTTP_2 {
        return next(request).await;
    }
    let (parts, body) = request.into_parts();
    // Reading is what tells such a client to send.
    let waits_for_leave = parts.headers.contains_key(header::EXPECT);
    let (back, mut unread) = oneshot::channel();
    let lent = Lent { body: Some(body.into_data_stream()), back: Some(back) };
    let mut response = next(Request::from_parts(parts, Body::from_stream(lent))).await;
    if let Ok(rest) = unread.try_recv()
        && (waits_for_leave || !is_discarded(rest).await)
    {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Whether the end of `body` was reached.
async fn is_discarded(mut body: BodyDataStream) -> bool {
    let reading = async {
        let mut seen = 0_usize;
        while let Some(Ok(chunk)) = body.next().await {
            seen = seen.saturating_add(chunk.len());
            if seen > DISCARD_BYTES {
                return false;
            }
        }
        true
    };
    tokio::time::timeout(DISCARD_TIMEOUT, reading).await.unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use axum::{Router, http::StatusCode, middleware, routing::post};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpStream},
    };

    use super::*;

    /// A connection to a server that refuses everything under `/refuse` unread and repeats the rest.
    async fn connection() -> TcpStream {
        let router = Router::new()
            .route("/refuse", post(|| async { (StatusCode::UNAUTHORIZED, "no") }))
            .route("/repeat", post(|body: Bytes| async { body }))
            .layer(middleware::from_fn(async |request, next: middleware::Next| {
                discard(request, |it| next.run(it)).await
            }));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        TcpStream::connect(address).await.unwrap()
    }

    /// Sends the head, and after a pause the body, as many clients do.
    async fn send(connection: &mut TcpStream, path: &str, extra: &str, declared: usize, body: &[u8]) {
        let head = format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {declared}\r\n{extra}\r\n");
        connection.write_all(head.as_bytes()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        connection.write_all(body).await.unwrap();
    }

    async fn receive(connection: &mut TcpStream) -> String {
        let mut buffer = vec![0; 4096];
        let length =
            tokio::time::timeout(Duration::from_secs(10), connection.read(&mut buffer)).await.unwrap().unwrap();
        String::from_utf8_lossy(&buffer[..length]).to_lowercase()
    }

    #[tokio::test]
    async fn a_connection_goes_on_after_a_request_that_was_refused_unread() {
        let mut connection = connection().await;
        for _ in 0..3 {
            send(&mut connection, "/refuse", "", 4, b"body").await;
            let refused = receive(&mut connection).await;
            assert!(refused.starts_with("http/1.1 401") && !refused.contains("connection: close"), "{refused}");
            send(&mut connection, "/repeat", "", 5, b"hello").await;
            assert!(receive(&mut connection).await.ends_with("hello"));
        }
    }

    #[tokio::test]
    async fn a_large_refused_body_is_taken_so_that_its_client_reads_the_answer() {
        let mut connection = connection().await;
        let body = vec![b'x'; DISCARD_BYTES];
        send(&mut connection, "/refuse", "", body.len(), &body).await;
        assert!(receive(&mut connection).await.starts_with("http/1.1 401"));
    }

    #[tokio::test]
    async fn a_connection_with_a_body_that_does_not_come_is_closed_and_says_so() {
        for extra in ["", "expect: 100-continue\r\n"] {
            let mut connection = connection().await;
            send(&mut connection, "/refuse", extra, 4, b"").await;
            let refused = receive(&mut connection).await;
            assert!(refused.starts_with("http/1.1 401") && refused.contains("connection: close"), "{refused}");
        }
    }
}
