//! A chat request in one of the three protocols: what a gateway must know of it. The body itself stays as it came, and
//! fields that are not named here are the provider's to judge.

use std::borrow::Cow;

use bytes::Bytes;
use tokenhub_domain::{Capability, Dialect, OutputWish, limits};
use tokenhub_formats::Program;

use super::{
    Ask, BYTES_PER_TOKEN, Demands, PolicyWish, checked_model_name, demands,
    raw::{Kind, Raw, RawObject},
    wishes::{self, Manner, OutputFields},
};
use crate::{durability::Delivery, error::Problem, validation::Validation};

/// Whether the stream shows the usage chunk of Chat Completions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UsageChunk {
    /// The client asked for it.
    Shown,
    /// It is ours only.
    Dropped,
}

/// A chat request in a protocol of its own.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ProtocolRequest {
    /// The model asked for; routing chooses without it.
    pub(crate) model: Option<String>,
    /// The body and what is estimated of it.
    pub(crate) ask: Ask,
    /// How the answer goes out.
    pub(crate) delivery: Delivery,
    /// For a stream.
    pub(crate) usage_chunk: UsageChunk,
    /// The response that this one goes on from.
    pub(crate) previous_response: Option<String>,
    /// The program that a directive asks for.
    pub(crate) program: Option<Program>,
}

/// Where a protocol keeps what we look for.
struct Names {
    /// The conversation.
    conversation: &'static str,
    /// Limits of the answer's length, the first that is there counts.
    limits: &'static [&'static str],
    /// Other texts that the model reads.
    texts: &'static [&'static str],
}

const fn names(dialect: Dialect) -> Names {
    match dialect {
        Dialect::Chat => {
            Names { conversation: "messages", limits: &["max_completion_tokens", "max_tokens"], texts: &[] }
        }
        Dialect::Responses => Names { conversation: "input", limits: &["max_output_tokens"], texts: &["instructions"] },
        Dialect::Messages => Names { conversation: "messages", limits: &["max_tokens"], texts: &["system"] },
    }
}

/// Fields of Responses that stand for a conversation kept elsewhere.
const KEPT_CONVERSATIONS: [&str; 3] = ["prompt", "previous_response_id", "conversation"];

/// Reads the body of a chat route.
pub(crate) fn parse(dialect: Dialect, body: Bytes, validation: Validation) -> Result<ProtocolRequest, Problem> {
    let original = text(body)?;
    let fields = RawObject::read(&original)?;
    let model = model(&fields)?;
    let estimated_input_tokens = input_tokens(dialect, &fields)?;
    let limit = output_limit(dialect, &fields)?;
    let delivery = delivery(dialect, &fields)?;
    let usage_chunk = match dialect {
        Dialect::Chat => usage_chunk(&fields)?,
        Dialect::Responses | Dialect::Messages => UsageChunk::Dropped,
    };
    let previous_response = match dialect {
        Dialect::Responses => fields.get("previous_response_id").and_then(Raw::text).map(Cow::into_owned),
        Dialect::Chat | Dialect::Messages => None,
    };
    let mut demands = Demands::read(dialect, &fields)?;
    if delivery == Delivery::Stream {
        demands.needs.push(Capability::Streaming);
    }
    let mut ask = Ask {
        original: demands::without_list(original, &demands),
        estimated_input_tokens,
        estimated_output_tokens: limit.unwrap_or(limits::ESTIMATED_OUTPUT_TOKENS),
        policy: PolicyWish::default(),
        demands,
        output: OutputWish::default(),
    };
    let manner = Manner { dialect, delivery, stream_param: "stream", validation };
    let program = wishes::apply(&mut ask, OutputFields::default(), manner)?;
    Ok(ProtocolRequest { model, ask, delivery, usage_chunk, previous_response, program })
}

