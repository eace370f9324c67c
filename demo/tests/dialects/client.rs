//! A client that hides nothing: status, headers, body as far as it came, and whether it came to its end.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};
use tokenhub_demo::ScriptedProvider;

/// Longest wait for the next bytes of an answer that is to come.
const PATIENCE: Duration = Duration::from_secs(20);
/// A connection that is to fall silent has done so after this.
const SILENCE: Duration = Duration::from_secs(1);

pub(crate) const CHAT: &str = "/v1/chat/completions";
pub(crate) const RESPONSES: &str = "/v1/responses";
pub(crate) const MESSAGES: &str = "/v1/messages";
pub(crate) const GENERATING: [&str; 3] = [CHAT, RESPONSES, MESSAGES];

/// How an exchange ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// With the whole answer.
    Whole,
    /// The connection closed before.
    Cut,
    /// Nothing more came.
    Silent,
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    /// Without the framing of chunks.
    pub(crate) body: Vec<u8>,
    /// Sizes of the chunks.
    pub(crate) chunks: Vec<usize>,
    pub(crate) end: End,
    /// All that came.
    pub(crate) raw: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// Name and payload of each event; a payload that is not JSON is a string.
    pub(crate) fn events(&self) -> Vec<(String, Value)> {
        let mut events = Vec::new();
        for block in self.text().split("\n\n").filter(|block| !block.is_empty()) {
            let line = |field: &str| block.lines().find_map(|line| line.strip_prefix(field)).map(str::to_owned);
            let Some(data) = line("data: ") else { continue };
            let payload = serde_json::from_str(&data).unwrap_or(Value::String(data));
            events.push((line("event: ").unwrap_or_default(), payload));
        }
        events
    }

    pub(crate) fn event_names(&self) -> Vec<String> {
        self.events().into_iter().map(|(name, _)| name).collect()
    }
}

pub(crate) fn request(
    provider: &ScriptedProvider,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Answer {
    exchange(provider, (method, path), headers, body, PATIENCE)
}

fn exchange(
    provider: &ScriptedProvider,
    (method, path): (&str, &str),
    headers: &[(&str, &str)],
    body: &str,
    patience: Duration,
) -> Answer {
    let mut stream = TcpStream::connect(provider.base_url().trim_start_matches("http://")).unwrap();
    stream.set_read_timeout(Some(patience)).unwrap();
    let more: Vec<String> = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let more = more.concat();
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nhost: h\r\nconnection: close\r\n{more}content-length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    let mut raw = Vec::new();
    let mut buffer = [0; 4096];
    let closed = loop {
        match stream.read(&mut buffer) {
            Ok(0) => break true,
            Ok(count) => raw.extend_from_slice(&buffer[..count]),
            Err(error) if [ErrorKind::WouldBlock, ErrorKind::TimedOut].contains(&error.kind()) => break false,
            Err(_) => break true,
        }
        // Keep-alives come for ever.
        if raw.len() > 1_000_000 || raw.windows(12).filter(|part| *part == b"\"type\":\"ping").count() > 5 {
            break false;
        }
        if raw.windows(12).filter(|part| *part == b": keep-alive").count() > 5 {
            break false;
        }
    };
    read(raw, closed)
}

fn read(raw: Vec<u8>, closed: bool) -> Answer {
    let early = if closed { End::Cut } else { End::Silent };
    let Some(head_end) = raw.windows(4).position(|part| part == b"\r\n\r\n") else {
        return Answer { status: 0, headers: Vec::new(), body: Vec::new(), chunks: Vec::new(), end: early, raw };
    };
    let head = String::from_utf8(raw[..head_end].to_vec()).unwrap();
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let mut rest = &raw[head_end + 4..];
    let chunked = headers.iter().any(|(name, value)| name == "transfer-encoding" && value == "chunked");
    let (mut body, mut chunks, mut whole) = (Vec::new(), Vec::new(), false);
    if chunked {
        while let Some(line_end) = rest.windows(2).position(|part| part == b"\r\n") {
            let size = usize::from_str_radix(std::str::from_utf8(&rest[..line_end]).unwrap(), 16).unwrap();
            whole = size == 0;
            let data = &rest[line_end + 2..];
            if whole || data.len() < size + 2 {
                break;
            }
            body.extend_from_slice(&data[..size]);
            chunks.push(size);
            rest = &data[size + 2..];
        }
    } else {
        let length = headers.iter().find(|(name, _)| name == "content-length").map(|(_, value)| value.parse().unwrap());
        body = rest.to_vec();
        whole = length == Some(body.len());
    }
    Answer { status, headers, body, chunks, end: if whole { End::Whole } else { early }, raw }
}

/// A request for an answer to "hi" that every dialect takes.
pub(crate) fn body(path: &str) -> Value {
    if path == RESPONSES {
        json!({"model": "m", "input": "hi"})
    } else {
        json!({"model": "m", "max_tokens": 64, "messages": [{"role": "user", "content": "hi"}]})
    }
}

pub(crate) fn post(provider: &ScriptedProvider, path: &str, body: &Value) -> Answer {
    request(provider, "POST", path, &[("anthropic-version", "2023-06-01")], &body.to_string())
}

/// Asks for a whole answer.
pub(crate) fn ask(provider: &ScriptedProvider, path: &str) -> Answer {
    post(provider, path, &body(path))
}

/// Asks for a stream, with usage where that must be said.
pub(crate) fn ask_stream(provider: &ScriptedProvider, path: &str) -> Answer {
    post(provider, path, &stream_body(path))
}

/// The same with a stream that is to fall silent.
pub(crate) fn ask_silent_stream(provider: &ScriptedProvider, path: &str) -> Answer {
    exchange(provider, ("POST", path), &[], &stream_body(path).to_string(), SILENCE)
}

fn stream_body(path: &str) -> Value {
    let mut body = body(path);
    body["stream"] = json!(true);
    if path == CHAT {
        body["stream_options"] = json!({"include_usage": true});
    }
    body
}
