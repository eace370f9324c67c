//! Payloads at Temporal are encrypted where there are keys: what the server, the logs and the figures show, who decrypts,
//! and what becomes of runs while keys change or are missing.

mod endpoint;
mod rotation;
mod secrets;
mod supervised;

use std::{path::Path, process::Command, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use prost::Message;
use reqwest::Method;
use serde_json::{Value, json};
use temporalio_client::WorkflowExecutionStatus;
use temporalio_common::protos::temporal::api::{
    failure::v1::Failure,
    history::v1::{HistoryEvent, history_event::Attributes},
};
use tokenhub_demo::{Reply, Rule};

use crate::harness::{Answer, Disturbance, Operator, TestHub, TestHubBuilder, exchange, http};
use secrets::shows;

const PATIENCE: Duration = Duration::from_secs(30);
const ADMIN_TOKEN: &str = "tokenhub_of_an_administrator";
/// Two keys whose bytes can be looked for.
const KEY_A: &str = "payload-key-a-canary-32-bytes-AA";
const KEY_B: &str = "payload-key-b-canary-32-bytes-BB";
const PROMPT: &str = "canary-of-a-prompt";
const SYSTEM: &str = "canary-of-a-system-message";
const ANSWER: &str = "canary-of-an-answer";
const REFUSAL: &str = "canary-of-a-refusal";
/// The key of the harness's provider.
const PROVIDER_KEY: &str = "sk-canary";

/// The setting of these keys.
fn keys(ids: &[(&str, &str)]) -> String {
    let entries: Vec<String> = ids.iter().map(|(id, key)| format!("{id}:{}", STANDARD.encode(key))).collect();
    entries.join(",")
}

fn installation(payload_keys: &str) -> TestHubBuilder {
    TestHub::builder()
        .environment("TOKENHUB_PAYLOAD_KEYS", payload_keys)
        .environment("TOKENHUB_ADMIN_TOKEN", ADMIN_TOKEN)
        .environment("TOKENHUB_START_DEADLINE_MS", "15000")
}

fn messages() -> Value {
    json!([{"role": "system", "content": SYSTEM}, {"role": "user", "content": PROMPT}])
}

/// POST at the codec of an API, with the admin token.
async fn codec(url: &str, operation: &str, body: &Value) -> Answer {
    let request = http().request(Method::POST, format!("{url}/admin/v1/codec/{operation}"));
    exchange(request.bearer_auth(ADMIN_TOKEN).header("x-namespace", "default").json(body)).await.unwrap()
}

/// What Temporal's own command line prints.
fn temporal(address: &str, dir: &Path, arguments: &[&str]) -> String {
    let output = Command::new("temporal")
        .args(arguments)
        .args(["--address", address, "--disable-config-file", "--output", "json"])
        .env("HOME", dir)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{arguments:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

/// The history of a workflow, payloads and all, as its export has it.
fn exported(hub: &TestHub, workflow_id: &str, more: &[&str]) -> String {
    let show = ["workflow", "show", "--no-json-shorthand-payloads", "--workflow-id", workflow_id];
    temporal(&hub.temporal.address(), hub.dir(), &[&show, more].concat())
}

/// Every payload in a document.
fn payloads(document: &Value) -> Vec<Value> {
    match document {
        Value::Object(fields) if fields.get("metadata").is_some_and(|it| it.get("encoding").is_some()) => {
            vec![document.clone()]
        }
        Value::Object(fields) => fields.values().flat_map(payloads).collect(),
        Value::Array(items) => items.iter().flat_map(payloads).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Vec::new(),
    }
}

/// The payloads of a history as the codec of an API gives them out: data of all, after each other.
async fn decoded(url: &str, history: &str) -> Vec<u8> {
    let payloads = payloads(&serde_json::from_str(history).unwrap());
    let count = payloads.len();
    let answer = codec(url, "decode", &json!({"payloads": payloads})).await.expect(200);
    let decoded = answer.body["payloads"].as_array().unwrap();
    assert_eq!(decoded.len(), count);
    decoded.iter().flat_map(|payload| STANDARD.decode(payload["data"].as_str().unwrap_or_default()).unwrap()).collect()
}

/// The failures of a history and their causes.
fn failures(history: &[HistoryEvent]) -> Vec<Failure> {
    fn with_causes(failure: &Failure) -> Vec<Failure> {
        let causes = failure.cause.as_deref().map(with_causes).unwrap_or_default();
        [vec![failure.clone()], causes].concat()
    }
    let of_event = |event: &HistoryEvent| match &event.attributes {
        Some(Attributes::WorkflowExecutionFailedEventAttributes(failed)) => failed.failure.clone(),
        Some(Attributes::ActivityTaskFailedEventAttributes(failed)) => failed.failure.clone(),
        Some(Attributes::MarkerRecordedEventAttributes(marker)) => marker.failure.clone(),
        _ => None,
    };
    history.iter().filter_map(of_event).flat_map(|failure| with_causes(&failure)).collect()
}

async fn scripted(builder: TestHubBuilder) -> TestHub {
    let hub = builder.start().await;
    hub.provider.script(Rule::any([Reply::text(ANSWER)]));
    hub.provider.script(Rule::any([Reply::judge_by(ANSWER)]).containing("{\"winner\":"));
    hub.provider.script(Rule::model("gamma", [Reply::error(400, "invalid_value", REFUSAL)]).containing("be refused"));
    hub
}

/// A chat, a vote, a failing chat and the log of a stream: their workflows, in this order.
async fn every_kind_of_run(hub: &TestHub, operator: &Operator) -> Vec<String> {
    let chat = hub.post("/v1/chat/completions", &json!({"model": "alpha", "messages": messages()})).await.expect(200);
    assert!(chat.text.contains(ANSWER), "{}", chat.text);
    let vote = json!({"mode": "vote", "voters": 2, "review_model_id": "beta"});
    let plan = json!({"request": {"messages": messages()}, "orchestration": vote});
    let plan = hub.post("/v1/plan", &plan).await.expect(200);
    assert_eq!(plan.body["status"], "completed", "{}", plan.text);
    let refused = json!({"model": "gamma", "messages": [{"role": "user", "content": format!("{PROMPT} be refused")}]});
    let refused = hub.post("/v1/chat/completions", &refused).await.expect(400);
    assert!(refused.text.contains(REFUSAL), "the caller is told: {}", refused.text);
    let mut workflows = Vec::new();
    for answer in [&chat, &plan, &refused] {
        assert_eq!(answer.header("x-tokenhub-durability"), "durable", "{}", answer.text);
        workflows.push(answer.header("x-tokenhub-workflow-id").to_owned());
    }
    let stream = json!({"model": "alpha", "messages": messages(), "stream": true});
    let stream = hub.post("/v1/chat/completions", &stream).await.expect(200);
    workflows.extend(operator.workflows_of(stream.header("x-tokenhub-run-id")).await);
    for workflow in &workflows {
        assert_ne!(operator.ended(workflow, PATIENCE).await, WorkflowExecutionStatus::Running);
    }
    workflows
}

/// What every process of the installation has printed, Temporal's included.
fn logs(hub: &TestHub) -> Vec<u8> {
    let files = std::fs::read_dir(hub.dir()).unwrap().map(|entry| entry.unwrap().path());
    let logs = files.filter(|path| path.extension().is_some_and(|extension| extension == "log"));
    logs.flat_map(|path| std::fs::read(path).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn with_keys_no_history_no_list_no_log_and_no_figure_shows_a_prompt_an_answer_or_a_key() {
    let hub = scripted(installation(&keys(&[("a", KEY_A)]))).await;
    let operator = Operator::connect(&hub.temporal).await;
    let workflows = every_kind_of_run(&hub, &operator).await;
    let mut places = vec![
        ("list", temporal(&hub.temporal.address(), hub.dir(), &["workflow", "list"]).into_bytes()),
        ("metrics", hub.get("/metrics").await.unwrap().text.into_bytes()),
        ("logs", logs(&hub)),
    ];
    for workflow in &workflows {
        let events = operator.history(workflow).await;
        assert!(events.len() > 3, "{workflow}");
        places.push(("history", events.iter().flat_map(Message::encode_to_vec).collect()));
        places.push(("export", exported(&hub, workflow, &[]).into_bytes()));
        places.push(("description", operator.describe(workflow).await.raw().encode_to_vec()));
    }
    for (place, bytes) in &places {
        for secret in [PROMPT, SYSTEM, ANSWER, REFUSAL, PROVIDER_KEY, KEY_A, ADMIN_TOKEN] {
            assert!(!shows(bytes, secret), "{place} shows {secret}");
        }
    }
    let failures = failures(&operator.history(&workflows[2]).await);
    assert!(!failures.is_empty());
    for failure in failures {
        assert_eq!((failure.message.as_str(), failure.stack_trace.as_str()), ("Encoded failure", ""));
        assert_eq!(failure.encoded_attributes.unwrap().metadata["encoding"], b"binary/encrypted");
    }
    // What an operator finds a run by stays readable.
    assert_eq!(operator.describe(&workflows[0]).await.static_summary(), Some("chat · alpha"));

    let url = &hub.apis[0].1;
    let chat = decoded(url, &exported(&hub, &workflows[0], &[])).await;
    for wanted in [PROMPT, SYSTEM, ANSWER, "answer · alpha · try 1"] {
        assert!(shows(&chat, wanted), "the decoded chat shows {wanted}");
    }
    let vote = decoded(url, &exported(&hub, &workflows[1], &[])).await;
    assert!(shows(&vote, PROMPT) && shows(&vote, ANSWER));
    let refused = decoded(url, &exported(&hub, &workflows[2], &[])).await;
    assert!(shows(&refused, REFUSAL) && shows(&refused, "the run gave no answer: bad_request"));
    // The same through the client that Temporal's operators have.
    let (endpoint, auth) = (format!("{url}/admin/v1/codec"), format!("Bearer {ADMIN_TOKEN}"));
    let through = exported(&hub, &workflows[0], &["--codec-endpoint", &endpoint, "--codec-auth", &auth]);
    assert!(shows(through.as_bytes(), PROMPT) && shows(through.as_bytes(), SYSTEM), "{through}");
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_payload_keys_prompts_are_readable_but_keys_never_are() {
    let hub = scripted(installation("")).await;
    let operator = Operator::connect(&hub.temporal).await;
    let workflows = every_kind_of_run(&hub, &operator).await;
    let mut histories = Vec::new();
    for workflow in &workflows {
        histories.extend(operator.history(workflow).await.iter().flat_map(Message::encode_to_vec));
        histories.extend(exported(&hub, workflow, &[]).into_bytes());
    }
    assert!(shows(&histories, PROMPT), "the search finds what there is");
    for (place, bytes) in [("histories", &histories), ("logs", &logs(&hub))] {
        for secret in [PROVIDER_KEY, ADMIN_TOKEN] {
            assert!(!shows(bytes, secret), "{place} show {secret}");
        }
    }
    let answer = codec(&hub.apis[0].1, "decode", &json!({"payloads": []})).await.expect(409);
    assert_eq!(answer.body["code"], "no_payload_keys");
    hub.finish(Disturbance::None).await;
}
