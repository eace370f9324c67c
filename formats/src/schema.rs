//! Texts checked against a JSON Schema.
//!
//! Owns the meaning of "valid": every keyword of the schema's draft, formats included, without fetching anything. The
//! violations come in an order of their own, so that two checks say the same.

mod recursion;
mod references;
mod unfolded;

use std::fmt::{self, Write as _};

use jsonschema::{PatternOptions, Validator, error::ValidationErrorKind};
use serde_json::Value;

use self::references::References;

/// Largest schema.
const BYTES_MAX: usize = 256 * 1024;
/// Largest compiled regular expression, and its largest cache: a few signs can stand for a thousand repetitions.
const PATTERN_BYTES_MAX: usize = 1024 * 1024;
/// Violations that are told; a model that got so many wrong needs no more of them.
const VIOLATIONS_MAX: usize = 16;
/// Longest violation: it may quote the value.
const VIOLATION_CHARS_MAX: usize = 300;
/// Longest place of a violation: the model chose its names.
const PLACE_CHARS_MAX: usize = 120;
/// Most bytes of all violations: a model reads them again.
const VIOLATIONS_BYTES_MAX: usize = 4 * 1024;

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
        if value.to_string().len() > BYTES_MAX {
            return Err(too_large());
        }
        if unfolded::has_too_many_patterns(value) {
            return Err(SchemaError(format!("has more than {} patterns", unfolded::PATTERNS_MAX)));
        }
        let references = References::of(value);
        if !unfolded::is_small(&references) {
            return Err(SchemaError("is too large, its references followed".to_owned()));
        }
        recursion::check(&references)?;
        // Takes linear time, whatever the pattern is.
        let patterns = PatternOptions::regex().size_limit(PATTERN_BYTES_MAX).dfa_size_limit(PATTERN_BYTES_MAX);
        let options = jsonschema::options().should_validate_formats(true).with_pattern_options(patterns);
        let validator = options.build(value).map_err(|error| {
            let place = error.instance_path().to_string();
            let place = if place.is_empty() { String::new() } else { format!(" at {place}") };
            let is_pattern = matches!(error.kind(), ValidationErrorKind::Format { format } if format == "regex");
            let hint = if is_pattern { " (or it is too large)" } else { "" };
            SchemaError(format!("is no valid JSON Schema: {}{hint}{place}", shortened(&error)))
        })?;
        Ok(Self { validator })
    }

    /// The schema in `text`.
    pub fn parse(text: &str) -> Result<Self, SchemaError> {
        if text.len() > BYTES_MAX {
            return Err(too_large());
        }
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
        // Telling what is wrong takes longer than telling whether anything is.
        if self.validator.is_valid(&value) {
            return Vec::new();
        }
        let errors = self.validator.iter_errors(&value).take(VIOLATIONS_MAX);
        let mut violations: Vec<(String, String)> =
            errors.map(|error| (error.instance_path().to_string(), shortened(&error))).collect();
        violations.sort();
        violations.dedup();
        let told = violations.into_iter().map(|(place, what)| told(&place, &what));
        let mut bytes = 0;
        told.take_while(|violation| {
            bytes += violation.len() + 1;
            bytes <= VIOLATIONS_BYTES_MAX
        })
        .collect()
    }
}

fn too_large() -> SchemaError {
    SchemaError(format!("is larger than {} KiB", BYTES_MAX / 1024))
}

/// A violation with its place, of which the end says most.
fn told(place: &str, what: &str) -> String {
    if place.is_empty() {
        return what.to_owned();
    }
    match place.char_indices().rev().nth(PLACE_CHARS_MAX - 1) {
        Some((start, _)) if start > 0 => format!("…{}: {what}", &place[start..]),
        Some(_) | None => format!("{place}: {what}"),
    }
}

/// The beginning of what `value` says; the rest, which may quote a whole text, is not even written.
fn shortened(value: &impl fmt::Display) -> String {
    let mut beginning = Beginning { text: String::new(), chars_left: VIOLATION_CHARS_MAX };
    // It fails where it is full.
    let _ = write!(beginning, "{value}");
    beginning.text
}

struct Beginning {
    text: String,
    chars_left: usize,
}

