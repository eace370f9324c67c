//! The OpenAI form of a chat request. Fields that we do not know go to the provider as they came.

use serde_json::{Map, Value};

use super::{Ask, PolicyWish, ask, check_messages, model_name, object};
use crate::{durability::Delivery, error::Problem};

/// Whether the stream shows the usage chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UsageChunk {
    /// The client asked for it.
    Shown,
    /// It is ours only.
    Dropped,
}

/// A chat request in OpenAI's form.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct CompletionsRequest {
    /// The model asked for; routing chooses without it.
    pub(crate) model: Option<String>,
    /// The rest.
    pub(crate) ask: Ask,
    /// How the answer goes out.
    pub(crate) delivery: Delivery,
    /// For a stream.
    pub(crate) usage_chunk: UsageChunk,
}

/// Reads the body of `POST /v1/chat/completions`.
pub(crate) fn parse(bytes: &[u8]) -> Result<CompletionsRequest, Problem> {
    let mut body = object(bytes)?;
    let model = model_name(body.get("model"), "model")?;
    check_messages(body.get("messages"), "messages")?;
    let delivery = delivery(&body)?;
    let usage_chunk = usage_chunk(&body)?;
    for ours in ["model", "stream", "stream_options"] {
        body.shift_remove(ours);
    }
    Ok(CompletionsRequest { model, ask: ask(&body, PolicyWish::default()), delivery, usage_chunk })
}

fn delivery(body: &Map<String, Value>) -> Result<Delivery, Problem> {
    match body.get("stream") {
        None | Some(Value::Null | Value::Bool(false)) => Ok(Delivery::Whole),
        Some(Value::Bool(true)) => Ok(Delivery::Stream),
        Some(_) => Err(Problem::invalid("stream", "must be true or false")),
    }
}

fn usage_chunk(body: &Map<String, Value>) -> Result<UsageChunk, Problem> {
    let wanted = match body.get("stream_options") {
        None | Some(Value::Null) => false,
        Some(Value::Object(options)) => match options.get("include_usage") {
            None | Some(Value::Null) => false,
            Some(Value::Bool(wanted)) => *wanted,
            Some(_) => return Err(Problem::invalid("stream_options.include_usage", "must be true or false")),
        },
        Some(_) => return Err(Problem::invalid("stream_options", "must be an object")),
    };
    Ok(if wanted { UsageChunk::Shown } else { UsageChunk::Dropped })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused_param(body: &str) -> Option<String> {
        parse(body.as_bytes()).unwrap_err().report(crate::error::Shape::OpenAi).param
    }

    #[test]
    fn unknown_fields_keep_their_place_and_our_own_are_taken_out() {
        let request = parse(
            br#"{"z":1,"model":"a/b:c","vendor":{"x":[1,2]},"messages":[{"role":"user","content":"hello"}],"stream":true,
                "stream_options":{"include_usage":true},"seed":7}"#,
        )
        .unwrap();
        assert_eq!(request.model.as_deref(), Some("a/b:c"));
        assert_eq!(
            request.ask.original,
            r#"{"z":1,"vendor":{"x":[1,2]},"messages":[{"role":"user","content":"hello"}],"seed":7}"#
        );
        assert_eq!((request.delivery, request.usage_chunk), (Delivery::Stream, UsageChunk::Shown));
    }

    #[test]
    fn absent_empty_and_star_mean_that_routing_chooses() {
        for model in ["", r#""model":null,"#, r#""model":"","#, r#""model":"*","#] {
            let request = parse(format!(r#"{{{model}"messages":[{{}}]}}"#).as_bytes()).unwrap();
            assert_eq!(request.model, None, "{model}");
        }
    }

    #[test]
    fn a_wrong_field_is_named() {
        assert_eq!(refused_param("{}").as_deref(), Some("messages"));
        assert_eq!(refused_param(r#"{"messages":[]}"#).as_deref(), Some("messages"));
        assert_eq!(refused_param(r#"{"messages":"hi"}"#).as_deref(), Some("messages"));
        assert_eq!(refused_param(r#"{"messages":[{},7]}"#).as_deref(), Some("messages[1]"));
        assert_eq!(refused_param(r#"{"messages":[{}],"model":4}"#).as_deref(), Some("model"));
        assert_eq!(refused_param(r#"{"messages":[{}],"stream":"yes"}"#).as_deref(), Some("stream"));
        assert_eq!(refused_param(r#"{"messages":[{}],"stream_options":1}"#).as_deref(), Some("stream_options"));
    }

    #[test]
    fn what_is_not_an_object_is_refused_as_json() {
        for body in ["", "[]", "nonsense", "{\"messages\":"] {
            assert!(matches!(parse(body.as_bytes()), Err(Problem::ParseBody(_))), "{body}");
        }
    }

    #[test]
    fn the_estimate_counts_characters_and_the_requested_limit() {
        let request = parse(br#"{"messages":[{"role":"user","content":"12345678"}],"max_tokens":9}"#).unwrap();
        assert_eq!((request.ask.estimated_input_tokens, request.ask.estimated_output_tokens), (2, 9));
        let request = parse(br#"{"messages":[{"role":"user","content":"x"}]}"#).unwrap();
        assert_eq!(request.ask.estimated_output_tokens, tokenhub_domain::limits::ESTIMATED_OUTPUT_TOKENS);
    }
}
