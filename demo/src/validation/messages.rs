//! The rules of Messages, and those of counting tokens, which differ in the fields.

use std::collections::BTreeSet;

use hyper::HeaderMap;
use serde_json::{Map, Value};

use super::{Checked, demand, list, refuse, text};
use crate::dialect::Route;

const COUNTED: [&str; 8] =
    ["model", "messages", "system", "tools", "tool_choice", "thinking", "output_config", "cache_control"];
const GENERATING: [&str; 10] = [
    "max_tokens",
    "metadata",
    "stop_sequences",
    "stream",
    "temperature",
    "top_k",
    "top_p",
    "service_tier",
    "inference_geo",
    "container",
];
/// Fields that only a request with an `anthropic-beta` header may have.
const BETA: [&str; 5] = ["mcp_servers", "context_management", "output_format", "speed", "fallbacks"];
/// The least that a thinking budget can be.
const BUDGET_TOKENS_MIN: u64 = 1_024;
const TOOL_NAME_MAX: usize = 128;

/// Checks a request.
pub(super) fn check(route: Route, headers: &HeaderMap, fields: &Map<String, Value>) -> Checked {
    demand(headers.contains_key("anthropic-version"), || "anthropic-version: header is required".to_owned())?;
    let known = |name: &str| {
        COUNTED.contains(&name)
            || (route == Route::Messages && GENERATING.contains(&name))
            || (headers.contains_key("anthropic-beta") && BETA.contains(&name))
    };
    if let Some(odd) = fields.keys().find(|name| !known(name)) {
        return refuse(format!("{odd}: Extra inputs are not permitted"), None, None);
    }
    demand(fields.get("model").is_some_and(Value::is_string), || "model: Field required".to_owned())?;
    if route == Route::Messages {
        check_limits(fields)?;
    }
    check_tools(fields)?;
    for block in list(fields.get("system")) {
        check_text(block, "system")?;
    }
    check_turns(list(fields.get("messages")))
}

fn check_limits(fields: &Map<String, Value>) -> Checked {
    let Some(max_tokens) = fields.get("max_tokens") else { return refuse("max_tokens: Field required", None, None) };
    let Some(max_tokens) = max_tokens.as_u64().filter(|limit| *limit > 0) else {
        return refuse("max_tokens: Input should be a valid integer greater than 0", None, None);
    };
    let temperature = fields.get("temperature").and_then(Value::as_f64).unwrap_or(1.0);
    demand((0.0..=1.0).contains(&temperature), || "temperature: range: 0..1".to_owned())?;
    let Some(thinking) = fields.get("thinking").filter(|thinking| text(thinking, "type") == Some("enabled")) else {
        return Ok(());
    };
    let budget = thinking.get("budget_tokens").and_then(Value::as_u64).unwrap_or(0);
    demand(budget >= BUDGET_TOKENS_MIN, || {
        format!("thinking.enabled.budget_tokens: Input should be greater than or equal to {BUDGET_TOKENS_MIN}")
    })?;
    demand(budget < max_tokens, || "`max_tokens` must be greater than `thinking.budget_tokens`".to_owned())?;
    demand((temperature - 1.0).abs() < f64::EPSILON, || {
        "`temperature` may only be set to 1 when thinking is enabled".to_owned()
    })
}

fn check_tools(fields: &Map<String, Value>) -> Checked {
    let tools = list(fields.get("tools"));
    for (index, tool) in tools.iter().enumerate() {
        let name = text(tool, "name").unwrap_or_default();
        let legal = |letter: char| letter.is_ascii_alphanumeric() || letter == '_' || letter == '-';
        demand((1..=TOOL_NAME_MAX).contains(&name.len()) && name.chars().all(legal), || {
            format!("tools.{index}.custom.name: String should match pattern '^[a-zA-Z0-9_-]{{1,{TOOL_NAME_MAX}}}$'")
        })?;
        let is_own = matches!(text(tool, "type"), None | Some("custom"));
        demand(!is_own || tool.pointer("/input_schema/type").is_some_and(|kind| kind == "object"), || {
            format!("tools.{index}.custom.input_schema: Field required")
        })?;
    }
    let needs_tools =
        fields.get("tool_choice").and_then(|choice| text(choice, "type")).is_some_and(|kind| kind != "none");
    demand(!needs_tools || !tools.is_empty(), || "tool_choice may only be specified while providing tools".to_owned())
}

