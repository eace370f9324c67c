//! Request bodies as typed requests: whatever passes here is valid, and nothing behind it checks again.
//!
//! Must not know models, databases or executors: whether a named model exists is asked by the routes.

pub(crate) mod approval;
mod bounds;
mod capabilities;
pub(crate) mod chat;
pub(crate) mod check;
pub(crate) mod count_tokens;
pub(crate) mod demands;
pub(crate) mod embeddings;
mod fields;
pub(crate) mod payloads;
pub(crate) mod plan;
mod policy;
pub(crate) mod protocol;
mod raw;
pub(crate) mod record;
pub(crate) mod simulation;
pub(crate) mod steering;
mod strategy;
pub(crate) mod tags;
pub(crate) mod template;
mod webhook;
pub(crate) mod wishes;

use raw::RawObject;
use serde_json::{Map, Value};
use tokenhub_domain::{Dialect, OutputWish, limits};

use crate::error::Problem;

pub(crate) use bounds::RunBounds;
pub(crate) use demands::Demands;
pub(crate) use fields::Fields;
pub(crate) use policy::PolicyWish;

/// Characters that make a token on average; good enough to rank models and to see that a window is too small.
const CHARS_PER_TOKEN: u64 = 4;
/// The same for text that is counted without being decoded.
const BYTES_PER_TOKEN: u64 = CHARS_PER_TOKEN;

/// What every form of request has.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Ask {
    /// The body for the provider, a JSON object: on the protocol routes the caller's own.
    pub(crate) original: String,
    /// Input tokens, estimated.
    pub(crate) estimated_input_tokens: u64,
    /// Output tokens, estimated or limited by the request.
    pub(crate) estimated_output_tokens: u64,
    /// Limits on each call.
    pub(crate) policy: PolicyWish,
    /// What routing is asked beside.
    pub(crate) demands: Demands,
    /// What is wanted of the texts of the answer.
    pub(crate) output: OutputWish,
}

/// The JSON object in `bytes`.
pub(crate) fn object(bytes: &[u8]) -> Result<Map<String, Value>, Problem> {
    match serde_json::from_slice(bytes).map_err(|error| Problem::ParseBody(error.to_string()))? {
        Value::Object(object) => Ok(object),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            Err(Problem::ParseBody("it must be an object".to_owned()))
        }
    }
}

/// Refuses a conversation that no provider could answer, naming `param`.
pub(crate) fn check_messages(messages: Option<&Value>, param: &str) -> Result<(), Problem> {
    match messages {
        None | Some(Value::Null) => Err(Problem::MissingField { param: param.to_owned() }),
        Some(Value::Array(messages)) if messages.is_empty() => {
            Err(Problem::invalid(param, "must hold at least one message"))
        }
        Some(Value::Array(messages)) => match messages.iter().position(|message| !message.is_object()) {
            None => Ok(()),
            Some(index) => Err(Problem::invalid(format!("{param}[{index}]"), "must be an object")),
        },
        Some(_) => Err(Problem::invalid(param, "must be an array of messages")),
    }
}

/// The ask of a provider body that was put together from the native form.
pub(crate) fn ask(body: &Map<String, Value>, policy: PolicyWish) -> Result<Ask, Problem> {
    let original = serde_json::to_string(body).unwrap_or_default();
    let demands = Demands::read(Dialect::Chat, &RawObject::read(&original)?)?;
    let original = demands::without_list(original, &demands);
    let limit = ["max_completion_tokens", "max_tokens"].iter().find_map(|name| body.get(*name)?.as_u64());
    Ok(Ask {
        original,
        estimated_input_tokens: estimated_input_tokens(body),
        estimated_output_tokens: limit.unwrap_or(limits::ESTIMATED_OUTPUT_TOKENS),
        policy,
        demands,
        output: OutputWish::default(),
    })
}

/// What the conversation in a body of Chat Completions counts as, about.
pub(crate) fn estimated_input_tokens(body: &Map<String, Value>) -> u64 {
    (tokenhub_domain::user_text(body).chars().count() as u64).div_ceil(CHARS_PER_TOKEN)
}

/// A model name: absent, empty and `*` all mean that routing chooses.
pub(crate) fn model_name(value: Option<&Value>, param: &str) -> Result<Option<String>, Problem> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(name)) => checked_model_name(name, param),
        Some(_) => Err(Problem::invalid(param, "must be a string")),
    }
}

fn checked_model_name(name: &str, param: &str) -> Result<Option<String>, Problem> {
    match name.trim() {
        "" | "*" => Ok(None),
        name if name.len() > limits::MODEL_ID_BYTES => {
            Err(Problem::invalid(param, format!("must not be longer than {} bytes", limits::MODEL_ID_BYTES)))
        }
        name => Ok(Some(name.to_owned())),
    }
}
