//! What is read of a request: the model, how the answer is to come, and the texts, in all three dialects.
//!
//! Reads as little as it can; whether a request is one that a real provider would take is `validation`'s business.

use bytes::Bytes;
use hyper::HeaderMap;
use hyper::header::AUTHORIZATION;
use hyper::http::request::Parts;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::dialect::{Dialect, Route};

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) head: Parts,
    pub(crate) raw: Bytes,
    pub(crate) route: Route,
    pub(crate) model: String,
    pub(crate) delivery: Delivery,
}

/// How the client wants the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delivery {
    Whole,
    Streamed,
    /// With a usage chunk; only Chat Completions knows the difference.
    StreamedWithUsage,
}

/// One message of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) role: String,
    pub(crate) text: String,
}

#[derive(Deserialize)]
struct Probe {
    #[serde(default)]
    model: String,
    #[serde(default)]
    stream: Option<bool>,
    #[serde(default)]
    stream_options: Option<StreamOptions>,
}

#[derive(Deserialize)]
struct StreamOptions {
    #[serde(default)]
    include_usage: Option<bool>,
}

impl Request {
    /// Reads the fields that decide about the form of the answer.
    pub(crate) fn read(head: Parts, route: Route, raw: Bytes) -> Result<Self, serde_json::Error> {
        let probe: Probe = serde_json::from_slice(&raw)?;
        let with_usage = probe.stream_options.and_then(|options| options.include_usage).unwrap_or(false);
        let delivery = match (probe.stream.unwrap_or(false) && route.generates(), with_usage) {
            (false, _) => Delivery::Whole,
            (true, false) => Delivery::Streamed,
            (true, true) => Delivery::StreamedWithUsage,
        };
        Ok(Self { head, route, model: probe.model, delivery, raw })
    }

    /// A request without a body that could be read.
    pub(crate) fn bare(head: Parts, route: Route, raw: Bytes) -> Self {
        Self { head, raw, route, model: String::new(), delivery: Delivery::Whole }
    }

    /// The wire form of the answer.
    pub(crate) fn dialect(&self) -> Dialect {
        if self.route == Route::Models && self.head.headers.contains_key("anthropic-version") {
            return Dialect::Messages;
        }
        self.route.dialect()
    }

    /// The body as an object; empty when it is none.
    pub(crate) fn fields(&self) -> Map<String, Value> {
        serde_json::from_slice(&self.raw).unwrap_or_default()
    }

    /// The messages, text parts joined, what the system says first.
    pub(crate) fn messages(&self) -> Vec<Message> {
        #[derive(Deserialize)]
        struct Body<'a> {
            #[serde(borrow, default)]
            system: Option<&'a RawValue>,
            #[serde(borrow, default)]
            instructions: Option<&'a RawValue>,
            #[serde(borrow, default)]
            messages: Option<&'a RawValue>,
            #[serde(borrow, default)]
            input: Option<&'a RawValue>,
        }
        let Ok(body) = serde_json::from_slice::<Body<'_>>(&self.raw) else { return Vec::new() };
        let parsed = |raw: Option<&RawValue>| raw.and_then(|raw| serde_json::from_str(raw.get()).ok());
        let (system, list) = match self.route {
            Route::ChatCompletions => (None, parsed(body.messages)),
            Route::Messages | Route::CountTokens => (parsed(body.system), parsed(body.messages)),
            Route::Responses => (parsed(body.instructions), parsed(body.input)),
            Route::Embeddings | Route::Models => (None, None),
        };
        let system = system.as_ref().map(|text| Message { role: "system".to_owned(), text: text_of(Some(text)) });
        system.into_iter().chain(messages_in(list.as_ref())).collect()
    }
}

/// The messages of a list, or the one that a plain text is.
pub(crate) fn messages_in(list: Option<&Value>) -> Vec<Message> {
    let read = |item: &Value| {
        let role = match item.get("role").and_then(Value::as_str).unwrap_or_default() {
            // What Responses calls a system message.
            "developer" if item.get("type").is_some() => "system",
            role => role,
        };
        let text = ["content", "output", "arguments"].into_iter().find_map(|field| item.get(field));
        Message { role: role.to_owned(), text: text_of(text) }
    };
    match list {
        Some(Value::Array(items)) => items.iter().map(read).collect(),
        Some(text @ Value::String(_)) => vec![Message { role: "user".to_owned(), text: text_of(Some(text)) }],
        Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_)) | None => Vec::new(),
    }
}

