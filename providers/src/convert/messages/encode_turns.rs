//! Neutral turns into the messages of a Messages request.
//!
//! Owns the protocol's order: turns alternate, the first is the user's, results come before text, no block is blank, and
//! reasoning goes only to the provider and model that issued it.

use serde_json::{Map, Value, json};
use tokenhub_domain::Dialect;

use super::super::neutral::{SystemInside, Target};
use super::super::open_ai;
use super::super::pairing::settle;
use super::super::read::{Losses, invalid};
use super::super::reasoning::{Opaque, unwrap};
use super::super::request::{
    Audio, Document, Image, Part, Reasoning, Request, Role, Source, ToolCall, ToolInput, ToolOutcome, ToolResult, Turn,
};
use super::super::tool_names::{FREE_FORM_FIELD, map_tool_name};
use super::super::topic::Topic;
use super::super::{ConvertError, ConvertedRequest, wire_tool_id};
use super::MALFORMED_FIELD;

/// Writes `messages`.
pub(crate) fn write_messages(
    request: &mut Request,
    target: &Target,
    converted: &mut ConvertedRequest,
    losses: &mut Losses,
) -> Result<Vec<Value>, ConvertError> {
    let conversation = Topic::Conversation.field(request.from);
    let mut messages: Vec<(&'static str, Vec<Value>)> = Vec::new();
    for turn in settle(std::mem::take(&mut request.turns), losses) {
        let (role, blocks) = write_turn(turn, target, converted, losses)?;
        if blocks.is_empty() {
            continue;
        }
        match messages.last_mut() {
            Some((last, earlier)) if *last == role => earlier.extend(blocks),
            _ => messages.push((role, blocks)),
        }
    }
    match messages.first() {
        None => Err(invalid(conversation, "there is no message with content")),
        Some(("assistant", _)) => Err(invalid(conversation, "the conversation must begin with a user message")),
        Some(_) => Ok(messages.into_iter().map(|(role, content)| json!({"role": role, "content": content})).collect()),
    }
}

fn write_turn(
    turn: Turn,
    target: &Target,
    converted: &mut ConvertedRequest,
    losses: &mut Losses,
) -> Result<(&'static str, Vec<Value>), ConvertError> {
    match turn.role {
        Role::User => Ok(("user", write_user(turn.parts)?)),
        Role::Assistant => Ok(("assistant", write_assistant(turn.parts, target, converted, losses))),
        Role::System | Role::Developer => Ok(write_system(turn, target, losses)),
    }
}

/// A system message inside the conversation stays in its place. Where it is refused there, the user says it, marked.
fn write_system(turn: Turn, target: &Target, losses: &mut Losses) -> (&'static str, Vec<Value>) {
    let texts: Vec<String> =
        turn.parts.into_iter().filter_map(|part| if let Part::Text(text) = part { Some(text) } else { None }).collect();
    let text = texts.join("\n");
    match target.abilities.system_inside {
        SystemInside::Taken => ("system", text_block(&text).into_iter().collect()),
        SystemInside::Refused => {
            losses.add(turn.path, "the target takes no system message inside a conversation: sent as marked user text");
            let marked =
                text_block(&text).map(|_| json!({"type": "text", "text": format!("<system>\n{text}\n</system>")}));
            ("user", marked.into_iter().collect())
        }
    }
}

fn text_block(text: &str) -> Option<Value> {
    (!text.trim().is_empty()).then(|| json!({"type": "text", "text": text}))
}

fn write_user(parts: Vec<Part>) -> Result<Vec<Value>, ConvertError> {
    let (mut results, mut rest) = (Vec::new(), Vec::new());
    for part in parts {
        if let Part::ToolResult(result) = part {
            results.push(result_block(result)?);
        } else {
            rest.extend(content_block(part)?);
        }
    }
    results.append(&mut rest);
    Ok(results)
}

/// What may stand in a user turn or inside a result.
fn content_block(part: Part) -> Result<Option<Value>, ConvertError> {
    match part {
        Part::Text(text) | Part::Refusal(text) => Ok(text_block(&text)),
        Part::Image(image) => image_block(image).map(Some),
        Part::Document(document) => document_block(document).map(Some),
        Part::Audio(audio) => Err(invalid(audio.path, "this model takes no audio")),
        Part::Reasoning(_) | Part::ToolCall(_) | Part::ToolResult(_) => Ok(None),
    }
}

fn image_block(image: Image) -> Result<Value, ConvertError> {
    let source = match image.source {
        Source::Data { media_type, base64 } => {
            let media_type = if media_type == "image/jpg" { "image/jpeg".to_owned() } else { media_type };
            json!({"type": "base64", "media_type": media_type, "data": base64})
        }
        Source::Url(url) => json!({"type": "url", "url": url}),
        Source::FileId => return Err(open_ai::foreign_file(&image.path)),
    };
    Ok(json!({"type": "image", "source": source}))
}

fn document_block(document: Document) -> Result<Value, ConvertError> {
    let source = match document.source {
        Source::Data { media_type, base64 } if media_type == "application/pdf" => {
            json!({"type": "base64", "media_type": media_type, "data": base64})
        }
        Source::Data { media_type, .. } => {
            return Err(invalid(document.path, format!("this model takes PDF documents, not {media_type}")));
        }
        Source::Url(url) => json!({"type": "url", "url": url}),
        Source::FileId => return Err(open_ai::foreign_file(&document.path)),
    };
    let mut block = json!({"type": "document", "source": source});
    if let Some(name) = document.name {
        block["title"] = json!(name);
    }
    Ok(block)
}

/// A single text is a string; a missing content is an empty one.
fn result_block(result: ToolResult) -> Result<Value, ConvertError> {
    let content = match result.content.as_slice() {
        [] => json!(""),
        [Part::Text(text)] => json!(text),
        _ => {
            let blocks = result.content.into_iter().filter_map(|part| content_block(part).transpose());
            Value::Array(blocks.collect::<Result<_, _>>()?)
        }
    };
    let mut block = json!({
        "type": "tool_result",
        "tool_use_id": wire_tool_id(Dialect::Messages, &result.id),
        "content": content,
    });
    if result.outcome == ToolOutcome::Failed {
        block["is_error"] = json!(true);
    }
    Ok(block)
}

fn write_assistant(
    parts: Vec<Part>,
    target: &Target,
    converted: &mut ConvertedRequest,
    losses: &mut Losses,
) -> Vec<Value> {
    let mut blocks = Vec::new();
    for part in parts {
        match part {
            Part::Text(text) | Part::Refusal(text) => blocks.extend(text_block(&text)),
            Part::Reasoning(reasoning) => blocks.extend(thinking_block(reasoning, target, losses)),
            Part::ToolCall(call) => blocks.push(tool_use(call, converted, losses)),
            Part::Image(Image { path, .. })
            | Part::Document(Document { path, .. })
            | Part::Audio(Audio { path, .. })
            | Part::ToolResult(ToolResult { path, .. }) => {
                losses.add(path, "an assistant message towards Messages holds text only");
            }
        }
    }
    blocks
}

/// Unsigned reasoning and another issuer's would be refused.
fn thinking_block(reasoning: Reasoning, target: &Target, losses: &mut Losses) -> Option<Value> {
    match reasoning.opaque.as_deref().and_then(|opaque| unwrap(&target.issuer, opaque)) {
        Some(Opaque::Signature(signature)) => {
            Some(json!({"type": "thinking", "thinking": reasoning.text, "signature": signature}))
        }
        Some(Opaque::Redacted(data)) => Some(json!({"type": "redacted_thinking", "data": data})),
        None => {
            losses.add(reasoning.path, "reasoning is sent back only to the model that signed it");
            None
        }
    }
}

fn tool_use(call: ToolCall, converted: &mut ConvertedRequest, losses: &mut Losses) -> Value {
    let mut input = Map::new();
    match call.input {
        ToolInput::Text(text) => {
            converted.free_form_tools.insert(call.name.clone());
            input.insert(FREE_FORM_FIELD.to_owned(), json!(text));
        }
        ToolInput::Json(text) if text.trim().is_empty() => {}
        ToolInput::Json(text) => {
            if let Ok(Value::Object(fields)) = serde_json::from_str(&text) {
                input = fields;
            } else {
                losses.add(&*call.path, format!("the arguments are no JSON object: kept as {MALFORMED_FIELD}"));
                input.insert(MALFORMED_FIELD.to_owned(), json!(text));
            }
        }
    }
    json!({
        "type": "tool_use",
        "id": wire_tool_id(Dialect::Messages, &call.id),
        "name": map_tool_name(Dialect::Messages, &call.name, &mut converted.tool_names),
        "input": input,
    })
}
