//! `POST /v1/plan/estimate`: what a plan would come to, with no call of any provider.
//!
//! The body is that of `POST /v1/plan`. Selection is as it is now, so another moment may choose other models.

use axum::{
    Json,
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use serde_json::{Map, Value, json};
use tokenhub_activities::rehearsal::{Course, Rehearsal, RehearsedCall, is_limited, rehearse};
use tokenhub_domain::{BOUNDED_OUTPUT_TOKENS, PlanSpec, RunStatus, Use, limits};

use super::{
    entry,
    plan_spec::{kind_of, spec_of},
    template_use,
};
use crate::{
    error::{Problem, Shape},
    render,
    state::{Gate, Models},
    validation,
};

/// Tells what the plan in the body would come to.
pub(super) async fn estimate(State(gate): State<Gate>, State(models): State<Models>, request: Request) -> Response {
    match estimated(&gate, &models, request).await {
        Ok(object) => Json(object).into_response(),
        Err(problem) => problem.into_response(Shape::Problem),
    }
}

async fn estimated(gate: &Gate, models: &Models, request: Request) -> Result<Value, Problem> {
    let entry = entry::enter(gate, request, limits::PLAN_BODY_BYTES).await?;
    let parsed = template_use::plan_of(&models.world, &entry, validation::wish(&entry.headers)?).await?;
    let kind = kind_of(&parsed.program);
    let spec = spec_of(models, &entry, kind, parsed)?;
    let smooth = rehearse(&models.world, spec.clone(), Course::Smooth).await;
    if let Some(outcome) = smooth.outcome.as_ref().filter(|outcome| outcome.status == RunStatus::Failed) {
        return Err(render::failed(outcome, Map::new()));
    }
    let worst = rehearse(&models.world, spec.clone(), Course::Worst).await;
    let exceeded = worst.exceeds(spec.base().bounds).map(|(extent, bound)| extent.field(bound));
    Ok(json!({
        "object": "plan.estimate",
        "kind": kind.as_str(),
        "expected": shown(smooth.sum()),
        "worst_case": shown(worst.with_a_crash()),
        "steps": steps(&smooth, &worst),
        "within_bounds": exceeded.is_none(),
        "first_exceeded": exceeded,
        "assumptions": assumptions(models, &spec, &worst),
        "config_version": models.world.catalogue.load().version,
    }))
}

fn shown(sum: Use) -> Value {
    json!({"calls": sum.calls, "tokens": sum.tokens, "cost_usd": sum.cost.as_usd()})
}

/// Every step of either course, in the order of the worst one, which has them all.
fn steps(smooth: &Rehearsal, worst: &Rehearsal) -> Vec<Value> {
    let mut shown_steps: Vec<Value> = Vec::new();
    let mut ids: Vec<&str> = Vec::new();
    for call in worst.calls.iter().chain(&smooth.calls) {
        if !ids.contains(&call.step.as_str()) {
            ids.push(call.step.as_str());
            shown_steps.push(step(call, smooth, worst));
        }
    }
    shown_steps
}

fn step(call: &RehearsedCall, smooth: &Rehearsal, worst: &Rehearsal) -> Value {
    let of = |rehearsal: &Rehearsal| {
        let own = rehearsal.calls.iter().filter(|other| other.step == call.step);
        own.fold(Use::default(), |sum, other| sum.plus(other.takes))
    };
    let expected = smooth.calls.iter().find(|other| other.step == call.step);
    let first = expected.unwrap_or(call);
    json!({
        "id": call.step,
        "role": call.role.as_str(),
        "model": first.deployment.model,
        "provider": first.deployment.provider,
        "expected": expected.map(|_| shown(of(smooth))),
        "worst_case": shown(of(worst)),
    })
}

fn assumptions(models: &Models, spec: &PlanSpec, worst: &Rehearsal) -> Vec<String> {
    let mut said = vec![
        "expected: every step is answered at its first try by its first model, and every verdict can be read".to_owned(),
        "worst case: every try that the error classes allow is made and paid, no verdict can be read at first, and one \
         crash repeats the dearest call"
            .to_owned(),
    ];
    if !is_limited(&models.world, spec, &worst.calls) {
        said.push(format!(
            "nothing limits the length of some answers; {BOUNDED_OUTPUT_TOKENS} tokens are assumed, which a plan with \
             `bounds` enforces"
        ));
    }
    said
}
