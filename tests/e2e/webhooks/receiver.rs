//! A receiver of webhooks on a real socket: answers as it is told and keeps what it heard.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use ring::hmac;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::harness::eventually;

const PATIENCE: Duration = Duration::from_secs(40);

/// How a receiver answers.
#[derive(Clone, Debug)]
pub enum Reply {
    Status(u16),
    Later { status: u16, retry_after: &'static str },
    Redirect(String),
    Hang,
}

/// What it heard.
#[derive(Clone, Debug)]
pub struct Heard {
    pub headers: HeaderMap,
    pub body: String,
    pub at: Instant,
    /// Whether it said that it took it.
    pub is_taken: bool,
}

impl Heard {
    pub fn id(&self) -> String {
        self.header("webhook-id")
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    pub fn header(&self, name: &str) -> String {
        self.headers[name].to_str().unwrap().to_owned()
    }

    /// Whether somebody who has `secret` finds that it is genuine.
    pub fn is_signed_with(&self, secret: &str) -> bool {
        let key = STANDARD.decode(secret.strip_prefix("whsec_").unwrap()).unwrap();
        let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
        let content = format!("{}.{}.{}", self.id(), self.header("webhook-timestamp"), self.body);
        self.header("webhook-signature").split(' ').any(|signature| {
            let signature = STANDARD.decode(signature.strip_prefix("v1,").unwrap()).unwrap();
            hmac::verify(&key, content.as_bytes(), &signature).is_ok()
        })
    }
}

#[derive(Clone, Default)]
struct Book {
    replies: Arc<Mutex<VecDeque<Reply>>>,
    heard: Arc<Mutex<Vec<Heard>>>,
}

/// The receiver; it is gone when it is dropped.
pub struct Receiver {
    pub port: u16,
    book: Book,
    _open: DropGuard,
}

impl Receiver {
    /// Answers with `replies`, then with 200.
    pub async fn start(replies: impl IntoIterator<Item = Reply>) -> Self {
        Self::at(0, replies).await
    }

    /// The same at a port.
    pub async fn at(port: u16, replies: impl IntoIterator<Item = Reply>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let book = Book { replies: Arc::new(Mutex::new(replies.into_iter().collect())), ..Book::default() };
        let router = Router::new().fallback(answer).with_state(book.clone());
        let closed = CancellationToken::new();
        let guard = closed.clone().drop_guard();
        tokio::spawn(closed.run_until_cancelled_owned(async move { axum::serve(listener, router).await }));
        Self { port, book, _open: guard }
    }

    pub fn url(&self) -> String {
        url_of(self.port)
    }

    pub fn heard(&self) -> Vec<Heard> {
        self.book.heard.lock().unwrap().clone()
    }

    /// Waits until it has heard so much.
    pub async fn hears(&self, count: usize) -> Vec<Heard> {
        eventually("the receiver is told", PATIENCE, || async {
            let heard = self.heard();
            (heard.len() >= count).then_some(heard)
        })
        .await
    }
}

/// Where a receiver at `port` is told.
pub fn url_of(port: u16) -> String {
    format!("http://127.0.0.1:{port}/hook?for=tests")
}

async fn answer(State(book): State<Book>, headers: HeaderMap, body: Bytes) -> Response {
    let reply = book.replies.lock().unwrap().pop_front().unwrap_or(Reply::Status(200));
    let is_taken = matches!(reply, Reply::Status(200..=299));
    let body = String::from_utf8(body.to_vec()).unwrap();
    book.heard.lock().unwrap().push(Heard { headers, body, at: Instant::now(), is_taken });
    let status = |status: u16| StatusCode::from_u16(status).unwrap();
    match reply {
        Reply::Status(code) => (status(code), "as told").into_response(),
        Reply::Later { status: code, retry_after } => (status(code), [("retry-after", retry_after)]).into_response(),
        Reply::Redirect(to) => (StatusCode::TEMPORARY_REDIRECT, [("location", to)]).into_response(),
        Reply::Hang => std::future::pending().await,
    }
}
