//! Texts checked against a JSON Schema.
//!
//! Owns the meaning of "valid": every keyword of the schema's draft, formats included, without fetching anything. The
//! violations come in an order of their own, so that two checks say the same.

mod unfolded;

use jsonschema::{PatternOptions, Validator};
use serde_json::Value;

/// Violations that are told; a model that got so many wrong needs no more of them.
const VIOLATIONS_MAX: usize = 16;
/// Longest violation: it may quote the value.
const VIOLATION_CHARS_MAX: usize = 300;

/// A schema that can be checked against.
#[derive(Debug)]
pub struct Schema {
    validator: Validator,
}

/// What is wrong with a schema.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SchemaError(String);

impl Schema {
    /// The schema in `value`.
    pub fn new(value: &Value) -> Result<Self, SchemaError> {
        if !value.is_object() && !value.is_boolean() {
            return Err(SchemaError("must be an object".to_owned()));
        }
        if !unfolded::is_small(value) {
            return Err(SchemaError("is too large, its references followed".to_owned()));
        }
        let options = jsonschema::options()
            .should_validate_formats(true)
            // Takes linear time, whatever the pattern is.
            .with_pattern_options(PatternOptions::regex());
        let validator = options.build(value).map_err(|error| {
            let place = error.instance_path().to_string();
            let place = if place.is_empty() { String::new() } else { format!(" at {place}") };
            SchemaError(format!("is no valid JSON Schema: {}{place}", shortened(&error.to_string())))
        })?;
        Ok(Self { validator })
    }

    /// The schema in `text`.
    pub fn parse(text: &str) -> Result<Self, SchemaError> {
        let value = serde_json::from_str(text).map_err(|error| SchemaError(format!("is no JSON: {error}")))?;
        Self::new(&value)
    }

    /// What is wrong with `text`, a line each; nothing when it is JSON that matches.
    pub fn violations(&self, text: &str) -> Vec<String> {
        let value: Value = match serde_json::from_str(text.trim()) {
            Ok(value) => value,
            Err(_) if text.trim().is_empty() => return vec!["there is no text".to_owned()],
            Err(error) => return vec![format!("it is not JSON: {error}")],
        };
        let mut violations: Vec<(String, String)> = self
            .validator
            .iter_errors(&value)
            .map(|error| (error.instance_path().to_string(), shortened(&error.to_string())))
            .collect();
        violations.sort();
        violations.dedup();
        let told = violations.into_iter().take(VIOLATIONS_MAX);
        told.map(|(place, what)| if place.is_empty() { what } else { format!("{place}: {what}") }).collect()
    }
}

fn shortened(text: &str) -> String {
    text.chars().take(VIOLATION_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn invalid(schema: &Value, instance: &Value) -> bool {
        !Schema::new(schema).unwrap().violations(&instance.to_string()).is_empty()
    }

    #[test]
    fn every_keyword_counts() {
        let object = |properties: Value| json!({"type": "object", "properties": properties});
        for (schema, good, bad) in [
            (json!({"enum": ["a", "b"]}), json!("a"), json!("c")),
            (json!({"const": 1}), json!(1), json!(2)),
            (object(json!({"a": {"type": "number"}})), json!({"a": 1.5}), json!({"a": "x"})),
            (json!({"type": "integer"}), json!(3), json!(3.5)),
            (json!({"type": "integer"}), json!(3), json!("3")),
            (json!({"type": "boolean"}), json!(true), json!("true")),
            (json!({"type": "number", "minimum": 0, "maximum": 10}), json!(10), json!(10.5)),
            (json!({"type": "array", "items": {"type": "string"}, "minItems": 1}), json!(["a"]), json!(["a", 1])),
            (
                object(json!({"a": object(json!({"b": {"type": "null"}}))})),
                json!({"a": {"b": null}}),
                json!({"a": {"b": 1}}),
            ),
            (
                json!({"type": "object", "required": ["a"], "additionalProperties": false, "properties": {"a": true}}),
                json!({"a": 1}),
                json!({"a": 1, "b": 2}),
            ),
            (json!({"type": "object", "required": ["a"]}), json!({"a": null}), json!({})),
            (json!({"type": "string", "pattern": "^a+$"}), json!("aa"), json!("ab")),
            (json!({"type": "string", "format": "date"}), json!("2026-01-31"), json!("2026-02-31")),
            (json!({"anyOf": [{"type": "string"}, {"type": "null"}]}), json!(null), json!(1)),
            (json!({"$defs": {"n": {"type": "number"}}, "$ref": "#/$defs/n"}), json!(1), json!("1")),
        ] {
            assert!(!invalid(&schema, &good), "{schema} {good}");
            assert!(invalid(&schema, &bad), "{schema} {bad}");
        }
    }

    #[test]
    fn violations_name_the_place_and_come_in_one_order() {
        let schema = json!({"type": "object", "additionalProperties": false,
            "properties": {"b": {"type": "number"}, "a": {"type": "array", "items": {"enum": ["x"]}}}});
        let schema = Schema::new(&schema).unwrap();
        let violations = schema.violations(r#"{"b": "1", "a": ["x", "y"], "c": 0}"#);
        assert_eq!(
            violations,
            [
                "Additional properties are not allowed ('c' was unexpected)",
                "/a/1: \"y\" is not one of \"x\"",
                "/b: \"1\" is not of type \"number\""
            ]
        );
        assert_eq!(schema.violations(""), ["there is no text"]);
        assert!(schema.violations("Sure!")[0].starts_with("it is not JSON: "));
    }

    #[test]
    fn what_is_no_schema_is_refused() {
        for schema in
            [json!([]), json!("x"), json!({"type": "objekt"}), json!({"properties": 1}), json!({"pattern": "("})]
        {
            assert!(Schema::new(&schema).is_err(), "{schema}");
        }
        let fetched = Schema::new(&json!({"$ref": "https://schema.example/x.json"})).unwrap_err();
        assert!(!fetched.to_string().is_empty());
        assert!(Schema::parse("{").is_err());
    }

    #[test]
    fn a_schema_that_unfolds_without_end_is_refused() {
        let doubling = |depth: usize, reference: fn(usize) -> String| {
            let mut defs = serde_json::Map::new();
            for level in 0..depth {
                let next = json!({"$ref": reference(level + 1)});
                defs.insert(format!("d{level}"), json!({"$anchor": format!("d{level}"), "allOf": [next, next]}));
            }
            defs.insert(format!("d{depth}"), json!({"$anchor": format!("d{depth}"), "type": "object"}));
            Schema::new(&json!({"$defs": defs, "$ref": reference(0)}))
        };
        let pointer = |level| format!("#/$defs/d{level}");
        assert!(doubling(6, pointer).is_ok());
        assert!(doubling(40, pointer).unwrap_err().to_string().contains("too large"));
        let anchor = |level| format!("#d{level}");
        assert!(doubling(6, anchor).is_ok());
        assert!(doubling(40, anchor).is_err());
    }

    #[test]
    fn a_schema_that_refers_to_itself_ends() {
        for schema in [
            json!({"$ref": "#"}),
            json!({"allOf": [{"$ref": "#"}]}),
            json!({"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}),
        ] {
            if let Ok(schema) = Schema::new(&schema) {
                schema.violations("{}");
            }
        }
        let tree = json!({"type": "object", "properties": {"child": {"$ref": "#"}}, "additionalProperties": false});
        assert!(invalid(&tree, &json!({"child": {"child": {"x": 1}}})));
        assert!(!invalid(&tree, &json!({"child": {"child": {}}})));
    }
}
