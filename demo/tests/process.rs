//! The scripted provider as a process: its control paths, and both faces on the wire.

#![expect(clippy::unwrap_used, reason = "a failing set-up is a failing test")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use tokenhub_demo::{Finished, Reply, Rule, SeenCall};

struct Process {
    child: Child,
    address: String,
}

impl Process {
    fn start(arguments: &[&str]) -> Self {
        let program = env!("CARGO_BIN_EXE_tokenhub-demo");
        let mut child = Command::new(program).args(arguments).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { child, address: line.trim().trim_start_matches("http://").to_owned() }
    }

    /// Status and body of one exchange on a connection of its own.
    fn exchange(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let length = body.len();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nhost: h\r\nconnection: close\r\nx-tokenhub-attempt-id: att_7\r\n\
             content-length: {length}\r\n\r\n{body}"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
        (head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0), body.to_owned())
    }

    fn chat(&self, model: &str, text: &str) -> (u16, Value) {
        let body = json!({"model": model, "messages": [{"role": "user", "content": text}]});
        let (status, body) = self.exchange("POST", "/v1/chat/completions", &body.to_string());
        (status, serde_json::from_str(&body).unwrap_or(Value::Null))
    }

    fn calls(&self) -> Vec<SeenCall> {
        serde_json::from_str(&self.exchange("GET", "/__calls", "").1).unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn said(answer: &Value) -> &str {
    answer.pointer("/choices/0/message/content").and_then(Value::as_str).unwrap_or_default()
}

#[test]
fn another_process_can_script_count_and_reset_it() {
    let provider = Process::start(&[]);
    let rule = Rule::model("m", [Reply::error(503, "x", "busy"), Reply::text("hello")]);
    let script = serde_json::to_string(&rule).unwrap();
    assert_eq!(provider.exchange("POST", "/__script", &script).0, 200);
    assert_eq!(provider.chat("m", "x").0, 503);
    assert_eq!(said(&provider.chat("m", "x").1), "hello");
    assert_eq!(said(&provider.chat("other", "echoed").1), "echoed");

    let calls = provider.calls();
    let ends: Vec<Finished> = calls.iter().map(|call| call.finished).collect();
    assert_eq!(ends, [Finished::Failed(503), Finished::Answered, Finished::Answered]);
    assert!(calls.iter().all(|call| call.attempt_id.as_deref() == Some("att_7")));
    assert_eq!((calls[2].last_text().as_str(), calls[0].body_hash == calls[1].body_hash), ("echoed", true));

    assert_eq!(provider.exchange("POST", "/__reset", "").0, 200);
    assert_eq!(provider.exchange("GET", "/__count", "").1, r#"{"count":0}"#);
    assert_eq!(provider.chat("m", "x").0, 503);
    assert_eq!(provider.exchange("POST", "/__reset/all", "").0, 200);
    assert_eq!(said(&provider.chat("m", "echoed").1), "echoed");
    assert_eq!(provider.exchange("POST", "/__script", "{").0, 400);
}

#[test]
fn the_models_it_lists_can_be_set() {
    let provider = Process::start(&[]);
    assert_eq!(provider.exchange("POST", "/__models", r#"["a/b:c"]"#).0, 200);
    let list: Value = serde_json::from_str(&provider.exchange("GET", "/v1/models", "").1).unwrap();
    assert_eq!(list["data"][0]["id"], "a/b:c");
}

#[test]
fn fast_replies_are_counted_and_not_listed() {
    let provider = Process::start(&[]);
    let script = serde_json::to_string(&Rule::any([Reply::fast("quick")])).unwrap();
    provider.exchange("POST", "/__script", &script);
    assert_eq!(said(&provider.chat("m", "x").1), "quick");
    assert_eq!(provider.exchange("GET", "/__count", "").1, r#"{"count":1}"#);
    assert!(provider.calls().is_empty());
}

#[test]
fn a_cut_is_no_answer_and_is_noted_as_a_cut() {
    let provider = Process::start(&[]);
    let script = serde_json::to_string(&Rule::any([Reply::echo().cut_before_bytes()])).unwrap();
    provider.exchange("POST", "/__script", &script);
    assert_eq!(provider.chat("m", "x").0, 0);
    assert_eq!(provider.calls()[0].finished, Finished::Cut);
}

#[test]
fn the_demo_face_lists_three_models_and_has_no_control_paths() {
    let provider = Process::start(&["--face", "demo"]);
    let list: Value = serde_json::from_str(&provider.exchange("GET", "/v1/models", "").1).unwrap();
    let ids: Vec<&str> = list["data"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["demo/concise", "demo/thorough", "demo/skeptic"]);
    let (status, answer) = provider.chat("demo/skeptic", "Is it so?");
    assert_eq!(status, 200);
    assert!(said(&answer).contains("Is it so?"));
    assert_eq!(answer["usage"]["prompt_tokens"], 3);
    assert_eq!(provider.chat("gpt-9", "x").0, 404);
    assert_eq!(provider.exchange("GET", "/__calls", "").0, 404);
}
