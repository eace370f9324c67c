//! `GET /v1/models`: what may be asked for, in the form of OpenAI or of Anthropic. Open, as in TokenHub, and the names of
//! models are no secret.

use std::{collections::HashSet, time::Duration};

use axum::{
    Json,
    extract::{Path, Query, State, rejection::QueryRejection},
    http::HeaderMap,
    response::{IntoResponse, Response},
};
use chrono::{DateTime, SecondsFormat};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokenhub_domain::{Alias, Catalogue, Model, ProviderOrigin, limits};
use tokenhub_routing::{Resolved, resolve_model};
use tokenhub_store::TemplateLine;

use crate::{
    error::{Problem, Shape},
    parse::template::MODEL_PREFIX,
    request_id,
    state::{Gate, Models},
};

/// Anthropic's own page size, and the largest it gives.
const PAGE_DEFAULT: usize = 20;
const PAGE_MAX: usize = 1_000;

/// A list waits no longer for the templates.
const TEMPLATES_WAIT: Duration = Duration::from_secs(1);
/// Who serves an alias or a template: ourselves.
const ALIAS_OWNER: &str = "tokenhub";

/// Where a page begins; only Anthropic's list has pages.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Page {
    limit: Option<String>,
    after_id: Option<String>,
    before_id: Option<String>,
}

/// Every model that can be called, once for each name.
pub(super) async fn list(
    State(gate): State<Gate>,
    State(models): State<Models>,
    page: Result<Query<Page>, QueryRejection>,
    headers: HeaderMap,
) -> Response {
    let catalogue = models.world.catalogue.load_full();
    let templates = templates(&gate, &models, &headers).await;
    let offers = offers(&catalogue, &templates);
    let shape = request_id::shape();
    match shape {
        Shape::Anthropic => {
            // A query that cannot be read asks for nothing that we know.
            let page = page.map(|Query(page)| page).unwrap_or_default();
            match anthropic_list(&offers, &page, models.started_at_secs) {
                Ok(list) => Json(list).into_response(),
                Err(problem) => problem.into_response(shape),
            }
        }
        Shape::OpenAi | Shape::Problem | Shape::Native => {
            Json(openai_list(&catalogue, &offers, models.started_at_secs)).into_response()
        }
    }
}

