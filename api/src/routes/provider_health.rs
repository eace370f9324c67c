//! `/admin/v1/providers`: which providers are left out and why, and the way to end it.

use axum::{
    Json,
    extract::{Path, State},
    http::HeaderMap,
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use tokenhub_domain::ProviderId;
use tokenhub_routing::{Cooldown, Scope};

use crate::{error::Problem, render::time, state::Admin};

/// Every penalty, and failures on the way to one.
pub(super) async fn list(State(admin): State<Admin>, headers: HeaderMap) -> Response {
    if let Err(problem) = admin.token.load().check(&headers) {
        return problem.into_admin_response();
    }
    // Without the database this process still knows what it has seen itself.
    if let Err(error) = admin.world.health.refresh().await {
        tracing::warn!(error = &error as &dyn std::error::Error, "the penalties of other processes are not known");
    }
    let penalties = admin.world.health.list();
    let data: Vec<Value> = penalties.iter().map(|(scope, cooldown)| shown(scope, cooldown)).collect();
    Json(json!({"object": "list", "data": data})).into_response()
}

/// Ends every penalty of one provider.
pub(super) async fn reset(State(admin): State<Admin>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    reset_of(&admin, id, &headers).await.unwrap_or_else(Problem::into_admin_response)
}

async fn reset_of(admin: &Admin, id: String, headers: &HeaderMap) -> Result<Response, Problem> {
    admin.token.load().check(headers)?;
    let provider = ProviderId::new(id);
    if admin.world.catalogue.load().provider(&provider).is_none() {
        return Err(Problem::NoSuchProvider { id: provider.to_string() });
    }
    let cleared = admin.world.health.reset(&provider).await.map_err(|error| {
        tracing::error!(error = &error as &dyn std::error::Error, %provider, "the penalties could not be cleared");
        Problem::StoreAway
    })?;
    tracing::info!(%provider, cleared, "an administrator cleared the penalties of a provider");
    Ok(Json(json!({"provider": provider, "cleared": cleared})).into_response())
}

fn shown(scope: &Scope, cooldown: &Cooldown) -> Value {
    let (kind, credential, model) = match scope {
        Scope::Provider(_) => ("provider", None, None),
        Scope::Credential(_, credential) => ("credential", Some(credential), None),
        Scope::CredentialModel(_, credential, model) => ("credential_model", Some(credential), Some(model)),
        Scope::Deployment(_, model) => ("deployment", None, Some(model)),
    };
    json!({
        "scope": kind,
        "provider": scope.provider(),
        // A provider with a single credential has no name for it.
        "credential": credential.filter(|credential| !credential.is_empty()),
        "model": model,
        "reason": cooldown.reason,
        "failures": cooldown.failures,
        "is_penalty": cooldown.is_penalty(),
        "ready_at": time(cooldown.ready_at),
        "noted_at": time(cooldown.noted_at),
    })
}