impl fmt::Write for Beginning {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            self.chars_left = self.chars_left.checked_sub(1).ok_or(fmt::Error)?;
            self.text.push(character);
        }
        Ok(())
    }
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

    /// `length` schemas, each only a reference to the next one, and at last `end`.
    fn chain(length: usize, end: &Value) -> Value {
        let mut defs = serde_json::Map::new();
        for level in 0..length {
            defs.insert(format!("d{level}"), json!({"$ref": format!("#/$defs/d{}", level + 1)}));
        }
        defs.insert(format!("d{length}"), end.clone());
        json!({"$defs": defs, "$ref": "#/$defs/d0"})
    }

    #[test]
    fn a_long_chain_of_references_is_refused() {
        let object = json!({"type": "object"});
        assert!(!invalid(&chain(60, &object), &json!({})));
        for length in [64, 1_000, 5_000] {
            let error = Schema::new(&chain(length, &object)).unwrap_err();
            assert!(error.to_string().contains("too large"), "{length}: {error}");
        }
        let long = Schema::new(&chain(20_000, &object)).unwrap_err();
        assert!(long.to_string().contains("larger than 256 KiB"), "{long}");
    }

    #[test]
    fn one_that_refers_to_itself_through_many_steps_is_refused() {
        let looped = chain(8, &json!({"properties": {"a": {"$ref": "#/$defs/d0"}}}));
        assert!(Schema::new(&looped).unwrap_err().to_string().contains("more than 6 steps"));
    }

    #[test]
    fn the_deepest_text_against_the_longest_chain_fits_on_the_stack_of_a_thread() {
        let wrappers: [fn(Value) -> Value; 6] = [
            |part| json!({"allOf": [part]}),
            |part| json!({"anyOf": [part, {"type": "null"}]}),
            |part| json!({"oneOf": [{"type": "null"}, part]}),
            |part| json!({"not": {"not": part}}),
            |part| json!({"if": true, "then": part}),
            |part| json!({"dependentSchemas": {"a": part}}),
        ];
        let text = format!("{}{{\"b\":1}}{}", "{\"a\":".repeat(125), "}".repeat(125));
        let mut schemas: Vec<Value> = wrappers
            .into_iter()
            .map(|wrapper| {
                let end = json!({"properties": {"a": {"$ref": "#"}}, "additionalProperties": false});
                (0..20).fold(end, |part, _| {
                    let wrapped = wrapper(part.clone());
                    if Schema::new(&wrapped).is_ok() { wrapped } else { part }
                })
            })
            .collect();
        schemas.push(chain(5, &json!({"properties": {"a": {"$ref": "#/$defs/d0"}}, "additionalProperties": false})));
        // One that does not refer to itself may be deep instead.
        let deep = (0..14)
            .fold(json!({"properties": {"a": {"type": "null"}}}), |part, _| json!({"anyOf": [{"allOf": [part]}]}));
        let mut defs = serde_json::Map::new();
        for level in 0..3 {
            let end = json!({"$ref": format!("#/$defs/d{}", level + 1)});
            let part = (0..14).fold(end, |part, _| json!({"anyOf": [{"allOf": [part]}]}));
            defs.insert(format!("d{level}"), part);
        }
        defs.insert("d3".to_owned(), deep);
        schemas.push(json!({"$defs": defs, "$ref": "#/$defs/d0"}));
        for schema in schemas {
            let text = text.clone();
            let check = move || Schema::new(&schema).unwrap().violations(&text);
            let thread = std::thread::Builder::new().stack_size(2 * 1024 * 1024).spawn(check).unwrap();
            assert!(thread.join().unwrap().len() <= 1);
        }
    }

    #[test]
    fn a_cycle_that_is_entered_on_two_ways_at_one_place_is_refused() {
        let root = json!({"$ref": "#"});
        let child = json!({"properties": {"a": root}});
        for schema in [
            json!({"properties": {"a": {"allOf": [root, root]}}}),
            json!({"anyOf": [child, child]}),
            json!({"if": child, "then": child}),
            json!({"not": child, "properties": {"a": root}}),
            json!({"properties": {"a": root}, "patternProperties": {"^a": root}}),
            json!({"patternProperties": {"^a": root, "a$": root}}),
            json!({"items": root, "contains": root}),
            json!({"anyOf": [child], "unevaluatedProperties": false}),
            json!({"$anchor": "x", "dependentSchemas": {"a": {"properties": {"a": {"$ref": "#x"}}}}, "properties": {"a": root}}),
            json!({"$defs": {"a b": {"properties": {"a": {"$ref": "#/$defs/a%20b"}}, "allOf": [{"$ref": "#/$defs/c"}]},
                "c": {"properties": {"a": {"$ref": "#/$defs/c"}}}}, "$ref": "#/$defs/a%20b"}),
        ] {
            let error = Schema::new(&schema).unwrap_err();
            assert!(error.to_string().contains("more than one branch"), "{schema}: {error}");
        }
        let deep = format!("{}1{}", "{\"a\":".repeat(120), "}".repeat(120));
        for schema in [
            json!({"properties": {"children": {"items": root}}, "type": "object"}),
            json!({"properties": {"a": root, "b": root}, "additionalProperties": root, "items": root}),
            json!({"properties": {"a": {"anyOf": [{"type": "null"}, root]}}, "unevaluatedProperties": false}),
            json!({"$defs": {"n": {"properties": {"a": {"$ref": "#/$defs/n"}}, "type": "object"}},
                "allOf": [{"$ref": "#/$defs/n"}, {"$ref": "#/$defs/n"}]}),
        ] {
            Schema::new(&schema).unwrap().violations(&deep);
        }
    }

    #[test]
    fn references_that_cannot_be_followed_are_refused() {
        let refusal = |schema: Value| Schema::new(&schema).unwrap_err().to_string();
        assert!(refusal(json!({"$ref": "#/$defs/none"})).contains("not in the schema"));
        assert!(refusal(json!({"$ref": "https://json-schema.org/draft/2020-12/schema"})).contains("not in the schema"));
        let inner = json!({"$defs": {"a": {"$id": "https://x.example/a"}}, "$ref": "#/$defs/a"});
        assert!(refusal(inner).contains("`$id` below its root"));
        let own = json!({"$id": "https://x.example/s.json", "$defs": {"n": {"type": "null"}}, "items": {"$ref": "s.json#/$defs/n"}});
        assert!(invalid(&own, &json!([1])));
    }

    #[test]
    fn patterns_are_few_and_small() {
        let patterns = |count: usize| {
            let each = (0..count).map(|index| json!({"pattern": format!("^a{index}$")}));
            Schema::new(&json!({"anyOf": each.collect::<Vec<_>>()}))
        };
        assert!(patterns(64).is_ok());
        assert!(patterns(65).unwrap_err().to_string().contains("more than 64 patterns"));
        let named: serde_json::Map<_, _> = (0..65).map(|index| (format!("^a{index}$"), json!(true))).collect();
        assert!(Schema::new(&json!({"patternProperties": named})).is_err());
        let large = Schema::new(&json!({"pattern": "((a{100}){100}){100}"})).unwrap_err();
        assert!(large.to_string().ends_with("is not a \"regex\" (or it is too large) at /pattern"), "{large}");
        let large = json!({"description": "x".repeat(BYTES_MAX)});
        assert!(Schema::new(&large).unwrap_err().to_string().contains("256 KiB"));
        assert!(Schema::parse(&large.to_string()).is_err());
    }

    #[test]
    fn violations_are_short_whatever_the_model_wrote() {
        let schema = Schema::new(&json!({"additionalProperties": {"type": "null"}})).unwrap();
        let long: serde_json::Map<_, _> =
            (0..100).map(|index| (format!("{}{index}", "é".repeat(2_000)), json!("ü".repeat(2_000)))).collect();
        let violations = schema.violations(&Value::from(long).to_string());
        assert!(!violations.is_empty() && violations.join("\n").len() <= VIOLATIONS_BYTES_MAX);
        assert!(violations[0].starts_with('…') && violations[0].contains("0: "), "{}", violations[0]);
        let many = schema.violations(&json!({"a": 1}).to_string().replace('1', "[1]"));
        assert_eq!(many, ["/a: [1] is not of type \"null\""]);
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
