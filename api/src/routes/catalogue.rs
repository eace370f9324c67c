//! `/admin/v1/providers`, `/admin/v1/models`, `/admin/v1/aliases`: the catalogue as administrators read and change it.
//!
//! A change is against the version that its author has seen (`If-Match`, or `version` in the body), and is refused where
//! it makes no sense with the rest, before anything is stored. What a file says stays below what is stored.

mod changes;
mod shown;

use axum::{
    Json, Router,
    extract::{Path, Query, Request, State, rejection::QueryRejection},
    http::{HeaderMap, HeaderValue, StatusCode, header::ETAG},
    response::{IntoResponse, Response},
    routing::get,
};
use serde::Deserialize;
use serde_json::{Value, json};
use tokenhub_activities::{CatalogueFault, KeptRecord};
use tokenhub_config::{ConfigError, RecordKey, RecordKind};
use tokenhub_domain::{ModelId, limits};

use super::routing::{Page, range};
use crate::{
    body,
    error::{CatalogueRefusal, Problem},
    parse::record,
    state::{Admin, AppState},
};

/// Entries of a page that does not say how many.
const PAGE: usize = 100;

/// The routes.
pub(super) fn router() -> Router<AppState> {
    Router::new()
        .route("/admin/v1/providers", get(providers).post(create_provider))
        .route("/admin/v1/providers/{id}", get(provider).patch(patch_provider).delete(delete_provider))
        .route("/admin/v1/providers/{id}/discover", get(discover))
        .route("/admin/v1/models", get(models).post(create_model))
        .route("/admin/v1/models/{*id}", get(model).patch(patch_model).delete(delete_model))
        .route("/admin/v1/aliases", get(aliases).post(create_alias))
        .route("/admin/v1/aliases/{*name}", get(alias).put(put_alias).patch(patch_alias).delete(delete_alias))
}

/// Which provider's model is meant.
#[derive(Clone, Debug, Default, Deserialize)]
struct At {
    provider: Option<String>,
}

type PageQuery = Result<Query<Page>, QueryRejection>;
type AtQuery = Result<Query<At>, QueryRejection>;

async fn providers(State(admin): State<Admin>, headers: HeaderMap, page: PageQuery) -> Response {
    answer(list(&admin, &headers, RecordKind::Provider, page).await)
}

async fn models(State(admin): State<Admin>, headers: HeaderMap, page: PageQuery) -> Response {
    answer(list(&admin, &headers, RecordKind::Model, page).await)
}

async fn aliases(State(admin): State<Admin>, headers: HeaderMap, page: PageQuery) -> Response {
    answer(list(&admin, &headers, RecordKind::Alias, page).await)
}

async fn create_provider(State(admin): State<Admin>, request: Request) -> Response {
    answer(create(&admin, RecordKind::Provider, request).await)
}

async fn create_model(State(admin): State<Admin>, request: Request) -> Response {
    answer(create(&admin, RecordKind::Model, request).await)
}

async fn create_alias(State(admin): State<Admin>, request: Request) -> Response {
    answer(create(&admin, RecordKind::Alias, request).await)
}

async fn provider(State(admin): State<Admin>, headers: HeaderMap, Path(id): Path<String>) -> Response {
    answer(show(&admin, &headers, RecordKey::named(RecordKind::Provider, id)).await)
}

async fn model(State(admin): State<Admin>, headers: HeaderMap, Path(id): Path<String>, at: AtQuery) -> Response {
    let shown = async { show(&admin, &headers, deployment(&admin, &headers, id, at)?).await };
    answer(shown.await)
}

async fn alias(State(admin): State<Admin>, headers: HeaderMap, Path(name): Path<String>) -> Response {
    answer(show(&admin, &headers, RecordKey::named(RecordKind::Alias, name)).await)
}

async fn patch_provider(State(admin): State<Admin>, Path(id): Path<String>, request: Request) -> Response {
    answer(patch(&admin, RecordKey::named(RecordKind::Provider, id), request).await)
}

async fn patch_model(State(admin): State<Admin>, Path(id): Path<String>, at: AtQuery, request: Request) -> Response {
    let patched = async {
        let key = deployment(&admin, request.headers(), id, at)?;
        patch(&admin, key, request).await
    };
    answer(patched.await)
}

