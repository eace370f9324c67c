//! `GET /v1/models`: what may be asked for. Open, as in TokenHub, and the names of models are no secret.

use axum::{
    Json,
    extract::{Path, State},
    response::{IntoResponse, Response},
};
use serde_json::{Map, Value, json};
use tokenhub_domain::{Catalogue, Model, ProviderOrigin};

use crate::{
    error::{Problem, Shape},
    state::Models,
};

/// Every model that can be called, once for each name.
pub(super) async fn list(State(models): State<Models>) -> Response {
    let catalogue = models.world.catalogue.load_full();
    let mut seen = std::collections::HashSet::new();
    let data: Vec<Value> = catalogue
        .models
        .iter()
        .filter(|model| catalogue.is_callable(model) && seen.insert(&model.id))
        .map(|model| object(&catalogue, model, models.started_at_secs))
        .collect();
    let edge = |model: Option<&Value>| model.and_then(|model| model.get("id")).cloned();
    Json(json!({
        "object": "list", "first_id": edge(data.first()), "last_id": edge(data.last()), "has_more": false, "data": data,
    }))
    .into_response()
}

/// One model.
pub(super) async fn show(State(models): State<Models>, Path(id): Path<String>) -> Response {
    let catalogue = models.world.catalogue.load_full();
    let found = catalogue.models.iter().find(|model| model.id.as_str() == id && catalogue.is_callable(model));
    match found {
        Some(model) => Json(object(&catalogue, model, models.started_at_secs)).into_response(),
        None => Problem::UnknownModel { param: "model", model: id }.into_response(Shape::OpenAi),
    }
}

fn object(catalogue: &Catalogue, model: &Model, created_at_secs: i64) -> Value {
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
    use tokenhub_domain::{PricePerMillion, Provider, ProviderKind};

    use super::*;

    #[test]
    fn a_demo_model_is_marked_and_an_unknown_window_is_left_out() {
        let model = Model {
            id: "demo/a:1".into(),
            provider_id: "demo".into(),
            weight: 5,
            max_context_tokens: None,
            max_output_tokens: None,
            input_price: PricePerMillion(0),
            output_price: PricePerMillion(0),
            enabled: true,
        };
        let provider = Provider { origin: ProviderOrigin::Demo, ..Provider::new("demo", ProviderKind::Openai, "") };
        let catalogue = Catalogue { version: 1, providers: vec![provider], models: vec![model.clone()] };
        let shown = object(&catalogue, &model, 7);
        assert_eq!(
            shown,
            json!({"id": "demo/a:1", "object": "model", "created": 7, "owned_by": "demo", "tokenhub": {"origin": "demo"}})
        );
        let known = Model { max_context_tokens: Some(8192), ..model };
        assert_eq!(object(&catalogue, &known, 7)["context_length"], 8192);
        assert_eq!(object(&catalogue, &known, 7)["max_model_len"], 8192);
    }
}
