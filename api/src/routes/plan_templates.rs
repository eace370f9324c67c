//! `/v1/plan/templates`: templates of plans, written and read by those who use them.
//!
//! A version never changes. Who writes the next one may say which one it has seen (`If-Match`), or that there must be none
//! (`If-None-Match: *`); the key of the table decides between two who have seen the same.

use axum::{
    Json, Router,
    extract::{Path, Query, Request, State, rejection::QueryRejection},
    http::{
        HeaderMap, HeaderValue, StatusCode,
        header::{ETAG, IF_MATCH, IF_NONE_MATCH},
    },
    response::{IntoResponse, Response},
    routing::get,
};
use serde::Deserialize;
use serde_json::{Value, json};
use tokenhub_domain::{TemplateName, TenantId, UnixMicros, limits};
use tokenhub_store::{NewTemplate, TemplateLine, TemplateRow, TemplateStanding};

use super::{
    plan_later::page_limit,
    template_use::{self, away, not_found},
};
use crate::{
    body,
    error::{Problem, Shape, TemplateRefusal},
    parse::{
        record::version_of,
        template::{self, Reference, Written},
    },
    render::time,
    state::{AppState, Gate, Models},
    webhooks,
};

/// How often a version without a condition is tried again when others write the same template meanwhile.
const PUT_TRIES: usize = 5;

/// The routes.
pub(super) fn router() -> Router<AppState> {
    Router::new()
        .route("/v1/plan/templates", get(list))
        .route("/v1/plan/templates/{name}", get(show).put(put).delete(hide))
}

/// Which version is meant.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct At {
    version: Option<String>,
}

/// Which templates to list.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Listing {
    limit: Option<String>,
    after: Option<String>,
}

/// What must be so for a change to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Condition {
    None,
    /// The name is free.
    Free,
    /// It is not.
    Taken,
    /// This version is the current one.
    Seen(u64),
}

fn answer(answered: Result<Response, Problem>) -> Response {
    answered.unwrap_or_else(|problem| problem.into_response(Shape::Problem))
}

async fn list(
    State(gate): State<Gate>,
    State(models): State<Models>,
    listing: Result<Query<Listing>, QueryRejection>,
    headers: HeaderMap,
) -> Response {
    let listed = async {
        let caller = gate.key.load().authenticate(&headers)?;
        let Query(listing) = listing.map_err(|_| Problem::invalid("query", "must have each parameter once"))?;
        let limit = page_limit(listing.limit.as_deref())?;
        let after = listing.after.as_deref().filter(|name| !name.is_empty()).map(template::name).transpose();
        let after = after.map_err(|_| Problem::invalid("after", "must be the name of a template"))?;
        let templates = models.world.store.plan_templates();
        // One more than asked for tells whether there are more.
        let lines = templates.page(&caller.tenant, after.as_ref(), limit + 1).await;
        let mut lines = lines.map_err(|error| away(&error))?;
        let has_more = lines.len() as u64 > limit;
        lines.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        let last_id = lines.last().map(|line| line.name.clone());
        let data: Vec<Value> = lines.iter().map(shown).collect();
        let page = json!({"object": "list", "data": data, "has_more": has_more, "last_id": last_id});
        Ok(Json(page).into_response())
    };
    answer(listed.await)
}

async fn show(
    State(gate): State<Gate>,
    State(models): State<Models>,
    Path(name): Path<String>,
    at: Result<Query<At>, QueryRejection>,
    headers: HeaderMap,
) -> Response {
    let shown = async {
        let caller = gate.key.load().authenticate(&headers)?;
        let wrong = || Problem::invalid("version", "must be a whole number from 1");
        let Query(at) = at.map_err(|_| wrong())?;
        let version = at.version.map(|text| template::version(&text).ok_or_else(wrong)).transpose()?;
        let reference = Reference { name: template::name(&name)?, version };
        let row = template_use::row(&models.world, &caller.tenant, &reference).await?;
        whole(&row.ok_or_else(|| not_found(&reference, None))?, StatusCode::OK)
    };
    answer(shown.await)
}

async fn put(
    State(gate): State<Gate>,
    State(models): State<Models>,
    Path(name): Path<String>,
    request: Request,
) -> Response {
    let put = async {
        let (parts, unread) = request.into_parts();
        let caller = gate.key.load().authenticate(&parts.headers)?;
        let name = template::name(&name)?;
        let condition = condition_of(&parts.headers)?;
        let bytes = body::read(&parts.headers, unread, limits::TEMPLATE_BODY_BYTES).await?;
        let written = template::parse(&bytes)?;
        webhooks::accept(&models.live.settings().webhooks, written.example.webhook.clone())?;
        let templates = models.world.store.plan_templates();
        for _ in 0..PUT_TRIES {
            let standing = templates.standing(&caller.tenant, &name).await.map_err(|error| away(&error))?;
            check(&name, &standing, condition)?;
            if let Some(same) = standing.current.as_ref().filter(|current| current.body == written.body) {
                return whole(same, StatusCode::OK);
            }
            check_room(&models, &caller.tenant, &name, &standing).await?;
            let status = if standing.current.is_some() { StatusCode::OK } else { StatusCode::CREATED };
            let (by, at) = ((&caller.tenant, &caller.principal), UnixMicros::from(std::time::SystemTime::now()));
            let is_written = templates.put(by, &name, standing.version, new(&written), at).await;
            if is_written.map_err(|error| away(&error))? {
                return whole(&row_of(&name, standing.version + 1, written, at), status);
            }
        }
        Err(Problem::StoreAway)
    };
    answer(put.await)
}

