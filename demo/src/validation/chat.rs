//! The rules of Chat Completions.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::{Checked, invalid, list, missing, refuse, required, text, unknown};

const ROLES: [&str; 6] = ["system", "developer", "user", "assistant", "tool", "function"];
const USER_PARTS: [&str; 4] = ["text", "image_url", "input_audio", "file"];
const OTHER_PARTS: [&str; 2] = ["text", "refusal"];
/// Parameters of the other dialects. This one has many others that only some providers know.
const FOREIGN: [&str; 9] = [
    "input",
    "instructions",
    "max_output_tokens",
    "previous_response_id",
    "system",
    "stop_sequences",
    "thinking",
    "anthropic_version",
    "text",
];

/// Checks a request.
pub(super) fn check(fields: &Map<String, Value>) -> Checked {
    required(fields, "model")?;
    required(fields, "messages")?;
    if let Some(foreign) = FOREIGN.iter().find(|name| fields.contains_key(**name)) {
        return unknown(foreign);
    }
    let streams = fields.get("stream").and_then(Value::as_bool).unwrap_or(false);
    if fields.get("stream_options").is_some_and(|options| !options.is_null()) && !streams {
        let message = "The 'stream_options' parameter is only allowed when 'stream' is enabled.";
        return refuse(message, Some("stream_options".to_owned()), None);
    }
    for (index, tool) in list(fields.get("tools")).iter().enumerate() {
        if text(tool, "type") == Some("function") && tool.pointer("/function/name").is_none() {
            return missing(&format!("tools[{index}].function.name"));
        }
    }
    let messages = list(fields.get("messages"));
    if messages.is_empty() {
        return refuse("'messages' must not be empty.", Some("messages".to_owned()), Some("empty_array"));
    }
    messages.iter().enumerate().try_for_each(|(index, message)| check_message(index, message))?;
    check_tool_turns(messages)
}

fn check_message(index: usize, message: &Value) -> Checked {
    let role = text(message, "role").unwrap_or_default();
    if !ROLES.contains(&role) {
        return invalid(format!("messages[{index}].role"), role, &ROLES);
    }
    let says_otherwise = ["tool_calls", "refusal", "audio", "function_call"]
        .iter()
        .any(|field| !message.get(field).is_none_or(Value::is_null));
    match message.get("content") {
        Some(Value::String(_)) => Ok(()),
        Some(Value::Array(parts)) => {
            let supported: &[&str] = if role == "user" { &USER_PARTS } else { &OTHER_PARTS };
            let odd = parts
                .iter()
                .enumerate()
                .find(|(_, part)| !text(part, "type").is_some_and(|kind| supported.contains(&kind)));
            match odd {
                Some((part, odd)) => {
                    let param = format!("messages[{index}].content[{part}].type");
                    invalid(param, text(odd, "type").unwrap_or_default(), supported)
                }
                None => Ok(()),
            }
        }
        Some(Value::Null) | None if role == "assistant" && says_otherwise => Ok(()),
        Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_)) | None => {
            let message = format!("Invalid value for 'content': expected a string, got null, in messages[{index}].");
            refuse(message, Some(format!("messages.[{index}].content")), None)
        }
    }
}

/// Every tool call is answered at once, and nothing else is.
fn check_tool_turns(messages: &[Value]) -> Checked {
    let mut open: BTreeSet<&str> = BTreeSet::new();
    for (index, message) in messages.iter().enumerate() {
        if text(message, "role") == Some("tool") {
            if !text(message, "tool_call_id").is_some_and(|id| open.remove(id)) {
                let message = "messages with role 'tool' must be a response to a preceding message with 'tool_calls'.";
                return refuse(message, Some(format!("messages.[{index}].role")), None);
            }
            continue;
        }
        check_answered(&open)?;
        for (place, call) in list(message.get("tool_calls")).iter().enumerate() {
            let param = |field: &str| format!("messages[{index}].tool_calls[{place}].{field}");
            let Some(id) = text(call, "id") else { return missing(&param("id")) };
            if call.pointer("/function/name").and_then(Value::as_str).is_none_or(str::is_empty) {
                return missing(&param("function.name"));
            }
            if !call.pointer("/function/arguments").is_some_and(Value::is_string) {
                return missing(&param("function.arguments"));
            }
            open.insert(id);
        }
    }
    check_answered(&open)
}

fn check_answered(open: &BTreeSet<&str>) -> Checked {
    if open.is_empty() {
        return Ok(());
    }
    let ids: Vec<&str> = open.iter().copied().collect();
    let message = "An assistant message with 'tool_calls' must be followed by tool messages responding to each 'tool_call_id'. \
        The following tool_call_ids did not have response messages: ";
    refuse(format!("{message}{}", ids.join(", ")), Some("messages".to_owned()), None)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::dialect::Route;
    use crate::validation::tests::refused;

    fn refused_change(change: &Value) -> Option<String> {
        let base = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]});
        refused(Route::ChatCompletions, &base, change)
    }

    #[test]
    fn tool_messages_answer_a_call_and_every_call_is_answered() {
        let user = json!({"role": "user", "content": "hi"});
        let call = json!({"role": "assistant", "content": null, "tool_calls": [
            {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}]});
        let answer = json!({"role": "tool", "tool_call_id": "a", "content": "1"});
        let other = json!({"role": "tool", "tool_call_id": "b", "content": "1"});
        let turns = |turns: &[&Value]| refused_change(&json!({"messages": turns}));
        assert_eq!(turns(&[&user, &call, &answer, &user]), None);
        assert!(turns(&[&user, &call, &other]).unwrap().contains("must be a response"));
        assert!(turns(&[&user, &answer]).unwrap().contains("must be a response"));
        assert!(turns(&[&user, &call, &user, &answer]).unwrap().contains("did not have response messages: a"));
        assert!(turns(&[&user, &call]).unwrap().contains("did not have response messages: a"));
    }

    #[test]
    fn parameters_and_parts_of_other_dialects_are_refused() {
        assert_eq!(refused_change(&json!({})), None);
        for change in [
            json!({"messages": "none"}),
            json!({"messages": []}),
            json!({"max_output_tokens": 5}),
            json!({"system": "x"}),
            json!({"stream_options": {"include_usage": true}}),
            json!({"messages": [{"role": "user", "content": [{"type": "input_text", "text": "x"}]}]}),
            json!({"messages": [{"role": "user", "content": null}]}),
            json!({"messages": [{"role": "human", "content": "x"}]}),
            json!({"tools": [{"type": "function", "name": "flat"}]}),
        ] {
            assert!(refused_change(&change).is_some(), "{change}");
        }
    }
}