/// Turns of the same role count as one.
fn check_turns(messages: &[Value]) -> Checked {
    demand(!messages.is_empty(), || "messages: at least one message is required".to_owned())?;
    demand(text(&messages[0], "role") == Some("user"), || {
        "messages: first message must use the \"user\" role".to_owned()
    })?;
    let mut turns: Vec<(&str, Vec<&Value>)> = Vec::new();
    for (index, message) in messages.iter().enumerate() {
        let role = text(message, "role").unwrap_or_default();
        demand(["user", "assistant", "system"].contains(&role), || {
            format!("messages.{index}.role: Input should be 'user' or 'assistant'")
        })?;
        let blocks = check_content(index, role, message.get("content"), index + 1 == messages.len())?;
        match turns.last_mut() {
            // What the system says in between belongs to no turn.
            _ if role == "system" => {}
            Some((last, before)) if *last == role => before.extend(blocks),
            Some(_) | None => turns.push((role, blocks.iter().collect())),
        }
    }
    check_tool_turns(&turns)
}

fn check_content<'a>(
    index: usize,
    role: &str,
    content: Option<&'a Value>,
    is_last: bool,
) -> Result<&'a [Value], crate::reply::ErrorBody> {
    match content {
        Some(Value::String(text)) => {
            demand(!text.is_empty(), || format!("messages.{index}: user messages must have non-empty content"))?;
            let prefills = is_last && role == "assistant";
            demand(!prefills || text.trim_end() == text, || {
                "messages: final assistant content cannot end with trailing whitespace".to_owned()
            })?;
            Ok(&[])
        }
        Some(Value::Array(blocks)) => {
            let may_be_empty = is_last && role == "assistant";
            demand(!blocks.is_empty() || may_be_empty, || {
                format!(
                    "messages.{index}: all messages must have non-empty content except for the optional final assistant message"
                )
            })?;
            for (place, block) in blocks.iter().enumerate() {
                check_block(&format!("messages.{index}.content.{place}"), role, block)?;
            }
            Ok(blocks)
        }
        Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_)) | None => {
            refuse(format!("messages.{index}.content: Field required"), None, None)
        }
    }
}

fn check_block(place: &str, role: &str, block: &Value) -> Checked {
    let has = |field: &str| block.get(field).is_some_and(|value| !value.is_null());
    let field = |name: &str| demand(has(name), || format!("{place}.{name}: Field required"));
    let only = |owner: &str, kind: &str| {
        demand(role == owner, || format!("{place}: `{kind}` blocks can only be in `{owner}` messages"))
    };
    match text(block, "type") {
        Some("text") => check_text(block, place),
        Some("tool_use") => {
            only("assistant", "tool_use")?;
            ["id", "name", "input"].into_iter().try_for_each(field)?;
            demand(block["input"].is_object(), || {
                format!("{place}.tool_use.input: Input should be a valid dictionary")
            })?;
            let legal = |letter: char| letter.is_ascii_alphanumeric() || letter == '_' || letter == '-';
            demand(text(block, "id").is_some_and(|id| !id.is_empty() && id.chars().all(legal)), || {
                format!("{place}.tool_use.id: String should match pattern '^[a-zA-Z0-9_-]+$'")
            })
        }
        Some("tool_result") => {
            only("user", "tool_result")?;
            field("tool_use_id")
        }
        Some("thinking") => {
            only("assistant", "thinking")?;
            ["thinking", "signature"].into_iter().try_for_each(field)?;
            demand(block["signature"] != "", || format!("{place}: Invalid `signature` in `thinking` block"))
        }
        Some("redacted_thinking") => field("data"),
        Some("image" | "document") => field("source"),
        Some("input_text" | "output_text" | "image_url" | "input_image" | "function" | "refusal") | None => {
            refuse(format!("{place}: Input tag does not match any of the expected tags"), None, None)
        }
        // Server tools and their results, of which there are more every month.
        Some(_) => Ok(()),
    }
}

fn check_text(block: &Value, place: &str) -> Checked {
    let words = text(block, "text").unwrap_or_default();
    demand(!words.is_empty(), || format!("{place}: text content blocks must be non-empty"))?;
    demand(!words.trim().is_empty(), || format!("{place}: text content blocks must contain non-whitespace text"))
}

