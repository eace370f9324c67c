//! `GET /admin/v1/health`: how each provider does, by what calls and probes have shown, in TokenHub's words.

use std::collections::BTreeMap;

use axum::{
    Json,
    extract::State,
    http::HeaderMap,
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use tokenhub_activities::condition;
use tokenhub_domain::{Model, Provider, UnixMicros};
use tokenhub_routing::{Condition, Observations, Record};

use super::routing::shown_signal;
use crate::{render::time, state::Admin};

/// Every provider with its models.
pub(super) async fn list(State(admin): State<Admin>, headers: HeaderMap) -> Response {
    if let Err(problem) = admin.token.load().check(&headers) {
        return problem.into_admin_response();
    }
    // Without the database this process still knows what it has seen itself.
    if let Err(error) = admin.world.health.refresh().await {
        tracing::warn!(error = &error as &dyn std::error::Error, "the penalties of other processes are not known");
    }
    let catalogue = admin.world.catalogue.load_full();
    let (observations, now) = admin.world.observed.observations();
    let mut by_provider: BTreeMap<&str, Vec<&Model>> = BTreeMap::new();
    for model in &catalogue.models {
        by_provider.entry(model.provider_id.as_str()).or_default().push(model);
    }
    let shown = catalogue.providers.iter().map(|provider| {
        let models = by_provider.get(provider.id.as_str()).map_or(&[][..], Vec::as_slice);
        shown(&admin, &observations, now, provider, models)
    });
    Json(json!({"providers": shown.collect::<Vec<Value>>()})).into_response()
}

fn shown(admin: &Admin, seen: &Observations, now: UnixMicros, provider: &Provider, models: &[&Model]) -> Value {
    let conditions: Vec<_> =
        models.iter().map(|model| condition::of_deployment(&admin.world, seen, now, (provider, model))).collect();
    let state = Condition::of_all(conditions.iter().map(|(state, _)| *state));
    let shown: Vec<Value> = models
        .iter()
        .zip(conditions)
        .map(|(model, (state, until))| shown_model(model, seen.of(&provider.id, &model.id), now, state, until))
        .collect();
    let probe = seen.probe(&provider.id);
    json!({
        "provider_id": provider.id,
        "enabled": provider.enabled,
        "state": state.as_str(),
        "probe": probe.map(|probe| json!({
            "at": time(probe.at), "reached": probe.reached, "latency_ms": probe.latency_ms,
        })),
        "models": shown,
    })
}

fn shown_model(
    model: &Model,
    record: Option<&Record>,
    now: UnixMicros,
    state: Condition,
    until: Option<UnixMicros>,
) -> Value {
    let last_failure = record.and_then(|record| record.last_failure);
    json!({
        "model_id": model.id,
        "state": state.as_str(),
        "total_requests": record.map_or(0, |record| record.total_calls),
        "total_errors": record.map_or(0, |record| record.total_failures),
        "last_error": last_failure.map(|(class, _)| class.as_str()),
        "last_error_time": last_failure.and_then(|(_, at)| time(at)),
        "last_success_at": record.and_then(|record| record.last_success_at).and_then(time),
        "cooldown_until": until.and_then(time),
        "signals": record.map(|record| shown_signal(&record.signal(now))),
    })
}
