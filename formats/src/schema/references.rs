//! Where the references of a schema lead.
//!
//! Everything stays inside the schema: nothing is fetched, and what another base address would give is not guessed.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::SchemaError;

const KEYWORDS: [&str; 3] = ["$ref", "$dynamicRef", "$recursiveRef"];

/// The targets in a schema.
pub(super) struct References<'a> {
    root: &'a Value,
    /// Twice the same name is no valid schema, but which one counts is the validator's choice: both are looked at.
    anchors: HashMap<&'a str, Vec<&'a Value>>,
    has_inner_base: bool,
}

impl<'a> References<'a> {
    pub(super) fn of(root: &'a Value) -> Self {
        let mut references = Self { root, anchors: HashMap::new(), has_inner_base: false };
        let names_by_id = root.get("$schema").and_then(Value::as_str).is_some_and(|draft| draft.contains("draft-04"));
        references.collect(root, if names_by_id { "id" } else { "$id" });
        references
    }

    pub(super) fn root(&self) -> &'a Value {
        self.root
    }

    fn collect(&mut self, value: &'a Value, id: &str) {
        match value {
            Value::Object(fields) => {
                for (name, field) in fields {
                    match field.as_str() {
                        Some(text) if name == "$anchor" || name == "$dynamicAnchor" => self.name(text, value),
                        Some(text) if name == id => match text.strip_prefix('#') {
                            Some(anchor) => self.name(anchor, value),
                            None => self.has_inner_base |= !std::ptr::eq(value, self.root),
                        },
                        Some(_) | None => self.collect(field, id),
                    }
                }
            }
            Value::Array(items) => items.iter().for_each(|item| self.collect(item, id)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    fn name(&mut self, anchor: &'a str, value: &'a Value) {
        self.anchors.entry(anchor).or_default().push(value);
    }

    /// What `reference` means; nothing when it is not here.
    pub(super) fn targets(&self, reference: &str) -> Vec<&'a Value> {
        let (base, fragment) = reference.split_once('#').unwrap_or((reference, ""));
        let id = ["$id", "id"].into_iter().find_map(|name| self.root.get(name)?.as_str()).unwrap_or_default();
        let id = id.trim_end_matches('#');
        if !base.is_empty() && base != id && !id.ends_with(&format!("/{base}")) {
            return Vec::new();
        }
        let Some(fragment) = percent_decoded(fragment) else { return Vec::new() };
        if fragment.is_empty() || fragment.starts_with('/') {
            return self.root.pointer(&fragment).into_iter().collect();
        }
        self.anchors.get(fragment.as_str()).cloned().unwrap_or_default()
    }

    /// What the references of the schema object `fields` mean.
    pub(super) fn targets_of(&self, fields: &Map<String, Value>) -> Result<Vec<&'a Value>, SchemaError> {
        let mut found = Vec::new();
        for reference in KEYWORDS.into_iter().filter_map(|keyword| fields.get(keyword)?.as_str()) {
            let quoted = super::shortened(&reference);
            if self.has_inner_base {
                let reason = format!("refers to `{quoted}` and has an `$id` below its root, which is not supported");
                return Err(SchemaError(reason));
            }
            let targets = self.targets(reference);
            if targets.is_empty() {
                return Err(SchemaError(format!("refers to `{quoted}`, which is not in the schema")));
            }
            found.extend(targets);
        }
        Ok(found)
    }
}

/// Whether `name` is a keyword that refers to another schema.
pub(super) fn is_reference(name: &str) -> bool {
    KEYWORDS.contains(&name)
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut parts = text.split('%');
    let mut decoded = parts.next()?.as_bytes().to_vec();
    for part in parts {
        decoded.push(u8::from_str_radix(part.get(..2)?, 16).ok()?);
        decoded.extend_from_slice(&part.as_bytes()[2..]);
    }
    String::from_utf8(decoded).ok()
}
