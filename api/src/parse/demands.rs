//! What a request asks of routing beside its model: who may stand in, what the model must be able to do, who is asking.
//!
//! Owns the fields of each protocol that say so. Must not know which model can do what.

use tokenhub_domain::{Capability, Dialect, RawFields, limits};

use super::raw::{Kind, Raw, RawObject};
use crate::error::Problem;

/// The field that lists models to fall back on, as `OpenRouter` has it. No provider of ours sees it.
const LIST: &str = "models";
/// What the type of a part is called that holds an image.
const IMAGES: [&str; 3] = ["\"image_url\"", "\"input_image\"", "\"image\""];

/// What a request asks of routing.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Demands {
    /// Models that may answer when the first does not, in this order.
    pub(crate) models: Vec<String>,
    /// What the model must be able to do.
    pub(crate) needs: Vec<Capability>,
    /// The caller's own user.
    pub(crate) user: Option<String>,
}

impl Demands {
    /// Those of a body.
    pub(super) fn read(dialect: Dialect, fields: &RawObject<'_>) -> Result<Self, Problem> {
        let mut needs = Vec::new();
        if has_tools(fields) {
            needs.push(Capability::Tools);
        }
        if has_image(dialect, fields) {
            needs.push(Capability::Vision);
        }
        if has_schema(dialect, fields) {
            needs.push(Capability::JsonSchema);
        }
        Ok(Self { models: models(fields)?, needs, user: user(dialect, fields) })
    }
}

/// `body` as providers may see it.
pub(super) fn without_list(body: String, demands: &Demands) -> String {
    if demands.models.is_empty() {
        return body;
    }
    RawFields::read(&body).map_or_else(|_| body.clone(), |fields| fields.without(LIST))
}

/// The field of a request that needs `capability`.
pub(crate) fn field_of(capability: Capability, dialect: Dialect) -> &'static str {
    match (capability, dialect) {
        (Capability::Tools, _) => "tools",
        (Capability::Vision, Dialect::Responses) => "input",
        (Capability::Vision, Dialect::Chat | Dialect::Messages) => "messages",
        (Capability::JsonSchema, Dialect::Chat) => "response_format",
        (Capability::JsonSchema, Dialect::Responses) => "text.format",
        (Capability::JsonSchema, Dialect::Messages) => "output_config.format",
        (Capability::Reasoning, _) => "reasoning",
        (Capability::Streaming, _) => "stream",
    }
}

fn models(fields: &RawObject<'_>) -> Result<Vec<String>, Problem> {
    let Some(list) = fields.get(LIST) else { return Ok(Vec::new()) };
    let models: Option<Vec<String>> = list.list();
    match models {
        None => Err(Problem::invalid(LIST, "must be an array of model names")),
        Some(models) if models.len() > limits::FALLBACKS_MAX => {
            Err(Problem::invalid(LIST, format!("must not hold more than {} models", limits::FALLBACKS_MAX)))
        }
        Some(models) => Ok(models),
    }
}

fn has_tools(fields: &RawObject<'_>) -> bool {
    let is_filled = |name| fields.get(name).is_some_and(|tools| tools.scan().elements > 0);
    let is_forbidden = fields.get("tool_choice").and_then(Raw::text).as_deref() == Some("none");
    !is_forbidden && (is_filled("tools") || is_filled("functions"))
}

fn has_image(dialect: Dialect, fields: &RawObject<'_>) -> bool {
    let conversation = match dialect {
        Dialect::Chat | Dialect::Messages => "messages",
        Dialect::Responses => "input",
    };
    fields.get(conversation).is_some_and(|value| value.kind() == Kind::Array && value.has_type(&IMAGES))
}

fn has_schema(dialect: Dialect, fields: &RawObject<'_>) -> bool {
    let format = match dialect {
        Dialect::Chat => fields.get("response_format"),
        Dialect::Responses => within(fields, "text", "format"),
        Dialect::Messages => within(fields, "output_config", "format").or_else(|| fields.get("output_format")),
    };
    let kind = format
        .and_then(Raw::object)
        .and_then(|format| format.get("type").and_then(Raw::text).map(|it| it == "json_schema"));
    kind.unwrap_or(false)
}

fn within<'a>(fields: &RawObject<'a>, outer: &str, inner: &str) -> Option<Raw<'a>> {
    fields.get(outer).and_then(Raw::object)?.get(inner)
}

fn user(dialect: Dialect, fields: &RawObject<'_>) -> Option<String> {
    let named = match dialect {
        Dialect::Chat | Dialect::Responses => fields.get("user").or_else(|| fields.get("safety_identifier")),
        Dialect::Messages => within(fields, "metadata", "user_id"),
    };
    named.and_then(Raw::text).map(std::borrow::Cow::into_owned).filter(|user| !user.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(dialect: Dialect, body: &str) -> Demands {
        Demands::read(dialect, &RawObject::read(body).ok().unwrap()).unwrap()
    }

    #[test]
    fn what_a_request_needs_is_read_in_every_protocol() {
        use Capability::{JsonSchema, Tools, Vision};
        use Dialect::{Chat, Messages, Responses};
        for (dialect, body, needs) in [
            (Chat, r#"{"messages":[{"content":"an \"image_url\" and \"type\": \"image\""}]}"#, &[][..]),
            (Chat, r#"{"tools":[],"messages":[{"content":[{"type":"text","text":"image"}]}]}"#, &[]),
            (Chat, r#"{"tools":[{}],"tool_choice":"none"}"#, &[]),
            (Chat, r#"{"response_format":{"type":"json_object"}}"#, &[]),
            (
                Chat,
                r#"{"tools":[{"type":"function"}],"response_format":{"type" : "json_schema"}}"#,
                &[Tools, JsonSchema],
            ),
            (
                Chat,
                r#"{"functions":[{}],"messages":[{"content":[{"type" : "image_url","image_url":{}}]}]}"#,
                &[Tools, Vision],
            ),
            (Responses, r#"{"input":[{"content":[{"image_url":"x","type":"input_image"}]}]}"#, &[Vision]),
            (
                Responses,
                r#"{"input":"\"type\":\"input_image\"","text":{"format":{"type":"json_schema"}}}"#,
                &[JsonSchema],
            ),
            (Messages, r#"{"messages":[{"content":[{"type":"image","source":{}}]}],"tools":[{}]}"#, &[Tools, Vision]),
            (Messages, r#"{"output_config":{"format":{"type":"json_schema"}}}"#, &[JsonSchema]),
        ] {
            assert_eq!(of(dialect, body).needs, needs, "{body}");
        }
    }

    #[test]
    fn a_caller_may_name_its_user_and_its_fallbacks() {
        assert_eq!(of(Dialect::Chat, r#"{"user":"u"}"#).user.as_deref(), Some("u"));
        assert_eq!(of(Dialect::Responses, r#"{"safety_identifier":"s"}"#).user.as_deref(), Some("s"));
        assert_eq!(of(Dialect::Messages, r#"{"metadata":{"user_id":"m"},"user":"x"}"#).user.as_deref(), Some("m"));
        let listed = of(Dialect::Chat, r#"{"models":["a","p/b"],"z":1.0}"#);
        assert_eq!(listed.models, ["a", "p/b"]);
        assert_eq!(without_list(r#"{"models":["a"],"z":1.0}"#.to_owned(), &listed), r#"{"z":1.0}"#);
        for body in [r#"{"models":"a"}"#, r#"{"models":[1]}"#] {
            assert!(Demands::read(Dialect::Chat, &RawObject::read(body).ok().unwrap()).is_err(), "{body}");
        }
    }
}
