//! `GET /admin/v1/health`: how each provider does, by what calls and probes have shown, in TokenHub's words.

use std::collections::BTreeMap;

use axum::{
    Json,
    extract::State,
    http::HeaderMap,
    response::{IntoResponse, Response},
};
use chrono::{DateTime, SecondsFormat};
use serde_json::{Value, json};
use tokenhub_domain::{CredentialId, Model, Provider, UnixMicros};
use tokenhub_routing::{Observations, Record, Standing};

use super::routing::shown_signal;
use crate::state::Admin;

/// How a deployment does. In the order of how bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Condition {
    Healthy,
    Degraded,
    Down,
}

impl Condition {
    fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Degraded => "degraded",
            Self::Down => "down",
        }
    }
}

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
    let mut worst: Option<Condition> = None;
    let mut best: Option<Condition> = None;
    let shown: Vec<Value> = models
        .iter()
        .map(|model| {
            let (state, until) = state_of(admin, seen, now, provider, model);
            worst = worst.max(Some(state));
            best = Some(best.map_or(state, |best| best.min(state)));
            shown_model(model, seen.of(&provider.id, &model.id), now, state, until)
        })
        .collect();
    // A provider is down when nothing of it is up.
    let state = match (best, worst) {
        (Some(Condition::Down), _) => Condition::Down,
        (_, Some(Condition::Degraded | Condition::Down)) => Condition::Degraded,
        (_, Some(Condition::Healthy) | None) => Condition::Healthy,
    };
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

/// Of several credentials the one that is best off counts: it is the one that is used.
fn state_of(
    admin: &Admin,
    seen: &Observations,
    now: UnixMicros,
    provider: &Provider,
    model: &Model,
) -> (Condition, Option<UnixMicros>) {
    let unnamed = [CredentialId::default()];
    let credentials = if provider.credentials.is_empty() { &unnamed[..] } else { &provider.credentials };
    let mut until: Option<UnixMicros> = None;
    for credential in credentials {
        match admin.world.health.standing(&model.deployment(credential.clone())) {
            Standing::Free | Standing::Probe => {
                let degraded = seen.of(&provider.id, &model.id).is_some_and(|record| record.signal(now).degraded);
                return (if degraded { Condition::Degraded } else { Condition::Healthy }, None);
            }
            Standing::Cooling { ready_at, .. } => until = Some(until.map_or(ready_at, |until| until.min(ready_at))),
        }
    }
    (Condition::Down, until)
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

fn time(at: UnixMicros) -> Option<String> {
    DateTime::from_timestamp_micros(at.0).map(|at| at.to_rfc3339_opts(SecondsFormat::Millis, true))
}