fn delivery(dialect: Dialect, fields: &RawObject<'_>) -> Result<Delivery, Problem> {
    let is_streamed = flag(fields, "stream", "stream")?;
    let is_background = dialect == Dialect::Responses && flag(fields, "background", "background")?;
    match (is_background, is_streamed) {
        (true, true) => Err(Problem::invalid("background", "cannot be combined with `stream`")),
        (true, false) if fields.get("store").is_some_and(|store| store.flag() == Some(false)) => {
            Err(Problem::invalid("store", "must not be false with `background`, whose answer is kept"))
        }
        (true, false) => Ok(Delivery::Background),
        (false, true) => Ok(Delivery::Stream),
        (false, false) => Ok(Delivery::Whole),
    }
}

/// The body as text, without a copy.
pub(super) fn text(body: Bytes) -> Result<String, Problem> {
    String::from_utf8(body.into()).map_err(|error| {
        Problem::ParseBody(format!("it is not UTF-8 from byte {} on", error.utf8_error().valid_up_to()))
    })
}

pub(super) fn model(fields: &RawObject<'_>) -> Result<Option<String>, Problem> {
    match fields.get("model") {
        None => Ok(None),
        Some(value) => match value.text() {
            Some(name) => checked_model_name(&name, "model"),
            None => Err(Problem::invalid("model", "must be a string")),
        },
    }
}

/// Refuses a conversation that no provider could answer; the bytes of its text otherwise.
pub(super) fn check_conversation(dialect: Dialect, fields: &RawObject<'_>) -> Result<u64, Problem> {
    let param = names(dialect).conversation;
    match fields.get(param) {
        Some(value) => conversation_bytes(dialect, param, value),
        None if dialect == Dialect::Responses && KEPT_CONVERSATIONS.iter().any(|name| fields.get(name).is_some()) => {
            Ok(0)
        }
        None => Err(Problem::MissingField { param: param.to_owned() }),
    }
}

/// The tokens of everything that the model reads, estimated.
fn input_tokens(dialect: Dialect, fields: &RawObject<'_>) -> Result<u64, Problem> {
    let conversation = check_conversation(dialect, fields)?;
    let texts = names(dialect).texts.iter().filter_map(|name| fields.get(name));
    let texts: u64 = texts.map(|value| value.scan().text_bytes).sum();
    // Of tools the model reads the names of the parameters, too.
    let tools = fields.get("tools").map_or(0, Raw::bytes);
    Ok((conversation + texts + tools).div_ceil(BYTES_PER_TOKEN))
}

fn conversation_bytes(dialect: Dialect, param: &str, value: Raw<'_>) -> Result<u64, Problem> {
    let scan = value.scan();
    match (value.kind(), dialect) {
        (Kind::Array, _) if scan.elements == 0 => Err(Problem::invalid(param, "must hold at least one message")),
        (Kind::Array, _) => match scan.misfit {
            None => Ok(scan.text_bytes),
            Some(index) => Err(Problem::invalid(format!("{param}[{index}]"), "must be an object")),
        },
        (Kind::String, Dialect::Responses) if scan.text_bytes == 0 => Err(Problem::invalid(param, "must not be empty")),
        (Kind::String, Dialect::Responses) => Ok(scan.text_bytes),
        (Kind::Object | Kind::Scalar, Dialect::Responses) => {
            Err(Problem::invalid(param, "must be a string or an array of items"))
        }
        (Kind::String | Kind::Object | Kind::Scalar, Dialect::Chat | Dialect::Messages) => {
            Err(Problem::invalid(param, "must be an array of messages"))
        }
    }
}

fn output_limit(dialect: Dialect, fields: &RawObject<'_>) -> Result<Option<u64>, Problem> {
    let mut limit = None;
    for name in names(dialect).limits {
        if let Some(value) = fields.get(name) {
            let tokens = value.positive().ok_or_else(|| Problem::invalid(*name, "must be a whole number above 0"))?;
            limit = limit.or(Some(tokens));
        }
    }
    match (limit, dialect) {
        (None, Dialect::Messages) => Err(Problem::MissingField { param: "max_tokens".to_owned() }),
        (None, Dialect::Chat | Dialect::Responses) | (Some(_), _) => Ok(limit),
    }
}

