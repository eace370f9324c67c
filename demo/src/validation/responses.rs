//! The rules of Responses.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::{Checked, invalid, list, missing, refuse, required, text, unknown};

const ROLES: [&str; 4] = ["user", "assistant", "system", "developer"];
const INPUT_PARTS: [&str; 4] = ["input_text", "input_image", "input_file", "input_audio"];
const OUTPUT_PARTS: [&str; 2] = ["output_text", "refusal"];
/// The least that the real one takes.
const OUTPUT_TOKENS_MIN: u64 = 16;
const KNOWN: [&str; 30] = [
    "background",
    "context_management",
    "conversation",
    "include",
    "input",
    "instructions",
    "max_output_tokens",
    "max_tool_calls",
    "metadata",
    "model",
    "moderation",
    "parallel_tool_calls",
    "previous_response_id",
    "prompt",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "reasoning",
    "safety_identifier",
    "service_tier",
    "store",
    "stream",
    "stream_options",
    "temperature",
    "text",
    "tool_choice",
    "tools",
    "top_logprobs",
    "top_p",
    "truncation",
];

/// Checks a request.
pub(super) fn check(fields: &Map<String, Value>) -> Checked {
    if let Some(odd) = fields.keys().find(|name| !KNOWN.contains(&name.as_str()) && *name != "user") {
        return unknown(odd);
    }
    let continues = ["previous_response_id", "conversation", "prompt"]
        .iter()
        .any(|field| fields.get(*field).is_some_and(|value| !value.is_null()));
    if !continues {
        required(fields, "input")?;
    }
    required(fields, "model")?;
    if let Some(limit) =
        fields.get("max_output_tokens").and_then(Value::as_u64).filter(|limit| *limit < OUTPUT_TOKENS_MIN)
    {
        let message = format!(
            "Invalid 'max_output_tokens': integer below minimum value. Expected a value >= {OUTPUT_TOKENS_MIN}, but got {limit} instead."
        );
        return refuse(message, Some("max_output_tokens".to_owned()), Some("integer_below_min_value"));
    }
    for (index, tool) in list(fields.get("tools")).iter().enumerate() {
        if text(tool, "type") == Some("function") && text(tool, "name").is_none() {
            return missing(&format!("tools[{index}].name"));
        }
    }
    let items = list(fields.get("input"));
    items.iter().enumerate().try_for_each(|(index, item)| check_item(index, item))?;
    if continues { Ok(()) } else { check_calls(items) }
}

fn check_item(index: usize, item: &Value) -> Checked {
    let param = |field: &str| format!("input[{index}].{field}");
    let has_text =
        |field: &str| if item.get(field).is_some_and(Value::is_string) { Ok(()) } else { missing(&param(field)) };
    match text(item, "type") {
        None | Some("message") => check_message(index, item),
        Some("function_call") => ["call_id", "name", "arguments"].into_iter().try_for_each(has_text),
        Some("function_call_output") => {
            has_text("call_id")?;
            if item.get("output").is_some_and(|output| !output.is_null()) { Ok(()) } else { missing(&param("output")) }
        }
        Some("reasoning") => {
            if item.get("summary").is_some_and(Value::is_array) {
                Ok(())
            } else {
                missing(&param("summary"))
            }
        }
        // Server tools and the like, of which there are more every month.
        Some(_) => Ok(()),
    }
}

fn check_message(index: usize, item: &Value) -> Checked {
    let role = text(item, "role").unwrap_or_default();
    if !ROLES.contains(&role) {
        return invalid(format!("input[{index}].role"), role, &ROLES);
    }
    let supported: &[&str] = if role == "assistant" { &OUTPUT_PARTS } else { &INPUT_PARTS };
    match item.get("content") {
        Some(Value::String(_)) => Ok(()),
        Some(Value::Array(parts)) => {
            let odd = parts
                .iter()
                .enumerate()
                .find(|(_, part)| !text(part, "type").is_some_and(|kind| supported.contains(&kind)));
            match odd {
                Some((part, odd)) => {
                    invalid(format!("input[{index}].content[{part}]"), text(odd, "type").unwrap_or_default(), supported)
                }
                None => Ok(()),
            }
        }
        Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_)) | None => {
            missing(&format!("input[{index}].content"))
        }
    }
}

/// Every output belongs to an earlier call, and every call has an output.
fn check_calls(items: &[Value]) -> Checked {
    let mut open = BTreeSet::new();
    for item in items {
        let Some(id) = text(item, "call_id") else { continue };
        match text(item, "type") {
            Some("function_call") => {
                open.insert(id);
            }
            Some("function_call_output") if !open.remove(id) => {
                let message = format!("No tool call found for function call output with call_id {id}.");
                return refuse(message, Some("input".to_owned()), None);
            }
            Some(_) | None => {}
        }
    }
    match open.first() {
        Some(id) => refuse(format!("No tool output found for function call {id}."), Some("input".to_owned()), None),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::dialect::Route;
    use crate::validation::tests::refused;

    fn refused_change(change: &Value) -> Option<String> {
        refused(Route::Responses, &json!({"model": "m", "input": "hi"}), change)
    }

    #[test]
    fn the_parts_of_a_message_depend_on_its_role() {
        let message = |role: &str, kind: &str| {
            refused_change(&json!({"input": [{"role": role, "content": [{"type": kind, "text": "x"}]}]}))
        };
        assert_eq!(message("assistant", "output_text"), None);
        assert_eq!(message("user", "input_text"), None);
        assert!(message("assistant", "input_text").unwrap().contains("'output_text', 'refusal'"));
        assert!(message("user", "text").is_some());
        assert!(message("tool", "input_text").is_some());
    }

    #[test]
    fn calls_and_their_outputs_belong_together() {
        let call = json!({"type": "function_call", "call_id": "a", "name": "f", "arguments": "{}"});
        let output = json!({"type": "function_call_output", "call_id": "a", "output": "1"});
        let items = |items: &[&Value]| refused_change(&json!({"input": items}));
        assert_eq!(items(&[&call, &output]), None);
        assert_eq!(items(&[&output]).unwrap(), "No tool call found for function call output with call_id a.");
        assert_eq!(items(&[&call]).unwrap(), "No tool output found for function call a.");
        assert_eq!(refused_change(&json!({"input": [output], "previous_response_id": "resp_1"})), None);
    }

    #[test]
    fn parameters_of_other_dialects_are_refused() {
        assert_eq!(refused_change(&json!({"user": "u", "store": false})), None);
        for change in [
            json!({"input": "none"}),
            json!({"messages": []}),
            json!({"max_tokens": 20}),
            json!({"max_output_tokens": 5}),
            json!({"tools": [{"type": "function", "function": {"name": "nested"}}]}),
            json!({"input": [{"type": "function_call", "call_id": "a", "name": "f", "arguments": {}}]}),
        ] {
            assert!(refused_change(&change).is_some(), "{change}");
        }
    }
}