/// Results stand at the start of the turn after their calls, and every call has one.
fn check_tool_turns(turns: &[(&str, Vec<&Value>)]) -> Checked {
    let ids = |blocks: &[&Value], kind: &str, field: &str| -> Vec<String> {
        let of_kind = blocks.iter().filter(|block| text(block, "type") == Some(kind));
        of_kind.filter_map(|block| text(block, field)).map(str::to_owned).collect()
    };
    let mut called: BTreeSet<String> = BTreeSet::new();
    for (_, blocks) in turns {
        let results = ids(blocks, "tool_result", "tool_use_id");
        let answered: BTreeSet<String> = results.iter().cloned().collect();
        if let Some(orphan) = results.iter().find(|id| !called.contains(*id)) {
            let message = format!(
                "unexpected `tool_use_id` found in `tool_result` blocks: {orphan}. Each `tool_result` block \
                must have a corresponding `tool_use` block in the previous message."
            );
            return refuse(message, None, None);
        }
        demand(results.len() == answered.len(), || "each tool_use must have a single result".to_owned())?;
        let open: Vec<&str> = called.difference(&answered).map(String::as_str).collect();
        let first = blocks.iter().take(results.len());
        let in_front = first.filter(|block| text(block, "type") == Some("tool_result")).count() == results.len();
        demand(open.is_empty() && in_front, || {
            let ids = if open.is_empty() { results.join(", ") } else { open.join(", ") };
            format!(
                "`tool_use` ids were found without `tool_result` blocks immediately after: {ids}. Each `tool_use` block must \
                have a corresponding `tool_result` block in the next message."
            )
        })?;
        let calls = ids(blocks, "tool_use", "id");
        called = calls.iter().cloned().collect();
        demand(called.len() == calls.len(), || "`tool_use` ids must be unique".to_owned())?;
    }
    demand(called.is_empty(), || {
        let ids: Vec<String> = called.into_iter().collect();
        format!("`tool_use` ids were found without `tool_result` blocks immediately after: {}", ids.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::validation::tests::refused;

    fn base() -> Value {
        json!({"model": "m", "max_tokens": 100, "messages": [{"role": "user", "content": "hi"}]})
    }

    fn refused_change(change: &Value) -> Option<String> {
        refused(Route::Messages, &base(), change)
    }

    fn turns(messages: &Value) -> Option<String> {
        refused_change(&json!({ "messages": messages }))
    }

    #[test]
    fn the_output_limit_is_required_and_unknown_fields_are_refused() {
        assert_eq!(refused_change(&json!({})), None);
        assert_eq!(refused_change(&json!({"max_tokens": "none"})).unwrap(), "max_tokens: Field required");
        for change in [
            json!({"max_tokens": 1.5}),
            json!({"max_tokens": "5"}),
            json!({"max_completion_tokens": 5}),
            json!({"stop": ["x"]}),
            json!({"context_management": {}}),
            json!({"temperature": 1.5}),
            json!({"thinking": {"type": "enabled", "budget_tokens": 100}}),
            json!({"tool_choice": {"type": "auto"}}),
            json!({"tools": [{"name": "f"}]}),
            json!({"tools": [{"name": "a b", "input_schema": {"type": "object"}}]}),
            json!({"system": [{"type": "text", "text": ""}]}),
        ] {
            assert!(refused_change(&change).is_some(), "{change}");
        }
        assert!(refused(Route::CountTokens, &base(), &json!({})).unwrap().contains("max_tokens"));
        assert_eq!(refused(Route::CountTokens, &base(), &json!({"max_tokens": "none"})), None);
    }

    #[test]
    fn the_first_turn_is_the_users_and_no_text_is_empty() {
        assert!(turns(&json!([{"role": "assistant", "content": "x"}])).unwrap().contains("first message"));
        assert!(turns(&json!([{"role": "user", "content": [{"type": "text", "text": ""}]}])).is_some());
        assert!(turns(&json!([{"role": "user", "content": [{"type": "text", "text": " "}]}])).is_some());
        assert!(turns(&json!([{"role": "user", "content": ""}])).is_some());
        assert!(turns(&json!([{"role": "user", "content": [{"type": "input_text", "text": "x"}]}])).is_some());
        assert!(turns(&json!([{"role": "tool", "content": "x"}])).is_some());
        let merged = json!([{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]);
        assert_eq!(turns(&merged), None);
    }

    #[test]
    fn results_follow_their_calls() {
        let user = json!({"role": "user", "content": "hi"});
        let calls = json!({"role": "assistant", "content": [{"type": "tool_use", "id": "a", "name": "f", "input": {}},
            {"type": "tool_use", "id": "b", "name": "f", "input": {}}]});
        let result = |id: &str| json!({"type": "tool_result", "tool_use_id": id, "content": "1"});
        let text = json!({"type": "text", "text": "and"});
        let says = |blocks: &[Value]| json!({"role": "user", "content": blocks});
        assert_eq!(turns(&json!([user, calls, says(&[result("a"), result("b"), text.clone()])])), None);
        assert_eq!(turns(&json!([user, calls, says(&[result("a")]), says(&[result("b")])])), None);
        assert!(turns(&json!([user, calls, says(&[result("a")])])).unwrap().contains("without `tool_result`"));
        assert!(turns(&json!([user, calls, says(&[text, result("a"), result("b")])])).is_some());
        assert!(turns(&json!([user, calls])).unwrap().contains("a, b"));
        assert!(turns(&json!([user, says(&[result("a")])])).unwrap().contains("unexpected `tool_use_id`"));
    }
}
