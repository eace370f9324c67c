//! Whether a real provider would take a request: the rules whose breach a gateway is to blame for.
//!
//! Stricter than needed nowhere, laxer in all that a gateway only passes on, such as the contents of a schema.

mod chat;
mod messages;
mod responses;

use serde_json::{Map, Value};

use crate::dialect::Route;
use crate::reply::ErrorBody;
use crate::request::Request;

/// The outcome of a check.
type Checked = Result<(), ErrorBody>;

/// What a real provider would object to, if anything.
pub(crate) fn objection(request: &Request) -> Option<ErrorBody> {
    let fields = || match serde_json::from_slice(&request.raw) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(_) | Err(_) => refuse("the request body must be an object", None, None),
    };
    let checked = match request.route {
        Route::ChatCompletions => fields().and_then(|fields| chat::check(&fields)),
        Route::Responses => fields().and_then(|fields| responses::check(&fields)),
        Route::Messages | Route::CountTokens => {
            fields().and_then(|fields| messages::check(request.route, &request.head.headers, &fields))
        }
        Route::Embeddings => fields().and_then(|fields| required(&fields, "input")),
        Route::Models => Ok(()),
    };
    checked.err()
}

fn refuse<T>(message: impl Into<String>, param: Option<String>, code: Option<&str>) -> Result<T, ErrorBody> {
    Err(ErrorBody { message: message.into(), kind: None, code: code.map(str::to_owned), param })
}

/// Refuses without a parameter when `holds` does not.
fn demand(holds: bool, message: impl FnOnce() -> String) -> Checked {
    if holds { Ok(()) } else { refuse(message(), None, None) }
}

/// A parameter that `OpenAI` misses.
fn required(fields: &Map<String, Value>, name: &str) -> Checked {
    if fields.get(name).is_some_and(|value| !value.is_null()) { Ok(()) } else { missing(name) }
}

fn missing<T>(param: &str) -> Result<T, ErrorBody> {
    let message = format!("Missing required parameter: '{param}'.");
    refuse(message, Some(param.to_owned()), Some("missing_required_parameter"))
}

/// A value that `OpenAI` does not take there.
fn invalid<T>(param: String, value: &str, supported: &[&str]) -> Result<T, ErrorBody> {
    let message = format!("Invalid value: '{value}'. Supported values are: '{}'.", supported.join("', '"));
    refuse(message, Some(param), Some("invalid_value"))
}

fn unknown<T>(param: &str) -> Result<T, ErrorBody> {
    refuse(format!("Unknown parameter: '{param}'."), Some(param.to_owned()), Some("unknown_parameter"))
}

fn text<'a>(value: &'a Value, field: &str) -> Option<&'a str> {
    value.get(field).and_then(Value::as_str)
}

fn list(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::request::tests::request;

    /// The objection to a body made of `base` and `change`.
    pub(super) fn refused(route: Route, base: &Value, change: &Value) -> Option<String> {
        let mut body = base.as_object().unwrap().clone();
        body.extend(change.as_object().unwrap().clone());
        body.retain(|_, value| *value != json!("none"));
        let mut request = request(route, &Value::Object(body));
        request.head.headers.insert("anthropic-version", "2023-06-01".parse().unwrap());
        objection(&request).map(|error| error.message)
    }

    #[test]
    fn a_body_must_be_an_object() {
        let request = Request::bare(hyper::Request::new(()).into_parts().0, Route::Messages, "[]".into());
        assert!(objection(&request).is_some());
    }
}
