//! Health and metrics: open, cheap, and never a reason to call a provider.
//!
//! Temporal being away is reported and never makes the process unready: it serves all the same.

use std::time::Duration;

use axum::{
    Json,
    extract::{RawQuery, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use tokenhub_activities::condition;
use tokenhub_routing::{BreakerState, Condition};
use tokenhub_telemetry::{CONTENT_TYPE, CircuitState, DeploymentCondition};

use crate::state::Health;

/// A database that takes longer is not ready.
const PING_TIMEOUT: Duration = Duration::from_secs(2);

/// The process runs.
pub(super) async fn live() -> Json<Value> {
    Json(json!({"status": "ok"}))
}

/// The process takes requests.
pub(super) async fn ready(State(health): State<Health>) -> Response {
    let report = Report::of(&health).await;
    (report.status_code(), Json(json!({"status": report.status()}))).into_response()
}

/// The same, with the parts on `?verbose`.
pub(super) async fn detail(State(health): State<Health>, RawQuery(query): RawQuery) -> Response {
    let report = Report::of(&health).await;
    let verbose =
        query.is_some_and(|query| query.split('&').any(|part| part == "verbose" || part.starts_with("verbose=")));
    let body = if verbose { report.verbose(&health) } else { json!({"status": report.status()}) };
    (report.status_code(), Json(body)).into_response()
}

/// The numbers of the process.
pub(super) async fn metrics(State(health): State<Health>) -> Response {
    health.metrics.circuit(match health.breaker.snapshot().state {
        BreakerState::Closed => CircuitState::Closed,
        BreakerState::Open => CircuitState::Open,
        BreakerState::HalfOpen => CircuitState::HalfOpen,
    });
    count_conditions(&health);
    health.metrics.runs(health.world.counts.snapshot());
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], health.metrics.render()).into_response()
}

fn count_conditions(health: &Health) {
    let catalogue = health.world.catalogue.load();
    let (seen, now) = health.world.observed.observations();
    let callable = catalogue.models.iter().filter(|model| catalogue.is_callable(model));
    let conditions: Vec<Condition> = callable
        .filter_map(|model| Some((catalogue.provider(&model.provider_id)?, model)))
        .map(|deployment| condition::of_deployment(&health.world, &seen, now, deployment).0)
        .collect();
    for condition in Condition::ALL {
        let state = match condition {
            Condition::Healthy => DeploymentCondition::Healthy,
            Condition::Degraded => DeploymentCondition::Degraded,
            Condition::HalfOpen => DeploymentCondition::HalfOpen,
            Condition::Down => DeploymentCondition::Down,
        };
        health.metrics.deployments(state, conditions.iter().filter(|one| **one == condition).count());
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Database {
    Reachable,
    Away,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Temporal {
    Off,
    Up,
    Away,
}

struct Report {
    database: Database,
    temporal: Temporal,
    draining: bool,
}

impl Report {
    async fn of(health: &Health) -> Self {
        let ping = tokio::time::timeout(PING_TIMEOUT, health.world.store.ping()).await;
        let database = if matches!(ping, Ok(Ok(()))) { Database::Reachable } else { Database::Away };
        let temporal = match &health.link {
            None => Temporal::Off,
            Some(link) if link.connected().is_some() && health.breaker.is_closed() => Temporal::Up,
            Some(_) => Temporal::Away,
        };
        Self { database, temporal, draining: health.draining.has_begun() }
    }

    fn is_ready(&self) -> bool {
        self.database == Database::Reachable && !self.draining
    }

    fn status_code(&self) -> StatusCode {
        if self.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
    }

    fn status(&self) -> &'static str {
        match (self.draining, self.database, self.temporal) {
            (true, _, _) => "draining",
            (false, Database::Away, _) => "unavailable",
            (false, Database::Reachable, Temporal::Away) => "degraded",
            (false, Database::Reachable, Temporal::Off | Temporal::Up) => "ok",
        }
    }

    fn verbose(&self, health: &Health) -> Value {
        let catalogue = health.world.catalogue.load();
        json!({
            "status": self.status(),
            "instance": health.world.instance,
            "version": env!("CARGO_PKG_VERSION"),
            "database": match self.database {
                Database::Reachable => "ok",
                Database::Away => "unavailable",
            },
            "temporal": {
                "configured": health.link.is_some(),
                "address": health.link.as_ref().map(|link| link.settings().address.as_str()),
                "connected": health.link.as_ref().is_some_and(|link| link.connected().is_some()),
                "breaker": health.link.as_ref().map(|_| health.breaker.snapshot()),
            },
            "catalogue": {
                "version": catalogue.version,
                "providers": catalogue.providers.len(),
                "models": catalogue.models.len(),
            },
        })
    }
}
