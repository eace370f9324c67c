//! Neutral turns into the input items of a Responses request.
//!
//! The kind of a text part follows the role, order is kept, and reasoning goes only to the provider and model that issued it.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};
use tokenhub_domain::Dialect;

use super::super::data_url::data_url;
use super::super::neutral::Target;
use super::super::open_ai;
use super::super::pairing::settle;
use super::super::read::{Losses, invalid};
use super::super::reasoning::unwrap_signature;
use super::super::request::{
    Document, Image, Part, Reasoning, Role, Source, ToolCall, ToolInput, ToolOutcome, ToolResult, Turn,
};
use super::super::tool_names::map_tool_name;
use super::super::topic::Topic;
use super::super::{ConvertError, ConvertedRequest, wire_tool_id};

/// The items of `input`.
pub(crate) struct Items {
    pub(crate) input: Vec<Value>,
    /// Whether reasoning of this target is among them.
    pub(crate) has_reasoning: bool,
}

/// Writes `input`.
pub(crate) fn write_input(
    turns: Vec<Turn>,
    from: Dialect,
    target: &Target,
    converted: &mut ConvertedRequest,
    losses: &mut Losses,
) -> Result<Items, ConvertError> {
    let conversation = Topic::Conversation.field(from);
    let mut items = Items { input: Vec::new(), has_reasoning: false };
    let turns = settle(turns, losses);
    if turns.last().is_some_and(|turn| turn.role == Role::Assistant) {
        losses.add(conversation, "the last message is the assistant's, and the target starts a new one");
    }
    let free_form = free_form_ids(&turns);
    for turn in turns {
        match turn.role {
            Role::System => items.input.extend(message("system", &text_parts(turn.parts))),
            Role::Developer => items.input.extend(message("developer", &text_parts(turn.parts))),
            Role::User => write_user(turn.parts, &free_form, &mut items.input, losses)?,
            Role::Assistant => write_assistant(turn, target, converted, &mut items, losses),
        }
    }
    if items.input.is_empty() {
        return Err(invalid(conversation, "there is no message with content"));
    }
    Ok(items)
}

/// Calls of free-form tools, whose results have a kind of their own.
fn free_form_ids(turns: &[Turn]) -> BTreeSet<String> {
    let parts = turns.iter().flat_map(|turn| &turn.parts);
    let id = |part: &Part| match part {
        Part::ToolCall(ToolCall { id, input: ToolInput::Text(_), .. }) => Some(id.clone()),
        Part::ToolCall(_)
        | Part::Text(_)
        | Part::Refusal(_)
        | Part::Image(_)
        | Part::Document(_)
        | Part::Audio(_)
        | Part::Reasoning(_)
        | Part::ToolResult(_) => None,
    };
    parts.filter_map(id).collect()
}

fn message(role: &str, content: &[Value]) -> Option<Value> {
    (!content.is_empty()).then(|| json!({"type": "message", "role": role, "content": content}))
}

fn text_parts(parts: Vec<Part>) -> Vec<Value> {
    let texts = parts.into_iter().filter_map(|part| if let Part::Text(text) = part { Some(text) } else { None });
    texts.filter(|text| !text.is_empty()).map(|text| json!({"type": "input_text", "text": text})).collect()
}

/// Results first, then what they show in pictures, then the rest.
fn write_user(
    parts: Vec<Part>,
    free_form: &BTreeSet<String>,
    input: &mut Vec<Value>,
    losses: &mut Losses,
) -> Result<(), ConvertError> {
    let (mut shown, mut rest) = (Vec::new(), Vec::new());
    for part in parts {
        if let Part::ToolResult(result) = part {
            input.push(output_item(result, free_form, &mut shown, losses)?);
        } else {
            rest.extend(content_part(part)?);
        }
    }
    shown.append(&mut rest);
    input.extend(message("user", &shown));
    Ok(())
}

fn content_part(part: Part) -> Result<Option<Value>, ConvertError> {
    match part {
        Part::Text(text) | Part::Refusal(text) if text.is_empty() => Ok(None),
        Part::Text(text) | Part::Refusal(text) => Ok(Some(json!({"type": "input_text", "text": text}))),
        Part::Image(image) => image_part(&image).map(Some),
        Part::Document(document) => file_part(&document).map(Some),
        Part::Audio(audio) => Ok(Some(json!({"type": "input_audio", "input_audio": audio.input}))),
        Part::Reasoning(_) | Part::ToolCall(_) | Part::ToolResult(_) => Ok(None),
    }
}

