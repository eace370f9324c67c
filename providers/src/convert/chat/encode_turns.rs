//! Neutral turns into the messages of a Chat request.
//!
//! Tool results are messages of their own and come before the rest of their turn. A message without content is left out.

use serde_json::{Map, Value, json};
use tokenhub_domain::Dialect;

use super::super::data_url::data_url;
use super::super::neutral::{ReasoningBack, SystemBlocks, Target};
use super::super::open_ai;
use super::super::pairing::settle;
use super::super::read::{Losses, invalid};
use super::super::request::{
    Document, Part, Request, Role, Source, ToolCall, ToolInput, ToolOutcome, ToolResult, Turn,
};
use super::super::tool_names::{map_tool_name, wrap_free_form};
use super::super::topic::Topic;
use super::super::{ConvertError, ConvertedRequest, wire_tool_id};

/// Writes `messages`.
pub(crate) fn write_messages(
    request: &mut Request,
    target: &Target,
    converted: &mut ConvertedRequest,
    losses: &mut Losses,
) -> Result<Vec<Value>, ConvertError> {
    let conversation = Topic::Conversation.field(request.from);
    let mut messages = Vec::new();
    let system = std::mem::take(&mut request.system);
    if !system.is_empty() {
        messages.push(json!({"role": "system", "content": system_content(&system, target)}));
    }
    let turns = settle(std::mem::take(&mut request.turns), losses);
    if turns.last().is_some_and(|turn| turn.role == Role::Assistant) {
        losses.add(conversation, "the last message is the assistant's, and the target starts a new one");
    }
    let before = messages.len();
    for turn in turns {
        match turn.role {
            Role::System | Role::Developer => messages.extend(system_message(&turn)),
            Role::User => write_user(turn, &mut messages, losses)?,
            Role::Assistant => messages.extend(assistant_message(turn, target, converted, losses)),
        }
    }
    if messages.len() == before {
        return Err(invalid(conversation, "there is no message with content"));
    }
    Ok(messages)
}

fn system_content(blocks: &[String], target: &Target) -> Value {
    match (target.abilities.system_blocks, blocks) {
        (SystemBlocks::Joined, _) | (SystemBlocks::Parts, [_]) => json!(blocks.join("\n")),
        (SystemBlocks::Parts, _) => blocks.iter().map(|text| json!({"type": "text", "text": text})).collect(),
    }
}

fn system_message(turn: &Turn) -> Option<Value> {
    let text = text_of(&turn.parts, "\n");
    (!text.is_empty()).then(|| json!({"role": "system", "content": text}))
}

fn text_of(parts: &[Part], separator: &str) -> String {
    let texts: Vec<&str> =
        parts.iter().filter_map(|part| if let Part::Text(text) = part { Some(text.as_str()) } else { None }).collect();
    texts.join(separator)
}

fn write_user(turn: Turn, messages: &mut Vec<Value>, losses: &mut Losses) -> Result<(), ConvertError> {
    let mut content = Vec::new();
    for part in turn.parts {
        match part {
            Part::ToolResult(result) => messages.push(result_message(result, losses)),
            Part::Text(text) if text.is_empty() => {}
            Part::Text(text) => content.push(json!({"type": "text", "text": text})),
            Part::Image(image) => {
                let mut fields = json!({"url": open_ai::image_url(&image)?});
                if let Some(detail) = &image.detail {
                    fields["detail"] = json!(detail);
                }
                content.push(json!({"type": "image_url", "image_url": fields}));
            }
            Part::Document(document) => content.push(file_part(&document)?),
            Part::Audio(audio) => content.push(json!({"type": "input_audio", "input_audio": audio.input})),
            Part::Refusal(_) | Part::Reasoning(_) | Part::ToolCall(_) => {
                losses.add(&*turn.path, "a user message cannot hold what an assistant says");
            }
        }
    }
    let content = match content.as_slice() {
        [] => return Ok(()),
        [only] if only["type"] == "text" => only["text"].clone(),
        _ => Value::Array(content),
    };
    messages.push(json!({"role": "user", "content": content}));
    Ok(())
}

