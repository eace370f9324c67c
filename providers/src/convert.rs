//! Conversion between Chat Completions, Responses and Messages, through one neutral form.
//!
//! Pure: JSON in, JSON out, no socket, no clock, no randomness; ids come from the attempt. Same-protocol pairs never come
//! here: their bytes are forwarded. What a target cannot express is recorded as a [`Loss`] and never dropped in silence.

use std::collections::BTreeSet;

use serde_json::{Map, Value};
use tokenhub_domain::Dialect;

mod answer;
mod chat;
mod data_url;
mod effort;
mod estimate;
mod facts;
mod finish;
mod foreign;
mod ids;
mod messages;
mod neutral;
mod open_ai;
mod pairing;
mod read;
mod reasoning;
mod request;
mod responses;
pub mod stream;
mod tool_names;
mod topic;
mod usage;

use answer::Reply;
use read::{Losses, invalid};
use topic::Topic;

pub use estimate::estimate_input_tokens;
pub use facts::{ReplyFacts, facts};
pub use finish::{Produced, WireFinish, finish_loss, finish_of, finish_to_wire};
pub use foreign::drop_foreign_reasoning;
pub use ids::{ItemKind, item_id, made_tool_id, reply_id, wire_tool_id};
pub use neutral::{
    Abilities, ConvertError, Effort, Finish, Issuer, Loss, OutputLimit, ReasoningBack, ReplyContext, SystemBlocks,
    SystemInside, Target, ThinkingForm, ToolNames, UsageCounts,
};
pub use reasoning::{Opaque, TUNNEL_PREFIX, unwrap, unwrap_signature, wrap, wrap_signature};
pub use responses::response_object;
pub(crate) use tool_names::wrap_free_form;
pub use tool_names::{ToolKind, restore_tool, unwrap_free_form, wire_tool_name};
pub use usage::{render_usage, usage};

/// The output limit towards Messages, which demands one, when neither the client nor the catalogue gives any.
///
/// Every current model of the protocol's vendor takes as much. A smaller number would cut long answers without a word; a
/// number above a model's own limit is refused, with the limit in the message.
pub const UNKNOWN_OUTPUT_LIMIT_TOKENS: u64 = 32_000;

/// A request in the target's protocol.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ConvertedRequest {
    /// The body, with the source's `model`.
    pub body: Map<String, Value>,
    /// What is not in it.
    pub losses: Vec<Loss>,
    /// For [`ReplyContext::tool_names`].
    pub tool_names: ToolNames,
    /// For [`ReplyContext::free_form_tools`].
    pub free_form_tools: BTreeSet<String>,
}

/// A whole reply in the client's protocol.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ConvertedReply {
    /// The body.
    pub body: Map<String, Value>,
    /// What is not in it.
    pub losses: Vec<Loss>,
}

/// Converts a request. The body of a same-protocol pair is returned as it is.
///
/// Fails with [`ConvertError::Invalid`] for what the source's protocol or the target does not allow.
pub fn request(
    from: Dialect,
    to: Dialect,
    body: &Map<String, Value>,
    target: &Target,
) -> Result<ConvertedRequest, ConvertError> {
    if from == to {
        return Ok(ConvertedRequest { body: body.clone(), ..ConvertedRequest::default() });
    }
    let mut losses = Losses::default();
    let mut decoded = match from {
        Dialect::Chat => chat::decode(body, &mut losses)?,
        Dialect::Responses => responses::decode(body, &mut losses)?,
        Dialect::Messages => messages::decode(body, &mut losses)?,
    };
    decoded.from = from;
    if decoded.max_output_tokens == Some(0) {
        return Err(invalid(Topic::OutputLimit.field(from), "must be at least 1"));
    }
    match to {
        Dialect::Chat => chat::encode(decoded, target, losses),
        Dialect::Responses => responses::encode(decoded, target, losses),
        Dialect::Messages => messages::encode(decoded, target, losses),
    }
}

/// Converts a whole reply. The body of a same-protocol pair is returned as it is.
///
/// Fails with [`ConvertError::Reply`] when the body is not a reply of the source's protocol.
pub fn reply(from: Dialect, to: Dialect, body: &Value, context: &ReplyContext) -> Result<ConvertedReply, ConvertError> {
    if from == to {
        let body = body.as_object().cloned().ok_or_else(|| answer::unreadable("it is no object"))?;
        return Ok(ConvertedReply { body, losses: Vec::new() });
    }
    let mut losses = Losses::default();
    let mut reply = read_reply(from, body, &mut losses)?;
    answer::settle(&mut reply, context, &mut losses);
    losses.0.extend(finish_loss(to, &reply.finish));
    let body = match to {
        Dialect::Chat => chat::write_reply(&reply, context, &mut losses),
        Dialect::Responses => responses::write_reply(&reply, context),
        Dialect::Messages => messages::write_reply(&reply, context, &mut losses),
    };
    Ok(ConvertedReply { body, losses: losses.0 })
}

fn read_reply(dialect: Dialect, body: &Value, losses: &mut Losses) -> Result<Reply, ConvertError> {
    let error = body.get("error").filter(|error| !error.is_null());
    if let Some(error) = error.filter(|_| dialect != Dialect::Responses) {
        let message = error.get("message").and_then(Value::as_str).unwrap_or("no reason is given");
        return Err(answer::unreadable(format!("it is an error: {message}")));
    }
    match dialect {
        Dialect::Chat => chat::read_reply(body, losses),
        Dialect::Responses => responses::read_reply(body, losses),
        Dialect::Messages => messages::read_reply(body, losses),
    }
}

/// The asked limit, at most the model's.
fn clamp_output(asked: u64, from: Dialect, target: &Target, losses: &mut Losses) -> u64 {
    match target.max_output_tokens {
        Some(max) if asked > max => {
            losses.add(Topic::OutputLimit.field(from), format!("the model gives at most {max} tokens"));
            max
        }
        Some(_) | None => asked,
    }
}
