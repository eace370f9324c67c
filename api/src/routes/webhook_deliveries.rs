//! `/admin/v1/webhooks/deliveries`: which webhooks are on their way, which were given up, and the way to send one again.
//! Those of every tenant.

use axum::{
    Json, Router,
    extract::{Path, Query, State, rejection::QueryRejection},
    http::HeaderMap,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::Deserialize;
use serde_json::{Value, json};
use tokenhub_domain::DeliveryId;
use tokenhub_store::{DeliveryRow, DeliveryState, Redelivery, StoreError, WebhookDeliveries};

use crate::{
    error::Problem,
    render::time,
    state::{Admin, AppState},
    webhooks,
};

/// Webhooks of a page that does not say how many, and of the largest.
const PAGE: u64 = 50;
const PAGE_MAX: u64 = 200;

/// The routes.
pub(super) fn router() -> Router<AppState> {
    Router::new()
        .route("/admin/v1/webhooks/deliveries", get(list))
        .route("/admin/v1/webhooks/deliveries/{id}", get(show))
        .route("/admin/v1/webhooks/deliveries/{id}/redeliver", post(redeliver))
}

/// Which webhooks to list.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Listing {
    state: Option<String>,
    limit: Option<u64>,
    after: Option<String>,
}

async fn list(
    State(admin): State<Admin>,
    listing: Result<Query<Listing>, QueryRejection>,
    headers: HeaderMap,
) -> Response {
    listed(&admin, listing, &headers).await.map_or_else(Problem::into_admin_response, |page| Json(page).into_response())
}

async fn listed(
    admin: &Admin,
    listing: Result<Query<Listing>, QueryRejection>,
    headers: &HeaderMap,
) -> Result<Value, Problem> {
    admin.token.load().check(headers)?;
    let Query(listing) =
        listing.map_err(|_| Problem::invalid("limit", "takes state, limit, a whole number, and after"))?;
    let limit = listing.limit.unwrap_or(PAGE);
    if !(1..=PAGE_MAX).contains(&limit) {
        return Err(Problem::invalid("limit", format!("must be a whole number from 1 to {PAGE_MAX}")));
    }
    let state = match listing.state.as_deref() {
        None | Some("") => None,
        Some(name) => Some(
            DeliveryState::parse(name)
                .ok_or_else(|| Problem::invalid("state", "must be waiting, pending, delivered or dead"))?,
        ),
    };
    let after = listing.after.filter(|id| !id.is_empty()).map(DeliveryId::new);
    // One more than asked for tells whether there are more.
    let rows = deliveries(admin).page(state, after.as_ref(), limit + 1).await;
    let mut rows = rows.map_err(|error| away(&error))?;
    let has_more = rows.len() as u64 > limit;
    rows.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    let data: Vec<Value> = rows.iter().map(shown).collect();
    let last_id = rows.last().map(|row| row.id.as_str());
    Ok(json!({"object": "list", "data": data, "has_more": has_more, "last_id": last_id}))
}

async fn show(State(admin): State<Admin>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    let found = async {
        admin.token.load().check(&headers)?;
        find(&admin, id).await
    };
    found.await.map_or_else(Problem::into_admin_response, |row| Json(shown(&row)).into_response())
}

/// Sends a webhook again, under its id, however it stands.
async fn redeliver(State(admin): State<Admin>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    let redelivered = async {
        admin.token.load().check(&headers)?;
        let delivery = DeliveryId::new(id.clone());
        match deliveries(&admin).redeliver(&delivery, webhooks::now()).await.map_err(|error| away(&error))? {
            Redelivery::Due => {}
            Redelivery::TooEarly => return Err(Problem::DeliveryTooEarly { id }),
            Redelivery::Unknown => return Err(Problem::NoSuchDelivery { id }),
        }
        tracing::info!(webhook = %delivery, "an administrator asked for a webhook once more");
        find(&admin, id).await
    };
    redelivered.await.map_or_else(Problem::into_admin_response, |row| Json(shown(&row)).into_response())
}

async fn find(admin: &Admin, id: String) -> Result<DeliveryRow, Problem> {
    let row = deliveries(admin).get(&DeliveryId::new(id.clone())).await.map_err(|error| away(&error))?;
    row.ok_or(Problem::NoSuchDelivery { id })
}

fn deliveries(admin: &Admin) -> WebhookDeliveries {
    admin.world.store.webhook_deliveries()
}

fn away(error: &StoreError) -> Problem {
    tracing::error!(error = error as &dyn std::error::Error, "the webhooks could not be looked at");
    Problem::StoreAway
}

fn shown(row: &DeliveryRow) -> Value {
    json!({
        "id": row.id,
        "tenant": row.tenant,
        "run_id": row.run_id,
        "url": row.url,
        "events": row.events.iter().map(|event| event.as_str()).collect::<Vec<_>>(),
        "event": row.event.map(tokenhub_domain::PlanEvent::as_str),
        "state": row.state.as_str(),
        "tries": row.tries,
        "next_at": row.next_at.and_then(time),
        "last_status": row.last_status,
        "last_error": row.last_error,
        "created_at": time(row.created_at),
        "delivered_at": row.delivered_at.and_then(time),
    })
}
