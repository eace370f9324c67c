//! Clients that take long to send a request: none of Temporal's business.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{COMPLETIONS, assert_closed_and_untouched, builder, chat, paid};
use crate::harness::{Disturbance, TestHub};

/// Longer than the start deadline.
const PAUSE: Duration = Duration::from_millis(1_500);

/// Sends a chat with a pause before the end of its body; returns the answer in lower case.
async fn ask_slowly(hub: &TestHub, text: &str) -> String {
    let authority = hub.apis[0].1.trim_start_matches("http://");
    let key = &hub.environment()["TOKENHUB_CLIENT_KEY"];
    let body = chat(text).to_string();
    let head = format!(
        "POST {COMPLETIONS} HTTP/1.1\r\nhost: {authority}\r\nauthorization: Bearer {key}\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let (first, rest) = body.split_at(body.len() / 2);
    let mut connection = TcpStream::connect(authority).await.unwrap();
    connection.write_all(format!("{head}{first}").as_bytes()).await.unwrap();
    tokio::time::sleep(PAUSE).await;
    connection.write_all(rest.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    connection.read_to_end(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer).to_lowercase()
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_uploads_are_durable_and_leave_the_breaker_closed() {
    let hub = builder().start().await;
    for text in ["slow 1", "slow 2", "slow 3", "slow 4"] {
        let answer = ask_slowly(&hub, text).await;
        assert!(answer.starts_with("http/1.1 200"), "{answer}");
        assert!(answer.contains("x-tokenhub-durability: durable"), "{answer}");
        assert_eq!(paid(&hub, text), 1, "{text}");
    }
    assert_closed_and_untouched(&hub).await;
    hub.finish(Disturbance::None).await;
}
