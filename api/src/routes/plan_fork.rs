//! `POST /v1/plan/{id}/fork`: the same plan once more from a step on; what came before is kept and costs nothing.
//!
//! The specification of the new run says which answers it keeps and where they are; its program asks for every step as
//! ever. Models, conversation and bounds of what is asked anew may be other ones.

use axum::{
    extract::{Path, Request, State},
    response::Response,
};
use serde_json::{Map, Value};
use tokenhub_domain::{
    CascadeCheck, Deltas, Deployment, ErrorClass, EventKeeping, Fork, KeptStep, ModelChoice, Outcome, PlanSpec, Role,
    RunContext, RunId, StepId, StepRecord, Text, VoteMethod, limits,
};
use tokenhub_store::RunRow;

use super::{
    Answers,
    entry::{self, Entry},
    plan::answer_job,
    plan_later::find,
    plan_spec::counted_as,
    run_request::{self, Naming},
};
use crate::{
    dispatch::{self, Readback},
    durability::{self, Delivery},
    error::{Problem, Shape},
    parse::{self, Fields, RunBounds, model_name, plan},
    state::{Gate, Models, Runner},
};

const FROM_STEP: &str = "from_step";
const FIELDS: [&str; 9] =
    [FROM_STEP, "model", "judge_model", "messages", "bounds", "background", "wait_ms", "stream", plan::DELTAS];

/// Runs a plan again from a step on.
pub(super) async fn create(
    State(gate): State<Gate>,
    State(models): State<Models>,
    State(runner): State<Runner>,
    Path(id): Path<String>,
    request: Request,
) -> Response {
    let forked = fork(&gate, &models, &runner, &id, request).await;
    forked.unwrap_or_else(|problem| problem.into_response(Shape::Problem))
}

async fn fork(gate: &Gate, models: &Models, runner: &Runner, id: &str, request: Request) -> Result<Response, Problem> {
    let entry = entry::enter(gate, request, limits::PLAN_BODY_BYTES).await?;
    let body = parse::object(&entry.body)?;
    Fields::top(&body).only(&FIELDS)?;
    let hearing = plan::hearing(&body)?;
    let (bounds, deltas) = (RunBounds::of(&body)?, plan::deltas(&body)?);
    let wish = durability::wish(&entry.headers, Delivery::Whole)?;
    let identity = entry.identity()?;
    let row = find(runner, &entry.caller, id).await?;
    if !row.run_id.is_plan() {
        return Err(Problem::invalid("id", "is no plan: only runs of POST /v1/plan are forked"));
    }
    let Some(outcome) = dispatch::outcome_of(&row)? else { return Err(Problem::RunNotFinished { id: id.to_owned() }) };
    let mut spec: PlanSpec = serde_json::from_str(&row.spec_json).map_err(|_| Problem::Internal)?;
    let fork = keeping(&row, &spec, &outcome, from_step(&body)?)?;
    converse(runner, &row, &mut spec, &body).await?;
    renew(models, &entry, &mut spec, fork);
    bounds.change(spec.base_mut());
    let base = spec.base_mut();
    base.run.deltas = deltas.unwrap_or(base.run.deltas);
    bounds.check(base.run.deltas)?;
    if base.run.deltas == Deltas::None {
        // What the run had was for its deltas.
        base.first_token_timeout_ms = None;
    }
    name_models(models, &entry, &mut spec, &body)?;
    let counted = counted_as(spec.kind());
    let job = entry.job(spec, wish, identity, Readback::Promised);
    let mut response = answer_job(runner, job, hearing).await;
    response.extensions_mut().insert(Answers(counted));
    Ok(response)
}

fn from_step(body: &Map<String, Value>) -> Result<&str, Problem> {
    match body.get(FROM_STEP) {
        None | Some(Value::Null) => Err(Problem::MissingField { param: FROM_STEP.to_owned() }),
        Some(Value::String(step)) => Ok(step),
        Some(_) => Err(Problem::invalid(FROM_STEP, "must be the id of a step")),
    }
}

/// What the new run keeps: every answer of the steps before `from_step`, in the order of the plan object.
fn keeping(row: &RunRow, spec: &PlanSpec, outcome: &Outcome, from_step: &str) -> Result<Fork, Problem> {
    let place = outcome.steps.iter().position(|step| step.id.as_str() == from_step).ok_or_else(|| {
        let ids: Vec<&str> = outcome.steps.iter().map(|step| step.id.as_str()).collect();
        Problem::invalid(FROM_STEP, format!("must be one of the plan's steps: {}", ids.join(", ")))
    })?;
    let earlier = spec.base().fork.as_ref();
    let mut kept = Vec::new();
    // A run that was ended from outside does not list what it had kept itself.
    let is_listed = |kept: &KeptStep| outcome.steps.iter().any(|step| step.id == kept.step);
    let mut is_whole = earlier.is_none_or(|fork| fork.kept.iter().all(is_listed));
    for step in outcome.steps.iter().take(place) {
        // What was said about answers that are asked for anew says nothing of the new ones.
        let answer = if is_whole || !depends_on_others(step.role) { kept_step(row, earlier, step) } else { None };
        is_whole &= answer.is_some();
        kept.extend(answer);
    }
    let order_of = earlier.map_or(&row.run_id, |fork| &fork.order_of).clone();
    Ok(Fork { of: row.run_id.clone(), order_of, from_step: StepId::from(from_step), kept })
}

