//! The same request gives the same result through Temporal and in process.
//!
//! Owns the comparison. A case is a request, the script of its provider and what both results must say; the tables are in
//! the modules below. Every case runs with durability and without, against a script that starts afresh each time, and
//! status, headers, result object and the provider's calls, bodies included, must be equal. All cases of a table share
//! one installation: a tag in the prompt tells whose call is whose.

mod ballots;
mod cases;
mod checked;
mod sequences;
mod singles;
mod stages;

use std::{collections::BTreeMap, panic::AssertUnwindSafe};

use futures_util::{FutureExt, StreamExt, future::ready, stream};
use reqwest::Method;
use serde_json::{Map, Value};

use crate::{
    harness::{Answer, Disturbance, TestHub, exchange, model},
    verifier::Verifier,
};
use cases::Case;

/// Cases at once: most of their time is backoff.
const AT_ONCE: usize = 10;
/// Headers that name the run, the moment or the executor.
const VOLATILE_HEADERS: [&str; 8] = [
    "date",
    "openai-processing-ms",
    "content-length",
    "x-request-id",
    "x-tokenhub-request-id",
    "x-tokenhub-run-id",
    "x-tokenhub-workflow-id",
    "x-tokenhub-durability",
];
/// Members that name the run or the executor; a step's latency goes with them.
const VOLATILE_MEMBERS: [&str; 3] = ["id", "links", "durable"];

/// What the API tells about a run, with whatever cannot depend on who carried it.
#[derive(Debug, PartialEq)]
struct Observed {
    status: u16,
    headers: BTreeMap<String, String>,
    result: Value,
    /// Model and body of every call, sorted, because parallel steps have no order.
    calls: Vec<(String, String)>,
}

/// How a run is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// The default: a workflow.
    Temporal,
    /// In process.
    InProcess,
    /// In process with a row in the database, which a chat has only when it can be asked for again.
    InProcessWithRow,
}

impl Way {
    fn headers(self, case: &Case) -> Vec<(&'static str, String)> {
        let none = ("x-tokenhub-durability", "none".to_owned());
        match self {
            Self::Temporal => Vec::new(),
            Self::InProcess => vec![none],
            Self::InProcessWithRow => vec![none, ("idempotency-key", case.name.to_owned())],
        }
    }

