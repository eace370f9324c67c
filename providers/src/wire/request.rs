//! The bytes of a request: the caller's, with the model, the delivery and sometimes the output limit set.

use std::borrow::Cow;

use serde_json::{Value, json};
use tokenhub_domain::{Dialect, ModelId, RawFields};

use super::patch::{Edit, NotAnObject, patch};

/// How the answer is to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// In one body.
    Whole,
    /// As events, token counts included.
    Streamed,
}

impl Delivery {
    /// What to accept.
    pub(crate) fn media_type(self) -> &'static str {
        match self {
            Self::Whole => "application/json",
            Self::Streamed => "text/event-stream",
        }
    }
}

/// The body for an upstream of the same protocol.
pub(crate) fn request_body(
    dialect: Dialect,
    model: &ModelId,
    body: &str,
    max_output_tokens: Option<u64>,
    delivery: Delivery,
) -> Result<String, NotAnObject> {
    let fields = RawFields::read(body).map_err(|_| NotAnObject)?;
    let mut edits = vec![Edit { field: "model", json: json!(model).to_string() }];
    if let Some(limit) = max_output_tokens {
        edits.push(Edit { field: limit_field(dialect, &fields), json: limit.to_string() });
    }
    match (delivery, fields.get("stream")) {
        (Delivery::Streamed, Some("true")) | (Delivery::Whole, None | Some("false" | "null")) => {}
        (Delivery::Streamed, _) => edits.push(Edit { field: "stream", json: "true".to_owned() }),
        (Delivery::Whole, _) => edits.push(Edit { field: "stream", json: "false".to_owned() }),
    }
    if (delivery, dialect) == (Delivery::Streamed, Dialect::Chat) {
        edits.extend(usage_request(&fields));
    }
    patch(body, &fields, &edits)
}

/// A body of the Responses protocol whose answer is waited for. Runs in the background are the gateway's own: an upstream
/// that began one would answer with a promise that nobody follows up.
pub(crate) fn in_foreground(body: &str) -> Result<Cow<'_, str>, NotAnObject> {
    if memchr::memmem::find(body.as_bytes(), b"background").is_none() {
        return Ok(Cow::Borrowed(body));
    }
    let fields = RawFields::read(body).map_err(|_| NotAnObject)?;
    if fields.get("background") != Some("true") {
        return Ok(Cow::Borrowed(body));
    }
    patch(body, &fields, &[Edit { field: "background", json: "false".to_owned() }]).map(Cow::Owned)
}

/// A body of the Responses protocol whose answer is fetched later: it has to be kept until then.
pub(crate) fn in_background(body: &str) -> Result<String, NotAnObject> {
    let fields = RawFields::read(body).map_err(|_| NotAnObject)?;
    let set = |field| Edit { field, json: "true".to_owned() };
    patch(body, &fields, &[set("background"), set("store")])
}

/// The body with its model set and nothing else.
pub(crate) fn with_model(body: &str, model: &ModelId) -> Result<String, NotAnObject> {
    let fields = RawFields::read(body).map_err(|_| NotAnObject)?;
    patch(body, &fields, &[Edit { field: "model", json: json!(model).to_string() }])
}

fn limit_field(dialect: Dialect, fields: &RawFields<'_>) -> &'static str {
    match dialect {
        Dialect::Chat if fields.get("max_completion_tokens").is_some() => "max_completion_tokens",
        Dialect::Chat | Dialect::Messages => "max_tokens",
        Dialect::Responses => "max_output_tokens",
    }
}

/// Chat Completions tells the token counts of a stream only when asked; the ledger needs them.
fn usage_request(fields: &RawFields<'_>) -> Option<Edit> {
    let edit = |options: Value| Some(Edit { field: "stream_options", json: options.to_string() });
    let options = fields.get("stream_options").and_then(|json| serde_json::from_str::<Value>(json).ok());
    match options {
        Some(Value::Object(options)) if options.get("include_usage") == Some(&Value::Bool(true)) => None,
        Some(Value::Object(mut options)) => {
            options.insert("include_usage".to_owned(), Value::Bool(true));
            edit(Value::Object(options))
        }
        _ => edit(json!({"include_usage": true})),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chat(body: &str, max_output_tokens: Option<u64>, delivery: Delivery) -> String {
        request_body(Dialect::Chat, &"m/x:1".into(), body, max_output_tokens, delivery).unwrap()
    }

    #[test]
    fn only_the_model_changes_in_a_whole_request() {
        assert_eq!(
            chat(r#"{"vendor": {"b":1.0},"model":"other", "seed":7}"#, None, Delivery::Whole),
            r#"{"vendor": {"b":1.0},"model":"m/x:1", "seed":7}"#
        );
        for dialect in Dialect::ALL {
            let body = r#"{"model":"a","stream":false,"max_tokens":1}"#;
            let sent = request_body(dialect, &"b".into(), body, None, Delivery::Whole).unwrap();
            assert_eq!(sent, r#"{"model":"b","stream":false,"max_tokens":1}"#);
        }
    }

    #[test]
    fn the_output_limit_replaces_the_field_of_the_protocol() {
        assert_eq!(chat("{}", Some(5), Delivery::Whole), r#"{"max_tokens":5,"model":"m/x:1"}"#);
        assert_eq!(
            chat(r#"{"max_completion_tokens":9}"#, Some(5), Delivery::Whole),
            r#"{"model":"m/x:1","max_completion_tokens":5}"#
        );
        let of = |dialect| request_body(dialect, &"m".into(), r#"{"model":""}"#, Some(5), Delivery::Whole).unwrap();
        assert_eq!(of(Dialect::Responses), r#"{"max_output_tokens":5,"model":"m"}"#);
        assert_eq!(of(Dialect::Messages), r#"{"max_tokens":5,"model":"m"}"#);
    }

    #[test]
    fn a_chat_stream_always_asks_for_usage_and_keeps_other_options() {
        assert_eq!(
            chat(
                r#"{"model":"","stream_options":{"include_usage":false,"x":1},"stream":true}"#,
                None,
                Delivery::Streamed
            ),
            r#"{"model":"m/x:1","stream_options":{"include_usage":true,"x":1},"stream":true}"#
        );
        let asked = r#"{"model":"m/x:1","stream":true,"stream_options": {"include_usage" : true}}"#;
        assert_eq!(chat(asked, None, Delivery::Streamed), asked);
        let messages =
            request_body(Dialect::Messages, &"m".into(), r#"{"model":"","stream":true}"#, None, Delivery::Streamed);
        assert_eq!(messages.unwrap(), r#"{"model":"m","stream":true}"#);
    }

    #[test]
    fn only_a_request_for_the_background_is_brought_back_from_it() {
        let asked = r#"{"model":"m","background": true,"store":true,"input":"in the background"}"#;
        let sent = r#"{"model":"m","background": false,"store":true,"input":"in the background"}"#;
        assert_eq!(in_foreground(asked).unwrap(), sent);
        for body in [sent, r#"{"input":"the background"}"#, r#"{"background":null}"#, "{}"] {
            assert_eq!(in_foreground(body).unwrap(), body);
        }
    }

    #[test]
    fn a_whole_answer_is_asked_for_even_where_the_caller_wrote_stream() {
        assert_eq!(chat(r#"{"model":1,"stream":true}"#, None, Delivery::Whole), r#"{"model":"m/x:1","stream":false}"#);
    }
}
