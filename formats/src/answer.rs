//! The texts of an answer brought into the form that is wished for, and what its schema says about them.
//!
//! Owns where a protocol's answer keeps its texts. Everything else of it stays: id, token counts, tool calls, finish reason.
//! With a schema the JSON of a text takes the text's place, so that what was checked is what goes out.

use serde_json::Value;
use tokenhub_domain::{Dialect, OutputWish, TextFormat};

use crate::{
    extract::{json, unfenced, without_thoughts, xml},
    plain_text::plain_text,
    schema::Schema,
};

/// An answer in the form that is wished for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shaped {
    /// The body or the text.
    pub content: String,
    /// The first text that does not match the schema, and what is wrong with it.
    pub mismatch: Option<(String, Vec<String>)>,
}

/// Shapes every text of a whole body. A turn that calls tools is not the answer yet and is not checked, nor is a body that
/// cannot be read.
pub fn shape_body(dialect: Dialect, body: String, wish: &OutputWish, schema: Option<&Schema>) -> Shaped {
    let Ok(mut answer) = serde_json::from_str::<Value>(&body) else { return Shaped { content: body, mismatch: None } };
    let mut is_changed = false;
    let mut mismatch = None;
    for part in parts_of(dialect, &mut answer) {
        let Part { mut texts, calls_tools } = part;
        let mut joined = String::new();
        for text in &mut texts {
            if let Value::String(text) = text {
                let shaped = shape(text, wish);
                is_changed |= shaped != *text;
                *text = shaped;
                joined.push_str(text);
            }
        }
        if let Some(schema) = schema.filter(|_| !calls_tools && mismatch.is_none()) {
            let violations = schema.violations(&joined);
            mismatch = (!violations.is_empty()).then_some((joined, violations));
        }
    }
    Shaped { content: if is_changed { answer.to_string() } else { body }, mismatch }
}

/// Shapes a bare text.
pub fn shape_text(text: &str, wish: &OutputWish, schema: Option<&Schema>) -> Shaped {
    let content = shape(text, wish);
    let violations = schema.map(|schema| schema.violations(&content)).unwrap_or_default();
    let mismatch = (!violations.is_empty()).then(|| (content.clone(), violations));
    Shaped { content, mismatch }
}

/// `body` with `text` for the text of its first answer; nothing when that has none. Everything else stays.
pub fn with_text(dialect: Dialect, body: &str, text: &str) -> Option<String> {
    let mut answer: Value = serde_json::from_str(body).ok()?;
    let mut texts = parts_of(dialect, &mut answer).into_iter().next()?.texts.into_iter();
    let first = texts.next().filter(|first| first.is_string())?;
    *first = text.into();
    for further in texts {
        *further = String::new().into();
    }
    Some(answer.to_string())
}

fn shape(text: &str, wish: &OutputWish) -> String {
    let thoughtless = if wish.strip_think { without_thoughts(text) } else { text.to_owned() };
    if wish.schema.is_some() {
        return found_in(text, thoughtless, json);
    }
    match wish.format {
        None => thoughtless,
        Some(TextFormat::Json) => found_in(text, thoughtless, json),
        Some(TextFormat::Xml) => found_in(text, thoughtless, xml),
        Some(TextFormat::Markdown) => unfenced(&thoughtless).to_owned(),
        Some(TextFormat::Text) => plain_text(&thoughtless),
    }
}

/// The document in a text, for which a thought is no place; the text when there is none.
fn found_in(text: &str, thoughtless: String, find: fn(&str) -> Option<&str>) -> String {
    find(&without_thoughts(text)).map_or(thoughtless, str::to_owned)
}

/// One answer of a body: its texts.
struct Part<'a> {
    texts: Vec<&'a mut Value>,
    calls_tools: bool,
}

fn parts_of(dialect: Dialect, answer: &mut Value) -> Vec<Part<'_>> {
    match dialect {
        Dialect::Chat => {
            let choices = answer.get_mut("choices").and_then(Value::as_array_mut).into_iter().flatten();
            choices.filter_map(|choice| choice.get_mut("message")).map(part_of_message).collect()
        }
        Dialect::Messages => {
            let blocks = answer.get_mut("content").and_then(Value::as_array_mut);
            vec![part_of_blocks(blocks.into_iter().flatten(), "text", |kind| kind.ends_with("tool_use"))]
        }
        Dialect::Responses => {
            let items = answer.get_mut("output").and_then(Value::as_array_mut);
            let mut part = Part { texts: Vec::new(), calls_tools: false };
            for item in items.into_iter().flatten() {
                part.calls_tools |= kind_of(item).ends_with("_call");
                let contents = item.get_mut("content").and_then(Value::as_array_mut);
                part.texts.extend(part_of_blocks(contents.into_iter().flatten(), "output_text", |_| false).texts);
            }
            vec![part]
        }
    }
}

