//! The routes: one file each, all built from the same few parts.

mod approval_page;
mod catalogue;
mod chat;
mod codec;
mod count_tokens;
mod embeddings;
mod engine_health;
mod entry;
mod events;
mod explain;
mod health;
mod models;
mod open_stream;
mod plan;
mod plan_approval;
mod plan_estimate;
mod plan_events;
mod plan_fork;
mod plan_history;
mod plan_later;
mod plan_signal;
mod plan_spec;
mod plan_steps;
mod plan_templates;
mod previous_response;
mod program;
mod program_answer;
mod program_stream;
mod protocol;
mod provider_health;
mod responses;
mod routing;
mod run_request;
mod template_chat;
mod template_use;
mod webhook_deliveries;

use std::{sync::Arc, time::Instant};

use axum::{
    Router,
    extract::{Request, State},
    middleware::{self, Next},
    response::Response,
    routing::{get, post},
};
use tokenhub_config::Live;
use tokenhub_telemetry::{Metrics, RequestKind, RequestStatus};
use tower_http::catch_panic::CatchPanicLayer;

pub(crate) use codec::PATH as CODEC_PATH;

use crate::{
    cors,
    error::Problem,
    leftovers,
    protocol::{CHAT, MESSAGES, RESPONSES},
    request_id,
    state::AppState,
};

/// Every protocol is served at the root and below both vendors' names, so that a client's base URL can say which form the
/// shared routes have.
const PREFIXES: [&str; 3] = ["", "/openai", "/anthropic"];

/// Which kind of request a response answers, for the metrics; without it the answer counts as `other`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answers(pub(crate) RequestKind);

/// The whole API.
pub(crate) fn router(state: AppState) -> Router {
    let edges = state.clone();
    PREFIXES
        .into_iter()
        .fold(Router::new(), protocol_routes)
        .route("/v1/chat", post(chat::create))
        .route("/v1/plan", post(plan::create).get(plan_later::list))
        .route("/v1/plan/estimate", post(plan_estimate::estimate))
        .route("/v1/plan/{id}", get(plan_later::show))
        .route("/v1/plan/{id}/approval", get(plan_approval::show).post(plan_approval::decide))
        .route("/v1/plan/{id}/signal", post(plan_signal::signal))
        .route("/v1/plan/{id}/cancel", post(plan_signal::cancel))
        .route("/v1/plan/{id}/fork", post(plan_fork::create))
        .route("/v1/plan/{id}/history", get(plan_history::show))
        .route("/v1/plan/{id}/events", get(plan_events::show))
        .route("/v1/plan/{id}/steps", get(plan_steps::list))
        .merge(plan_templates::router())
        .merge(catalogue::router())
        .merge(webhook_deliveries::router())
        .merge(codec::router())
        .route("/admin/v1/engine/models", get(routing::engine_models))
        .route("/admin/v1/events", get(events::watch))
        .route("/admin/v1/health", get(engine_health::list))
        .route("/admin/v1/requests/{id}/explain", get(explain::explain))
        .route("/admin/v1/rewards", get(routing::rewards))
        .route("/admin/v1/routing/simulate", post(routing::simulate))
        .route("/admin/v1/providers/health", get(provider_health::list))
        .route("/admin/v1/providers/{id}/reset", post(provider_health::reset))
        .route("/livez", get(health::live))
        .route("/health/liveliness", get(health::live))
        .route("/health/liveness", get(health::live))
        .route("/readyz", get(health::ready))
        .route("/health/readiness", get(health::ready))
        .route("/healthz", get(health::detail))
        .route("/metrics", get(health::metrics))
        .fallback(no_such_route)
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(state)
        .layer(CatchPanicLayer::custom(|_: Box<dyn std::any::Any + Send>| {
            Problem::Internal.into_response(request_id::shape())
        }))
        .layer(middleware::from_fn_with_state(edges, edge))
}

/// The routes that the official clients know, below `prefix`.
fn protocol_routes(router: Router<AppState>, prefix: &str) -> Router<AppState> {
    let at = |path: &str| format!("{prefix}{path}");
    // Clients ask the root of their base URL whether anybody is there, with and without the slash.
    let router = if prefix.is_empty() { router } else { router.route(prefix, get(health::live)) };
    router
        .route(&at("/"), get(health::live))
        .route(&at("/v1/chat/completions"), protocol::serve(&CHAT))
        .route(&at("/v1/responses"), protocol::serve(&RESPONSES))
        .route(&at("/v1/responses/{id}"), get(responses::show))
        .route(&at("/v1/responses/{id}/cancel"), post(responses::cancel))
        .route(&at("/v1/messages"), protocol::serve(&MESSAGES))
        .route(&at("/v1/messages/count_tokens"), post(count_tokens::count))
        .route(&at("/v1/embeddings"), post(embeddings::create))
        .route(&at("/v1/models"), get(models::list))
        .route(&at("/v1/models/{*id}"), get(models::show))
}

/// What is served while the database is not there: alive, not ready.
pub(crate) fn waiting_router(live: Arc<Live>) -> Router {
    Router::new()
        .route("/livez", get(health::live))
        .fallback(async || Problem::StoreAway.into_response(request_id::shape()))
        .layer(middleware::from_fn_with_state(live, async |State(live): State<Arc<Live>>, request, next: Next| {
            request_id::stamp(request, |request| cors::allow(&live, request, |request| next.run(request))).await
        }))
}

async fn no_such_route(request: Request) -> Response {
    Problem::NoSuchRoute { path: request.uri().path().to_owned() }.into_response(request_id::shape())
}

async fn method_not_allowed(request: Request) -> Response {
    Problem::MethodNotAllowed { method: request.method().to_string() }.into_response(request_id::shape())
}

/// What happens to every request on its way in and out. One layer, because each is a service of its own that is cloned
/// and boxed for every request.
async fn edge(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let (metrics, live) = (&state.0.metrics, &state.0.models.live);
    let carry = |request| leftovers::discard(request, |request| next.run(request));
    let allow = |request| cors::allow(live, request, carry);
    let count = |request| count(metrics, request, allow);
    request_id::stamp(request, count).await
}

async fn count<F: Future<Output = Response>>(
    metrics: &Metrics,
    request: Request,
    next: impl FnOnce(Request) -> F,
) -> Response {
    let began = Instant::now();
    let response = next(request).await;
    let kind = response.extensions().get::<Answers>().map_or(RequestKind::Other, |answers| answers.0);
    let status = RequestStatus::of_http(response.status().as_u16());
    metrics.request(kind, status, began.elapsed().as_secs_f64());
    response
}