/// An answer that was paid for. One that could not be used was all the same.
fn kept_step(row: &RunRow, earlier: Option<&Fork>, step: &StepRecord) -> Option<KeptStep> {
    let is_answered = matches!(step.error_class, None | Some(ErrorClass::BadOutput));
    if let Some(before) = earlier.and_then(|fork| fork.of_step(&step.id)).filter(|_| is_answered) {
        return Some(before.clone());
    }
    let deployment = Deployment::new(step.model.clone()?, step.provider.clone()?);
    (is_answered && step.attempts > 0).then(|| KeptStep {
        step: step.id.clone(),
        run_id: row.run_id.clone(),
        deployment,
    })
}

/// Whether a step reads what others wrote.
fn depends_on_others(role: Role) -> bool {
    match role {
        Role::Critic | Role::Reviser | Role::Judge | Role::Refiner | Role::Writer => true,
        Role::Answer | Role::Planner | Role::Voter | Role::Candidate => false,
    }
}

/// Another conversation for what is asked anew.
async fn converse(
    runner: &Runner,
    row: &RunRow,
    spec: &mut PlanSpec,
    body: &Map<String, Value>,
) -> Result<(), Problem> {
    let Some(messages) = body.get("messages").filter(|messages| !messages.is_null()) else { return Ok(()) };
    parse::check_messages(Some(messages), "messages")?;
    let base = spec.base_mut();
    let original = runner.world.store.contents().load(&row.tenant, &base.original).await.map_err(|error| {
        tracing::error!(error = &error as &dyn std::error::Error, "the request of a plan could not be loaded");
        Problem::StoreAway
    })?;
    let mut request: Map<String, Value> = serde_json::from_str(&original).map_err(|_| Problem::Internal)?;
    request.insert("messages".to_owned(), messages.clone());
    base.estimated_input_tokens = parse::estimated_input_tokens(&request);
    base.original = Text::Inline(Value::Object(request).to_string());
    Ok(())
}

/// A run of its own, by whoever asks for it now.
fn renew(models: &Models, entry: &Entry, spec: &mut PlanSpec, fork: Fork) {
    let base = spec.base_mut();
    base.fork = Some(fork);
    base.run = RunContext {
        run_id: RunId::generate_plan(),
        kind: base.run.kind,
        tenant: entry.caller.tenant.clone(),
        principal: entry.caller.principal.clone(),
        api_key_id: entry.caller.api_key_id.clone(),
        request_id: entry.request_id.clone(),
        config_version: models.world.catalogue.load().version,
        events: EventKeeping::Kept,
        labels: std::mem::take(&mut base.run.labels),
        share: entry.caller.share,
        deltas: base.run.deltas,
    };
}

/// Other models for what is asked anew; without a name those of the first run, or routing.
fn name_models(models: &Models, entry: &Entry, spec: &mut PlanSpec, body: &Map<String, Value>) -> Result<(), Problem> {
    let base = spec.base().clone();
    let catalogue = models.world.catalogue.load_full();
    let named = |param: &'static str| -> Result<Option<ModelChoice>, Problem> {
        let name = model_name(body.get(param), param)?;
        let naming = Naming { param, name: name.as_deref(), ..Naming::default() };
        run_request::named_model(&catalogue, entry, &base, naming)
    };
    let (author, judge) = (named("model")?, named("judge_model")?);
    let (author_place, judge_place) = match spec {
        PlanSpec::Chat(spec) => (Some(&mut spec.model), None),
        PlanSpec::Adversarial(spec) => {
            (Some(&mut spec.primary_model), (!spec.return_plan_only).then_some(&mut spec.review_model))
        }
        PlanSpec::Vote(spec) => (None, (spec.method == VoteMethod::Judge).then_some(&mut spec.judge_model)),
        PlanSpec::Refine(spec) => (Some(&mut spec.primary_model), None),
        PlanSpec::BestOfN(spec) => {
            // Authors that are named one by one leave nobody to be replaced.
            (spec.models.is_empty().then_some(&mut spec.primary_model), Some(&mut spec.judge_model))
        }
        PlanSpec::Cascade(spec) => (None, (spec.check == CascadeCheck::Judge).then_some(&mut spec.judge_model)),
        PlanSpec::Fuse(spec) => (Some(&mut spec.writer_model), Some(&mut spec.judge_model)),
    };
    put("model", author, author_place)?;
    put("judge_model", judge, judge_place)
}

fn put(
    param: &'static str,
    named: Option<ModelChoice>,
    place: Option<&mut Option<ModelChoice>>,
) -> Result<(), Problem> {
    match (named, place) {
        (None, _) => Ok(()),
        (Some(_), None) => Err(Problem::invalid(param, "is none that this plan's strategy has")),
        (named @ Some(_), Some(place)) => {
            *place = named;
            Ok(())
        }
    }
}