async fn hide(
    State(gate): State<Gate>,
    State(models): State<Models>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Response {
    let hidden = async {
        let caller = gate.key.load().authenticate(&headers)?;
        let name = template::name(&name)?;
        let condition = condition_of(&headers)?;
        let templates = models.world.store.plan_templates();
        for _ in 0..PUT_TRIES {
            let standing = templates.standing(&caller.tenant, &name).await.map_err(|error| away(&error))?;
            if standing.current.is_none() {
                return Err(not_found(&Reference { name, version: None }, None));
            }
            check(&name, &standing, condition)?;
            let (by, at) = ((&caller.tenant, &caller.principal), UnixMicros::from(std::time::SystemTime::now()));
            if templates.hide(by, &name, standing.version, at).await.map_err(|error| away(&error))? {
                return Ok(StatusCode::NO_CONTENT.into_response());
            }
        }
        Err(Problem::StoreAway)
    };
    answer(hidden.await)
}

fn condition_of(headers: &HeaderMap) -> Result<Condition, Problem> {
    let seen = headers.get(IF_MATCH).map(|_| version_of(headers)).transpose()?;
    match (headers.get(IF_NONE_MATCH).map(HeaderValue::as_bytes), seen) {
        (None, None) => Ok(Condition::None),
        (None, Some(None)) => Ok(Condition::Taken),
        (None, Some(Some(version))) => Ok(Condition::Seen(version)),
        (Some(b"*"), None) => Ok(Condition::Free),
        (Some(_), _) => Err(Problem::InvalidHeader {
            header: "if-none-match",
            reason: "must be `*`, and not stand beside if-match".to_owned(),
        }),
    }
}

fn check(name: &TemplateName, standing: &TemplateStanding, condition: Condition) -> Result<(), Problem> {
    let current = standing.current.as_ref().map_or(0, |current| current.line.version);
    let holds = match condition {
        Condition::None => true,
        Condition::Free => current == 0,
        Condition::Taken => current > 0,
        Condition::Seen(version) => current == version && version > 0,
    };
    if holds { Ok(()) } else { Err(TemplateRefusal::Changed { name: name.clone(), current }.into()) }
}

async fn check_room(
    models: &Models,
    tenant: &TenantId,
    name: &TemplateName,
    standing: &TemplateStanding,
) -> Result<(), Problem> {
    if standing.version >= limits::TEMPLATE_VERSIONS_MAX {
        return Err(TemplateRefusal::TooManyVersions { name: name.clone() }.into());
    }
    if standing.current.is_none() {
        let count = models.world.store.plan_templates().count(tenant).await.map_err(|error| away(&error))?;
        if count >= limits::TEMPLATES_MAX {
            return Err(TemplateRefusal::TooMany.into());
        }
    }
    Ok(())
}

fn new(written: &Written) -> NewTemplate {
    NewTemplate {
        hash: written.hash.clone(),
        description: written.description.clone(),
        strategy: written.strategy.clone(),
        body: written.body.clone(),
    }
}

fn row_of(name: &TemplateName, version: u64, written: Written, created_at: UnixMicros) -> TemplateRow {
    let Written { body, hash, description, strategy, example: _ } = written;
    TemplateRow { line: TemplateLine { name: name.clone(), version, hash, description, strategy, created_at }, body }
}

/// A template with what it says.
fn whole(row: &TemplateRow, status: StatusCode) -> Result<Response, Problem> {
    let body: Value = serde_json::from_str(&row.body).map_err(|_| Problem::Internal)?;
    let mut object = shown(&row.line);
    if let Some(fields) = object.as_object_mut() {
        fields.insert("template".to_owned(), body);
    }
    let mut response = (status, Json(object)).into_response();
    if let Ok(etag) = HeaderValue::from_str(&format!("\"{}\"", row.line.version)) {
        response.headers_mut().insert(ETAG, etag);
    }
    Ok(response)
}

fn shown(line: &TemplateLine) -> Value {
    json!({
        "object": "plan.template",
        "name": line.name,
        "version": line.version,
        "hash": line.hash,
        "description": line.description,
        "strategy": line.strategy,
        "model": format!("{}{}", template::MODEL_PREFIX, line.name),
        "created_at": time(line.created_at),
    })
}
