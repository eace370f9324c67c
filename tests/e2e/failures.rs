//! What failing providers cost and what their callers are told; what we refuse ourselves; answers that are very large.

mod crash;
mod large;
mod refusals;
mod upstream;

use serde_json::{Value, json};

use crate::harness::{Answer, TestHub, TestHubBuilder};

/// Both executors, as the header that chooses them.
const EXECUTORS: [&str; 2] = ["preferred", "none"];

/// An installation that a loaded machine does not push off the durable path. Both executors fail at the same model at the
/// same time, and neither must keep the other from it: no penalties.
fn installation() -> TestHubBuilder {
    TestHub::builder()
        .environment("TOKENHUB_START_DEADLINE_MS", "15000")
        .environment("TOKENHUB_PENALTIES", "false")
        .environment("TOKENHUB_LIVE_SIGNALS", "false")
}

/// A chat in OpenAI's form whose prompt carries a tag.
fn chat(model: Option<&str>, tag: &str) -> Value {
    let mut body = json!({"messages": [{"role": "user", "content": format!("a question ({tag})")}]});
    if let Some(model) = model {
        body["model"] = model.into();
    }
    body
}

/// Models of the calls whose prompt carries `tag`, in order of arrival.
fn called(hub: &TestHub, tag: &str) -> Vec<String> {
    let calls = hub.provider.calls().into_iter();
    calls.filter(|call| call.body.to_string().contains(&format!("({tag})"))).map(|call| call.model).collect()
}

/// OpenAI's error object: all four keys, a message that says something.
#[track_caller]
fn assert_openai_error(answer: &Answer, status: u16) -> &Value {
    assert_eq!(answer.status.as_u16(), status, "{}", answer.text);
    assert_eq!(answer.header("content-type"), "application/json");
    let error = answer.body["error"].as_object().unwrap_or_else(|| panic!("no error object: {}", answer.text));
    let mut keys: Vec<&str> = error.keys().map(String::as_str).collect();
    keys.sort_unstable();
    assert_eq!(keys, ["code", "message", "param", "type"], "{}", answer.text);
    assert!(!error["message"].as_str().unwrap().is_empty() && error["type"].is_string(), "{}", answer.text);
    assert!(answer.header("x-tokenhub-request-id").starts_with("req_"), "{:?}", answer.headers);
    &answer.body["error"]
}
