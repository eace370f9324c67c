//! The `tags` of a plan, and the `tag` by which a list is narrowed.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use tokenhub_domain::{Tags, limits};

use crate::error::Problem;

const TAGS: &str = "tags";

/// The tags in `body`; null counts as none.
pub(super) fn parse(body: &Map<String, Value>) -> Result<Tags, Problem> {
    let fields = match body.get(TAGS) {
        None | Some(Value::Null) => return Ok(Tags::default()),
        Some(Value::Object(fields)) => fields,
        Some(_) => return Err(Problem::invalid(TAGS, "must be an object of texts")),
    };
    if fields.len() > limits::TAGS_MAX {
        return Err(Problem::invalid(TAGS, format!("must not hold more than {} tags", limits::TAGS_MAX)));
    }
    let mut tags = BTreeMap::new();
    for (key, value) in fields {
        if !is_key(key) {
            let rule = format!(
                "`{}` is no key: a key has 1 to {} letters, digits, `.`, `_` or `-`",
                key.chars().take(limits::TAG_KEY_BYTES).collect::<String>(),
                limits::TAG_KEY_BYTES
            );
            return Err(Problem::invalid(TAGS, rule));
        }
        let text = value.as_str().filter(|text| is_value(text)).ok_or_else(|| {
            let rule = format!("must be a text of 1 to {} bytes without control characters", limits::TAG_VALUE_BYTES);
            Problem::invalid(format!("{TAGS}.{key}"), rule)
        })?;
        tags.insert(key.clone(), text.to_owned());
    }
    Ok(Tags(tags))
}

/// A tag as a query has it, `key:value`.
pub(crate) fn wanted(text: &str) -> Result<&str, Problem> {
    let is_tag = text.split_once(':').is_some_and(|(key, value)| is_key(key) && is_value(value));
    if is_tag { Ok(text) } else { Err(Problem::invalid("tag", "must be a key and a value, such as team:search")) }
}

fn is_key(text: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=limits::TAG_KEY_BYTES).contains(&text.len()) && text.bytes().all(is_allowed)
}

fn is_value(text: &str) -> bool {
    (1..=limits::TAG_VALUE_BYTES).contains(&text.len()) && !text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::error::Shape;

    fn of(tags: &Value) -> Result<Tags, String> {
        let read = parse(json!({ "tags": tags }).as_object().unwrap());
        read.map_err(|problem| problem.report(Shape::Problem).param.unwrap())
    }

    #[test]
    fn tags_are_texts_under_plain_keys_and_each_wrong_one_is_named() {
        assert_eq!(parse(&Map::new()).unwrap(), Tags::default());
        assert_eq!(of(&Value::Null), Ok(Tags::default()));
        let tags = of(&json!({"team": "search", "cost-center": "a:7 ü"})).unwrap();
        assert_eq!(tags.words().collect::<Vec<_>>(), ["cost-center:a:7 ü", "team:search"]);
        let many: Map<String, Value> = (0..=limits::TAGS_MAX).map(|n| (n.to_string(), json!("x"))).collect();
        for (tags, param) in [
            (json!(["team:search"]), "tags"),
            (json!({"": "x"}), "tags"),
            (json!({"a:b": "x"}), "tags"),
            (json!({"k".repeat(limits::TAG_KEY_BYTES + 1): "x"}), "tags"),
            (Value::Object(many), "tags"),
            (json!({"team": 7}), "tags.team"),
            (json!({"team": ""}), "tags.team"),
            (json!({"team": "a\u{0}"}), "tags.team"),
            (json!({"team": "x".repeat(limits::TAG_VALUE_BYTES + 1)}), "tags.team"),
        ] {
            assert_eq!(of(&tags), Err(param.to_owned()), "{tags}");
        }
    }

    #[test]
    fn a_tag_of_a_query_is_split_at_its_first_colon() {
        assert_eq!(wanted("team:search").unwrap(), "team:search");
        assert_eq!(wanted("team:a:b").unwrap(), "team:a:b");
        for wrong in ["", "team", ":x", "team:", "te am:x"] {
            assert!(wanted(wrong).is_err(), "{wrong}");
        }
    }
}
