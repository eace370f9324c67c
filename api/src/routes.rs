//! The routes: one file each, all built from the same few parts.

mod chat;
mod chat_completions;
mod entry;
mod health;
mod models;
mod plan;
mod run_request;

use std::{sync::Arc, time::Instant};

use axum::{
    Router,
    extract::{Request, State},
    middleware::{self, Next},
    response::Response,
    routing::{get, post},
};
use tokenhub_telemetry::{Metrics, RequestKind, RequestStatus};
use tower_http::catch_panic::CatchPanicLayer;

use crate::{
    error::{Problem, Shape},
    leftovers, request_id,
    state::AppState,
};

/// Which kind of request a response answers, for the metrics; without it the answer counts as `other`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answers(pub(crate) RequestKind);

/// The whole API.
pub(crate) fn router(state: AppState) -> Router {
    let metrics = Arc::clone(&state.metrics);
    Router::new()
        .route("/v1/chat/completions", post(chat_completions::create))
        .route("/v1/chat", post(chat::create))
        .route("/v1/plan", post(plan::create))
        .route("/v1/plan/{id}", get(plan::show))
        .route("/v1/models", get(models::list))
        .route("/v1/models/{*id}", get(models::show))
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
            Problem::Internal.into_response(Shape::OpenAi)
        }))
        .layer(middleware::from_fn(leftovers::discard))
        .layer(middleware::from_fn_with_state(metrics, count))
        .layer(middleware::from_fn(request_id::stamp))
}

/// What is served while the database is not there: alive, not ready.
pub(crate) fn waiting_router() -> Router {
    Router::new()
        .route("/livez", get(health::live))
        .fallback(
            |request: Request| async move { Problem::StoreAway.into_response(Shape::of_path(request.uri().path())) },
        )
        .layer(middleware::from_fn(request_id::stamp))
}

async fn no_such_route(request: Request) -> Response {
    let path = request.uri().path().to_owned();
    let shape = Shape::of_path(&path);
    Problem::NoSuchRoute { path }.into_response(shape)
}

async fn method_not_allowed(request: Request) -> Response {
    let shape = Shape::of_path(request.uri().path());
    Problem::MethodNotAllowed { method: request.method().to_string() }.into_response(shape)
}

async fn count(State(metrics): State<Arc<Metrics>>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let response = next.run(request).await;
    let kind = response.extensions().get::<Answers>().map_or(RequestKind::Other, |answers| answers.0);
    let status = RequestStatus::of_http(response.status().as_u16());
    metrics.request(kind, status, began.elapsed().as_secs_f64());
    response
}
