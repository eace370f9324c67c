//! Server-sent events as a client reads them.

use std::time::Duration;

use futures_util::{StreamExt, stream::BoxStream};
use reqwest::{RequestBuilder, header::HeaderMap};
use serde_json::Value;
use tokenhub_domain::STEP_DELTA;

/// A plan that tells nothing for so long, heartbeats apart, tells nothing any more.
const SILENCE_LIMIT: Duration = Duration::from_mins(1);

/// An event, or a piece of what a step writes.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    /// A piece has none: 0.
    pub id: u64,
    pub name: String,
    pub data: Value,
}

/// A stream that is read event by event.
pub struct EventStream {
    headers: HeaderMap,
    bytes: BoxStream<'static, reqwest::Result<Vec<u8>>>,
    read: String,
}

/// A block of lines.
enum Block {
    Event(Told),
    Comment,
}

impl EventStream {
    /// Asks, and asserts that a stream is answered.
    pub async fn open(request: RequestBuilder) -> Self {
        let response = request.send().await.unwrap();
        assert_eq!(response.status().as_u16(), 200);
        let headers = response.headers().clone();
        let bytes = response.bytes_stream().map(|chunk| chunk.map(|bytes| bytes.to_vec())).boxed();
        Self { headers, bytes, read: String::new() }
    }

    /// A header's value, or nothing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// Reads up to the event that is the last one wanted, or to the end of the stream.
    pub async fn until(&mut self, is_last: impl Fn(&Told) -> bool) -> Vec<Told> {
        let mut seen = Vec::new();
        while let Some(block) = self.next().await {
            let Block::Event(event) = block else { continue };
            let is_enough = is_last(&event);
            seen.push(event);
            if is_enough {
                break;
            }
        }
        seen
    }

    /// Reads to the end of the stream.
    pub async fn rest(mut self) -> Vec<Told> {
        self.until(|_| false).await
    }

    /// Reads up to a comment, past any events.
    pub async fn until_comment(&mut self, patience: Duration) {
        let comment = async {
            while let Some(block) = self.next().await {
                if matches!(block, Block::Comment) {
                    return;
                }
            }
            panic!("the stream ended without a comment");
        };
        tokio::time::timeout(patience, comment).await.expect("a comment in time");
    }

    async fn next(&mut self) -> Option<Block> {
        loop {
            if let Some((block, rest)) = self.read.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.read = rest;
                return Some(parse(&block));
            }
            let chunk = tokio::time::timeout(SILENCE_LIMIT, self.bytes.next()).await.expect("the stream goes on");
            // A connection that breaks is an end, too.
            let chunk = chunk?.ok()?;
            self.read.push_str(std::str::from_utf8(&chunk).expect("whole characters"));
        }
    }
}

fn parse(block: &str) -> Block {
    let (mut id, mut name, mut data) = (None, None, String::new());
    for line in block.lines() {
        match line.split_once(':').expect("a field") {
            ("", _) => {}
            ("id", value) => id = Some(value.trim_start().parse().expect("a number")),
            ("event", value) => name = Some(value.trim_start().to_owned()),
            ("data", value) => data.push_str(value.trim_start()),
            (field, _) => panic!("{field} in {block}"),
        }
    }
    match (id, name) {
        (None, Some(name)) if name == STEP_DELTA => {
            Block::Event(Told { id: 0, name, data: serde_json::from_str(&data).expect("JSON") })
        }
        (Some(id), Some(name)) => Block::Event(Told { id, name, data: serde_json::from_str(&data).expect("JSON") }),
        (None, None) if data.is_empty() => Block::Comment,
        _ => panic!("half an event: {block}"),
    }
}

/// Names, and of what is told of a step also which.
pub fn names(events: &[Told]) -> Vec<String> {
    let shown = |event: &Told| match event.data["step"].as_str() {
        Some(step) => format!("{} {step}", event.name),
        None => event.name.clone(),
    };
    events.iter().map(shown).collect()
}

/// Asserts that no event is missing and none there twice, and that only the last one is an end.
#[track_caller]
pub fn assert_numbered(events: &[Told]) {
    let ids: Vec<u64> = events.iter().map(|event| event.id).collect();
    assert_eq!(ids, (1..=events.len() as u64).collect::<Vec<_>>(), "{:?}", names(events));
    for event in events {
        assert_eq!(event.data["seq"], event.id);
    }
    let ends: Vec<u64> = events.iter().filter(|event| event.data.get("plan").is_some()).map(|event| event.id).collect();
    assert_eq!(ends, [events.len() as u64], "{:?}", names(events));
}
