//! `GET /admin/v1/requests/{id}/explain`: why a request went where it went, from what was kept when it did.
//!
//! The id is that of the request or of its run, whoever's it is. Nothing is decided again here. What is still on its way to the database,
//! a fraction of a second, is not shown.

use axum::{
    Json,
    extract::{Path, State},
    http::HeaderMap,
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use tokenhub_domain::RunId;
use tokenhub_routing::{Considered, Decision};
use tokenhub_store::{LedgerRow, RequestLogRow, StoreError};

use crate::{error::Problem, render::time, state::Admin};

/// Everything that is known of one request.
pub(super) async fn explain(State(admin): State<Admin>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    explained(&admin, &id, &headers)
        .await
        .map_or_else(Problem::into_admin_response, |object| Json(object).into_response())
}

async fn explained(admin: &Admin, id: &str, headers: &HeaderMap) -> Result<Value, Problem> {
    admin.token.load().check(headers)?;
    let away = |error: StoreError| {
        tracing::error!(error = &error as &dyn std::error::Error, id, "a request could not be explained");
        Problem::StoreAway
    };
    let store = &admin.world.store;
    let tenants = store.tenants().await.map_err(away)?;
    let mut lines = Vec::new();
    for tenant in &tenants {
        lines.extend(store.request_log().about(tenant, id).await.map_err(away)?);
    }
    let mut ids: Vec<RunId> = lines.iter().map(|line| line.run.run_id.clone()).collect();
    if ids.is_empty() {
        // A run that goes on has no line yet.
        ids.push(RunId::from(id));
    }
    ids.dedup();
    let decisions = store.decisions().of_runs(&ids).await.map_err(away)?;
    let mut runs = Vec::with_capacity(ids.len());
    for run in &ids {
        let decisions = decisions.get(run);
        let line = lines.iter().find(|line| &line.run.run_id == run);
        let mut attempts = Vec::new();
        for tenant in tenants.iter().filter(|tenant| line.is_none_or(|line| &line.run.tenant == *tenant)) {
            attempts.extend(store.ledger_rows().of_run(tenant, run).await.map_err(away)?);
        }
        if line.is_some() || decisions.is_some() || !attempts.is_empty() {
            runs.push(shown_run(run, line, decisions.map(String::as_str), &attempts));
        }
    }
    if runs.is_empty() {
        return Err(Problem::NoSuchRun { id: id.to_owned() });
    }
    Ok(json!({"id": id, "runs": runs}))
}

fn shown_run(run: &RunId, line: Option<&RequestLogRow>, decisions: Option<&str>, attempts: &[LedgerRow]) -> Value {
    // What another version has kept in another form is not shown.
    let decisions: Vec<Decision> = decisions.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    json!({
        "run_id": run,
        "outcome": line.map(shown_line),
        "decisions": decisions.iter().map(shown_decision).collect::<Vec<_>>(),
        "attempts": attempts.iter().map(shown_attempt).collect::<Vec<_>>(),
    })
}

fn shown_line(line: &RequestLogRow) -> Value {
    json!({
        "request_id": line.run.request_id,
        "tenant": line.run.tenant,
        "principal": line.run.principal,
        "api_key_id": line.run.api_key_id,
        "kind": line.run.kind.as_str(),
        "status": line.status.as_str(),
        "stop_reason": line.stop_reason,
        "error_class": line.error_class.map(tokenhub_domain::ErrorClass::as_str),
        "model_id": line.model,
        "provider_id": line.provider,
        "durability": line.durability.as_str(),
        "calls": line.usage.calls,
        "duplicate_calls": line.usage.duplicate_calls,
        "input_tokens": line.usage.input_tokens,
        "output_tokens": line.usage.output_tokens,
        "cost_usd": line.usage.cost.as_usd(),
        "latency_ms": line.latency_ms,
        "config_version": line.run.config_version,
        "ended_at": time(line.created_at),
    })
}

fn shown_decision(decision: &Decision) -> Value {
    let mut object = json!({
        "mode": decision.wish.profile.as_str(),
        "wished": decision.wish.model,
        "alias_from": decision.wish.model.as_ref().and_then(|choice| choice.alias.as_ref()),
        "needs": decision.wish.needs,
        "min_weight": decision.wish.min_weight.max(decision.policy.min_weight),
        "max_budget_usd": decision.policy.max_budget.map(tokenhub_domain::NanoDollars::as_usd),
        "estimated_input_tokens": decision.estimated_input_tokens,
        "estimated_output_tokens": decision.estimated_output_tokens,
        "temperature": decision.temperature,
        "seed": decision.seed,
        "config_version": decision.config_version,
    });
    if let Some(fields) = object.as_object_mut() {
        fields.extend(shown_choice(decision));
    }
    object
}

/// Whom a request would be sent to, in this order, with what made the order; and whom not, and why.
pub(super) fn shown_choice(decision: &Decision) -> [(String, Value); 4] {
    let candidates: Vec<Value> =
        decision.candidates.iter().enumerate().map(|(rank, candidate)| shown_candidate(rank, candidate)).collect();
    let left_out = decision.left_out.iter();
    let left_out: Vec<Value> =
        left_out.map(|it| json!({"model_id": it.model, "provider_id": it.provider, "reason": it.reason})).collect();
    [
        ("eligible".to_owned(), candidates.into()),
        ("skipped".to_owned(), left_out.into()),
        ("total".to_owned(), decision.candidates_total.into()),
        ("skipped_total".to_owned(), decision.left_out_total.into()),
    ]
}

fn shown_candidate(rank: usize, candidate: &Considered) -> Value {
    json!({
        "rank": rank,
        "selected": rank == 0,
        "model_id": candidate.deployment.model,
        "provider_id": candidate.deployment.provider,
        "credential": Some(&candidate.deployment.credential).filter(|credential| !credential.is_empty()),
        "estimated_cost_usd": candidate.estimated_cost.as_usd(),
        "weight": candidate.weight,
        "max_context_tokens": candidate.max_context_tokens,
        "score": candidate.parts.total(),
        "parts": candidate.parts,
    })
}

fn shown_attempt(row: &LedgerRow) -> Value {
    json!({
        "attempt_id": row.attempt,
        "step": row.step,
        "role": row.role.as_str(),
        "model_id": row.model,
        "provider_id": row.provider,
        "state": row.state.as_str(),
        "status_code": row.status_code,
        "error_class": row.error_class.map(tokenhub_domain::ErrorClass::as_str),
        "finish_reason": row.finish_reason,
        "wasted": matches!(row.waste, Some(tokenhub_store::Waste::Wasted)),
        "input_tokens": row.input_tokens,
        "output_tokens": row.output_tokens,
        "estimated_cost_usd": row.estimated_cost.as_usd(),
        "cost_usd": row.cost.as_usd(),
        "latency_ms": row.latency_ms,
        "sent_at": row.sent_at.and_then(time),
        "finished_at": row.finished_at.and_then(time),
    })
}
