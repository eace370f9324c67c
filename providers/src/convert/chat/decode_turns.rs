//! The messages of a Chat request into neutral turns.
//!
//! System and developer messages before the conversation become the system prompt; later ones stay where they are.

use serde_json::{Map, Value};

use super::super::ConvertError;
use super::super::open_ai;
use super::super::read::{At, Losses, invalid};
use super::super::request::{Part, Reasoning, Request, Role, ToolCall, ToolInput, ToolOutcome, ToolResult, Turn};

const MESSAGE_FIELDS: [&str; 8] =
    ["role", "content", "tool_calls", "tool_call_id", "refusal", "reasoning_content", "reasoning", "cache_control"];

/// Reads `messages`.
pub(crate) fn read_messages(
    body: &Map<String, Value>,
    request: &mut Request,
    losses: &mut Losses,
) -> Result<(), ConvertError> {
    let messages = At::field_of(body, "messages").ok_or_else(|| invalid("messages", "is required"))?;
    for message in messages.items()? {
        message.object()?;
        losses.add_unknown(&message, &MESSAGE_FIELDS);
        match message.need_text("role")? {
            "system" => read_system(&message, Role::System, request, losses)?,
            "developer" => read_system(&message, Role::Developer, request, losses)?,
            "user" => {
                let parts = read_content(message.get("content").as_ref(), losses)?;
                request.turns.push(Turn { role: Role::User, parts, path: message.path });
            }
            "assistant" => {
                let parts = read_assistant(&message, losses)?;
                request.turns.push(Turn { role: Role::Assistant, parts, path: message.path });
            }
            "tool" => push_result(&message, request, losses)?,
            other => return Err(invalid(message.path_of("role"), format!("{other:?} is not a role"))),
        }
    }
    Ok(())
}

fn read_system(message: &At<'_>, role: Role, request: &mut Request, losses: &mut Losses) -> Result<(), ConvertError> {
    let parts = read_content(message.get("content").as_ref(), losses)?;
    request.push_system(Turn { role, parts, path: message.path.clone() })
}

/// Results in a row belong to one turn.
fn push_result(message: &At<'_>, request: &mut Request, losses: &mut Losses) -> Result<(), ConvertError> {
    let result = Part::ToolResult(ToolResult {
        id: message.need_text("tool_call_id")?.to_owned(),
        content: read_content(message.get("content").as_ref(), losses)?,
        outcome: ToolOutcome::Done,
        path: message.path.clone(),
    });
    let is_result = |part: &Part| matches!(part, Part::ToolResult(_));
    match request.turns.last_mut() {
        Some(turn) if turn.role == Role::User && turn.parts.iter().all(is_result) => turn.parts.push(result),
        _ => request.turns.push(Turn { role: Role::User, parts: vec![result], path: message.path.clone() }),
    }
    Ok(())
}

fn read_content(content: Option<&At<'_>>, losses: &mut Losses) -> Result<Vec<Part>, ConvertError> {
    let Some(content) = content else { return Ok(Vec::new()) };
    if let Some(text) = content.value.as_str() {
        return Ok(vec![Part::Text(text.to_owned())]);
    }
    if !content.value.is_array() {
        return Err(content.invalid("must be a string or a list of parts"));
    }
    let mut parts = Vec::new();
    for part in content.items()? {
        parts.extend(read_part(&part, losses)?);
    }
    Ok(parts)
}

fn read_part(part: &At<'_>, losses: &mut Losses) -> Result<Option<Part>, ConvertError> {
    Ok(Some(match part.need_text("type")? {
        "text" => Part::Text(part.need_text("text")?.to_owned()),
        "refusal" => Part::Refusal(part.need_text("refusal")?.to_owned()),
        "image_url" => {
            let image = part.need("image_url")?;
            if image.value.is_string() {
                open_ai::image(&image, None)?
            } else {
                open_ai::image(&image.need("url")?, image.text_field("detail")?)?
            }
        }
        "file" => open_ai::document(&part.need("file")?)?,
        "input_audio" => open_ai::audio(part)?,
        other => {
            losses.add(&*part.path, format!("a {other:?} part is not known to the target's protocol"));
            return Ok(None);
        }
    }))
}

/// Reasoning, text, refusal and calls, in the only order that the protocol has.
fn read_assistant(message: &At<'_>, losses: &mut Losses) -> Result<Vec<Part>, ConvertError> {
    let mut parts = Vec::new();
    if let Some(reasoning) = message.get("reasoning_content").or_else(|| message.get("reasoning"))
        && let Some(text) = reasoning.value.as_str().filter(|text| !text.is_empty())
    {
        parts.push(Part::Reasoning(Reasoning { text: text.to_owned(), opaque: None, path: reasoning.path }));
    }
    parts.extend(read_content(message.get("content").as_ref(), losses)?);
    if let Some(refusal) = message.text_field("refusal")? {
        parts.push(Part::Refusal(refusal.to_owned()));
    }
    for call in message.get("tool_calls").map_or(Ok(Vec::new()), |calls| calls.items())? {
        parts.push(Part::ToolCall(read_call(&call)?));
    }
    Ok(parts)
}

fn read_call(call: &At<'_>) -> Result<ToolCall, ConvertError> {
    let id = call.need_text("id")?.to_owned();
    let path = call.path.clone();
    if call.kind() == "custom" {
        let custom = call.need("custom")?;
        let input = ToolInput::Text(custom.text_field("input")?.unwrap_or("").to_owned());
        return Ok(ToolCall { id, name: custom.need_text("name")?.to_owned(), input, path });
    }
    let function = call.need("function")?;
    let input = ToolInput::Json(function.text_field("arguments")?.unwrap_or("").to_owned());
    Ok(ToolCall { id, name: function.need_text("name")?.to_owned(), input, path })
}
