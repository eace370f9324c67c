//! A whole Messages reply to and from the neutral form.

use serde_json::{Map, Value, json};
use tokenhub_domain::Dialect;

use super::super::answer::{Link, Reply, ReplyPart, list_of, text_of, unreadable};
use super::super::read::Losses;
use super::super::request::ToolInput;
use super::super::tool_names::FREE_FORM_FIELD;
use super::super::{
    ConvertError, Finish, Opaque, Produced, ReplyContext, finish_of, finish_to_wire, render_usage, reply_id, usage,
    wire_tool_id, wrap,
};
use super::MALFORMED_FIELD;

/// Reads the content blocks.
pub(crate) fn read_reply(body: &Value, losses: &mut Losses) -> Result<Reply, ConvertError> {
    let blocks = body.get("content").and_then(Value::as_array).ok_or_else(|| unreadable("it has no content"))?;
    let mut parts = Vec::new();
    for (index, block) in blocks.iter().enumerate() {
        match text_of(block, "type") {
            "text" => parts.push(read_text(block, index, losses)),
            "thinking" => {
                let signature = Some(text_of(block, "signature")).filter(|signature| !signature.is_empty());
                parts.push(ReplyPart::Reasoning {
                    text: text_of(block, "thinking").to_owned(),
                    opaque: signature.map(|signature| Opaque::Signature(signature.to_owned())),
                });
            }
            "redacted_thinking" => parts.push(ReplyPart::Reasoning {
                text: String::new(),
                opaque: Some(Opaque::Redacted(text_of(block, "data").to_owned())),
            }),
            "tool_use" => parts.push(ReplyPart::ToolCall {
                id: text_of(block, "id").to_owned(),
                name: text_of(block, "name").to_owned(),
                input: ToolInput::Json(block.get("input").map_or_else(|| "{}".to_owned(), Value::to_string)),
            }),
            other => losses
                .add(format!("content[{index}]"), format!("a {other:?} block is not known to the client's protocol")),
        }
    }
    let finish_raw = body.get("stop_reason").and_then(Value::as_str).map(str::to_owned);
    let counted = body.get("usage").filter(|usage| usage.is_object());
    let mut reply = Reply {
        parts,
        finish: Finish::Stop,
        finish_raw,
        usage: counted.map(|counted| usage(Dialect::Messages, counted)),
    };
    let produced = Produced { tool_calls: reply.tool_calls(), refusals: 0 };
    let matched = body.get("stop_sequence").and_then(Value::as_str);
    reply.finish = finish_of(Dialect::Messages, reply.finish_raw.as_deref(), matched, produced);
    Ok(reply)
}

/// Citations of web pages are links; those of documents have no form elsewhere.
fn read_text(block: &Value, index: usize, losses: &mut Losses) -> ReplyPart {
    let text = text_of(block, "text").to_owned();
    let mut links = Vec::new();
    for citation in list_of(block, "citations") {
        let url = text_of(citation, "url");
        if url.is_empty() {
            losses.add(
                format!("content[{index}].citations"),
                "a citation of a document has no form in the client's protocol",
            );
        } else {
            let (start, end) = (json!(0), json!(text.chars().count()));
            links.push(Link { url: url.to_owned(), title: text_of(citation, "title").to_owned(), start, end });
        }
    }
    ReplyPart::Text { text, links }
}

/// Writes a reply.
pub(crate) fn write_reply(reply: &Reply, context: &ReplyContext, losses: &mut Losses) -> Map<String, Value> {
    let blocks: Vec<Value> = reply.parts.iter().filter_map(|part| write_block(part, context, losses)).collect();
    let produced = Produced { tool_calls: reply.tool_calls(), refusals: reply.refusals() };
    let finish = finish_to_wire(Dialect::Messages, &reply.finish, produced);
    let mut body = Map::new();
    body.insert("id".to_owned(), json!(reply_id(Dialect::Messages, &context.attempt)));
    body.insert("type".to_owned(), json!("message"));
    body.insert("role".to_owned(), json!("assistant"));
    body.insert("model".to_owned(), json!(context.model));
    body.insert("content".to_owned(), Value::Array(blocks));
    body.insert("stop_reason".to_owned(), json!(finish.reason));
    body.insert("stop_sequence".to_owned(), json!(finish.detail));
    // Clients of this protocol read the counts without asking whether they are there.
    let counts = reply.usage.unwrap_or_default();
    body.insert("usage".to_owned(), render_usage(Dialect::Messages, &counts));
    body
}

fn write_block(part: &ReplyPart, context: &ReplyContext, losses: &mut Losses) -> Option<Value> {
    match part {
        ReplyPart::Text { text, links } => {
            if !links.is_empty() {
                losses.add("annotations", "links have no form in the client's protocol");
            }
            (!text.is_empty()).then(|| json!({"type": "text", "text": text}))
        }
        ReplyPart::Refusal(text) => (!text.is_empty()).then(|| json!({"type": "text", "text": text})),
        ReplyPart::Reasoning { text, opaque } => Some(write_thinking(text, opaque.as_ref(), context)),
        ReplyPart::ToolCall { id, name, input } => Some(json!({
            "type": "tool_use",
            "id": wire_tool_id(Dialect::Messages, id),
            "name": name,
            "input": input_object(input, losses),
        })),
    }
}

/// Every thinking block has a signature; one without an issuer's has an empty one and is never sent back.
fn write_thinking(text: &str, opaque: Option<&Opaque>, context: &ReplyContext) -> Value {
    match opaque {
        Some(redacted @ Opaque::Redacted(_)) => {
            json!({"type": "redacted_thinking", "data": wrap(&context.issuer, redacted)})
        }
        Some(signature @ Opaque::Signature(_)) => {
            json!({"type": "thinking", "thinking": text, "signature": wrap(&context.issuer, signature)})
        }
        None => json!({"type": "thinking", "thinking": text, "signature": ""}),
    }
}

/// Malformed arguments are kept under one key, so that the client can say what is wrong with them.
fn input_object(input: &ToolInput, losses: &mut Losses) -> Value {
    match input {
        ToolInput::Text(text) => json!({FREE_FORM_FIELD: text}),
        ToolInput::Json(text) if text.trim().is_empty() => json!({}),
        ToolInput::Json(text) => {
            if let Ok(object @ Value::Object(_)) = serde_json::from_str(text) {
                return object;
            }
            losses.add("arguments", format!("they are no JSON object: kept as {MALFORMED_FIELD}"));
            json!({MALFORMED_FIELD: text})
        }
    }
}
