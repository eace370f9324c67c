//! Directives in the conversations of the three protocols.
//!
//! Owns where a conversation keeps its texts. Only the fields that hold a directive are written anew; the rest of the body
//! keeps its bytes. What a user says counts, a later message before an earlier one; out of every other text directives are
//! only taken.

use serde_json::Value;
use tokenhub_domain::{Dialect, RawFields};

use crate::{
    directive::{DirectiveError, Directives, Role, at_most_max, mentions_marker, take},
    edit::set_field,
};

/// Why a conversation is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConversationError {
    /// A directive cannot be followed.
    #[error(transparent)]
    Directive(#[from] DirectiveError),
    /// Nothing is left to be answered.
    #[error("there is no message beside the directives")]
    NothingLeft {
        /// The field of the conversation.
        param: &'static str,
    },
}

/// The fields with texts that a model reads: the conversation first.
fn fields_of(dialect: Dialect) -> (&'static str, Option<&'static str>) {
    match dialect {
        Dialect::Chat => ("messages", None),
        Dialect::Responses => ("input", Some("instructions")),
        Dialect::Messages => ("messages", Some("system")),
    }
}

/// The body without its directives, and what they say. `None` when there is none, which costs one search of the bytes.
pub fn strip(dialect: Dialect, body: &str) -> Result<Option<(String, Directives)>, ConversationError> {
    if !mentions_marker(body.as_bytes()) {
        return Ok(None);
    }
    let Ok(fields) = RawFields::read(body) else { return Ok(None) };
    let (conversation, instructions) = fields_of(dialect);
    let mut said = Directives::default();
    let mut stripped: Option<String> = None;
    for name in [Some(conversation), instructions].into_iter().flatten() {
        let Some(raw) = fields.get(name).filter(|raw| mentions_marker(raw.as_bytes())) else { continue };
        let Ok(mut value) = serde_json::from_str::<Value>(raw) else { continue };
        let mut found = Found::default();
        let left = if name == conversation {
            strip_conversation(&mut value, &mut found)?
        } else {
            strip_content(&mut value, Role::Other, &mut found)?
        };
        if found.texts == 0 {
            continue;
        }
        if name == conversation && left == Left::Nothing {
            return Err(ConversationError::NothingLeft { param: conversation });
        }
        said.merge(found.directives);
        let current = stripped.as_deref().unwrap_or(body);
        stripped = set_field(current, name, &value).or(stripped);
    }
    Ok(stripped.map(|body| (body, said)))
}

/// What was found in a field.
#[derive(Default)]
struct Found {
    /// The texts that held one.
    texts: usize,
    /// The directives that count.
    obeyed: usize,
    directives: Directives,
}

/// Whether something is left of a text.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Left {
    Something,
    Nothing,
}

fn strip_conversation(value: &mut Value, found: &mut Found) -> Result<Left, DirectiveError> {
    let Value::Array(messages) = value else { return strip_content(value, Role::User, found) };
    let mut left = Vec::with_capacity(messages.len());
    for mut message in std::mem::take(messages) {
        let role = match message.get("role").and_then(Value::as_str) {
            Some("user") => Role::User,
            Some(_) | None => Role::Other,
        };
        let mut kept = Left::Something;
        if let Some(content) = message.get_mut("content") {
            kept = strip_content(content, role, found)?;
        }
        // The result of a function is an item of its own in Responses, and its call needs it.
        if let Some(output) = message.get_mut("output") {
            strip_content(output, Role::Other, found)?;
        }
        let carries_more = ["tool_calls", "tool_call_id"].iter().any(|name| message.get(*name).is_some());
        if kept == Left::Something || carries_more {
            left.push(message);
        }
    }
    let is_empty = left.is_empty();
    *messages = left;
    Ok(if is_empty { Left::Nothing } else { Left::Something })
}

/// A string, or a list of parts; `Nothing` when a directive was all there was.
fn strip_content(content: &mut Value, role: Role, found: &mut Found) -> Result<Left, DirectiveError> {
    match content {
        Value::String(text) => {
            let Some(taken) = take(text, role)? else { return Ok(Left::Something) };
            found.texts += 1;
            found.obeyed += taken.obeyed;
            at_most_max(found.obeyed)?;
            found.directives.merge(taken.directives);
            *text = taken.rest;
            Ok(if text.trim().is_empty() { Left::Nothing } else { Left::Something })
        }
        Value::Array(parts) => {
            let texts_before = found.texts;
            let mut left = Vec::with_capacity(parts.len());
            for mut part in std::mem::take(parts) {
                if strip_part(&mut part, role, found)? == Left::Something {
                    left.push(part);
                }
            }
            let is_empty = left.is_empty() && found.texts > texts_before;
            *parts = left;
            Ok(if is_empty { Left::Nothing } else { Left::Something })
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => Ok(Left::Something),
    }
}

fn strip_part(part: &mut Value, role: Role, found: &mut Found) -> Result<Left, DirectiveError> {
    if part.is_string() {
        return strip_content(part, role, found);
    }
    // The result of a tool stands in a user's message, but a tool said it, and the call needs its result.
    if part.get("type").and_then(Value::as_str) == Some("tool_result") {
        if let Some(content) = part.get_mut("content") {
            strip_content(content, Role::Other, found)?;
        }
        return Ok(Left::Something);
    }
    match part.get_mut("text") {
        Some(text) if text.is_string() => strip_content(text, role, found),
        Some(_) | None => Ok(Left::Something),
    }
}
