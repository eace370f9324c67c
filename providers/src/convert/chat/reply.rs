//! A whole Chat reply to and from the neutral form.

use serde_json::{Map, Value, json};
use tokenhub_domain::Dialect;

use super::super::answer::{Link, Reply, ReplyPart, list_of, text_of, unreadable};
use super::super::read::Losses;
use super::super::request::ToolInput;
use super::super::{
    ConvertError, Produced, ReplyContext, finish_of, finish_to_wire, render_usage, reply_id, usage, wire_tool_id,
};

/// Reads the first choice.
pub(crate) fn read_reply(body: &Value, losses: &mut Losses) -> Result<Reply, ConvertError> {
    let choices = list_of(body, "choices");
    let choice = choices.first().ok_or_else(|| unreadable("it has no choice"))?;
    let message = choice.get("message").filter(|message| message.is_object());
    let message = message.ok_or_else(|| unreadable("its choice has no message"))?;
    if choices.len() > 1 {
        losses.add("choices", "only the first is kept");
    }
    let mut parts = Vec::new();
    let reasoning = [text_of(message, "reasoning_content"), text_of(message, "reasoning")];
    if let Some(text) = reasoning.into_iter().find(|text| !text.is_empty()) {
        parts.push(ReplyPart::Reasoning { text: text.to_owned(), opaque: None });
    }
    read_content(message, &mut parts, losses);
    let refusal = text_of(message, "refusal");
    if !refusal.is_empty() {
        parts.push(ReplyPart::Refusal(refusal.to_owned()));
    }
    parts.extend(list_of(message, "tool_calls").iter().map(read_call));
    if let Some(call) = message.get("function_call").filter(|call| call.is_object()) {
        parts.push(read_call(&json!({"function": call})));
    }
    if message.get("audio").is_some_and(|audio| !audio.is_null()) {
        losses.add("choices[0].message.audio", "not known to the client's protocol");
    }
    let finish_raw = choice.get("finish_reason").and_then(Value::as_str).map(str::to_owned);
    let counted = body.get("usage").filter(|usage| usage.is_object());
    let mut reply = Reply {
        parts,
        finish: super::super::Finish::Stop,
        finish_raw,
        usage: counted.map(|counted| usage(Dialect::Chat, counted)),
    };
    let produced = Produced { tool_calls: reply.tool_calls(), refusals: reply.refusals() };
    reply.finish = finish_of(Dialect::Chat, reply.finish_raw.as_deref(), None, produced);
    Ok(reply)
}

/// A text, or parts as some servers send them, reasoning among them.
fn read_content(message: &Value, parts: &mut Vec<ReplyPart>, losses: &mut Losses) {
    let links: Vec<Link> = list_of(message, "annotations").iter().filter_map(read_link).collect();
    match message.get("content") {
        Some(Value::String(text)) if !text.is_empty() => parts.push(ReplyPart::Text { text: text.clone(), links }),
        Some(Value::Array(pieces)) => {
            for (index, piece) in pieces.iter().enumerate() {
                match text_of(piece, "type") {
                    "text" => {
                        parts.push(ReplyPart::Text { text: text_of(piece, "text").to_owned(), links: Vec::new() });
                    }
                    "refusal" => parts.push(ReplyPart::Refusal(text_of(piece, "refusal").to_owned())),
                    "thinking" => {
                        let text = list_of(piece, "thinking").iter().map(|inner| text_of(inner, "text")).collect();
                        parts.push(ReplyPart::Reasoning { text, opaque: None });
                    }
                    _ => losses.add(format!("choices[0].message.content[{index}]"), "an unknown part"),
                }
            }
        }
        Some(Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_)) | None => {}
    }
}

fn read_link(annotation: &Value) -> Option<Link> {
    let citation = annotation.get("url_citation")?;
    Some(Link {
        url: text_of(citation, "url").to_owned(),
        title: text_of(citation, "title").to_owned(),
        start: citation.get("start_index").cloned().unwrap_or_else(|| json!(0)),
        end: citation.get("end_index").cloned().unwrap_or_else(|| json!(0)),
    })
}

