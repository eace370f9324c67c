//! The input items of a Responses request into neutral turns.
//!
//! Items have no turns, so neighbours of one side form one: reasoning, text and calls until an answer to them comes. Items
//! that no other protocol has are lost and recorded, never refused: clients send new kinds before anybody documents them.

use serde_json::{Map, Value};

use super::super::ConvertError;
use super::super::open_ai;
use super::super::read::{At, Losses, invalid};
use super::super::request::{Part, Reasoning, Request, Role, ToolCall, ToolInput, ToolOutcome, ToolResult, Turn};

/// What a call of the client's own shell is named elsewhere.
const LOCAL_SHELL: &str = "local_shell";

/// Reads `input`.
pub(crate) fn read_input(
    body: &Map<String, Value>,
    request: &mut Request,
    losses: &mut Losses,
) -> Result<(), ConvertError> {
    let input = At::field_of(body, "input").ok_or_else(|| invalid("input", "is required"))?;
    if let Some(text) = input.value.as_str() {
        let parts = vec![Part::Text(text.to_owned())];
        request.turns.push(Turn { role: Role::User, parts, path: input.path });
        return Ok(());
    }
    if !input.value.is_array() {
        return Err(input.invalid("must be a string or a list of items"));
    }
    for item in input.items()? {
        item.object()?;
        read_item(&item, request, losses)?;
    }
    Ok(())
}

fn read_item(item: &At<'_>, request: &mut Request, losses: &mut Losses) -> Result<(), ConvertError> {
    match item.kind() {
        "message" => read_message(item, request, losses),
        "" if item.get("role").is_some() => read_message(item, request, losses),
        "reasoning" => {
            push(request, Role::Assistant, read_reasoning(item)?, item);
            Ok(())
        }
        "function_call" => {
            let arguments = ToolInput::Json(item.text_field("arguments")?.unwrap_or("").to_owned());
            push_call(item, item.need_text("name")?, arguments, request)
        }
        "custom_tool_call" => {
            let text = ToolInput::Text(item.text_field("input")?.unwrap_or("").to_owned());
            push_call(item, item.need_text("name")?, text, request)
        }
        "local_shell_call" => {
            let action = item.get("action").map_or_else(|| "{}".to_owned(), |action| action.value.to_string());
            push_call(item, LOCAL_SHELL, ToolInput::Json(action), request)
        }
        "function_call_output" | "custom_tool_call_output" | "local_shell_call_output" => {
            let result = read_result(item, losses)?;
            push(request, Role::User, Part::ToolResult(result), item);
            Ok(())
        }
        "item_reference" => Err(item.invalid("this model keeps no items: send the item itself")),
        other => {
            losses.add(&*item.path, format!("a {other:?} item is not known to the target's protocol"));
            Ok(())
        }
    }
}

/// Adds to the last turn when it is of the same side, and begins one otherwise.
fn push(request: &mut Request, role: Role, part: Part, item: &At<'_>) {
    match request.turns.last_mut() {
        Some(turn) if turn.role == role => turn.parts.push(part),
        _ => request.turns.push(Turn { role, parts: vec![part], path: item.path.clone() }),
    }
}

fn push_call(item: &At<'_>, name: &str, input: ToolInput, request: &mut Request) -> Result<(), ConvertError> {
    // Older items of a local shell have only their own id.
    let id = item
        .get("call_id")
        .or_else(|| item.get("id"))
        .ok_or_else(|| invalid(item.path_of("call_id"), "is required"))?;
    let call = ToolCall { id: id.text()?.to_owned(), name: name.to_owned(), input, path: item.path.clone() };
    push(request, Role::Assistant, Part::ToolCall(call), item);
    Ok(())
}

fn read_message(item: &At<'_>, request: &mut Request, losses: &mut Losses) -> Result<(), ConvertError> {
    let role = match item.need_text("role")? {
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "system" => Role::System,
        "developer" => Role::Developer,
        other => return Err(invalid(item.path_of("role"), format!("{other:?} is not a role"))),
    };
    let parts = item.get("content").map_or(Ok(Vec::new()), |content| read_content(&content, losses))?;
    if matches!(role, Role::System | Role::Developer) {
        return request.push_system(Turn { role, parts, path: item.path.clone() });
    }
    match request.turns.last_mut() {
        Some(turn) if role == Role::Assistant && takes_text(turn) => turn.parts.extend(parts),
        _ => request.turns.push(Turn { role, parts, path: item.path.clone() }),
    }
    Ok(())
}

/// Whether a message belongs to the assistant's turn: it has begun with reasoning or calls and has no text yet.
fn takes_text(turn: &Turn) -> bool {
    let has_text = turn.parts.iter().any(|part| matches!(part, Part::Text(_) | Part::Refusal(_)));
    let has_calls = turn.parts.iter().any(|part| matches!(part, Part::ToolCall(_)));
    turn.role == Role::Assistant && (has_calls || !has_text)
}

fn read_content(content: &At<'_>, losses: &mut Losses) -> Result<Vec<Part>, ConvertError> {
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
        "input_text" | "output_text" | "text" => Part::Text(part.need_text("text")?.to_owned()),
        "refusal" => Part::Refusal(part.need_text("refusal")?.to_owned()),
        "input_image" => {
            if let Some(url) = part.get("image_url") {
                open_ai::image(&url, part.text_field("detail")?)?
            } else {
                return Err(open_ai::foreign_file(&part.path_of("file_id")));
            }
        }
        "input_file" => open_ai::document(part)?,
        "input_audio" => open_ai::audio(part)?,
        other => {
            losses.add(&*part.path, format!("a {other:?} part is not known to the target's protocol"));
            return Ok(None);
        }
    }))
}

/// The summary, or the reasoning itself where an open model shows it.
fn read_reasoning(item: &At<'_>) -> Result<Part, ConvertError> {
    let texts = |name: &str| -> Result<Vec<&str>, ConvertError> {
        let parts = item.get(name).map_or(Ok(Vec::new()), |parts| parts.items())?;
        parts.iter().map(|part| part.need_text("text")).collect()
    };
    let summary = texts("summary")?;
    let text = if summary.is_empty() { texts("content")? } else { summary }.join("\n\n");
    let opaque = item.text_field("encrypted_content")?.map(str::to_owned);
    Ok(Part::Reasoning(Reasoning { text, opaque, path: item.path.clone() }))
}

fn read_result(item: &At<'_>, losses: &mut Losses) -> Result<ToolResult, ConvertError> {
    let id = item
        .get("call_id")
        .or_else(|| item.get("id"))
        .ok_or_else(|| invalid(item.path_of("call_id"), "is required"))?;
    let content = match item.get("output") {
        None => Vec::new(),
        // Not documented, but sent: an object in place of its text.
        Some(output) if output.value.is_object() => vec![Part::Text(output.value.to_string())],
        Some(output) => read_content(&output, losses)?,
    };
    let is_incomplete = item.text_field("status")? == Some("incomplete");
    Ok(ToolResult {
        id: id.text()?.to_owned(),
        content,
        outcome: if is_incomplete { ToolOutcome::Failed } else { ToolOutcome::Done },
        path: item.path.clone(),
    })
}
