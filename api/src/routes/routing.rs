//! `/admin/v1/routing/simulate`, `/admin/v1/engine/models`, `/admin/v1/rewards`: what routing knows, and what it would do
//! with a request. Nothing is called and nothing changes.

use axum::{
    Json,
    extract::{Query, Request, State, rejection::QueryRejection},
    http::HeaderMap,
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokenhub_domain::{
    Candidate, Catalogue, Model, ModelChoice, Policy, RoutingProfile, RunId, SelectRequest, ShortlistWish, limits,
};
use tokenhub_routing::{Asker, Bucket, Decision, Extent, Replayed, Signal, Situation, Temperature};
use tokenhub_store::StoreError;

use super::explain::shown_choice;
use crate::{
    body,
    error::Problem,
    parse::simulation::{self, Simulation},
    state::{Admin, Models},
};

/// Largest page, as in TokenHub (Go).
const PAGE_MAX: usize = 1_000;

/// A part of a list.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub(super) struct Page {
    limit: Option<usize>,
    offset: Option<usize>,
}

/// What would happen to a request.
pub(super) async fn simulate(State(admin): State<Admin>, State(models): State<Models>, request: Request) -> Response {
    simulated(&admin, &models, request)
        .await
        .map_or_else(Problem::into_admin_response, |object| Json(object).into_response())
}

async fn simulated(admin: &Admin, models: &Models, request: Request) -> Result<Value, Problem> {
    let (parts, unread) = request.into_parts();
    admin.token.load().check(&parts.headers)?;
    let asked = simulation::parse(&body::read(&parts.headers, unread, limits::PLAN_BODY_BYTES).await?)?;
    let catalogue = models.world.catalogue.load_full();
    let settings = models.live.settings();
    let profile = asked.profile.unwrap_or(settings.default_profile);
    let max_budget = asked.policy.max_budget.or(settings.default_max_budget);
    let policy = Policy { profile, max_budget, ..asked.policy.clone() };
    let choice = choice(&catalogue, &asked)?;
    let alias = choice.as_ref().and_then(|choice| choice.alias.clone());
    let wish = ShortlistWish { profile, model: choice, min_weight: 0, needs: asked.needs, apart_from: None };
    let select = SelectRequest {
        wishes: Vec::new(),
        estimated_input_tokens: asked.input_tokens,
        estimated_output_tokens: asked.output_tokens,
        policy,
        prefix: None,
    };
    let signals = models.world.observed.signals(&catalogue);
    let temperature = models.world.temperature;
    let situation = Situation { catalogue: &catalogue, signals: &signals, temperature, seed: asked.seed, warm: &[] };
    let ranking = tokenhub_routing::ranking(&situation, &wish, &select);
    let listed = models.world.health.preview(ranking.shortlist());
    let shown = Decision::of(&situation, &wish, &select, &ranking, &listed, Extent::Whole);
    let mut object = json!({
        "decision": listed.candidates.first().map(|first| decision(first, &wish)),
        "mode": profile.as_str(),
        "alias_from": alias,
        "config_version": catalogue.version,
    });
    let replay = match asked.replay {
        Some(last) => Some(("replay".to_owned(), replayed(admin, &situation, profile, last).await?)),
        None => None,
    };
    if let Some(fields) = object.as_object_mut() {
        fields.extend(shown_choice(&shown));
        fields.extend(replay);
    }
    Ok(object)
}

/// What the latest requests would have come to in another mode.
async fn replayed(
    admin: &Admin,
    situation: &Situation<'_>,
    profile: RoutingProfile,
    last: u64,
) -> Result<Value, Problem> {
    let away = |error: StoreError| {
        tracing::error!(error = &error as &dyn std::error::Error, "the latest requests could not be read");
        Problem::StoreAway
    };
    let store = &admin.world.store;
    let mut lines = Vec::new();
    for tenant in store.tenants().await.map_err(away)? {
        lines.extend(store.request_log().list(&tenant, None, last).await.map_err(away)?);
    }
    lines.sort_by_key(|line| std::cmp::Reverse(line.created_at));
    lines.truncate(usize::try_from(last).unwrap_or(usize::MAX));
    let runs: Vec<RunId> = lines.iter().map(|line| line.run.run_id.clone()).collect();
    let kept = store.decisions().of_runs(&runs).await.map_err(away)?;
    let situation = Situation { temperature: Temperature::GREEDY, ..*situation };
    let mut sums = Replayed::default();
    for body in kept.values() {
        let decisions: Vec<Decision> = serde_json::from_str(body).unwrap_or_default();
        for decision in &decisions {
            sums.add(decision, &situation, profile);
        }
        // Other requests are served on this thread.
        tokio::task::yield_now().await;
    }
    #[expect(clippy::cast_precision_loss, reason = "at most a few thousand")]
    let mean = |sum_ms: f64| (sums.timed > 0).then(|| sum_ms / sums.timed as f64);
    Ok(json!({
        "requests": lines.len(),
        "decisions": sums.decisions,
        "moved": sums.moved,
        "unanswered": sums.unanswered,
        "estimated_cost_usd": sums.cost.as_usd(),
        "estimated_cost_then_usd": sums.cost_then.as_usd(),
        "cost_difference_usd": sums.cost_then.as_usd() - sums.cost.as_usd(),
        "mean_latency_ms": mean(sums.latency_ms),
        "mean_latency_then_ms": mean(sums.latency_then_ms),
        "latency_difference_ms": mean(sums.latency_then_ms - sums.latency_ms),
    }))
}

