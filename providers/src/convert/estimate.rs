//! A local estimate of a request's input tokens, for upstreams that cannot count them.
//!
//! Errs high, because a client that is told too little compacts its history too late. There is no tokenizer: four bytes of
//! text are taken as a token, and every message, tool and part has a fixed cost on top.

use serde_json::{Map, Value};
use tokenhub_domain::Dialect;

/// Bytes of text for each token. English and code have more, so the estimate is above the count.
const BYTES_PER_TOKEN: u64 = 4;
/// Role, separators and wrapping of a message, an item or a content part.
const PART_TOKENS: u64 = 4;
/// Wrapping of a tool definition, beside its own text.
const TOOL_TOKENS: u64 = 16;
/// A picture: about the largest that is not scaled down.
const IMAGE_TOKENS: u64 = 1600;
/// A document: about a page with its picture; more cannot be known without opening it.
const DOCUMENT_TOKENS: u64 = 3000;

/// Tokens of system prompt, tools and messages. Counts no base64 as text.
pub fn estimate_input_tokens(dialect: Dialect, body: &Map<String, Value>) -> u64 {
    let (system, conversation) = match dialect {
        Dialect::Chat => (None, "messages"),
        Dialect::Responses => (Some("instructions"), "input"),
        Dialect::Messages => (Some("system"), "messages"),
    };
    let fields = [system, Some(conversation), Some("response_format"), Some("text"), Some("output_config")];
    let text = fields.into_iter().flatten().filter_map(|name| body.get(name)).map(tokens_of).sum::<u64>();
    let tools = body.get("tools").and_then(Value::as_array).into_iter().flatten();
    text + tools.map(|tool| TOOL_TOKENS + tokens_of(tool)).sum::<u64>()
}

/// Strings by their bytes, keys included; objects with a fixed cost; media with theirs.
fn tokens_of(value: &Value) -> u64 {
    match value {
        Value::Null | Value::Bool(_) => 1,
        Value::Number(number) => text_tokens(&number.to_string()),
        Value::String(text) if text.starts_with("data:") => IMAGE_TOKENS,
        Value::String(text) => text_tokens(text),
        Value::Array(items) => items.iter().map(tokens_of).sum(),
        Value::Object(fields) => match fields.get("type").and_then(Value::as_str) {
            Some("image" | "image_url" | "input_image") => IMAGE_TOKENS,
            Some("document" | "file" | "input_file") if !is_text_document(fields) => DOCUMENT_TOKENS,
            Some("input_audio") => DOCUMENT_TOKENS,
            Some(_) | None => {
                PART_TOKENS + fields.iter().map(|(name, value)| text_tokens(name) + tokens_of(value)).sum::<u64>()
            }
        },
    }
}

fn is_text_document(fields: &Map<String, Value>) -> bool {
    let source = fields.get("source").and_then(|source| source.get("type")).and_then(Value::as_str);
    matches!(source, Some("text" | "content"))
}

fn text_tokens(text: &str) -> u64 {
    (text.len() as u64).div_ceil(BYTES_PER_TOKEN)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn estimate(dialect: Dialect, body: &Value) -> u64 {
        estimate_input_tokens(dialect, body.as_object().unwrap())
    }

    #[test]
    fn tools_and_the_system_prompt_are_counted_beside_the_messages() {
        let messages = json!([{"role": "user", "content": "Hello"}]);
        let tool = |index| {
            json!({"name": format!("tool_{index}"), "description": "reads a file from the disk",
                "input_schema": {"type": "object", "properties": {"path": {"type": "string"}}}})
        };
        let tools: Vec<Value> = (0..30).map(tool).collect();
        let bare = estimate(Dialect::Messages, &json!({"messages": messages}));
        let with_tools = estimate(Dialect::Messages, &json!({"messages": messages, "tools": tools}));
        let with_system = estimate(Dialect::Messages, &json!({"messages": messages, "system": "x".repeat(400)}));
        assert!(bare >= 5);
        assert!(with_tools > bare + 30 * 16);
        assert!(with_system >= bare + 100);
    }

    #[test]
    fn every_dialect_counts_its_own_fields() {
        let long = "x".repeat(4000);
        let bodies = [
            (Dialect::Chat, json!({"messages": [{"role": "system", "content": long}]})),
            (Dialect::Responses, json!({"instructions": long, "input": "hi"})),
            (Dialect::Responses, json!({"input": long})),
            (Dialect::Messages, json!({"system": [{"type": "text", "text": long}], "messages": []})),
        ];
        for (dialect, body) in bodies {
            assert!((1000..1100).contains(&estimate(dialect, &body)), "{dialect:?}");
        }
    }

    #[test]
    fn an_image_costs_the_same_whatever_its_bytes() {
        let of = |data: &str| {
            let source = json!({"type": "base64", "media_type": "image/png", "data": data});
            estimate(
                Dialect::Messages,
                &json!({"messages": [{"role": "user",
                "content": [{"type": "image", "source": source}]}]}),
            )
        };
        assert_eq!(of("QUJD"), of(&"QUJD".repeat(100_000)));
        assert!(of("QUJD") >= 1600);
    }
}
