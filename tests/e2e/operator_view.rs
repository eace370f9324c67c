//! What an operator sees in Temporal without opening a payload, and what nobody may see there.

use std::time::Duration;

use base64::Engine as _;
use prost::Message;
use serde_json::{Value, json};
use temporalio_client::WorkflowExecutionStatus;
use temporalio_common::protos::temporal::api::{
    enums::v1::EventType,
    history::v1::{HistoryEvent, history_event::Attributes},
};
use tokenhub_demo::{Reply, Rule};

use crate::harness::{Disturbance, Operator, TestHub, eventually, exchange};

const PATIENCE: Duration = Duration::from_secs(30);
/// Occurs in every prompt.
const PROMPT: &str = "canary-of-a-prompt";
/// Occurs in every answer.
const ANSWER: &str = "canary-of-an-answer";
/// The key of the harness's provider.
const PROVIDER_KEY: &str = "sk-canary";

struct Case {
    orchestration: Value,
    workflow_type: &'static str,
    summary: &'static str,
}

fn case(orchestration: Value, workflow_type: &'static str, summary: &'static str) -> Case {
    Case { orchestration, workflow_type, summary }
}

fn cases() -> Vec<Case> {
    vec![
        case(json!({"mode": "planning", "primary_model_id": "alpha"}), "ChatWorkflow", "chat · alpha"),
        case(
            json!({"mode": "adversarial", "iterations": 2, "primary_model_id": "alpha"}),
            "AdversarialWorkflow",
            "adversarial · 2 rounds · author alpha · critic routed",
        ),
        case(
            json!({"mode": "vote", "voters": 2, "review_model_id": "gamma"}),
            "VoteWorkflow",
            "vote · 2 voters · judge gamma",
        ),
        case(json!({"mode": "vote", "voters": 3, "method": "majority"}), "VoteWorkflow", "vote · 3 voters · majority"),
        case(json!({"mode": "refine", "iterations": 1}), "RefineWorkflow", "refine · 1 rounds · author routed"),
        case(json!({"mode": "best_of_n", "voters": 2}), "BestOfNWorkflow", "best of 2 · author routed · judge routed"),
    ]
}

fn messages() -> Value {
    json!([{"role": "system", "content": format!("{PROMPT} of the system")}, {"role": "user", "content": PROMPT}])
}