fn usage_chunk(fields: &RawObject<'_>) -> Result<UsageChunk, Problem> {
    let Some(options) = fields.get("stream_options") else { return Ok(UsageChunk::Dropped) };
    let options = options.object().ok_or_else(|| Problem::invalid("stream_options", "must be an object"))?;
    let is_wanted = flag(&options, "include_usage", "stream_options.include_usage")?;
    Ok(if is_wanted { UsageChunk::Shown } else { UsageChunk::Dropped })
}

fn flag(fields: &RawObject<'_>, name: &str, path: &str) -> Result<bool, Problem> {
    match fields.get(name) {
        None => Ok(false),
        Some(value) => value.flag().ok_or_else(|| Problem::invalid(path, "must be true or false")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Shape;

    fn of(dialect: Dialect, body: &str) -> Result<ProtocolRequest, Problem> {
        parse(dialect, Bytes::copy_from_slice(body.as_bytes()), Validation::Unsaid)
    }

    fn refused(dialect: Dialect, body: &str) -> String {
        of(dialect, body).unwrap_err().report(Shape::OpenAi).param.unwrap_or_default()
    }

    const TURN: &str = r#"{"role":"user","content":"hello"}"#;

    #[test]
    fn the_body_stays_as_it_came_to_the_byte() {
        let body = r#" {"z": 1.0,"model":"a/b:c","vendor":{"x":[1,2]},"messages":[{"role":"user"}],"stream":true,
            "stream_options":{"include_usage":true},"z":2} "#;
        let request = of(Dialect::Chat, body).unwrap();
        assert_eq!(request.ask.original, body);
        assert_eq!(request.model.as_deref(), Some("a/b:c"));
        assert_eq!((request.delivery, request.usage_chunk), (Delivery::Stream, UsageChunk::Shown));
    }

    #[test]
    fn absent_empty_and_star_mean_that_routing_chooses() {
        for model in ["", r#""model":null,"#, r#""model":"","#, r#""model":" * ","#] {
            let request = of(Dialect::Chat, &format!(r#"{{{model}"messages":[{{}}]}}"#)).unwrap();
            assert_eq!(request.model, None, "{model}");
        }
    }

    #[test]
    fn a_wrong_field_of_chat_is_named() {
        let refused = |fields: &str| refused(Dialect::Chat, &format!("{{{fields}}}"));
        assert_eq!(refused(""), "messages");
        assert_eq!(refused(r#""messages":null"#), "messages");
        assert_eq!(refused(r#""messages":[]"#), "messages");
        assert_eq!(refused(r#""messages":"hi""#), "messages");
        assert_eq!(refused(r#""messages":[{},7]"#), "messages[1]");
        for (field, param) in [
            (r#""model":4"#, "model"),
            (r#""stream":"yes""#, "stream"),
            (r#""stream_options":1"#, "stream_options"),
            (r#""stream_options":{"include_usage":1}"#, "stream_options.include_usage"),
            (r#""max_tokens":0"#, "max_tokens"),
            (r#""max_completion_tokens":1.5"#, "max_completion_tokens"),
            (r#""max_completion_tokens":5,"max_tokens":"9""#, "max_tokens"),
        ] {
            assert_eq!(refused(&format!(r#""messages":[{{}}],{field}"#)), param, "{field}");
        }
    }

    #[test]
    fn messages_must_say_how_long_the_answer_may_be() {
        let with = |limit: &str| format!(r#"{{"model":"m","messages":[{TURN}]{limit}}}"#);
        assert_eq!(refused(Dialect::Messages, &with("")), "max_tokens");
        assert_eq!(refused(Dialect::Messages, &with(r#","max_tokens":-1"#)), "max_tokens");
        let request = of(Dialect::Messages, &with(r#","max_tokens":77"#)).unwrap();
        assert_eq!(request.ask.estimated_output_tokens, 77);
        assert_eq!(request.ask.estimated_input_tokens, 3);
    }

    #[test]
    fn the_input_of_responses_is_a_text_or_items_or_kept_elsewhere() {
        let of = |fields: &str| of(Dialect::Responses, &format!("{{{fields}}}"));
        assert_eq!(of(r#""input":"12345678""#).unwrap().ask.estimated_input_tokens, 2);
        assert!(of(&format!(r#""input":[{TURN}],"max_output_tokens":5"#)).is_ok());
        assert!(of(r#""previous_response_id":"resp_1""#).is_ok());
        for (fields, param) in [
            ("", "input"),
            (r#""input":"""#, "input"),
            (r#""input":[]"#, "input"),
            (r#""input":{}"#, "input"),
            (r#""input":["x"]"#, "input[0]"),
            (r#""input":"x","max_output_tokens":0"#, "max_output_tokens"),
        ] {
            assert_eq!(of(fields).unwrap_err().report(Shape::OpenAi).param.as_deref(), Some(param), "{fields}");
        }
    }

    #[test]
    fn a_response_is_in_the_background_where_the_protocol_has_that_and_never_a_stream() {
        let of = |fields: &str| of(Dialect::Responses, &format!(r#"{{"input":"x",{fields}}}"#));
        assert_eq!(of(r#""background":true,"store":true"#).unwrap().delivery, Delivery::Background);
        assert_eq!(of(r#""background":false"#).unwrap().delivery, Delivery::Whole);
        for (fields, param) in [
            (r#""background":1"#, "background"),
            (r#""background":true,"stream":true"#, "background"),
            (r#""background":true,"store":false"#, "store"),
        ] {
            assert_eq!(of(fields).unwrap_err().report(Shape::OpenAi).param.as_deref(), Some(param), "{fields}");
        }
        let chat = super::tests::of(Dialect::Chat, r#"{"messages":[{}],"background":true}"#);
        assert_eq!(chat.unwrap().delivery, Delivery::Whole, "a field of the provider's");
    }

    #[test]
    fn everything_that_the_model_reads_is_in_the_estimate_and_pictures_are_not_read_as_text() {
        let body = |more: &str| format!(r#"{{"max_tokens":1,"messages":[{TURN}]{more}}}"#);
        let tokens = |more: &str| of(Dialect::Messages, &body(more)).unwrap().ask.estimated_input_tokens;
        let bare = tokens("");
        assert_eq!(tokens(r#","system":"1234567890123456""#), bare + 4);
        assert_eq!(tokens(r#","system":[{"text":"1234567890123456"}]"#), bare + 4);
        assert!(tokens(r#","tools":[{"name":"f","input_schema":{"type":"object","properties":{}}}]"#) > bare + 10);
        let picture = "A".repeat(1_000_000);
        assert!(tokens(&format!(r#","system":[{{"data":"{picture}"}}]"#)) < bare + 2_000);
    }

    #[test]
    fn bytes_that_are_no_text_are_refused_with_their_place() {
        let refusal = parse(Dialect::Chat, Bytes::from_static(b"{\"a\":\"\xff\"}"), Validation::Unsaid).unwrap_err();
        assert!(refusal.to_string().ends_with("it is not UTF-8 from byte 6 on"), "{refusal}");
        assert_eq!(refusal.report(Shape::OpenAi).status, 400);
    }

    #[test]
    fn what_is_not_an_object_is_refused_as_json() {
        for body in ["", "[]", "nonsense", "{\"messages\":", "{}{}"] {
            assert!(matches!(of(Dialect::Chat, body), Err(Problem::ParseBody(_))), "{body}");
        }
    }
}
