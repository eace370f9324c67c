//! The neutral form of a whole reply, and what is settled about it once for all protocols.
//!
//! Readers fill it as the upstream wrote it; [`settle`] then gives tool calls the caller's names, free text in place of its
//! wrapper, and ids that are there and differ, and leaves out reasoning of which there is nothing.

use std::collections::BTreeSet;

use serde_json::Value;

use super::read::Losses;
use super::request::ToolInput;
use super::tool_names::{ToolKind, restore_tool, unwrap_free_form};
use super::{ConvertError, Finish, Opaque, ReplyContext, UsageCounts, made_tool_id};

/// A reply.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) parts: Vec<ReplyPart>,
    pub(crate) finish: Finish,
    /// The upstream's own word for it.
    pub(crate) finish_raw: Option<String>,
    pub(crate) usage: Option<UsageCounts>,
}

/// A part of a reply, in the order of the source.
#[derive(Debug)]
pub(crate) enum ReplyPart {
    Text { text: String, links: Vec<Link> },
    Refusal(String),
    Reasoning { text: String, opaque: Option<Opaque> },
    ToolCall { id: String, name: String, input: ToolInput },
}

/// A web page that a text quotes.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) url: String,
    pub(crate) title: String,
    /// Characters of the text that the link is about.
    pub(crate) start: Value,
    pub(crate) end: Value,
}

impl Reply {
    /// The calls among the parts.
    pub(crate) fn tool_calls(&self) -> usize {
        self.parts.iter().filter(|part| matches!(part, ReplyPart::ToolCall { .. })).count()
    }

    /// The refusals among the parts.
    pub(crate) fn refusals(&self) -> usize {
        self.parts.iter().filter(|part| matches!(part, ReplyPart::Refusal(_))).count()
    }

    /// Whether any text is said.
    pub(crate) fn has_text(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, ReplyPart::Text { text, .. } if !text.is_empty()))
    }
}

/// Gives tool calls the caller's names, their own form of input, and ids that differ.
pub(crate) fn settle(reply: &mut Reply, context: &ReplyContext, losses: &mut Losses) {
    let is_empty = |part: &ReplyPart| matches!(part, ReplyPart::Reasoning { text, opaque: None } if text.is_empty());
    reply.parts.retain(|part| !is_empty(part));
    let mut used = BTreeSet::new();
    let mut index = 0;
    for part in &mut reply.parts {
        let ReplyPart::ToolCall { id, name, input } = part else { continue };
        if id.is_empty() || used.contains(id) {
            *id = made_tool_id(&context.attempt, index);
        }
        used.insert(id.clone());
        let (restored, kind) = restore_tool(context, name);
        let restored = restored.to_owned();
        if kind == ToolKind::FreeForm
            && let ToolInput::Json(arguments) = input
        {
            *input = ToolInput::Text(unwrap_free_form(arguments));
        }
        *name = restored;
        index += 1;
    }
    if reply.usage.is_none() {
        losses.add("usage", "the upstream told no token counts");
    }
}

/// A reply that is not of its protocol.
pub(crate) fn unreadable(reason: impl Into<String>) -> ConvertError {
    ConvertError::Reply(reason.into())
}

/// The text of a field; absent and wrong ones are empty, because an upstream's slip must not lose a paid answer.
pub(crate) fn text_of<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or("")
}

/// The entries of a list field; none when it is absent or no list.
pub(crate) fn list_of<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}