fn image_part(image: &Image) -> Result<Value, ConvertError> {
    let detail = image.detail.as_deref().unwrap_or("auto");
    Ok(json!({"type": "input_image", "image_url": open_ai::image_url(image)?, "detail": detail}))
}

fn file_part(document: &Document) -> Result<Value, ConvertError> {
    match &document.source {
        Source::Data { media_type, base64 } => Ok(json!({
            "type": "input_file",
            "filename": open_ai::document_name(document, media_type),
            "file_data": data_url(media_type, base64),
        })),
        Source::Url(url) => Ok(json!({"type": "input_file", "file_url": url})),
        Source::FileId => Err(open_ai::foreign_file(&document.path)),
    }
}

/// Pictures and documents follow in a user message; the output names their place.
fn output_item(
    result: ToolResult,
    free_form: &BTreeSet<String>,
    shown: &mut Vec<Value>,
    losses: &mut Losses,
) -> Result<Value, ConvertError> {
    let mut texts = Vec::new();
    for part in result.content {
        match part {
            Part::Text(text) | Part::Refusal(text) => texts.push(text),
            Part::Image(image) => {
                texts.push("[image: see the next user message]".to_owned());
                shown.push(image_part(&image)?);
            }
            Part::Document(document) => {
                texts.push("[document: see the next user message]".to_owned());
                shown.push(file_part(&document)?);
            }
            Part::Audio(_) | Part::Reasoning(_) | Part::ToolCall(_) | Part::ToolResult(_) => {
                losses.add(&*result.path, "a tool result towards Responses holds text only");
            }
        }
    }
    let is_free_form = free_form.contains(&result.id);
    let mut item = json!({
        "type": if is_free_form { "custom_tool_call_output" } else { "function_call_output" },
        "call_id": wire_tool_id(Dialect::Responses, &result.id),
        "output": texts.join("\n"),
    });
    if result.outcome == ToolOutcome::Failed {
        item["status"] = json!("incomplete");
    }
    Ok(item)
}

/// Text in a row is one message; reasoning and calls are items of their own between them.
fn write_assistant(
    turn: Turn,
    target: &Target,
    converted: &mut ConvertedRequest,
    items: &mut Items,
    losses: &mut Losses,
) {
    let mut content = Vec::new();
    for part in turn.parts {
        match part {
            Part::Text(text) if text.is_empty() => {}
            Part::Text(text) => content.push(json!({"type": "output_text", "text": text})),
            Part::Refusal(text) => content.push(json!({"type": "refusal", "refusal": text})),
            Part::Reasoning(reasoning) => {
                items.input.extend(message("assistant", &std::mem::take(&mut content)));
                let item = reasoning_item(reasoning, target, losses);
                items.has_reasoning |= item.is_some();
                items.input.extend(item);
            }
            Part::ToolCall(call) => {
                items.input.extend(message("assistant", &std::mem::take(&mut content)));
                items.input.push(call_item(call, converted));
            }
            Part::Image(_) | Part::Document(_) | Part::Audio(_) | Part::ToolResult(_) => {
                losses.add(&*turn.path, "an assistant message cannot hold this");
            }
        }
    }
    items.input.extend(message("assistant", &content));
}

fn reasoning_item(reasoning: Reasoning, target: &Target, losses: &mut Losses) -> Option<Value> {
    let raw = reasoning.opaque.as_deref().and_then(|opaque| unwrap_signature(&target.issuer, opaque));
    let Some(encrypted) = raw else {
        losses.add(reasoning.path, "reasoning is sent back only to the model that issued it");
        return None;
    };
    let summary: Vec<Value> = Some(reasoning.text)
        .filter(|text| !text.is_empty())
        .map(|text| json!({"type": "summary_text", "text": text}))
        .into_iter()
        .collect();
    Some(json!({"type": "reasoning", "summary": summary, "encrypted_content": encrypted}))
}

fn call_item(call: ToolCall, converted: &mut ConvertedRequest) -> Value {
    let mut item = Map::new();
    let (kind, field, text) = match call.input {
        ToolInput::Json(text) if text.trim().is_empty() => ("function_call", "arguments", "{}".to_owned()),
        ToolInput::Json(text) => ("function_call", "arguments", text),
        ToolInput::Text(text) => ("custom_tool_call", "input", text),
    };
    item.insert("type".to_owned(), json!(kind));
    item.insert("call_id".to_owned(), json!(wire_tool_id(Dialect::Responses, &call.id)));
    item.insert("name".to_owned(), json!(map_tool_name(Dialect::Responses, &call.name, &mut converted.tool_names)));
    item.insert(field.to_owned(), json!(text));
    Value::Object(item)
}