fn choice(catalogue: &Catalogue, asked: &Simulation) -> Result<Option<ModelChoice>, Problem> {
    let caller = Asker { user: asked.user.as_deref(), principal: "", request: "" };
    let name = asked.model.as_deref().unwrap_or_default();
    tokenhub_routing::choose(catalogue, name, &asked.models, caller).map_err(|unknown| Problem::UnknownModel {
        param: if unknown.in_list { "models" } else { "model_hint" },
        model: unknown.name,
    })
}

fn decision(first: &Candidate, wish: &ShortlistWish) -> Value {
    let reason = match &wish.model {
        Some(choice) if choice.target.is(&first.deployment.model, &first.deployment.provider) => "model-named",
        Some(_) => "fallback",
        None => "routed",
    };
    json!({
        "model_id": first.deployment.model,
        "provider_id": first.deployment.provider,
        "estimated_cost_usd": first.estimated_cost.as_usd(),
        "reason": reason,
    })
}

/// Every model with what is known of it.
pub(super) async fn engine_models(
    State(admin): State<Admin>,
    headers: HeaderMap,
    page: Result<Query<Page>, QueryRejection>,
) -> Response {
    if let Err(problem) = admin.token.load().check(&headers) {
        return problem.into_admin_response();
    }
    let (limit, offset) = match range(page, PAGE_MAX) {
        Ok(range) => range,
        Err(problem) => return problem.into_admin_response(),
    };
    let catalogue = admin.world.catalogue.load_full();
    let (observations, now) = admin.world.observed.observations();
    let of = |model: &Model| observations.of(&model.provider_id, &model.id).map(|record| record.signal(now));
    let shown = catalogue.models.iter().skip(offset).take(limit);
    let shown: Vec<Value> = shown.map(|model| engine_model(&catalogue, model, of(model).as_ref())).collect();
    let adapters: Vec<&str> = catalogue.providers.iter().filter(|one| one.enabled).map(|one| one.id.as_str()).collect();
    Json(json!({
        "models": shown,
        "total": catalogue.models.len(),
        "limit": limit,
        "offset": offset,
        "aliases": catalogue.aliases,
        "adapters": adapters,
        "config_version": catalogue.version,
    }))
    .into_response()
}

/// Limit and offset; `usual` without a limit.
pub(super) fn range(page: Result<Query<Page>, QueryRejection>, usual: usize) -> Result<(usize, usize), Problem> {
    let Query(page) = page.map_err(|_| Problem::invalid("limit", "limit and offset must be whole numbers"))?;
    match page.limit {
        Some(limit) if limit == 0 || limit > PAGE_MAX => {
            Err(Problem::invalid("limit", format!("must be a whole number from 1 to {PAGE_MAX}")))
        }
        limit => Ok((limit.unwrap_or(usual), page.offset.unwrap_or(0))),
    }
}

fn engine_model(catalogue: &Catalogue, model: &Model, signal: Option<&Signal>) -> Value {
    let per_thousand = |price: tokenhub_domain::PricePerMillion| price.cost_of(1_000).as_usd();
    json!({
        "id": model.id,
        "provider_id": model.provider_id,
        "weight": model.weight,
        "max_context_tokens": model.max_context_tokens,
        "max_output_tokens": model.max_output_tokens,
        "input_per_1k": per_thousand(model.input_price),
        "output_per_1k": per_thousand(model.output_price),
        "enabled": model.enabled,
        "callable": catalogue.is_callable(model),
        "capabilities": model.capabilities,
        "fallbacks": model.fallbacks,
        "signals": signal.map(shown_signal),
    })
}

/// What selection knows of a deployment.
pub(super) fn shown_signal(signal: &Signal) -> Value {
    json!({
        "avg_latency_ms": signal.whole_ms,
        "avg_first_token_ms": signal.first_token_ms,
        "failure_ratio": signal.failure_ratio,
        "degraded": signal.degraded,
    })
}

/// What Thompson sampling believes, by deployment and size of request.
pub(super) async fn rewards(State(admin): State<Admin>, headers: HeaderMap) -> Response {
    if let Err(problem) = admin.token.load().check(&headers) {
        return problem.into_admin_response();
    }
    let (observations, now) = admin.world.observed.observations();
    let mut rewards: Vec<Value> = Vec::new();
    for (provider, model, record) in observations.iter() {
        let signal = record.signal(now);
        let arms = Bucket::ALL.into_iter().zip(signal.arms).filter(|(_, arm)| arm.calls() > 0.0);
        rewards.extend(arms.map(|(bucket, arm)| {
            let (alpha, beta) = (arm.alpha(), arm.beta());
            let shown = json!({
                "model_id": model,
                "provider_id": provider,
                "token_bucket": bucket.as_str(),
                "alpha": alpha,
                "beta": beta,
                "mean": alpha / (alpha + beta),
                "calls": arm.calls(),
            });
            shown
        }));
    }
    let mut object = Map::new();
    object.insert("total".to_owned(), rewards.len().into());
    object.insert("rewards".to_owned(), rewards.into());
    Json(Value::Object(object)).into_response()
}