/// Arguments are a text; some servers send the object itself.
fn read_call(call: &Value) -> ReplyPart {
    let id = text_of(call, "id").to_owned();
    if let Some(custom) = call.get("custom") {
        let input = ToolInput::Text(text_of(custom, "input").to_owned());
        return ReplyPart::ToolCall { id, name: text_of(custom, "name").to_owned(), input };
    }
    let function = call.get("function").unwrap_or(&Value::Null);
    let arguments = match function.get("arguments") {
        Some(Value::String(text)) => text.clone(),
        Some(object @ Value::Object(_)) => object.to_string(),
        Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_)) | None => String::new(),
    };
    ReplyPart::ToolCall { id, name: text_of(function, "name").to_owned(), input: ToolInput::Json(arguments) }
}

/// Writes a reply.
pub(crate) fn write_reply(reply: &Reply, context: &ReplyContext, losses: &mut Losses) -> Map<String, Value> {
    for part in &reply.parts {
        if let ReplyPart::Reasoning { opaque: Some(_), .. } = part {
            losses.add("signature", "the client's protocol cannot carry it, so this reasoning cannot be continued");
        }
    }
    let produced = Produced { tool_calls: reply.tool_calls(), refusals: reply.refusals() };
    let finish = finish_to_wire(Dialect::Chat, &reply.finish, produced);
    let mut body = Map::new();
    body.insert("id".to_owned(), json!(reply_id(Dialect::Chat, &context.attempt)));
    body.insert("object".to_owned(), json!("chat.completion"));
    body.insert("created".to_owned(), json!(context.created_secs));
    body.insert("model".to_owned(), json!(context.model));
    body.insert(
        "choices".to_owned(),
        json!([{"index": 0, "message": message_of(reply), "logprobs": null, "finish_reason": finish.reason}]),
    );
    if let Some(counts) = &reply.usage {
        body.insert("usage".to_owned(), render_usage(Dialect::Chat, counts));
    }
    body
}

/// The assistant's message. Its content is null when there are only tool calls or a refusal.
pub(crate) fn message_of(reply: &Reply) -> Value {
    let (mut text, mut reasoning, mut refusal) = (String::new(), String::new(), String::new());
    let (mut calls, mut annotations) = (Vec::new(), Vec::new());
    for part in &reply.parts {
        match part {
            ReplyPart::Text { text: piece, links } => {
                // Places are counted in the whole text.
                let before = text.chars().count() as u64;
                let place = |at: &Value| at.as_u64().map_or_else(|| at.clone(), |at| json!(at + before));
                annotations.extend(links.iter().map(|link| {
                    json!({"type": "url_citation", "url_citation": {"url": link.url, "title": link.title,
                        "start_index": place(&link.start), "end_index": place(&link.end)}})
                }));
                text.push_str(piece);
            }
            ReplyPart::Refusal(piece) => refusal.push_str(piece),
            ReplyPart::Reasoning { text: piece, .. } => reasoning.push_str(piece),
            ReplyPart::ToolCall { id, name, input } => calls.push(write_call(id, name, input)),
        }
    }
    let is_null = text.is_empty() && (!calls.is_empty() || !refusal.is_empty());
    let mut message = Map::new();
    message.insert("role".to_owned(), json!("assistant"));
    message.insert("content".to_owned(), if is_null { Value::Null } else { json!(text) });
    message.insert("refusal".to_owned(), if refusal.is_empty() { Value::Null } else { json!(refusal) });
    if !reasoning.is_empty() {
        message.insert("reasoning_content".to_owned(), json!(reasoning));
    }
    if !annotations.is_empty() {
        message.insert("annotations".to_owned(), Value::Array(annotations));
    }
    if !calls.is_empty() {
        message.insert("tool_calls".to_owned(), Value::Array(calls));
    }
    Value::Object(message)
}

fn write_call(id: &str, name: &str, input: &ToolInput) -> Value {
    let id = wire_tool_id(Dialect::Chat, id);
    match input {
        ToolInput::Json(text) => {
            let arguments = if text.trim().is_empty() { "{}" } else { text };
            json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}})
        }
        ToolInput::Text(text) => json!({"id": id, "type": "custom", "custom": {"name": name, "input": text}}),
    }
}