fn file_part(document: &Document) -> Result<Value, ConvertError> {
    match &document.source {
        Source::Data { media_type, base64 } => Ok(json!({"type": "file", "file": {
            "filename": open_ai::document_name(document, media_type),
            "file_data": data_url(media_type, base64),
        }})),
        Source::Url(_) => Err(invalid(&*document.path, "the target takes documents as data only")),
        Source::FileId => Err(open_ai::foreign_file(&document.path)),
    }
}

/// Text is all that a tool message can hold; a failure is said in words, because there is no field for it.
fn result_message(result: ToolResult, losses: &mut Losses) -> Value {
    let mut texts = Vec::new();
    for part in result.content {
        match part {
            Part::Text(text) | Part::Refusal(text) => texts.push(text),
            Part::Image(image) => {
                losses.add(image.path, "a tool result towards Chat holds text only");
                texts.push("[image]".to_owned());
            }
            Part::Document(document) => {
                losses.add(document.path, "a tool result towards Chat holds text only");
                texts.push("[document]".to_owned());
            }
            Part::Audio(_) | Part::Reasoning(_) | Part::ToolCall(_) | Part::ToolResult(_) => {
                losses.add(&*result.path, "a tool result towards Chat holds text only");
            }
        }
    }
    let text = texts.join("\n");
    let content = match result.outcome {
        ToolOutcome::Done => text,
        ToolOutcome::Failed if text.is_empty() => "Error".to_owned(),
        ToolOutcome::Failed => format!("Error: {text}"),
    };
    json!({"role": "tool", "tool_call_id": wire_tool_id(Dialect::Chat, &result.id), "content": content})
}

fn assistant_message(
    turn: Turn,
    target: &Target,
    converted: &mut ConvertedRequest,
    losses: &mut Losses,
) -> Option<Value> {
    let (mut text, mut reasoning, mut refusal) = (String::new(), String::new(), String::new());
    let mut calls = Vec::new();
    for part in turn.parts {
        match part {
            Part::Text(piece) => text.push_str(&piece),
            Part::Refusal(piece) => refusal.push_str(&piece),
            Part::Reasoning(piece) => match target.abilities.reasoning_back {
                ReasoningBack::Sent => reasoning.push_str(&piece.text),
                ReasoningBack::Dropped => losses.add(piece.path, "the target does not take earlier reasoning"),
            },
            Part::ToolCall(call) => calls.push(tool_call(call, converted)),
            Part::Image(_) | Part::Document(_) | Part::Audio(_) | Part::ToolResult(_) => {
                losses.add(&*turn.path, "an assistant message cannot hold this");
            }
        }
    }
    if text.is_empty() && refusal.is_empty() && calls.is_empty() {
        return None;
    }
    let mut message = Map::new();
    message.insert("role".to_owned(), json!("assistant"));
    message.insert("content".to_owned(), if text.is_empty() { Value::Null } else { json!(text) });
    if !reasoning.is_empty() {
        message.insert("reasoning_content".to_owned(), json!(reasoning));
    }
    if !refusal.is_empty() {
        message.insert("refusal".to_owned(), json!(refusal));
    }
    if !calls.is_empty() {
        message.insert("tool_calls".to_owned(), Value::Array(calls));
    }
    Some(Value::Object(message))
}

fn tool_call(call: ToolCall, converted: &mut ConvertedRequest) -> Value {
    let arguments = match call.input {
        ToolInput::Json(text) if text.trim().is_empty() => "{}".to_owned(),
        ToolInput::Json(text) => text,
        ToolInput::Text(text) => {
            converted.free_form_tools.insert(call.name.clone());
            wrap_free_form(&text)
        }
    };
    json!({
        "id": wire_tool_id(Dialect::Chat, &call.id),
        "type": "function",
        "function": {"name": map_tool_name(Dialect::Chat, &call.name, &mut converted.tool_names), "arguments": arguments},
    })
}
