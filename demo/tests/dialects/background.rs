//! Responses in the background: begun, looked at, withdrawn and forgotten.

use std::time::Duration;

use serde_json::{Value, json};
use tokenhub_demo::{Finished, Reply, Rule, ScriptedProvider};

use crate::client::{RESPONSES, post, request};

const PATIENCE: Duration = Duration::from_secs(20);

fn begin(provider: &ScriptedProvider) -> Value {
    let begun = post(provider, RESPONSES, &json!({"model": "m", "input": "hi", "background": true, "store": true}));
    assert_eq!(begun.status, 200);
    begun.json()
}

fn path_of(response: &Value) -> String {
    format!("{RESPONSES}/{}", response["id"].as_str().unwrap())
}

#[tokio::test]
async fn a_response_is_worked_on_while_nobody_looks_and_its_call_is_pending_until_then() {
    let provider = ScriptedProvider::start().await;
    provider.script(Rule::any([Reply::text("done").usage(7, 3).delay_ms(200)]));
    let begun = begin(&provider);
    assert_eq!((&begun["status"], &begun["output"], &begun["usage"]), (&json!("queued"), &json!([]), &Value::Null));
    assert_eq!(provider.calls()[0].finished, Finished::Pending);
    let ended = |calls: &[tokenhub_demo::SeenCall]| calls[0].finished == Finished::Answered;
    assert!(provider.wait_until(PATIENCE, ended).await);
    let found = request(&provider, "GET", &path_of(&begun), &[], "").json();
    assert_eq!((&found["status"], &found["background"]), (&json!("completed"), &json!(true)));
    assert_eq!((&found["id"], &found["usage"]["input_tokens"]), (&begun["id"], &json!(7)));
    assert_eq!((provider.count(), provider.looks().len()), (1, 1));
}

#[tokio::test]
async fn a_response_is_withdrawn_cut_off_and_forgotten_as_a_test_wants_it() {
    let provider = ScriptedProvider::start().await;
    provider.script(Rule::any([Reply::hang()]));
    let (first, second) = (begin(&provider), begin(&provider));
    assert_ne!(first["id"], second["id"]);
    let withdrawn = request(&provider, "POST", &format!("{}/cancel", path_of(&first)), &[], "");
    assert_eq!((withdrawn.status, &withdrawn.json()["status"]), (200, &json!("cancelled")));
    assert_eq!(provider.calls()[0].finished, Finished::Aborted);
    provider.cut_looks(1);
    assert_eq!(request(&provider, "GET", &path_of(&second), &[], "").status, 0);
    assert_eq!(request(&provider, "GET", &path_of(&second), &[], "").json()["status"], "in_progress");
    provider.end_responses();
    assert_eq!(request(&provider, "GET", &path_of(&second), &[], "").json()["status"], "completed");
    provider.forget_responses();
    assert_eq!(request(&provider, "GET", &path_of(&second), &[], "").status, 404);
}