async fn hub() -> TestHub {
    let hub = TestHub::builder().start().await;
    hub.provider.script(Rule::any([Reply::text(ANSWER)]));
    hub.provider.script(Rule::any([Reply::judge_by(ANSWER)]).containing("{\"winner\":"));
    hub.provider.script(Rule::any([Reply::judge_by(ANSWER)]).containing("{\"scores\":"));
    hub
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

/// The summary of an event, as the UI shows it.
fn summary_of(event: &HistoryEvent) -> Option<String> {
    let payload = event.user_metadata.as_ref()?.summary.as_ref()?;
    serde_json::from_slice(&payload.data).ok()
}

/// The summaries of the provider calls, in the order of the history.
fn call_summaries(history: &[HistoryEvent]) -> Vec<String> {
    let is_call = |event: &&HistoryEvent| match &event.attributes {
        Some(Attributes::ActivityTaskScheduledEventAttributes(scheduled)) => {
            scheduled.activity_type.as_ref().is_some_and(|kind| kind.name == "send_to_provider")
        }
        _ => false,
    };
    history.iter().filter(is_call).map(|event| summary_of(event).expect("every call has a summary")).collect()
}

/// Nothing that an operator can list or read without a payload holds a word of a prompt, an answer or a key.
async fn assert_discreet(hub: &TestHub, operator: &Operator, workflow_id: &str) -> Vec<HistoryEvent> {
    let client_key = hub.environment()["TOKENHUB_CLIENT_KEY"].as_str();
    let secrets = [PROMPT, ANSWER, PROVIDER_KEY, client_key];
    // Summary, attributes, memo and all the rest.
    let described = operator.describe(workflow_id).await.raw().encode_to_vec();
    let history = operator.history(workflow_id).await;
    for secret in secrets {
        assert!(!contains(&described, secret), "the description of {workflow_id} shows {secret}");
        for event in &history {
            let metadata = event.user_metadata.as_ref().map(Message::encode_to_vec).unwrap_or_default();
            assert!(!contains(&metadata, secret), "a summary of {workflow_id} shows {secret}");
        }
    }
    for event in &history {
        let event = event.encode_to_vec();
        for key in [PROVIDER_KEY, client_key] {
            assert!(!contains(&event, key), "the history of {workflow_id} holds a key");
        }
    }
    history
}

#[tokio::test(flavor = "multi_thread")]
async fn every_program_explains_itself_in_temporal_and_shows_no_prompt_and_no_key() {
    let hub = hub().await;
    let operator = Operator::connect(&hub.temporal).await;
    for Case { orchestration, workflow_type, summary } in cases() {
        let body = json!({"request": {"messages": messages()}, "orchestration": orchestration});
        let plan = hub.post("/v1/plan", &body).await.expect(200);
        assert_eq!(plan.body["status"], "completed", "{}", plan.text);
        let workflow_id = plan.header("x-tokenhub-workflow-id");
        assert_eq!(operator.workflows_of(plan.body["id"].as_str().unwrap()).await, [workflow_id]);

        let described = operator.describe(workflow_id).await;
        assert_eq!(described.workflow_type(), workflow_type);
        assert_eq!(described.static_summary(), Some(summary));
        let history = assert_discreet(&hub, &operator, workflow_id).await;
        let all: Vec<u8> = history.iter().flat_map(Message::encode_to_vec).collect();
        assert!(contains(&all, PROMPT), "a short prompt is inline, so the search above finds what there is");

        let steps = plan.body["steps"].as_array().unwrap();
        let shown = |step: &Value| format!("{} · {} · try 1", text(&step["role"]), text(&step["model"]));
        let mut expected: Vec<String> = steps.iter().map(shown).collect();
        let mut summaries = call_summaries(&history);
        expected.sort();
        summaries.sort();
        assert_eq!(summaries, expected, "{workflow_type}");
        assert_page(&plan.body["links"]["temporal_ui"]).await;
        let path = format!("/v1/plan/{}/history", plan.body["id"].as_str().unwrap());
        let shown = hub.get(&path).await.unwrap().expect(200);
        assert_eq!(shown.body["events"].as_array().unwrap().len(), history.len(), "{workflow_type}");
        let encoded = base64::engine::general_purpose::STANDARD.encode(PROMPT);
        assert!(!shown.text.contains(PROMPT) && !shown.text.contains(&encoded[..16]), "{}", shown.text);
        assert!(shown.text.contains("redacted_base64_bytes"));
    }
    let body = json!({"request": {"messages": messages()}});
    let in_process = [("X-TokenHub-Durability", "none")];
    let plan = hub.post_with("/v1/plan", &in_process, &body).await.expect(200);
    let path = format!("/v1/plan/{}/history", plan.body["id"].as_str().unwrap());
    let refused = hub.get(&path).await.unwrap().expect(404);
    assert_eq!(refused.body["code"], "history_not_found", "no workflow carried it: {}", refused.text);
    hub.finish(Disturbance::None).await;
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// The page of the link is there.
async fn assert_page(link: &Value) {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let page = eventually("the Temporal UI answers", PATIENCE, || async {
        exchange(client.get(text(link))).await.ok().filter(|page| page.status.as_u16() == 200)
    });
    assert!(page.await.header("content-type").starts_with("text/html"), "{link}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_that_runs_has_a_table_of_its_steps_that_follows_them_and_is_no_event() {
    let hub = hub().await;
    let operator = Operator::connect(&hub.temporal).await;
    let slowly = Reply::text(ANSWER).delay_ms(4_000);
    hub.provider.script(Rule::any([slowly, Reply::text(ANSWER)]).containing("canary-of-an-answer"));
    let orchestration = json!({"mode": "refine", "iterations": 1, "primary_model_id": "alpha"});
    let body = json!({"request": {"messages": messages()}, "orchestration": orchestration});
    let asked = tokio::spawn(exchange(hub.request(reqwest::Method::POST, "/v1/plan").json(&body)));
    assert!(hub.provider.wait_until(PATIENCE, |calls| calls.len() == 2).await, "the improvement is asked for");
    let run_id = hub.get("/v1/plan").await.unwrap().expect(200).body["data"][0]["id"].as_str().unwrap().to_owned();
    let workflow_id = operator.workflows_of(&run_id).await.remove(0);
    let running = operator.current_details(&workflow_id).await;
    let (first, second) = (row_of(&running, "answer"), row_of(&running, "improvement/1"));
    assert!(first.contains("| alpha | answered |") && second.contains("| refiner | alpha | running |"), "{running}");

    let plan = asked.await.unwrap().unwrap().expect(200);
    let before = operator.history(&workflow_id).await.len();
    let ended = operator.current_details(&workflow_id).await;
    for step in plan.body["steps"].as_array().unwrap() {
        let (row, cost) = (row_of(&ended, text(&step["id"])), step["cost_usd"].as_f64().unwrap());
        let tokens = format!("| {} + {} |", step["input_tokens"], step["output_tokens"]);
        let is_told = row.contains("| answered |") && row.contains(&tokens) && row.contains(&format!("${cost:.6}"));
        assert!(is_told, "{row}: {step}");
    }
    for details in [&running, &ended] {
        assert!(![PROMPT, ANSWER, PROVIDER_KEY].iter().any(|secret| details.contains(secret)), "{details}");
    }
    assert_eq!(operator.history(&workflow_id).await.len(), before, "looking is no event");
    hub.finish(Disturbance::None).await;
}

/// The row of a step in a table of steps.
#[track_caller]
fn row_of(details: &str, step: &str) -> String {
    let row = details.lines().find(|line| line.starts_with(&format!("| {step} |")));
    row.unwrap_or_else(|| panic!("no {step} in\n{details}")).to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn chats_and_the_logs_of_streams_explain_themselves_too() {
    let hub = hub().await;
    let operator = Operator::connect(&hub.temporal).await;
    let mut body = json!({"model": "beta", "messages": messages()});
    let chat = hub.post("/v1/chat/completions", &body).await.expect(200);
    let workflow_id = chat.header("x-tokenhub-workflow-id");
    assert_eq!(operator.workflows_of(chat.header("x-tokenhub-run-id")).await, [workflow_id]);
    assert_eq!(operator.describe(workflow_id).await.static_summary(), Some("chat · beta"));
    let history = assert_discreet(&hub, &operator, workflow_id).await;
    assert_eq!(call_summaries(&history), ["answer · beta · try 1"]);

    body["stream"] = json!(true);
    let stream = hub.post("/v1/chat/completions", &body).await.expect(200);
    assert!(stream.text.ends_with("data: [DONE]\n\n"), "{}", stream.text);
    let logs = operator.workflows_of(stream.header("x-tokenhub-run-id")).await;
    assert_eq!(logs.len(), 1, "{logs:?}");
    let described = operator.describe(&logs[0]).await;
    assert_eq!(described.workflow_type(), "StreamLogWorkflow");
    assert_eq!(described.static_summary(), Some("log of a streamed answer"));
    assert_eq!(operator.ended(&logs[0], PATIENCE).await, WorkflowExecutionStatus::Completed);
    let history = assert_discreet(&hub, &operator, &logs[0]).await;
    let all: Vec<u8> = history.iter().flat_map(Message::encode_to_vec).collect();
    assert!(!contains(&all, PROMPT) && !contains(&all, ANSWER), "a log line needs no text");
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_without_an_answer_is_a_failed_workflow_whose_message_is_the_class() {
    let hub = hub().await;
    let words = "canary-of-a-refusal";
    hub.provider.script(Rule::any([Reply::error(400, "invalid_value", words)]));
    let answer = hub.post("/v1/chat/completions", &json!({"model": "alpha", "messages": messages()})).await.expect(400);
    assert!(answer.text.contains(words), "the caller is told: {}", answer.text);

    let operator = Operator::connect(&hub.temporal).await;
    let workflows = operator.workflows_of(answer.header("x-tokenhub-run-id")).await;
    assert_eq!(operator.ended(&workflows[0], PATIENCE).await, WorkflowExecutionStatus::Failed);
    let history = assert_discreet(&hub, &operator, &workflows[0]).await;
    let last = history.last().unwrap();
    assert_eq!(last.event_type(), EventType::WorkflowExecutionFailed);
    let Some(Attributes::WorkflowExecutionFailedEventAttributes(failed)) = &last.attributes else {
        panic!("{last:?}");
    };
    let message = &failed.failure.as_ref().unwrap().message;
    assert!(message.contains("bad_request") && !message.contains(words), "{message}");
    hub.finish(Disturbance::None).await;
}
