//! The lists of models: `OpenAI`'s form, and Anthropic's with its pages.

use serde_json::{Value, json};

use crate::dialect::Dialect;
use crate::wire::CREATED;

/// Models on a page of Anthropic's list when the request does not say.
const PAGE_MODELS: usize = 20;
/// [`CREATED`] as Anthropic writes it.
const CREATED_AT: &str = "2025-10-09T08:53:20Z";

/// A model and its window, where it has one.
pub(crate) type Listed<'a> = (&'a str, Option<u64>);

/// The answer to `GET /v1/models`.
pub(crate) fn list(dialect: Dialect, models: &[Listed<'_>], query: &str) -> Value {
    match dialect {
        Dialect::Chat | Dialect::Responses => {
            let data: Vec<Value> = models.iter().map(|model| entry(dialect, *model)).collect();
            json!({"object": "list", "data": data})
        }
        Dialect::Messages => page(models, query),
    }
}

/// One model.
pub(crate) fn entry(dialect: Dialect, (id, window): Listed<'_>) -> Value {
    match dialect {
        Dialect::Chat | Dialect::Responses => {
            let mut entry = json!({"id": id, "object": "model", "created": CREATED, "owned_by": "tokenhub-demo"});
            if let Some(window) = window {
                entry["context_length"] = json!(window);
            }
            entry
        }
        Dialect::Messages => json!({"type": "model", "id": id, "display_name": id, "created_at": CREATED_AT}),
    }
}

fn page(models: &[Listed<'_>], query: &str) -> Value {
    let value = |name: &str| query.split('&').filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == name);
    let place = |name: &str| value(name).and_then(|(_, id)| models.iter().position(|(listed, _)| *listed == id));
    let limit = value("limit").and_then(|(_, limit)| limit.parse().ok()).unwrap_or(PAGE_MODELS);
    let (page, has_more) = if let Some(end) = place("before_id") {
        (&models[end.saturating_sub(limit)..end], end > limit)
    } else {
        let rest = &models[place("after_id").map_or(0, |place| place + 1)..];
        (&rest[..rest.len().min(limit)], rest.len() > limit)
    };
    let data: Vec<Value> = page.iter().map(|model| entry(Dialect::Messages, *model)).collect();
    let id = |model: Option<&Listed<'_>>| model.map(|(id, _)| (*id).to_owned());
    json!({"data": data, "has_more": has_more, "first_id": id(page.first()), "last_id": id(page.last())})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anthropics_list_comes_in_pages() {
        let models = [("a", None), ("b", None), ("c", None)];
        let ids = |query: &str| {
            let list = list(Dialect::Messages, &models, query);
            let ids: String =
                list["data"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap()).collect();
            (ids, list["has_more"].as_bool().unwrap())
        };
        assert_eq!(ids(""), ("abc".to_owned(), false));
        assert_eq!(ids("limit=2"), ("ab".to_owned(), true));
        assert_eq!(ids("limit=2&after_id=b"), ("c".to_owned(), false));
        assert_eq!(ids("before_id=c&limit=1"), ("b".to_owned(), true));
    }
}
