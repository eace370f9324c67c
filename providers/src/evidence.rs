//! Reads the many JSON forms of a provider's error into one.
//!
//! Pure. Knows `{"error": {...}}`, `{"error": "text"}`, bare `{"message", "code"}`, a bare `detail`, and a list
//! around any of them; everything else counts as plain text. Judges nothing.

use serde_json::Value;

/// What an error body says, in its own words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ErrorFields {
    pub(crate) message: String,
    pub(crate) code: Option<String>,
    pub(crate) kind: Option<String>,
    pub(crate) param: Option<String>,
    /// A code that is an HTTP status, as gateways send inside a 200.
    pub(crate) status: Option<u16>,
}

impl ErrorFields {
    /// The fields of an error body.
    pub(crate) fn of(body: &[u8]) -> Self {
        match serde_json::from_slice::<Value>(body) {
            Ok(value) => Self::of_value(&value),
            Err(_) => Self { message: String::from_utf8_lossy(body).trim().to_owned(), ..Self::default() },
        }
    }

    fn of_value(value: &Value) -> Self {
        let value = value.as_array().and_then(|list| list.first()).unwrap_or(value);
        match value.get("error") {
            Some(Value::String(message)) => Self { message: message.clone(), ..Self::of_object(value) },
            Some(error) if error.is_object() => Self::of_object(error),
            Some(_) | None => Self::of_object(value),
        }
    }

    fn of_object(error: &Value) -> Self {
        let text = |name: &str| error.get(name).and_then(Value::as_str).map(str::to_owned);
        let code = error.get("code").filter(|code| code.is_string() || code.is_number());
        let status = code.and_then(Value::as_u64).and_then(|code| u16::try_from(code).ok());
        let message = ["message", "detail"]
            .into_iter()
            .find_map(text)
            .or_else(|| error.as_str().map(str::to_owned))
            .unwrap_or_else(|| error.get("detail").unwrap_or(error).to_string());
        Self {
            message,
            code: code.and_then(Value::as_str).map(str::to_owned).or_else(|| text("status")),
            kind: text("type"),
            param: text("param"),
            status: status.filter(|status| (400..600).contains(status)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> ErrorFields {
        ErrorFields::of(body.as_bytes())
    }

    fn wanted(code: Option<&str>, kind: Option<&str>, status: Option<u16>) -> ErrorFields {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        ErrorFields { message: "m".to_owned(), code: owned(code), kind: owned(kind), param: None, status }
    }

    #[test]
    fn every_known_form_gives_message_code_and_type() {
        for (body, wanted) in [
            (r#"{"error":{"message":"m","type":"t","param":null,"code":"c"}}"#, wanted(Some("c"), Some("t"), None)),
            (
                r#"{"type":"error","error":{"type":"overloaded_error","message":"m"}}"#,
                wanted(None, Some("overloaded_error"), None),
            ),
            (r#"{"error":"m"}"#, wanted(None, None, None)),
            (r#"{"object":"error","message":"m","type":"t","code":400}"#, wanted(None, Some("t"), Some(400))),
            (r#"{"error":{"message":"m","code":429}}"#, wanted(None, None, Some(429))),
            (r#"{"error":{"message":"m","code":7}}"#, wanted(None, None, None)),
            (
                r#"[{"error":{"code":429,"message":"m","status":"RESOURCE_EXHAUSTED"}}]"#,
                wanted(Some("RESOURCE_EXHAUSTED"), None, Some(429)),
            ),
            (r#"{"detail":"m"}"#, wanted(None, None, None)),
            ("m\n", wanted(None, None, None)),
        ] {
            assert_eq!(read(body), wanted, "{body}");
        }
    }

    #[test]
    fn what_has_no_message_is_quoted() {
        assert_eq!(read(r#"{"detail":[{"loc":["body"]}]}"#).message, r#"[{"loc":["body"]}]"#);
        assert_eq!(read("<html>bad gateway</html>").message, "<html>bad gateway</html>");
        assert_eq!(read("").message, "");
    }

    #[test]
    fn the_named_field_is_kept() {
        let fields = ErrorFields::of(br#"{"error":{"message":"m","param":"max_tokens"}}"#);
        assert_eq!(fields.param.as_deref(), Some("max_tokens"));
    }
}