fn part_of_message(message: &mut Value) -> Part<'_> {
    let calls =
        |name: &str| message.get(name).is_some_and(|calls| !calls.is_null() && calls != &Value::Array(Vec::new()));
    // A refusal is no answer either.
    let calls_tools = calls("tool_calls") || calls("function_call") || calls("refusal");
    match message.get_mut("content") {
        Some(Value::Array(blocks)) => {
            let texts = part_of_blocks(blocks.iter_mut(), "text", |_| false).texts;
            Part { texts, calls_tools }
        }
        Some(content) => Part { texts: vec![content], calls_tools },
        None => Part { texts: Vec::new(), calls_tools },
    }
}

fn part_of_blocks<'a>(
    blocks: impl Iterator<Item = &'a mut Value>,
    text_kind: &str,
    is_call: impl Fn(&str) -> bool,
) -> Part<'a> {
    let mut part = Part { texts: Vec::new(), calls_tools: false };
    for block in blocks {
        part.calls_tools |= is_call(kind_of(block));
        if kind_of(block) == text_kind
            && let Some(text) = block.get_mut("text")
        {
            part.texts.push(text);
        }
    }
    part
}

fn kind_of(block: &Value) -> &str {
    block.get("type").and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn wish(format: Option<TextFormat>, strip_think: bool) -> OutputWish {
        OutputWish { format, strip_think, ..OutputWish::default() }
    }

    fn shaped(dialect: Dialect, body: &Value, wish: &OutputWish) -> Value {
        serde_json::from_str(&shape_body(dialect, body.to_string(), wish, None).content).unwrap()
    }

    const FENCED: &str = "<think>hm {}</think>Here:\n```json\n{\"a\": 1}\n```";

    #[test]
    fn the_texts_change_and_nothing_else_in_each_protocol() {
        let json = wish(Some(TextFormat::Json), true);
        let chat = |text: &str| {
            json!({"id": "c", "choices": [{"index": 0, "finish_reason": "stop", "logprobs": null,
                "message": {"role": "assistant", "content": text, "tool_calls": [{"id": "t"}]}}], "usage": {"x": 1}})
        };
        assert_eq!(shaped(Dialect::Chat, &chat(FENCED), &json), chat("{\"a\": 1}"));
        let messages = |text: &str| {
            json!({"id": "m", "content": [{"type": "thinking", "thinking": "`x`"}, {"type": "text", "text": text},
                {"type": "tool_use", "id": "t", "input": {}}], "stop_reason": "tool_use", "usage": {"x": 1}})
        };
        assert_eq!(shaped(Dialect::Messages, &messages(FENCED), &json), messages("{\"a\": 1}"));
        let responses = |text: &str| {
            json!({"id": "r", "output": [{"type": "reasoning", "summary": []}, {"type": "message",
                "content": [{"type": "output_text", "text": text, "annotations": []}]}], "usage": {"x": 1}})
        };
        assert_eq!(shaped(Dialect::Responses, &responses(FENCED), &json), responses("{\"a\": 1}"));
    }

    #[test]
    fn what_needs_no_change_keeps_its_bytes() {
        let body = r#"{ "choices":[{"message":{"content":"{\"a\":1}"}}], "x":1.50 }"#;
        let kept = shape_body(Dialect::Chat, body.to_owned(), &wish(Some(TextFormat::Json), true), None);
        assert_eq!(kept, Shaped { content: body.to_owned(), mismatch: None });
    }

    #[test]
    fn each_format_has_its_form() {
        let form = |format, text: &str| shape_text(text, &wish(Some(format), false), None).content;
        assert_eq!(form(TextFormat::Json, "no json"), "no json");
        assert_eq!(form(TextFormat::Xml, "Sure: <a>1</a>."), "<a>1</a>");
        assert_eq!(form(TextFormat::Markdown, " # T \n"), "# T");
        assert_eq!(form(TextFormat::Text, "# T\n2 * 3 = **6**"), "T\n2 * 3 = 6");
        assert_eq!(shape_text("<think>a</think>b", &wish(None, true), None).content, "b");
    }

    #[test]
    fn a_schema_takes_the_json_and_does_not_judge_a_turn_with_tool_calls() {
        let schema = Schema::new(&json!({"type": "object", "required": ["a"]})).unwrap();
        let wish = OutputWish { schema: Some("{}".into()), ..OutputWish::default() };
        let chat = |message: Value| json!({"choices": [{"message": message}]}).to_string();
        let good = shape_body(Dialect::Chat, chat(json!({"content": FENCED})), &wish, Some(&schema));
        assert_eq!(good, Shaped { content: chat(json!({"content": "{\"a\": 1}"})), mismatch: None });
        let bad = shape_body(Dialect::Chat, chat(json!({"content": "{}"})), &wish, Some(&schema));
        assert_eq!(bad.mismatch, Some(("{}".to_owned(), vec!["\"a\" is a required property".to_owned()])));
        let calling = json!({"content": null, "tool_calls": [{"id": "t"}]});
        assert_eq!(shape_body(Dialect::Chat, chat(calling), &wish, Some(&schema)).mismatch, None);
        let second = json!({"choices": [{"message": {"content": "{\"a\":1}"}}, {"message": {"content": "no"}}]});
        assert!(shape_body(Dialect::Chat, second.to_string(), &wish, Some(&schema)).mismatch.is_some());
    }
}
