//! What is to be said, before a dialect gives it a form.
//!
//! Holds what all dialects need to know: the parts, why the answer ends and what it cost. Knows no wire form but that of
//! the assistant message that a script may give, which it takes apart for the others.

use std::borrow::Cow;

use serde_json::{Map, Value};

use crate::reply::{Finish, Omission, Part, Reasoning, Reply, TokenDetails, ToolCall, ToolOrder};

/// Something to be said.
#[derive(Debug)]
pub(crate) struct Speech<'a> {
    /// Of the answer; each dialect has its own when there is none.
    pub(crate) id: Option<&'a str>,
    pub(crate) model: &'a str,
    pub(crate) parts: Cow<'a, [Part]>,
    /// An assistant message in the form of Chat Completions that is said as it is there.
    pub(crate) message: Option<&'a Value>,
    /// Nothing when it is left out.
    pub(crate) ended: Option<Ended<'a>>,
    /// Nothing when it is left out.
    pub(crate) usage: Option<Usage>,
    pub(crate) tool_order: ToolOrder,
    /// The request's fields, for the dialect that repeats them.
    pub(crate) asked: Map<String, Value>,
}

/// Why an answer ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ended<'a> {
    Known(Finish),
    /// Scripted, and in no vocabulary.
    Other(&'a str),
}

/// Tokens as a provider counts them: the prompt's include those from and for a cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) prompt_tokens: u64,
    pub(crate) completion_tokens: u64,
    /// Nothing when the script does not say.
    pub(crate) details: Option<TokenDetails>,
}

fn calls_tools(parts: &[Part]) -> bool {
    parts.iter().any(|part| matches!(part, Part::ToolCall(_)))
}

/// Why the answer that `reply` scripts ends; nothing when that is to be left out.
pub(crate) fn ended<'a>(reply: &'a Reply, parts: &[Part]) -> Option<Ended<'a>> {
    if reply.omit.contains(&Omission::Finish) {
        return None;
    }
    if let Some(finish) = &reply.finish {
        return Some(Ended::Known(finish.clone()));
    }
    let natural = if calls_tools(parts) { Finish::ToolCalls } else { Finish::Stop };
    Some(match reply.finish_reason.as_deref() {
        None => Ended::Known(natural),
        Some("stop") => Ended::Known(Finish::Stop),
        Some("length") => Ended::Known(Finish::Length),
        Some("tool_calls") => Ended::Known(Finish::ToolCalls),
        Some("content_filter") => Ended::Known(Finish::ContentFilter),
        Some(other) => Ended::Other(other),
    })
}

/// Tokens as this provider counts them: four characters each.
pub(crate) fn tokens_in(text: &str) -> u64 {
    text.chars().count().div_ceil(4) as u64
}

/// The tokens of all that `parts` say.
pub(crate) fn tokens_of(parts: &[Part]) -> u64 {
    let tokens = |part: &Part| match part {
        Part::Text(text) | Part::Refusal(text) => tokens_in(text),
        Part::Reasoning(reasoning) => tokens_in(&reasoning.text),
        Part::ToolCall(call) => {
            tokens_in(&call.name) + call.arguments.iter().map(|piece| tokens_in(piece)).sum::<u64>()
        }
    };
    parts.iter().map(tokens).sum()
}

/// The pieces in which a stream sends a text.
pub(crate) fn pieces_of(text: &str) -> impl Iterator<Item = &str> {
    text.split_inclusive(' ')
}

/// What an assistant message of Chat Completions says.
pub(crate) fn parts_of(message: &Value) -> Vec<Part> {
    let text = |field: &str| message.get(field).and_then(Value::as_str).filter(|text| !text.is_empty());
    let mut parts = Vec::new();
    if let Some(thought) = text("reasoning_content").or_else(|| text("reasoning")) {
        parts.push(Part::Reasoning(Reasoning { text: thought.to_owned(), ..Reasoning::default() }));
    }
    parts.extend(text("content").map(|content| Part::Text(content.to_owned())));
    parts.extend(text("refusal").map(|refusal| Part::Refusal(refusal.to_owned())));
    for call in message.get("tool_calls").and_then(Value::as_array).into_iter().flatten() {
        let field = |pointer: &str| call.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        parts.push(Part::ToolCall(ToolCall {
            id: field("/id"),
            name: field("/function/name"),
            arguments: vec![field("/function/arguments")],
        }));
    }
    parts
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_token_is_four_characters_rounded_up() {
        assert_eq!((tokens_in(""), tokens_in("abcd"), tokens_in("abcdé")), (0, 1, 2));
    }

    #[test]
    fn an_assistant_message_is_taken_apart() {
        let message = json!({"content": "a", "reasoning_content": "r", "tool_calls": [
            {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]});
        let parts = parts_of(&message);
        assert_eq!(parts, [Part::reasoning("r", None), Part::Text("a".into()), Part::tool_call("c", "f", ["{}"])]);
        assert_eq!(ended(&Reply::default(), &parts), Some(Ended::Known(Finish::ToolCalls)));
        assert_eq!(ended(&Reply::default().finish_reason("length"), &parts), Some(Ended::Known(Finish::Length)));
        assert_eq!(ended(&Reply::default().finish_reason("odd"), &parts), Some(Ended::Other("odd")));
    }
}
