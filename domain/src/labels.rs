//! What a run is labelled with: its caller's tags and the template that it was made from.
//!
//! Only labels: they change nothing of what a run does. A template's content is in the specification by then, so a run
//! keeps the version that it began with, whatever becomes of the template.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{ContentHash, TemplateName};

/// What a run is labelled with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Labels {
    /// By the caller.
    #[serde(skip_serializing_if = "Tags::is_empty")]
    pub tags: Tags,
    /// What it was made from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template: Option<TemplatePin>,
}

impl Labels {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.tags.is_empty() && self.template.is_none()
    }
}

/// Keys and values that a caller finds its runs by.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Tags(pub BTreeMap<String, String>);

impl Tags {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Each as `key:value`. A key has no colon.
    pub fn words(&self) -> impl Iterator<Item = String> + '_ {
        self.0.iter().map(|(key, value)| format!("{key}:{value}"))
    }
}

/// One version of a template.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TemplatePin {
    /// The template.
    pub name: TemplateName,
    /// Counts its changes, from 1.
    pub version: u64,
    /// Of its content, see [`canonical_json`].
    pub hash: ContentHash,
}

/// A value written in one way only: without white space, the keys of objects in the order of their bytes.
pub fn canonical_json(value: &Value) -> String {
    sorted(value).to_string()
}

fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let by_name: BTreeMap<&String, &Value> = fields.iter().collect();
            Value::Object(by_name.into_iter().map(|(name, value)| (name.clone(), sorted(value))).collect::<Map<_, _>>())
        }
        Value::Array(items) => items.iter().map(sorted).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_order_of_keys_changes_nothing_and_that_of_items_does() {
        let text = r#"{"b":[{"y":1,"x":"ü"}],"a":null}"#;
        let value: Value = serde_json::from_str(text).unwrap();
        assert_eq!(canonical_json(&value), r#"{"a":null,"b":[{"x":"ü","y":1}]}"#);
        let of = |value: Value| ContentHash::of(&canonical_json(&value));
        assert_eq!(of(json!({"a": 1, "b": {"c": 2, "d": 3}})), of(json!({"b": {"d": 3, "c": 2}, "a": 1})));
        assert_ne!(of(json!([1, 2])), of(json!([2, 1])));
    }

    #[test]
    fn labels_are_written_as_far_as_there_are_any() {
        let mut labels = Labels::default();
        assert_eq!(serde_json::to_value(&labels).unwrap(), json!({}));
        labels.tags.0.insert("team".to_owned(), "search:eu".to_owned());
        labels.template = Some(TemplatePin { name: "review".into(), version: 3, hash: ContentHash("ab".to_owned()) });
        let written = serde_json::to_value(&labels).unwrap();
        let pin = json!({"name": "review", "version": 3, "hash": "ab"});
        assert_eq!(written, json!({"tags": {"team": "search:eu"}, "template": pin}));
        assert_eq!(serde_json::from_value::<Labels>(written).unwrap(), labels);
        assert_eq!(labels.tags.words().collect::<Vec<_>>(), ["team:search:eu"]);
    }
}
