//! Tool names and free-form tools: what a target cannot take is renamed or wrapped, and restored in replies.
//!
//! Owns the shortening rule and the wrapper's one field. Used by requests, whole replies and streams alike.

use std::borrow::Cow;

use serde_json::{Value, json};
use tokenhub_domain::Dialect;

use super::ids::hash_digits;
use super::{ReplyContext, ToolNames};

/// What a shortened name keeps of the caller's: with `_` and the hash it has 64 characters.
const NAME_KEPT_CHARS: usize = 55;
/// Hex digits of the hash that tells shortened names apart.
const NAME_HASH_DIGITS: usize = 8;
/// The only field of the function that a free-form tool is wrapped in.
pub(crate) const FREE_FORM_FIELD: &str = "input";

/// What a tool takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ToolKind {
    /// JSON after a schema.
    Function,
    /// Free text.
    FreeForm,
}

/// `name` as `dialect` allows it: letters, digits, `_` and `-`, up to 64 of them, 128 in Messages.
pub fn wire_tool_name(dialect: Dialect, name: &str) -> Cow<'_, str> {
    let limit = match dialect {
        Dialect::Chat | Dialect::Responses => 64,
        Dialect::Messages => 128,
    };
    let is_legal = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !name.is_empty() && name.len() <= limit && name.chars().all(is_legal) {
        return Cow::Borrowed(name);
    }
    let kept: String = name.chars().take(NAME_KEPT_CHARS).map(|c| if is_legal(c) { c } else { '_' }).collect();
    Cow::Owned(format!("{kept}_{}", hash_digits(name, NAME_HASH_DIGITS)))
}

/// As [`wire_tool_name`], and remembers a changed name.
pub(crate) fn map_tool_name(dialect: Dialect, name: &str, names: &mut ToolNames) -> String {
    let wire = wire_tool_name(dialect, name).into_owned();
    if wire != name {
        names.insert(wire.clone(), name.to_owned());
    }
    wire
}

/// The caller's name of the tool that the upstream calls `wire`, and what that tool takes.
pub fn restore_tool<'a>(context: &'a ReplyContext, wire: &'a str) -> (&'a str, ToolKind) {
    let name = context.tool_names.get(wire).map_or(wire, String::as_str);
    let kind = if context.free_form_tools.contains(name) { ToolKind::FreeForm } else { ToolKind::Function };
    (name, kind)
}

/// The arguments of a wrapped free-form call.
pub(crate) fn wrap_free_form(input: &str) -> String {
    json!({FREE_FORM_FIELD: input}).to_string()
}

/// The text of a wrapped free-form call; arguments that are not the wrapper are the text themselves.
pub fn unwrap_free_form(arguments: &str) -> String {
    let parsed = serde_json::from_str::<Value>(arguments).ok();
    let text = parsed.as_ref().and_then(|value| value.get(FREE_FORM_FIELD)).and_then(Value::as_str);
    text.unwrap_or(arguments).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_or_illegal_name_becomes_a_legal_one_of_64_characters_at_most() {
        let long = "mcp__server__".repeat(7);
        let wire = wire_tool_name(Dialect::Chat, &long);
        assert_eq!(wire.len(), 64);
        assert!(wire.starts_with(&long[..55]));
        assert_eq!(wire_tool_name(Dialect::Messages, &long), long);
        assert!(wire_tool_name(Dialect::Chat, "a.b").starts_with("a_b_"));
        assert_ne!(wire_tool_name(Dialect::Chat, "a.b"), wire_tool_name(Dialect::Chat, "a:b"));
        assert_eq!(wire_tool_name(Dialect::Chat, "plain_name-1"), "plain_name-1");
    }

    #[test]
    fn free_text_survives_its_wrapper() {
        let patch = "*** Begin\n+\"quoted\" \u{1F600}";
        assert_eq!(unwrap_free_form(&wrap_free_form(patch)), patch);
        assert_eq!(unwrap_free_form("not json"), "not json");
        assert_eq!(unwrap_free_form(r#"{"other":1}"#), r#"{"other":1}"#);
    }
}