/// One model.
pub(super) async fn show(
    State(gate): State<Gate>,
    State(models): State<Models>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Response {
    let catalogue = models.world.catalogue.load_full();
    let shape = request_id::shape();
    let templates = if id.starts_with(MODEL_PREFIX) { templates(&gate, &models, &headers).await } else { Vec::new() };
    let found = offers(&catalogue, &templates).into_iter().find(|offer| offer.id() == id);
    match (found, shape) {
        (Some(offer), Shape::Anthropic) => Json(anthropic_object(offer, models.started_at_secs)).into_response(),
        (Some(offer), Shape::OpenAi | Shape::Problem | Shape::Native) => {
            Json(object(&catalogue, offer, models.started_at_secs)).into_response()
        }
        (None, _) => Problem::UnknownModel { param: "model", model: id }.into_response(shape),
    }
}

/// A template as a model.
struct OfferedTemplate {
    id: String,
    line: TemplateLine,
}

/// The templates of whoever shows a key: unlike models they are somebody's. A list without them is better than none.
async fn templates(gate: &Gate, models: &Models, headers: &HeaderMap) -> Vec<OfferedTemplate> {
    let Ok(caller) = gate.key.load().authenticate(headers) else { return Vec::new() };
    let templates = models.world.store.plan_templates();
    let read = templates.page(&caller.tenant, None, limits::TEMPLATES_MAX);
    let lines = if let Ok(Ok(lines)) = tokio::time::timeout(TEMPLATES_WAIT, read).await {
        lines
    } else {
        tracing::warn!("templates are missing in a list of models: the database did not serve");
        Vec::new()
    };
    lines.into_iter().map(|line| OfferedTemplate { id: format!("{MODEL_PREFIX}{}", line.name), line }).collect()
}

/// A name that may be asked for.
#[derive(Clone, Copy)]
enum Offer<'a> {
    Model(&'a Model),
    Alias(&'a Alias),
    Template(&'a OfferedTemplate),
}

impl<'a> Offer<'a> {
    fn id(self) -> &'a str {
        match self {
            Self::Model(model) => model.id.as_str(),
            Self::Alias(alias) => alias.name.as_str(),
            Self::Template(template) => &template.id,
        }
    }
}

/// Aliases and templates last, because a client that takes the first model should get one; what another hides is not
/// offered.
fn offers<'a>(catalogue: &'a Catalogue, templates: &'a [OfferedTemplate]) -> Vec<Offer<'a>> {
    let mut seen: HashSet<&str> = HashSet::new();
    let aliases = catalogue.aliases.iter().filter(|alias| alias.enabled);
    seen.extend(aliases.clone().map(|alias| alias.name.as_str()));
    let models = catalogue.models.iter().filter(|model| catalogue.is_callable(model) && seen.insert(model.id.as_str()));
    let mut offers: Vec<Offer<'_>> = models.map(Offer::Model).collect();
    offers.extend(aliases.map(Offer::Alias));
    let is_hidden = |template: &&OfferedTemplate| resolve_model(catalogue, &template.id) != Resolved::Unknown;
    offers.extend(templates.iter().filter(|template| !is_hidden(template)).map(Offer::Template));
    offers
}

fn openai_list(catalogue: &Catalogue, models: &[Offer<'_>], created_at_secs: i64) -> Value {
    let edge = |offer: Option<&Offer<'_>>| offer.map(|offer| offer.id().to_owned());
    let data: Vec<Value> = models.iter().map(|offer| object(catalogue, *offer, created_at_secs)).collect();
    json!({
        "object": "list", "first_id": edge(models.first()), "last_id": edge(models.last()), "has_more": false,
        "data": data,
    })
}

fn anthropic_list(models: &[Offer<'_>], page: &Page, created_at_secs: i64) -> Result<Value, Problem> {
    let limit = match page.limit.as_deref().map(str::parse::<usize>) {
        None => PAGE_DEFAULT,
        Some(Ok(limit)) if (1..=PAGE_MAX).contains(&limit) => limit,
        Some(Ok(_) | Err(_)) => {
            return Err(Problem::invalid("limit", format!("must be a whole number from 1 to {PAGE_MAX}")));
        }
    };
    let place = |param: &str, id: &str| {
        let place = models.iter().position(|offer| offer.id() == id);
        place.ok_or_else(|| Problem::invalid(param, "must be the id of a model in the list"))
    };
    let start = page.after_id.as_deref().map(|id| place("after_id", id)).transpose()?.map_or(0, |index| index + 1);
    let end = page.before_id.as_deref().map(|id| place("before_id", id)).transpose()?.unwrap_or(models.len());
    let wanted = models.get(start..end).unwrap_or_default();
    let excess = wanted.len().saturating_sub(limit);
    // A page before an id ends at it; every other one begins where it was asked to.
    let is_backwards = page.before_id.is_some() && page.after_id.is_none();
    let shown = if is_backwards { wanted.get(excess..) } else { wanted.get(..wanted.len() - excess) };
    let shown = shown.unwrap_or_default();
    let data: Vec<Value> = shown.iter().map(|offer| anthropic_object(*offer, created_at_secs)).collect();
    Ok(json!({
        "data": data, "has_more": excess > 0, "first_id": shown.first().map(|offer| offer.id()),
        "last_id": shown.last().map(|offer| offer.id()),
    }))
}

fn anthropic_object(offer: Offer<'_>, created_at_secs: i64) -> Value {
    let created_at = DateTime::from_timestamp(created_at_secs, 0).unwrap_or_default();
    json!({
        "type": "model", "id": offer.id(), "display_name": offer.id(),
        "created_at": created_at.to_rfc3339_opts(SecondsFormat::Secs, true),
    })
}

fn object(catalogue: &Catalogue, offer: Offer<'_>, created_at_secs: i64) -> Value {
    match offer {
        Offer::Model(model) => model_object(catalogue, model, created_at_secs),
        Offer::Alias(alias) => alias_object(alias, created_at_secs),
        Offer::Template(template) => json!({
            "id": template.id, "object": "model", "created": template.line.created_at.0 / 1_000_000, "owned_by": ALIAS_OWNER,
            "tokenhub": {"origin": "template", "version": template.line.version, "description": template.line.description},
        }),
    }
}

fn alias_object(alias: &Alias, created_at_secs: i64) -> Value {
    json!({
        "id": alias.name, "object": "model", "created": created_at_secs, "owned_by": ALIAS_OWNER,
        "tokenhub": {"origin": "alias", "variants": alias.variants, "sticky_by": alias.sticky_by},
    })
}

fn model_object(catalogue: &Catalogue, model: &Model, created_at_secs: i64) -> Value {
    let mut object = Map::from_iter([
        ("id".to_owned(), Value::from(model.id.as_str())),
        ("object".to_owned(), "model".into()),
        ("created".to_owned(), created_at_secs.into()),
        ("owned_by".to_owned(), model.provider_id.as_str().into()),
    ]);
    if let Some(tokens) = model.max_context_tokens.filter(|tokens| *tokens > 0) {
        object.insert("context_length".to_owned(), tokens.into());
        object.insert("max_model_len".to_owned(), tokens.into());
    }
    let origin = catalogue.provider(&model.provider_id).map_or(ProviderOrigin::Configured, |provider| provider.origin);
    object.insert("tokenhub".to_owned(), json!({"origin": origin}));
    Value::Object(object)
}

#[cfg(test)]
mod tests {
    use tokenhub_domain::{Provider, ProviderKind};

    use super::*;

    fn named(id: &str) -> Model {
        Model::new(id, "demo")
    }

    fn page(limit: Option<&str>, after: Option<&str>, before: Option<&str>) -> Result<(Vec<String>, bool), Problem> {
        let models: Vec<Model> = ["a", "b", "c", "d"].into_iter().map(named).collect();
        let own = |text: Option<&str>| text.map(str::to_owned);
        let page = Page { limit: own(limit), after_id: own(after), before_id: own(before) };
        let list = anthropic_list(&models.iter().map(Offer::Model).collect::<Vec<_>>(), &page, 0)?;
        let ids: Vec<String> =
            list["data"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap().to_owned()).collect();
        assert_eq!(list["first_id"].as_str(), ids.first().map(String::as_str));
        assert_eq!(list["last_id"].as_str(), ids.last().map(String::as_str));
        Ok((ids, list["has_more"].as_bool().unwrap()))
    }

    fn ids(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn anthropics_list_has_pages_in_both_directions() {
        assert_eq!(page(None, None, None).unwrap(), (ids("a b c d"), false));
        assert_eq!(page(Some("1000"), None, None).unwrap(), (ids("a b c d"), false));
        assert_eq!(page(Some("2"), None, None).unwrap(), (ids("a b"), true));
        assert_eq!(page(Some("2"), Some("b"), None).unwrap(), (ids("c d"), false));
        assert_eq!(page(Some("2"), None, Some("d")).unwrap(), (ids("b c"), true));
        assert_eq!(page(None, Some("d"), None).unwrap(), (ids(""), false));
        assert_eq!(page(None, Some("c"), Some("b")).unwrap(), (ids(""), false));
    }

    #[test]
    fn a_page_that_does_not_exist_is_refused_by_name() {
        for (limit, after, before, param) in [
            (Some("0"), None, None, "limit"),
            (Some("1001"), None, None, "limit"),
            (Some("x"), None, None, "limit"),
            (None, Some("z"), None, "after_id"),
            (None, None, Some("z"), "before_id"),
        ] {
            let refusal = page(limit, after, before).unwrap_err().report(Shape::Anthropic);
            assert_eq!(refusal.param.as_deref(), Some(param));
        }
    }

    #[test]
    fn anthropics_object_has_its_four_fields() {
        assert_eq!(
            anthropic_object(Offer::Model(&named("claude-x")), 1_700_000_000),
            json!({"type": "model", "id": "claude-x", "display_name": "claude-x", "created_at": "2023-11-14T22:13:20Z"})
        );
    }

    #[test]
    fn a_demo_model_is_marked_and_an_unknown_window_is_left_out() {
        let model = named("demo/a:1");
        let provider = Provider { origin: ProviderOrigin::Demo, ..Provider::new("demo", ProviderKind::Openai, "") };
        let catalogue = Catalogue { providers: vec![provider], models: vec![model.clone()], ..Catalogue::default() };
        let shown = object(&catalogue, Offer::Model(&model), 7);
        assert_eq!(
            shown,
            json!({"id": "demo/a:1", "object": "model", "created": 7, "owned_by": "demo", "tokenhub": {"origin": "demo"}})
        );
        let known = Model { max_context_tokens: Some(8192), ..model };
        assert_eq!(object(&catalogue, Offer::Model(&known), 7)["context_length"], 8192);
        assert_eq!(object(&catalogue, Offer::Model(&known), 7)["max_model_len"], 8192);
    }

    #[test]
    fn an_alias_is_offered_behind_the_models_and_hides_the_model_of_its_name() {
        let provider = Provider::new("demo", ProviderKind::Openai, "");
        let alias = |name: &str, enabled| Alias {
            name: name.into(),
            variants: Vec::new(),
            sticky_by: tokenhub_domain::StickyBy::User,
            fallbacks: Vec::new(),
            enabled,
        };
        let catalogue = Catalogue {
            providers: vec![provider],
            models: vec![named("a"), named("b")],
            aliases: vec![alias("a", true), alias("off", false)],
            ..Catalogue::default()
        };
        let ids: Vec<&str> = offers(&catalogue, &[]).into_iter().map(Offer::id).collect();
        assert_eq!(ids, ["b", "a"]);
        assert_eq!(object(&catalogue, Offer::Alias(&catalogue.aliases[0]), 7)["owned_by"], "tokenhub");
    }
}
