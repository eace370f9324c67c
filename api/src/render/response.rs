//! The Response object of OpenAI's Responses protocol, for runs that are read back.
//!
//! An answer is the provider's own body; of a run without one the object is made here, from what was asked.

use serde_json::{Map, Value, json};
use tokenhub_domain::{Outcome, RunId, RunStatus};

use super::{completion_body, failed};
use crate::error::{Problem, Shape};

/// What an object repeats of its request.
const REPEATED: [&str; 15] = [
    "instructions",
    "max_output_tokens",
    "max_tool_calls",
    "metadata",
    "parallel_tool_calls",
    "previous_response_id",
    "reasoning",
    "service_tier",
    "temperature",
    "text",
    "tool_choice",
    "tools",
    "top_p",
    "truncation",
    "user",
];
/// What a code means to clients of this protocol, which know no others.
const FALLBACK_CODE: &str = "server_error";

/// A run as this protocol's clients see it.
#[derive(Clone, Copy)]
pub(crate) struct ResponseRun<'a> {
    /// The run.
    pub(crate) run_id: &'a RunId,
    /// Whether its id is what the client was given.
    pub(crate) background: bool,
    /// Where it stands.
    pub(crate) status: RunStatus,
    /// When it was asked for, in seconds since 1970.
    pub(crate) created_at_secs: i64,
    /// What was asked.
    pub(crate) request: &'a str,
}

/// The answer of a run that has one, and the state of any other.
pub(crate) fn response_body(run: ResponseRun<'_>, outcome: Option<&Outcome>) -> Result<String, Problem> {
    let answer = outcome.filter(|outcome| outcome.answer.is_some()).map(completion_body).transpose();
    match answer {
        Ok(Some(body)) if run.background => Ok(under_own_id(run.run_id, body)),
        Ok(Some(body)) => Ok(body),
        // What a cancelled run bought before is not shown.
        Ok(None) | Err(Problem::RunFailed(_)) => Ok(Value::Object(without_answer(run, outcome)).to_string()),
        Err(problem) => Err(problem),
    }
}

/// The answer under the id that the client knows. The provider's own is of no use to it.
fn under_own_id(run_id: &RunId, body: String) -> String {
    let Ok(mut object) = serde_json::from_str::<Map<String, Value>>(&body) else { return body };
    object.insert("id".to_owned(), run_id.as_str().into());
    object.insert("background".to_owned(), true.into());
    Value::Object(object).to_string()
}

fn without_answer(run: ResponseRun<'_>, outcome: Option<&Outcome>) -> Map<String, Value> {
    let asked: Map<String, Value> = serde_json::from_str(run.request).unwrap_or_default();
    let mut object = Map::new();
    let mut set = |name: &str, value: Value| object.insert(name.to_owned(), value);
    set("id", run.run_id.as_str().into());
    set("object", "response".into());
    set("created_at", run.created_at_secs.into());
    set("status", status_word(run.status).into());
    set("background", run.background.into());
    set("error", outcome.filter(|_| status_word(run.status) == "failed").map_or(Value::Null, error_of));
    set("incomplete_details", Value::Null);
    set("model", asked.get("model").filter(|model| model.is_string()).cloned().unwrap_or_else(|| "".into()));
    set("output", json!([]));
    set("usage", Value::Null);
    for name in REPEATED {
        let value = asked.get(name).cloned().unwrap_or_else(|| default_of(name));
        object.insert(name.to_owned(), value);
    }
    object
}

fn default_of(name: &str) -> Value {
    match name {
        "metadata" => json!({}),
        "parallel_tool_calls" => true.into(),
        "text" => json!({"format": {"type": "text"}}),
        "tool_choice" => "auto".into(),
        "tools" => json!([]),
        _ => Value::Null,
    }
}

fn status_word(status: RunStatus) -> &'static str {
    match status {
        RunStatus::Pending => "queued",
        RunStatus::Running => "in_progress",
        RunStatus::Completed | RunStatus::CompletedPartial => "completed",
        RunStatus::Failed | RunStatus::BudgetExhausted | RunStatus::DeadlineExceeded => "failed",
        RunStatus::Cancelled => "cancelled",
    }
}

/// Why there is no answer, in the words of a refusal on any other route.
fn error_of(outcome: &Outcome) -> Value {
    let report = failed(outcome, Map::new()).report(Shape::OpenAi);
    json!({"code": report.code.unwrap_or_else(|| FALLBACK_CODE.to_owned()), "message": report.message})
}

#[cfg(test)]
mod tests {
    use tokenhub_domain::{Answer, ErrorClass, ProviderFailure, StopReason, Usage};

    use super::*;

    fn run(run_id: &RunId, status: RunStatus) -> ResponseRun<'_> {
        let request = r#"{"model":"m","input":"hi","background":true,"metadata":{"a":"b"}}"#;
        ResponseRun { run_id, background: true, status, created_at_secs: 7, request }
    }

    fn outcome(status: RunStatus, answer: Option<&str>) -> Outcome {
        Outcome {
            edited: false,
            status,
            stop_reason: StopReason::Answered,
            negotiated_model: None,
            routing_reason: String::new(),
            answer: answer.map(|body| Answer::Chat { body: body.into() }),
            steps: Vec::new(),
            usage: Usage::default(),
            failure: Some(ProviderFailure::of(ErrorClass::RateLimited, "slow down")),
        }
    }

    fn shown(status: RunStatus, outcome: Option<&Outcome>) -> Value {
        let run_id = RunId::from("resp_1");
        serde_json::from_str(&response_body(run(&run_id, status), outcome).unwrap()).unwrap()
    }

    #[test]
    fn an_unfinished_run_repeats_its_request_and_has_no_output() {
        let queued = shown(RunStatus::Pending, None);
        assert_eq!((&queued["id"], &queued["status"]), (&json!("resp_1"), &json!("queued")));
        assert_eq!((&queued["metadata"], &queued["output"]), (&json!({"a": "b"}), &json!([])));
        assert_eq!((&queued["model"], &queued["background"]), (&json!("m"), &json!(true)));
        assert_eq!(shown(RunStatus::Running, None)["status"], "in_progress");
    }

    #[test]
    fn an_answer_in_the_background_has_the_id_that_its_client_knows_and_another_is_not_touched() {
        let body = r#"{"id":"resp_theirs","status":"completed","output":[1]}"#;
        let completed = outcome(RunStatus::Completed, Some(body));
        let answer = shown(RunStatus::Completed, Some(&completed));
        assert_eq!((&answer["id"], &answer["output"]), (&json!("resp_1"), &json!([1])));
        let run_id = RunId::from("run_1");
        let waited_for = ResponseRun { background: false, ..run(&run_id, RunStatus::Completed) };
        assert_eq!(response_body(waited_for, Some(&completed)).unwrap(), body);
    }

    #[test]
    fn a_failure_says_why_and_a_cancelled_run_has_no_error() {
        let failed = shown(RunStatus::Failed, Some(&outcome(RunStatus::Failed, None)));
        assert_eq!((&failed["status"], &failed["error"]["code"]), (&json!("failed"), &json!("rate_limit_exceeded")));
        assert!(failed["error"]["message"].as_str().unwrap().ends_with("slow down"));
        let cancelled = shown(RunStatus::Cancelled, Some(&outcome(RunStatus::Cancelled, None)));
        assert_eq!((&cancelled["status"], &cancelled["error"]), (&json!("cancelled"), &Value::Null));
    }
}
