//! The `check` of a strategy: what is to accept an answer from outside.

use serde_json::Value;
use tokenhub_domain::OutsideCheck;
use tokenhub_formats::Pattern;
use tokenhub_providers::VerifierUrl;

use super::Fields;
use crate::error::Problem;

/// The field of a strategy.
pub(crate) const CHECK: &str = "check";
/// Where the errors about a verifier point.
pub(crate) const URL: &str = "strategy.check.url";
const FORMS: &str = r#"must be {"type": "schema"}, {"type": "regex", "pattern": …} or {"type": "http", "url": …}"#;

/// Reads the check; nothing when there is none. Whether a schema is there, and a host is listed, is looked at by whoever
/// knows.
pub(super) fn parse(strategy: Fields<'_>) -> Result<Option<OutsideCheck>, Problem> {
    let param = strategy.path(CHECK);
    let object = match strategy.get(CHECK) {
        None => return Ok(None),
        Some(Value::Object(object)) => object,
        Some(_) => return Err(Problem::invalid(param, FORMS)),
    };
    let own: &[&str] = match object.get("type").and_then(Value::as_str) {
        Some("schema") => &["type"],
        Some("regex") => &["type", "pattern"],
        Some("http") => &["type", "url"],
        Some(_) | None => return Err(Problem::invalid(format!("{param}.type"), "must be schema, regex or http")),
    };
    if let Some(unknown) = object.keys().find(|name| !own.contains(&name.as_str())) {
        return Err(Problem::UnknownField { param: format!("{param}.{unknown}") });
    }
    let Some(name) = own.get(1) else { return Ok(Some(OutsideCheck::Schema)) };
    let place = format!("{param}.{name}");
    let text = match object.get(*name) {
        None | Some(Value::Null) => return Err(Problem::MissingField { param: place }),
        Some(Value::String(text)) => text,
        Some(_) => return Err(Problem::invalid(place, "must be a string")),
    };
    let refused = |reason: String| Problem::invalid(place.as_str(), reason);
    Ok(Some(if *name == "pattern" {
        Pattern::parse(text).map_err(|error| refused(error.to_string()))?;
        OutsideCheck::Regex { pattern: text.clone() }
    } else {
        let url = VerifierUrl::parse(text).map_err(|error| refused(error.to_string()))?;
        // What is stored is what is called.
        OutsideCheck::Http { url: url.as_str().to_owned() }
    }))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(check: &Value) -> Result<Option<OutsideCheck>, String> {
        let body = json!({"strategy": {"check": check}});
        let fields = Fields::of(body.as_object().unwrap(), "strategy").unwrap();
        parse(fields).map_err(|problem| problem.report(crate::error::Shape::Problem).param.unwrap())
    }

    #[test]
    fn each_type_has_its_fields_and_every_wrong_one_is_refused_by_name() {
        assert_eq!(read(&Value::Null), Ok(None));
        assert_eq!(read(&json!({"type": "schema"})), Ok(Some(OutsideCheck::Schema)));
        let regex = OutsideCheck::Regex { pattern: "^\\d+$".to_owned() };
        assert_eq!(read(&json!({"type": "regex", "pattern": "^\\d+$"})), Ok(Some(regex)));
        let http = OutsideCheck::Http { url: "http://verify.example/a".to_owned() };
        assert_eq!(read(&json!({"type": "http", "url": "http://verify.example/a"})), Ok(Some(http)));
        for (check, param) in [
            (json!("judge"), "strategy.check"),
            (json!({}), "strategy.check.type"),
            (json!({"type": "oracle"}), "strategy.check.type"),
            (json!({"type": "schema", "pattern": "a"}), "strategy.check.pattern"),
            (json!({"type": "regex"}), "strategy.check.pattern"),
            (json!({"type": "regex", "pattern": 1}), "strategy.check.pattern"),
            (json!({"type": "regex", "pattern": "("}), "strategy.check.pattern"),
            (json!({"type": "regex", "pattern": "((a{100}){100}){100}"}), "strategy.check.pattern"),
            (json!({"type": "http", "url": "verify.example"}), URL),
            (json!({"type": "http", "url": "http://169.254.169.254/"}), URL),
        ] {
            assert_eq!(read(&check), Err(param.to_owned()), "{check}");
        }
    }
}
