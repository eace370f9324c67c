//! What the gateway must know of a whole reply, whatever its protocol: for the ledger, the log and the orchestration.

use serde_json::{Value, json};
use tokenhub_domain::{Dialect, answer_text};

use super::answer::Reply;
use super::answer::ReplyPart;
use super::read::Losses;
use super::{Finish, UsageCounts, chat, usage};

/// What is read out of a reply. Nothing is refused: what cannot be read is absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReplyFacts {
    /// The text; a refusal when there is none; the tool calls as Chat's JSON when there is neither.
    pub text: String,
    /// Why nothing was answered, when the reply is a refusal and nothing else. One that a filter cut short is an answer.
    pub refusal: Option<String>,
    /// Why the model stopped.
    pub finish: Option<Finish>,
    /// The upstream's own word for it.
    pub finish_raw: Option<String>,
    /// The token counts, where the upstream told any.
    pub usage: Option<UsageCounts>,
    /// The upstream's `usage` object as it came.
    pub usage_json: Option<String>,
    /// The model that the upstream says it is.
    pub model: Option<String>,
    /// Calls of the client's tools.
    pub tool_calls: usize,
}

/// Reads the facts of a whole reply.
pub fn facts(dialect: Dialect, body: &Value) -> ReplyFacts {
    let counted = body.get("usage").filter(|usage| usage.is_object());
    let known = ReplyFacts {
        usage: counted.map(|counted| usage(dialect, counted)),
        usage_json: counted.map(Value::to_string),
        model: body.get("model").and_then(Value::as_str).map(str::to_owned),
        ..ReplyFacts::default()
    };
    let Ok(reply) = super::read_reply(dialect, body, &mut Losses::default()) else { return known };
    let text = match dialect {
        Dialect::Chat => answer_text(body),
        Dialect::Responses | Dialect::Messages => {
            answer_text(&json!({"choices": [{"message": chat::message_of(&reply)}]}))
        }
    };
    ReplyFacts {
        text,
        refusal: refusal_of(&reply),
        tool_calls: reply.tool_calls(),
        finish: Some(reply.finish),
        finish_raw: reply.finish_raw,
        ..known
    }
}

fn refusal_of(reply: &Reply) -> Option<String> {
    if reply.has_text() || reply.tool_calls() > 0 {
        return None;
    }
    let said = reply.parts.iter().find_map(|part| match part {
        ReplyPart::Refusal(text) => Some(text.clone()),
        ReplyPart::Text { .. } | ReplyPart::Reasoning { .. } | ReplyPart::ToolCall { .. } => None,
    });
    let is_filtered = reply.finish == Finish::ContentFilter;
    said.or_else(|| is_filtered.then(|| "the provider filtered the answer".to_owned()))
}