async fn patch_alias(State(admin): State<Admin>, Path(name): Path<String>, request: Request) -> Response {
    answer(patch(&admin, RecordKey::named(RecordKind::Alias, name), request).await)
}

async fn put_alias(State(admin): State<Admin>, Path(name): Path<String>, request: Request) -> Response {
    let put = async {
        let written = written(&admin, RecordKind::Alias, request).await?;
        let key = RecordKey::named(RecordKind::Alias, name);
        changes::replace(&admin, &key, &written).await?;
        entry(&admin, &key, StatusCode::OK).await
    };
    answer(put.await)
}

async fn delete_provider(State(admin): State<Admin>, headers: HeaderMap, Path(id): Path<String>) -> Response {
    answer(delete(&admin, &headers, RecordKey::named(RecordKind::Provider, id)).await)
}

async fn delete_model(State(admin): State<Admin>, headers: HeaderMap, Path(id): Path<String>, at: AtQuery) -> Response {
    let deleted = async { delete(&admin, &headers, deployment(&admin, &headers, id, at)?).await };
    answer(deleted.await)
}

async fn delete_alias(State(admin): State<Admin>, headers: HeaderMap, Path(name): Path<String>) -> Response {
    answer(delete(&admin, &headers, RecordKey::named(RecordKind::Alias, name)).await)
}

/// What the provider lists, and which of it is in the catalogue.
async fn discover(State(admin): State<Admin>, headers: HeaderMap, Path(id): Path<String>) -> Response {
    let discovered = async {
        admin.token.load().check(&headers)?;
        let catalogue = admin.world.catalogue.load_full();
        let unknown = || CatalogueRefusal::NotFound { kind: "provider", id: id.clone() };
        let provider = catalogue.providers.iter().find(|one| one.id.as_str() == id).ok_or_else(unknown)?;
        let listed = admin.world.providers.load_full().list_models(&provider.id).await;
        let listed = listed.map_err(Problem::of_provider)?;
        let is_registered =
            |model: &ModelId| catalogue.models.iter().any(|one| &one.id == model && one.provider_id == provider.id);
        let models: Vec<Value> = listed
            .iter()
            .map(|one| {
                let registered = is_registered(&one.id);
                json!({"id": one.id, "max_context_tokens": one.context_length, "registered": registered})
            })
            .collect();
        Ok(Json(json!({"provider_id": provider.id, "total": models.len(), "models": models})).into_response())
    };
    answer(discovered.await)
}

fn answer(answered: Result<Response, Problem>) -> Response {
    answered.unwrap_or_else(Problem::into_admin_response)
}

async fn list(admin: &Admin, headers: &HeaderMap, kind: RecordKind, page: PageQuery) -> Result<Response, Problem> {
    admin.token.load().check(headers)?;
    let (limit, offset) = range(page, PAGE)?;
    let (_, kept) = admin.curator.kept().await.map_err(problem_of)?;
    let all = shown::all(admin, kind);
    let items: Vec<Value> = all.iter().skip(offset).take(limit).map(|it| it.with_source(admin, &kept)).collect();
    let version = admin.world.catalogue.load().version;
    let total = all.len();
    let page = json!({"items": items, "total": total, "limit": limit, "offset": offset, "config_version": version});
    Ok(Json(page).into_response())
}

async fn create(admin: &Admin, kind: RecordKind, request: Request) -> Result<Response, Problem> {
    let written = written(admin, kind, request).await?;
    let named = |name: &Option<String>, field: &str| {
        name.clone().ok_or_else(|| Problem::MissingField { param: field.to_owned() })
    };
    let mut key = RecordKey::named(kind, named(&written.id, kind.name_field())?);
    if kind == RecordKind::Model {
        key.provider = named(&written.provider, "provider_id")?;
    }
    changes::create(admin, &key, &written).await?;
    entry(admin, &key, StatusCode::CREATED).await
}

async fn show(admin: &Admin, headers: &HeaderMap, key: RecordKey) -> Result<Response, Problem> {
    admin.token.load().check(headers)?;
    entry(admin, &key, StatusCode::OK).await
}

async fn patch(admin: &Admin, key: RecordKey, request: Request) -> Result<Response, Problem> {
    let written = written(admin, key.kind, request).await?;
    for (name, ours, field) in
        [(&written.id, &key.id, key.kind.name_field()), (&written.provider, &key.provider, "provider_id")]
    {
        if name.as_ref().is_some_and(|name| name != ours) {
            return Err(Problem::invalid(field, "cannot be changed: make another entry"));
        }
    }
    changes::patch(admin, &key, &written).await?;
    entry(admin, &key, StatusCode::OK).await
}

