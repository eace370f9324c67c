//! System prompt and messages of a Messages request into neutral turns.

use serde_json::{Map, Value};

use super::super::ConvertError;
use super::super::data_url::{check_base64, source_of};
use super::super::read::{At, Losses, invalid};
use super::super::request::{
    Document, Image, Part, Reasoning, Request, Role, Source, ToolCall, ToolInput, ToolOutcome, ToolResult, Turn,
};

/// How a coding client begins the block that says who called. It changes with every request, so that in front of a prompt
/// it would defeat every prefix cache.
const ATTRIBUTION_PREFIX: &str = "x-anthropic-billing-header:";

/// Reads `system`.
pub(crate) fn read_system(
    body: &Map<String, Value>,
    request: &mut Request,
    losses: &mut Losses,
) -> Result<(), ConvertError> {
    let Some(system) = At::field_of(body, "system") else { return Ok(()) };
    for text in texts_of(&system, losses)? {
        if request.system.is_empty() && text.starts_with(ATTRIBUTION_PREFIX) {
            losses.add("system[0]", "the client's attribution is for Messages upstreams only");
        } else if !text.is_empty() {
            request.system.push(text);
        }
    }
    Ok(())
}

/// A string, or a list of text blocks.
fn texts_of(at: &At<'_>, losses: &mut Losses) -> Result<Vec<String>, ConvertError> {
    if let Some(text) = at.value.as_str() {
        return Ok(vec![text.to_owned()]);
    }
    let mut texts = Vec::new();
    for block in at.items()? {
        if block.need_text("type")? != "text" {
            return Err(block.invalid("a system prompt holds text blocks only"));
        }
        losses.add_unknown(&block, &["type", "text", "cache_control"]);
        texts.push(block.need_text("text")?.to_owned());
    }
    Ok(texts)
}

/// Reads `messages`.
pub(crate) fn read_messages(
    body: &Map<String, Value>,
    request: &mut Request,
    losses: &mut Losses,
) -> Result<(), ConvertError> {
    let messages = At::field_of(body, "messages").ok_or_else(|| invalid("messages", "is required"))?;
    for message in messages.items()? {
        message.object()?;
        losses.add_unknown(&message, &["role", "content"]);
        let role = match message.need_text("role")? {
            "user" => Role::User,
            "assistant" => Role::Assistant,
            "system" => Role::System,
            other => return Err(invalid(message.path_of("role"), format!("{other:?} is not a role"))),
        };
        let parts = read_content(&message.need("content")?, losses)?;
        let turn = Turn { role, parts, path: message.path };
        match role {
            Role::System | Role::Developer => request.push_system(turn)?,
            Role::User | Role::Assistant => request.turns.push(turn),
        }
    }
    Ok(())
}

fn read_content(content: &At<'_>, losses: &mut Losses) -> Result<Vec<Part>, ConvertError> {
    if let Some(text) = content.value.as_str() {
        return Ok(vec![Part::Text(text.to_owned())]);
    }
    if !content.value.is_array() {
        return Err(content.invalid("must be a string or a list of blocks"));
    }
    let mut parts = Vec::new();
    for block in content.items()? {
        parts.extend(read_block(&block, losses)?);
    }
    Ok(parts)
}

fn read_block(block: &At<'_>, losses: &mut Losses) -> Result<Vec<Part>, ConvertError> {
    let path = block.path.clone();
    Ok(vec![match block.need_text("type")? {
        "text" => {
            losses.add_unknown(block, &["type", "text", "cache_control"]);
            Part::Text(block.need_text("text")?.to_owned())
        }
        "image" => {
            let source = read_source(&block.need("source")?)?;
            Part::Image(Image { source, detail: None, path: block.path_of("source") })
        }
        "document" => return read_document(block, losses),
        "thinking" => Part::Reasoning(Reasoning {
            text: block.text_field("thinking")?.unwrap_or("").to_owned(),
            opaque: block.text_field("signature")?.filter(|signature| !signature.is_empty()).map(str::to_owned),
            path,
        }),
        "redacted_thinking" => {
            Part::Reasoning(Reasoning { text: String::new(), opaque: Some(block.need_text("data")?.to_owned()), path })
        }
        "tool_use" => {
            let input = block.get("input").map_or_else(|| Ok(Map::new()), |input| input.object().cloned())?;
            Part::ToolCall(ToolCall {
                id: block.need_text("id")?.to_owned(),
                name: block.need_text("name")?.to_owned(),
                input: ToolInput::Json(Value::Object(input).to_string()),
                path,
            })
        }
        "tool_result" => Part::ToolResult(read_result(block, losses)?),
        other => {
            losses.add(path, format!("a {other:?} block is not known to the target's protocol"));
            return Ok(Vec::new());
        }
    }])
}

fn read_result(block: &At<'_>, losses: &mut Losses) -> Result<ToolResult, ConvertError> {
    let is_error = block.get("is_error").map(|flag| flag.flag()).transpose()?.unwrap_or(false);
    Ok(ToolResult {
        id: block.need_text("tool_use_id")?.to_owned(),
        content: block.get("content").map_or(Ok(Vec::new()), |content| read_content(&content, losses))?,
        outcome: if is_error { ToolOutcome::Failed } else { ToolOutcome::Done },
        path: block.path.clone(),
    })
}

fn read_source(source: &At<'_>) -> Result<Source, ConvertError> {
    match source.need_text("type")? {
        "base64" => {
            let data = source.need("data")?;
            check_base64(&data, data.text()?)?;
            let media_type = source.need_text("media_type")?.to_owned();
            Ok(Source::Data { media_type, base64: data.text()?.to_owned() })
        }
        "url" => source_of(&source.need("url")?),
        "file" => Ok(Source::FileId),
        other => Err(invalid(source.path_of("type"), format!("{other:?} is not a source"))),
    }
}

/// A text document is text wherever it goes; only files travel as documents.
fn read_document(block: &At<'_>, losses: &mut Losses) -> Result<Vec<Part>, ConvertError> {
    let source = block.need("source")?;
    losses.add_unknown(block, &["type", "source", "title", "cache_control"]);
    match source.need_text("type")? {
        "text" => Ok(vec![Part::Text(source.need_text("data")?.to_owned())]),
        "content" => read_content(&source.need("content")?, losses),
        _ => {
            let name = block.text_field("title")?.map(str::to_owned);
            let path = source.path.clone();
            Ok(vec![Part::Document(Document { source: read_source(&source)?, name, path })])
        }
    }
}
