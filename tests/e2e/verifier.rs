//! A verifier on a real socket: says what it is told to, or judges by the words of the answer, and keeps what it heard.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

/// How it answers once.
#[derive(Clone, Debug)]
pub enum Says {
    /// This JSON.
    Json(Value),
    /// This status.
    Status(u16),
    /// This text.
    Text(String),
    /// A way to another server.
    Redirect(String),
    /// Nothing.
    Hangs,
}

#[derive(Clone, Default)]
struct Book {
    replies: Arc<Mutex<VecDeque<Says>>>,
    heard: Arc<Mutex<Vec<Value>>>,
}

/// The verifier; it is gone when it is dropped.
pub struct Verifier {
    port: u16,
    book: Book,
    _open: DropGuard,
}

impl Verifier {
    /// Answers with `replies`, and then accepts whatever has the word `good` in it.
    pub async fn start(replies: impl IntoIterator<Item = Says>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let book = Book { replies: Arc::new(Mutex::new(replies.into_iter().collect())), ..Book::default() };
        let router = Router::new().fallback(answer).with_state(book.clone());
        let closed = CancellationToken::new();
        let guard = closed.clone().drop_guard();
        tokio::spawn(closed.run_until_cancelled_owned(async move { axum::serve(listener, router).await }));
        Self { port, book, _open: guard }
    }

    /// The check that asks it.
    pub fn check(&self) -> Value {
        json!({"type": "http", "url": format!("http://127.0.0.1:{}/verify", self.port)})
    }

    /// What comes next.
    pub fn then(&self, replies: impl IntoIterator<Item = Says>) {
        self.book.replies.lock().unwrap().extend(replies);
    }

    /// The bodies of all questions.
    pub fn heard(&self) -> Vec<Value> {
        self.book.heard.lock().unwrap().clone()
    }
}

async fn answer(State(book): State<Book>, Json(question): Json<Value>) -> Response {
    let reply = book.replies.lock().unwrap().pop_front();
    let passes = question["answer"].as_str().unwrap_or_default().contains("good");
    book.heard.lock().unwrap().push(question);
    match reply {
        None => {
            Json(json!({"pass": passes, "score": f64::from(u8::from(passes)), "feedback": "say good"})).into_response()
        }
        Some(Says::Json(value)) => Json(value).into_response(),
        Some(Says::Status(status)) => StatusCode::from_u16(status).unwrap().into_response(),
        Some(Says::Text(text)) => text.into_response(),
        Some(Says::Redirect(to)) => (StatusCode::TEMPORARY_REDIRECT, [("location", to)]).into_response(),
        Some(Says::Hangs) => std::future::pending().await,
    }
}
