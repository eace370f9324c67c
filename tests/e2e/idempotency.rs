//! One key, one run: whatever dies between the request and its repetition, nothing is bought again.

mod api_killed;
mod parallel;
mod shutdown;

use serde_json::Value;

use crate::{
    harness::{Answer, TestHub, exchange},
    scripted::{Case, Ended, REFINE},
};

const KEY: (&str, &str) = ("Idempotency-Key", "order-66");
/// Where an answer says that it was not computed for this request.
const REPLAYED: &str = "idempotent-replayed";

/// Asks with the key, at the first API.
async fn ask(hub: &TestHub, case: Case) -> Answer {
    case.ask_at(hub, 0, &[KEY]).await.unwrap().unwrap().answer
}

/// Asserts that the repetition of a finished request returns its stored result, in the same words.
#[track_caller]
fn assert_replayed(answer: &Answer, first: &Value) {
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(answer.header(REPLAYED), "true", "{:?}", answer.headers);
    assert_eq!(answer.body, *first);
}

/// Asserts that `GET /v1/plan/{id}` returns the same object.
async fn assert_readable(hub: &TestHub, first: &Value) {
    let answer = hub.get(&path_of(first["id"].as_str().unwrap())).await.unwrap().expect(200);
    assert_eq!(answer.body, *first);
}

fn path_of(run_id: &str) -> String {
    format!("/v1/plan/{run_id}")
}

/// Asserts that the key is refused for another body, and that nobody was called for it.
async fn assert_other_body_is_refused(hub: &TestHub, api: usize) {
    let other = Case::new(&REFINE, 999);
    let request = hub.request_to(api, reqwest::Method::POST, "/v1/plan").header(KEY.0, KEY.1).json(&other.body());
    let refused = exchange(request).await.unwrap().expect(422);
    assert_eq!(refused.header("x-should-retry"), "false", "{:?}", refused.headers);
    assert!(refused.body["code"].is_string() && refused.body["title"].is_string(), "{}", refused.text);
    assert!(other.calls(hub).is_empty());
}

/// What one client of many was told.
#[track_caller]
fn told(ended: Result<Result<Ended, reqwest::Error>, tokio::task::JoinError>) -> Answer {
    ended.unwrap().unwrap().answer.expect(200)
}