/// The text of a content field, parts joined. A tool result counts by what it holds.
pub(crate) fn text_of(content: Option<&Value>) -> String {
    match content {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(parts)) => {
            let text = |part: &Value| match part.get("text") {
                Some(Value::String(text)) => Some(text.clone()),
                _ => part.get("content").map(|inner| text_of(Some(inner))),
            };
            parts.iter().filter_map(text).collect::<Vec<_>>().join("\n")
        }
        Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_)) | None => String::new(),
    }
}

/// The caller's credential in `headers`, from whichever header holds one.
pub(crate) fn credential_in(headers: &HeaderMap) -> Option<&str> {
    bearer_in(headers).or_else(|| api_key_in(headers))
}

/// The token of `authorization: Bearer`.
pub(crate) fn bearer_in(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    value.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(|(_, token)| token.trim())
}

/// The value of `x-api-key`.
pub(crate) fn api_key_in(headers: &HeaderMap) -> Option<&str> {
    headers.get("x-api-key")?.to_str().ok()
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::json;

    use super::*;

    /// A request of `route` with this body.
    pub(crate) fn request(route: Route, body: &Value) -> Request {
        let head = hyper::Request::new(()).into_parts().0;
        Request::read(head, route, Bytes::from(body.to_string())).unwrap()
    }

    fn chat(body: &Value) -> Request {
        request(Route::ChatCompletions, body)
    }

    #[test]
    fn the_request_decides_how_the_answer_comes() {
        assert_eq!(chat(&json!({"model": "m"})).delivery, Delivery::Whole);
        assert_eq!(chat(&json!({"stream": true})).delivery, Delivery::Streamed);
        let asked = json!({"stream": true, "stream_options": {"include_usage": true}});
        assert_eq!(chat(&asked).delivery, Delivery::StreamedWithUsage);
        let head = hyper::Request::new(()).into_parts().0;
        assert!(Request::read(head, Route::ChatCompletions, Bytes::from_static(b"{")).is_err());
    }

    #[test]
    fn messages_are_read_with_their_text_parts() {
        let body = json!({"messages": [{"role": "system", "content": "a \"b\""},
            {"role": "user", "content": [{"type": "text", "text": "c"}, {"type": "image_url"}, {"type": "text", "text": "d"}]}]});
        let texts: Vec<String> = chat(&body).messages().into_iter().map(|message| message.text).collect();
        assert_eq!(texts, ["a \"b\"", "c\nd"]);
    }

    #[test]
    fn the_texts_of_every_dialect_are_found() {
        let said = |route, body: &Value| -> Vec<(String, String)> {
            request(route, body).messages().into_iter().map(|message| (message.role, message.text)).collect()
        };
        let pair = |role: &str, text: &str| (role.to_owned(), text.to_owned());
        let messages = json!({"system": [{"type": "text", "text": "s"}], "messages": [{"role": "user", "content":
            [{"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": "r"}]}, {"type": "text", "text": "u"}]}]});
        assert_eq!(said(Route::Messages, &messages), [pair("system", "s"), pair("user", "r\nu")]);
        assert_eq!(said(Route::Responses, &json!({"input": "u"})), [pair("user", "u")]);
        let items = json!({"instructions": "s", "input": [
            {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "d"}]},
            {"type": "function_call_output", "call_id": "c", "output": "o"}]});
        assert_eq!(said(Route::Responses, &items), [pair("system", "s"), pair("system", "d"), pair("", "o")]);
    }

    #[test]
    fn a_credential_is_found_in_either_header() {
        let mut headers = HeaderMap::new();
        assert_eq!(credential_in(&headers), None);
        headers.insert("x-api-key", "k".parse().unwrap());
        assert_eq!(credential_in(&headers), Some("k"));
        headers.insert(AUTHORIZATION, "bearer t".parse().unwrap());
        assert_eq!(credential_in(&headers), Some("t"));
    }
}