async fn delete(admin: &Admin, headers: &HeaderMap, key: RecordKey) -> Result<Response, Problem> {
    admin.token.load().check(headers)?;
    changes::delete(admin, &key, record::version_of(headers)?).await?;
    tracing::info!(entry = ?key, "an administrator took an entry out of the catalogue");
    Ok(Json(json!({"ok": true})).into_response())
}

/// Reads the body of an administrator.
async fn written(admin: &Admin, kind: RecordKind, request: Request) -> Result<record::Written, Problem> {
    let (parts, unread) = request.into_parts();
    admin.token.load().check(&parts.headers)?;
    let bytes = body::read(&parts.headers, unread, limits::PLAN_BODY_BYTES).await?;
    let written = record::parse(kind, &bytes, &parts.headers)?;
    let settings = admin.curator.live().settings();
    match settings.configured.missing_variable(&written.fields) {
        Some(name) => Err(Problem::invalid("api_key_env", format!("the variable {name} is not set in this process"))),
        None => Ok(written),
    }
}

/// The entry as it is now.
async fn entry(admin: &Admin, key: &RecordKey, status: StatusCode) -> Result<Response, Problem> {
    let (_, kept) = admin.curator.kept().await.map_err(problem_of)?;
    let shown = shown::all(admin, key.kind).into_iter().find(|it| &it.key == key).ok_or_else(|| not_found(key))?;
    let mut response = (status, Json(shown.with_source(admin, &kept))).into_response();
    if let Ok(etag) = HeaderValue::from_str(&format!("\"{}\"", version_of(&kept, key))) {
        response.headers_mut().insert(ETAG, etag);
    }
    Ok(response)
}

/// The model `id` at the provider that is meant. Of several one has to be named.
fn deployment(admin: &Admin, headers: &HeaderMap, id: String, at: AtQuery) -> Result<RecordKey, Problem> {
    admin.token.load().check(headers)?;
    let Query(at) = at.map_err(|_| Problem::invalid("provider", "must be the name of a provider"))?;
    if let Some(provider) = at.provider {
        return Ok(RecordKey::model(id, provider));
    }
    let catalogue = admin.world.catalogue.load();
    let serving: Vec<&str> =
        catalogue.models.iter().filter(|one| one.id.as_str() == id).map(|one| one.provider_id.as_str()).collect();
    match serving.as_slice() {
        [] => Err(CatalogueRefusal::NotFound { kind: "model", id }.into()),
        [provider] => Ok(RecordKey::model(id, *provider)),
        [..] => Err(CatalogueRefusal::Ambiguous { id, providers: serving.join(", ") }.into()),
    }
}

fn not_found(key: &RecordKey) -> Problem {
    CatalogueRefusal::NotFound { kind: key.kind.as_str(), id: key.id.clone() }.into()
}

/// 0 is the version of an entry of which nothing is stored.
fn version_of(kept: &[KeptRecord], key: &RecordKey) -> u64 {
    kept.iter().find(|kept| &kept.record.key == key).map_or(0, |kept| kept.version)
}

/// What an administrator is told when the catalogue stays as it is.
fn problem_of(fault: CatalogueFault) -> Problem {
    match fault {
        CatalogueFault::Config(
            ConfigError::BadProvider { field, problem, .. }
            | ConfigError::BadModel { field, problem, .. }
            | ConfigError::BadAlias { field, problem, .. },
        ) => Problem::invalid(field, problem),
        CatalogueFault::Config(ConfigError::ParseProviders { source, .. }) => {
            Problem::invalid("body", source.to_string())
        }
        CatalogueFault::Providers(error) => Problem::invalid("base_url", error.to_string()),
        fault @ (CatalogueFault::Config(_)
        | CatalogueFault::Store(_)
        | CatalogueFault::Outrun
        | CatalogueFault::Seal(_)
        | CatalogueFault::SecretKey(_)
        | CatalogueFault::Stored(_)) => {
            tracing::error!(error = &fault as &dyn std::error::Error, "the catalogue could not be changed");
            Problem::StoreAway
        }
    }
}
