//! Outcomes as the JSON of each route. Pure: stored texts were loaded before.

mod approval;
mod judge_report;
mod plan;
mod response;
mod signals;

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use chrono::{DateTime, SecondsFormat};
use serde_json::{Map, Value};
use tokenhub_domain::{
    Answer, DurabilityMark, ModelId, Outcome, ProviderId, RunId, RunStatus, StepRecord, StopReason, UnixMicros,
    WorkflowId,
};

use crate::error::{FailedRun, Problem};

pub(crate) use approval::{decision, waiting};
pub(crate) use plan::{Identity, plan_object, unfinished_object, usage, write_labels};
pub(crate) use response::{ResponseRun, response_body};
pub(crate) use signals::write_signals;

const DURABILITY: HeaderName = HeaderName::from_static("x-tokenhub-durability");
const WORKFLOW_ID: HeaderName = HeaderName::from_static("x-tokenhub-workflow-id");
const RUN_ID: HeaderName = HeaderName::from_static("x-tokenhub-run-id");
const MODEL: HeaderName = HeaderName::from_static("x-tokenhub-model");
const PROVIDER: HeaderName = HeaderName::from_static("x-tokenhub-provider");
const COST: HeaderName = HeaderName::from_static("x-tokenhub-cost-usd");
/// What a conversion lost on the way to a provider and back.
const LOSSES: HeaderName = HeaderName::from_static("x-tokenhub-losses");
/// Marks an answer that does not match its schema and was wanted all the same.
const SCHEMA: HeaderName = HeaderName::from_static("x-tokenhub-schema");
/// How the plan behind a chat has ended.
const PLAN_STATUS: HeaderName = HeaderName::from_static("x-tokenhub-plan-status");
/// Marks an answer that was computed for an earlier request.
pub(crate) const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
/// The name under which TokenHub (Go) told the model.
const NEGOTIATED_MODEL: HeaderName = HeaderName::from_static("x-negotiated-model");

/// The alias that was asked for, under the same convention.
const ALIAS_FROM: HeaderName = HeaderName::from_static("x-alias-from");

/// What the headers of an answer tell.
#[derive(Clone, Debug)]
pub(crate) struct RunHeaders<'a> {
    /// The run.
    pub(crate) run_id: &'a RunId,
    /// Its workflow.
    pub(crate) workflow_id: Option<&'a WorkflowId>,
    /// How durable it was.
    pub(crate) mark: DurabilityMark,
}

impl RunHeaders<'_> {
    /// Writes what is known before an outcome.
    pub(crate) fn write(&self, headers: &mut HeaderMap) {
        headers.insert(DURABILITY, HeaderValue::from_static(self.mark.as_str()));
        insert(headers, RUN_ID, self.run_id.as_str());
        if let Some(workflow_id) = self.workflow_id {
            insert(headers, WORKFLOW_ID, workflow_id.as_str());
        }
    }
}

/// Writes what an outcome adds: model, provider, losses, cost.
pub(crate) fn write_outcome(headers: &mut HeaderMap, outcome: &Outcome) {
    if let Some(model) = &outcome.negotiated_model {
        insert(headers, MODEL, model.as_str());
        insert(headers, NEGOTIATED_MODEL, model.as_str());
    }
    if let Some(step) = answering_step(outcome) {
        if let Some(provider) = &step.provider {
            insert(headers, PROVIDER, provider.as_str());
        }
        write_losses(headers, &step.losses);
    }
    if outcome.stop_reason == StopReason::SchemaMismatch {
        headers.insert(SCHEMA, HeaderValue::from_static("mismatch"));
    }
    insert(headers, COST, &format!("{:.9}", outcome.usage.cost.as_usd()));
}

/// Writes how a plan has ended, where its answer alone does not tell.
pub(crate) fn write_plan_status(headers: &mut HeaderMap, outcome: &Outcome) {
    headers.insert(PLAN_STATUS, HeaderValue::from_static(outcome.status.as_str()));
}

/// Writes the deployment of a stream, whose cost is not known yet.
pub(crate) fn write_deployment(headers: &mut HeaderMap, model: &ModelId, provider: &ProviderId) {
    insert(headers, MODEL, model.as_str());
    insert(headers, NEGOTIATED_MODEL, model.as_str());
    insert(headers, PROVIDER, provider.as_str());
}

/// Writes the alias that stood for the model.
pub(crate) fn write_alias(headers: &mut HeaderMap, alias: Option<&ModelId>) {
    if let Some(alias) = alias {
        insert(headers, ALIAS_FROM, alias.as_str());
    }
}

/// Sets a header to a text that may hold characters a header cannot.
pub(crate) fn insert(headers: &mut HeaderMap, name: HeaderName, text: &str) {
    let printable: String = text.chars().map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' }).collect();
    if let Ok(value) = HeaderValue::from_str(&printable) {
        headers.insert(name, value);
    }
}

/// Writes what got lost, when something did.
pub(crate) fn write_losses(headers: &mut HeaderMap, losses: &[String]) {
    if !losses.is_empty() {
        insert(headers, LOSSES, &losses.join(", "));
    }
}

fn answering_step(outcome: &Outcome) -> Option<&StepRecord> {
    outcome.steps.iter().rev().find(|step| step.model == outcome.negotiated_model)
}

/// A time in RFC 3339, to the millisecond; none where the calendar ends.
pub(crate) fn time(at: UnixMicros) -> Option<String> {
    DateTime::from_timestamp_micros(at.0).map(|at| at.to_rfc3339_opts(SecondsFormat::Millis, true))
}

/// The provider's own body, byte for byte, or why there is none.
pub(crate) fn completion_body(outcome: &Outcome) -> Result<String, Problem> {
    match (&outcome.answer, outcome.status) {
        (Some(Answer::Chat { body }), RunStatus::Completed | RunStatus::CompletedPartial) => {
            body.as_inline().map(str::to_owned).ok_or(Problem::Internal)
        }
        (
            None
            | Some(
                Answer::Chat { .. }
                | Answer::Adversarial(_)
                | Answer::Vote(_)
                | Answer::Refine(_)
                | Answer::BestOfN(_)
                | Answer::Cascade(_)
                | Answer::Fuse(_),
            ),
            _,
        ) => Err(failed(outcome, Map::new())),
    }
}

/// TokenHub's four fields.
pub(crate) fn native_object(outcome: &Outcome) -> Result<Map<String, Value>, Problem> {
    let body = completion_body(outcome)?;
    Ok(native_around(outcome, serde_json::from_str(&body).unwrap_or(Value::String(body))))
}

/// The same around a response that is at hand.
pub(crate) fn native_around(outcome: &Outcome, response: Value) -> Map<String, Value> {
    let mut object = plan::four_fields(outcome);
    object.insert("response".to_owned(), response);
    object
}

/// The one text that a program came to, when it came to any.
pub(crate) fn chosen_text(outcome: &Outcome) -> Option<&str> {
    let answer = outcome.answer.as_ref().filter(|answer| !matches!(answer, Answer::Chat { .. }))?;
    answer.main_text()?.as_inline()
}

/// The failure of a run as a problem; `members` go into a problem document.
pub(crate) fn failed(outcome: &Outcome, members: Map<String, Value>) -> Problem {
    Problem::RunFailed(Box::new(FailedRun {
        failure: outcome.failure.clone(),
        stop_reason: outcome.stop_reason,
        members,
    }))
}