    fn mark(self) -> &'static str {
        match self {
            Self::Temporal => "durable",
            Self::InProcess | Self::InProcessWithRow => "none",
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn single_answers_are_the_same_in_both_executors() {
    all_agree(singles::cases()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn plans_and_refinements_are_the_same_in_both_executors() {
    all_agree(sequences::cases()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn votes_and_best_of_n_are_the_same_in_both_executors() {
    all_agree(ballots::cases()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cascades_fusions_and_pairs_are_the_same_in_both_executors() {
    all_agree(stages::cases()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn checks_from_outside_are_the_same_in_both_executors() {
    let verifier = Verifier::start([]).await;
    all_agree(checked::cases(&verifier.check())).await;
}

/// alpha, beta and gamma are the voters; delta is cheap, small and of little weight: the judge, and first only when
/// costs rule. Cases share the models, so that what one of them does to a model must not change the next: no penalties, no signals.
async fn all_agree(cases: Vec<Case>) {
    let mut delta = model("delta", 1);
    delta["max_context_tokens"] = cases::DELTA_WINDOW_TOKENS.into();
    delta["input_per_1k"] = 0.0006.into();
    delta["output_per_1k"] = 0.0012.into();
    let models = vec![model("alpha", 7), model("beta", 6), model("gamma", 5), delta];
    let hub = TestHub::builder()
        .models(models)
        .environment("TOKENHUB_START_DEADLINE_MS", "15000")
        .environment("TOKENHUB_PENALTIES", "false")
        .environment("TOKENHUB_VERIFIER_HOSTS", "127.0.0.1")
        .environment("TOKENHUB_LIVE_SIGNALS", "false")
        .start()
        .await;
    let names: Vec<&str> = cases.iter().map(|case| case.name).collect();
    assert!(names.iter().all(|name| names.iter().filter(|other| *other == name).count() == 1), "{names:?}");
    // A case that fails leaves the others their say: what failed is a pattern more often than not.
    let hub_of_all = &hub;
    let agreed = stream::iter(&cases)
        .map(|case| AssertUnwindSafe(agree(hub_of_all, case)).catch_unwind().map(|agreed| (case.name, agreed)))
        .buffer_unordered(AT_ONCE);
    let failed: Vec<&str> = agreed.filter_map(|(name, agreed)| ready(agreed.is_err().then_some(name))).collect().await;
    assert!(failed.is_empty(), "{failed:?} failed, for the reasons above");
    hub.finish(Disturbance::None).await;
}

async fn agree(hub: &TestHub, case: &Case) {
    let durable = observe(hub, case, Way::Temporal).await;
    case.check(durable.status, &durable.result, &durable.calls);
    let in_process = observe(hub, case, Way::InProcess).await;
    assert_same(case, &durable, &in_process);
    if case.path != "/v1/plan" {
        let with_row = observe(hub, case, Way::InProcessWithRow).await;
        assert_same(case, &durable, &with_row);
    }
}

fn assert_same(case: &Case, durable: &Observed, in_process: &Observed) {
    let shown = |observed: &Observed| serde_json::to_string_pretty(&observed.result).unwrap();
    assert_eq!(durable.result, in_process.result, "{}:\n{}\n{}", case.name, shown(durable), shown(in_process));
    assert_eq!(durable, in_process, "{}", case.name);
}

async fn observe(hub: &TestHub, case: &Case, way: Way) -> Observed {
    let before = calls_of(hub, case).len();
    for rule in case.rules() {
        hub.provider.script(rule);
    }
    let mut request = hub.request(Method::POST, case.path).json(&case.body);
    for (name, value) in way.headers(case) {
        request = request.header(name, value);
    }
    let answer = exchange(request).await.unwrap();
    assert_eq!(answer.header("x-tokenhub-durability"), way.mark(), "{}: {}", case.name, answer.text);
    let mut calls = calls_of(hub, case).split_off(before);
    calls.sort();
    if case.path == "/v1/plan" {
        assert_sums(case, &answer.body, calls.len());
        assert_readable(hub, case, &answer).await;
    }
    let headers = answer
        .headers
        .iter()
        .map(|(name, value)| (name.as_str().to_owned(), value.to_str().unwrap().to_owned()))
        .filter(|(name, _)| !VOLATILE_HEADERS.contains(&name.as_str()))
        .collect();
    let result = if case.path == "/v1/plan" { comparable(answer.body) } else { answer.body };
    Observed { status: answer.status.as_u16(), headers, result, calls }
}

/// Model and body of the case's calls, in order of arrival.
fn calls_of(hub: &TestHub, case: &Case) -> Vec<(String, String)> {
    let tag = case.tag();
    let calls = hub.provider.calls().into_iter();
    let texts = calls.map(|call| (call.model, comparable_body(call.body).to_string()));
    texts.filter(|(_, body)| body.contains(&tag)).collect()
}

/// The answers before a judge or a writer are in an order of the run's own: their lines are sorted.
fn comparable_body(mut body: Value) -> Value {
    let shown = ["impartial judge", "impartial analyst", "You get several answers"];
    let has_several = |message: &Value| {
        message["content"].as_str().is_some_and(|text| shown.iter().any(|words| text.contains(words)))
    };
    let is_judged = body["messages"].as_array().is_some_and(|messages| messages.iter().any(has_several));
    let last = body["messages"].as_array_mut().and_then(|messages| messages.last_mut());
    if let Some(last) = last.filter(|_| is_judged) {
        let mut lines: Vec<&str> = last["content"].as_str().unwrap().lines().collect();
        lines.sort_unstable();
        last["content"] = lines.join("\n").into();
    }
    body
}

/// A result without names and times.
fn comparable(mut result: Value) -> Value {
    if let Some(object) = result.as_object_mut() {
        for member in VOLATILE_MEMBERS {
            object.remove(member);
        }
    }
    for step in result["steps"].as_array_mut().into_iter().flatten() {
        step.as_object_mut().unwrap().remove("latency_ms").unwrap();
    }
    without_times(result)
}

/// "within 1980 ms" tells how much time was left, which no two runs have alike.
fn without_times(value: Value) -> Value {
    match value {
        Value::String(text) if text.contains(" did not end within ") => {
            text.split(" within ").next().unwrap_or_default().into()
        }
        Value::Array(items) => items.into_iter().map(without_times).collect(),
        Value::Object(object) => object.into_iter().map(|(name, value)| (name, without_times(value))).collect(),
        other @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => other,
    }
}

/// Usage is the sum over the steps, and its calls are those that the provider saw.
fn assert_sums(case: &Case, result: &Value, calls_seen: usize) {
    let steps = result["steps"].as_array().unwrap_or_else(|| panic!("{}: no steps in {result}", case.name));
    let sum = |member: &str| steps.iter().map(|step| step[member].as_u64().unwrap()).sum::<u64>();
    let usage = &result["usage"];
    assert_eq!(usage["calls"], calls_seen, "{}: {result}", case.name);
    assert_eq!(usage["calls"], sum("attempts"), "{}: {result}", case.name);
    assert_eq!(usage["duplicate_calls"], 0, "{}: {result}", case.name);
    assert_eq!(usage["input_tokens"], sum("input_tokens"), "{}: {result}", case.name);
    assert_eq!(usage["output_tokens"], sum("output_tokens"), "{}: {result}", case.name);
    let cost: f64 = steps.iter().map(|step| step["cost_usd"].as_f64().unwrap()).sum();
    assert!((usage["cost_usd"].as_f64().unwrap() - cost).abs() < 1e-9, "{}: {result}", case.name);
}

/// `GET /v1/plan/{id}` returns what the POST returned; a failure's document holds the same members.
async fn assert_readable(hub: &TestHub, case: &Case, answer: &Answer) {
    let id = answer.body["id"].as_str().unwrap_or_else(|| panic!("{}: no id in {}", case.name, answer.text));
    let read = hub.get(&format!("/v1/plan/{id}")).await.unwrap().expect(200);
    if answer.status.is_success() {
        assert_eq!(read.body, answer.body, "{}", case.name);
        return;
    }
    let members: &Map<String, Value> = read.body.as_object().unwrap();
    for (name, value) in members.iter().filter(|(name, _)| *name != "status") {
        assert_eq!(answer.body[name], *value, "{}: {name}", case.name);
    }
    assert_eq!(answer.body["run_status"], members["status"], "{}", case.name);
    assert_eq!(answer.body["status"], answer.status.as_u16(), "{}", case.name);
}
