//! A schema and an output limit in the requests of the three protocols.
//!
//! Owns where a protocol has them. A schema goes by the protocol's own means, in its strict form where the schema allows
//! it; towards Messages, whose means take strict schemas only, any other goes in words.

use serde_json::{Map, Value, json};
use tokenhub_domain::{Dialect, RawFields};

use crate::edit::set_field;

/// The name of a schema that has none.
const SCHEMA_NAME: &str = "structured_output";

/// A schema that a request holds, and its path.
#[derive(Clone, Debug, PartialEq)]
pub struct SchemaField {
    /// Where.
    pub param: &'static str,
    /// The schema.
    pub schema: Value,
}

/// The schema that `body` asks for by its protocol's own means.
pub fn find_schema(dialect: Dialect, body: &str) -> Option<SchemaField> {
    let fields = RawFields::read(body).ok()?;
    let read = |name: &str| fields.get(name).and_then(|raw| serde_json::from_str::<Value>(raw).ok());
    let places: &[(&str, &str, &'static str)] = match dialect {
        Dialect::Chat => &[("response_format", "/json_schema/schema", "response_format.json_schema.schema")],
        Dialect::Responses => &[("text", "/format/schema", "text.format.schema")],
        Dialect::Messages => &[
            ("output_config", "/format/schema", "output_config.format.schema"),
            ("output_format", "/schema", "output_format.schema"),
        ],
    };
    places.iter().find_map(|(name, pointer, param)| {
        read(name)?.pointer(pointer).cloned().map(|schema| SchemaField { param, schema })
    })
}

/// `body` with `schema` shown to the model. `None` when the body is no object.
pub fn place_schema(dialect: Dialect, body: &str, schema: &Value) -> Option<String> {
    let is_strict = is_strict(schema);
    // It names the draft for the check; providers know one dialect of their own.
    let mut schema = schema.clone();
    if let Value::Object(fields) = &mut schema {
        fields.shift_remove("$schema");
    }
    let fields = RawFields::read(body).ok()?;
    let object = |name: &str| -> Map<String, Value> {
        fields.get(name).and_then(|raw| serde_json::from_str(raw).ok()).unwrap_or_default()
    };
    match dialect {
        Dialect::Chat => {
            let format = json!({"name": SCHEMA_NAME, "schema": schema, "strict": is_strict});
            set_field(body, "response_format", &json!({"type": "json_schema", "json_schema": format}))
        }
        Dialect::Responses => {
            let mut text = object("text");
            let format = json!({"type": "json_schema", "name": SCHEMA_NAME, "schema": schema, "strict": is_strict});
            text.insert("format".to_owned(), format);
            set_field(body, "text", &Value::Object(text))
        }
        Dialect::Messages if is_strict => {
            let mut config = object("output_config");
            config.insert("format".to_owned(), json!({"type": "json_schema", "schema": schema}));
            set_field(body, "output_config", &Value::Object(config))
        }
        Dialect::Messages => {
            let words =
                format!("Answer with JSON only, without a word around it, that matches this JSON Schema:\n{schema}");
            let system = fields.get("system").and_then(|raw| serde_json::from_str::<Value>(raw).ok());
            let system = match system {
                Some(Value::String(text)) if !text.is_empty() => json!(format!("{text}\n\n{words}")),
                Some(Value::Array(mut blocks)) => {
                    blocks.push(json!({"type": "text", "text": words}));
                    Value::Array(blocks)
                }
                _ => json!(words),
            };
            set_field(body, "system", &system)
        }
    }
}

/// `body` with an output limit of at most `tokens`: the provider counts tokens, and says so by its finish reason.
pub fn limit_output(dialect: Dialect, body: &str, tokens: u64) -> Option<String> {
    let fields = RawFields::read(body).ok()?;
    let names: &[&str] = match dialect {
        Dialect::Chat => &["max_completion_tokens", "max_tokens"],
        Dialect::Responses => &["max_output_tokens"],
        Dialect::Messages => &["max_tokens"],
    };
    let present: Vec<&&str> = names.iter().filter(|name| fields.get(name).is_some_and(|raw| raw != "null")).collect();
    let set = |body: &str, name: &str| {
        let asked = fields.get(name).and_then(|raw| raw.parse::<u64>().ok());
        set_field(body, name, &json!(asked.map_or(tokens, |asked| asked.min(tokens))))
    };
    if present.is_empty() {
        return set(body, names.first()?);
    }
    present.into_iter().try_fold(body.to_owned(), |body, name| set(&body, name))
}

/// Whether providers take `schema` in their strict form: every object names all that it may hold and demands it, and no
/// keyword is used that one of them refuses there.
fn is_strict(schema: &Value) -> bool {
    schema.get("type").and_then(Value::as_str) == Some("object") && is_closed(schema)
}

fn is_closed(schema: &Value) -> bool {
    let Value::Object(fields) = schema else { return schema.is_boolean() };
    let is_object = fields.get("type").is_some_and(|kind| {
        kind == "object" || kind.as_array().is_some_and(|kinds| kinds.iter().any(|kind| kind == "object"))
    });
    if (is_object || fields.contains_key("properties")) && !demands_all(fields) {
        return false;
    }
    fields.iter().all(|(keyword, value)| match keyword.as_str() {
        "type"
        | "required"
        | "additionalProperties"
        | "enum"
        | "const"
        | "$ref"
        | "$schema"
        | "title"
        | "description" => true,
        "properties" | "$defs" => value.as_object().is_some_and(|named| named.values().all(is_closed)),
        "items" => is_closed(value),
        "anyOf" => value.as_array().is_some_and(|all| all.iter().all(is_closed)),
        _ => false,
    })
}

fn demands_all(fields: &Map<String, Value>) -> bool {
    let required = fields.get("required").and_then(Value::as_array);
    let is_required = |name: &String| required.is_some_and(|required| required.iter().any(|one| one == name.as_str()));
    fields.get("additionalProperties") == Some(&Value::Bool(false))
        && fields.get("properties").and_then(Value::as_object).is_none_or(|all| all.keys().all(is_required))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strict() -> Value {
        json!({"type": "object", "properties": {"a": {"type": "number"}}, "required": ["a"],
            "additionalProperties": false})
    }

    fn placed(dialect: Dialect, body: &str, schema: &Value) -> Value {
        serde_json::from_str(&place_schema(dialect, body, schema).unwrap()).unwrap()
    }

    #[test]
    fn each_protocol_has_its_means_and_the_schema_is_found_there_again() {
        let loose = json!({"type": "object"});
        for (dialect, body) in [
            (Dialect::Chat, r#"{"messages":[]}"#),
            (Dialect::Responses, r#"{"input":"x","text":{"verbosity":"low"}}"#),
            (Dialect::Messages, r#"{"messages":[],"output_config":{"effort":"low"}}"#),
        ] {
            let body = place_schema(dialect, body, &strict()).unwrap();
            assert_eq!(find_schema(dialect, &body).unwrap().schema, strict(), "{dialect:?}");
        }
        assert_eq!(placed(Dialect::Chat, "{}", &strict())["response_format"]["json_schema"]["strict"], true);
        let mut named = strict();
        named["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
        assert_eq!(placed(Dialect::Chat, "{}", &named), placed(Dialect::Chat, "{}", &strict()));
        assert_eq!(placed(Dialect::Chat, "{}", &loose)["response_format"]["json_schema"]["strict"], false);
        let text = &placed(Dialect::Responses, r#"{"text":{"verbosity":"low"}}"#, &strict())["text"];
        assert_eq!((&text["verbosity"], &text["format"]["strict"]), (&json!("low"), &json!(true)));
        let config = &placed(Dialect::Messages, r#"{"output_config":{"effort":"low"}}"#, &strict())["output_config"];
        assert_eq!((&config["effort"], &config["format"]["type"]), (&json!("low"), &json!("json_schema")));
    }

    #[test]
    fn messages_reads_a_schema_that_is_not_strict_in_words() {
        let loose = json!({"type": "object"});
        let text = placed(Dialect::Messages, r#"{"system":"Be brief."}"#, &loose);
        let system = text["system"].as_str().unwrap();
        assert!(system.starts_with("Be brief.\n\n") && system.ends_with(r#"{"type":"object"}"#), "{system}");
        let blocks = placed(Dialect::Messages, r#"{"system":[{"type":"text","text":"a"}]}"#, &loose);
        assert_eq!(blocks["system"].as_array().unwrap().len(), 2);
        assert!(blocks.get("output_config").is_none());
    }

    #[test]
    fn a_schema_is_strict_when_every_object_in_it_is() {
        let inner = |inner: Value| {
            json!({"type": "object", "additionalProperties": false, "required": ["a"],
                "properties": {"a": {"type": "array", "items": inner}}})
        };
        assert!(is_strict(&inner(strict())));
        assert!(!is_strict(&inner(json!({"type": "object"}))));
        assert!(!is_strict(&json!({"type": "object", "additionalProperties": false, "properties": {"a": {}}})));
        assert!(!is_strict(&json!({"type": "array", "items": strict()})));
        assert!(!is_strict(&inner(json!({"type": "string", "minLength": 3}))), "not every provider enforces it");
        assert!(is_strict(&inner(json!({"anyOf": [{"type": "null"}, {"enum": ["pattern"]}]}))));
    }

    #[test]
    fn a_limit_only_ever_gets_smaller() {
        let limited = |dialect, body: &str| limit_output(dialect, body, 10).unwrap();
        assert_eq!(limited(Dialect::Chat, "{}"), r#"{"max_completion_tokens":10}"#);
        assert_eq!(limited(Dialect::Chat, r#"{"max_tokens":50}"#), r#"{"max_tokens":10}"#);
        assert_eq!(limited(Dialect::Responses, r#"{"max_output_tokens":5}"#), r#"{"max_output_tokens":5}"#);
        assert_eq!(limited(Dialect::Messages, r#"{"max_tokens":50}"#), r#"{"max_tokens":10}"#);
    }
}
