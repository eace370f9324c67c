//! The body of a change to the catalogue, and the version that it was made against.
//!
//! Owns what may be written at all; whether it makes sense with the rest of the catalogue is `config`'s.

use axum::http::{HeaderMap, header::IF_MATCH};
use serde_json::{Map, Value};
use tokenhub_config::{RecordKind, RecordSecrets, misread_field};

use super::object;
use crate::error::Problem;

/// What an administrator wrote about one entry.
#[derive(Clone, Debug, Default)]
pub(crate) struct Written {
    /// The fields, without those that name the entry and without keys.
    pub(crate) fields: Map<String, Value>,
    /// `api_key` or `credentials`; `null` to drop what is stored.
    pub(crate) keys: Option<Value>,
    /// The version that must be in force.
    pub(crate) version: Option<u64>,
    /// The name in the body.
    pub(crate) id: Option<String>,
    /// The provider in the body.
    pub(crate) provider: Option<String>,
}

/// Reads the body.
pub(crate) fn parse(kind: RecordKind, bytes: &[u8], headers: &HeaderMap) -> Result<Written, Problem> {
    let mut fields = object(bytes)?;
    let id = name(&mut fields, kind.name_field())?;
    let provider = if kind == RecordKind::Model { name(&mut fields, "provider_id")? } else { None };
    let in_body = match fields.remove("version") {
        None | Some(Value::Null) => None,
        Some(version) => Some(version.as_u64().ok_or_else(|| Problem::invalid("version", "must be a whole number"))?),
    };
    let keys = if kind == RecordKind::Provider { keys(&mut fields)? } else { None };
    if let Some((field, problem)) = misread_field(kind, &fields) {
        let is_unknown = problem.starts_with(&format!("unknown field `{field}`"));
        return Err(if is_unknown { Problem::UnknownField { param: field } } else { Problem::invalid(field, problem) });
    }
    let version = version_of(headers)?.or(in_body);
    Ok(Written { fields, keys, version, id, provider })
}

/// The version in `If-Match`; `*` is any.
pub(crate) fn version_of(headers: &HeaderMap) -> Result<Option<u64>, Problem> {
    let Some(value) = headers.get(IF_MATCH) else { return Ok(None) };
    let text = value.to_str().unwrap_or_default().trim();
    if text == "*" {
        return Ok(None);
    }
    let wrong = || Problem::InvalidHeader { header: "if-match", reason: "must be the ETag of the entry".to_owned() };
    text.trim_start_matches("W/").trim_matches('"').parse().map(Some).map_err(|_| wrong())
}

fn name(fields: &mut Map<String, Value>, field: &str) -> Result<Option<String>, Problem> {
    match fields.remove(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(Problem::invalid(field, "must be a string")),
    }
}

fn keys(fields: &mut Map<String, Value>) -> Result<Option<Value>, Problem> {
    let (single, several) = (fields.remove("api_key"), fields.remove("credentials"));
    let (field, value) = match (single, several) {
        (Some(_), Some(_)) => {
            return Err(Problem::invalid("credentials", "api_key and credentials exclude each other"));
        }
        (Some(key), None) => ("api_key", key),
        (None, Some(list)) => ("credentials", list),
        (None, None) => return Ok(None),
    };
    let is_right = match (&value, field) {
        (Value::Null, _) => true,
        (Value::String(key), "api_key") => !key.is_empty(),
        (Value::Array(_), "credentials") => RecordSecrets::parse(&value).is_some(),
        (Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) | Value::Object(_), _) => false,
    };
    let rule = if field == "api_key" { "must be a text" } else { "must be a list of {id, api_key}" };
    if is_right { Ok(Some(value)) } else { Err(Problem::invalid(field, rule)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Shape;

    fn refused(kind: RecordKind, body: &str) -> Option<String> {
        parse(kind, body.as_bytes(), &HeaderMap::new()).unwrap_err().report(Shape::Problem).param
    }

    #[test]
    fn a_field_at_fault_is_named() {
        for (kind, body, param) in [
            (RecordKind::Model, r#"{"weight":"heavy"}"#, "weight"),
            (RecordKind::Model, r#"{"wait":1}"#, "wait"),
            (RecordKind::Model, r#"{"api_key":"x"}"#, "api_key"),
            (RecordKind::Model, r#"{"id":7}"#, "id"),
            (RecordKind::Provider, r#"{"version":-1}"#, "version"),
            (RecordKind::Provider, r#"{"api_key":""}"#, "api_key"),
            (RecordKind::Provider, r#"{"api_key":"a","credentials":[]}"#, "credentials"),
            (RecordKind::Provider, r#"{"credentials":[{"id":"a"}]}"#, "credentials"),
            (RecordKind::Alias, r#"{"sticky_by":"mood"}"#, "sticky_by"),
        ] {
            assert_eq!(refused(kind, body).as_deref(), Some(param), "{body}");
        }
    }

    #[test]
    fn keys_and_names_are_no_fields_and_the_header_wins() {
        let mut headers = HeaderMap::new();
        headers.insert(IF_MATCH, "\"7\"".parse().unwrap());
        let body = br#"{"id":"p","api_key":"sk-secret","base_url":"http://h","version":3}"#;
        let written = parse(RecordKind::Provider, body, &headers).unwrap();
        assert_eq!((written.id.as_deref(), written.version), (Some("p"), Some(7)));
        assert_eq!(written.fields.keys().collect::<Vec<_>>(), ["base_url"]);
        assert_eq!(written.keys, Some("sk-secret".into()));
        headers.insert(IF_MATCH, "*".parse().unwrap());
        assert_eq!(parse(RecordKind::Provider, body, &headers).unwrap().version, Some(3));
        headers.insert(IF_MATCH, "yesterday".parse().unwrap());
        assert!(parse(RecordKind::Provider, body, &headers).is_err());
    }
}
