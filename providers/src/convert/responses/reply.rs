//! A whole Responses reply to and from the neutral form.

use serde_json::{Map, Value, json};
use tokenhub_domain::Dialect;

use super::super::answer::{Link, Reply, ReplyPart, list_of, text_of, unreadable};
use super::super::read::Losses;
use super::super::request::ToolInput;
use super::super::{
    ConvertError, Finish, ItemKind, Opaque, Produced, ReplyContext, finish_of, finish_to_wire, item_id, render_usage,
    reply_id, usage, wire_tool_id, wrap,
};

/// Reads the output items.
pub(crate) fn read_reply(body: &Value, losses: &mut Losses) -> Result<Reply, ConvertError> {
    let status = body.get("status").and_then(Value::as_str);
    if status == Some("failed") {
        let message = body.pointer("/error/message").and_then(Value::as_str);
        return Err(unreadable(format!("it failed: {}", message.unwrap_or("no reason is given"))));
    }
    let items = body.get("output").and_then(Value::as_array).ok_or_else(|| unreadable("it has no output"))?;
    let mut parts = Vec::new();
    for (index, item) in items.iter().enumerate() {
        read_item(item, index, &mut parts, losses);
    }
    let reason = body.pointer("/incomplete_details/reason").and_then(Value::as_str);
    let counted = body.get("usage").filter(|usage| usage.is_object());
    let mut reply = Reply {
        parts,
        finish: Finish::Stop,
        finish_raw: reason.filter(|_| status == Some("incomplete")).or(status).map(str::to_owned),
        usage: counted.map(|counted| usage(Dialect::Responses, counted)),
    };
    let produced = Produced { tool_calls: reply.tool_calls(), refusals: reply.refusals() };
    reply.finish = finish_of(Dialect::Responses, status, reason, produced);
    Ok(reply)
}

fn read_item(item: &Value, index: usize, parts: &mut Vec<ReplyPart>, losses: &mut Losses) {
    let call = |input: ToolInput| ReplyPart::ToolCall {
        id: text_of(item, "call_id").to_owned(),
        name: text_of(item, "name").to_owned(),
        input,
    };
    match text_of(item, "type") {
        "message" => {
            for part in list_of(item, "content") {
                match text_of(part, "type") {
                    "output_text" => parts.push(ReplyPart::Text {
                        text: text_of(part, "text").to_owned(),
                        links: list_of(part, "annotations").iter().filter_map(read_link).collect(),
                    }),
                    "refusal" => parts.push(ReplyPart::Refusal(text_of(part, "refusal").to_owned())),
                    _ => losses.add(format!("output[{index}].content"), "an unknown part"),
                }
            }
        }
        "reasoning" => parts.push(read_reasoning(item)),
        "function_call" => parts.push(call(ToolInput::Json(text_of(item, "arguments").to_owned()))),
        "custom_tool_call" => parts.push(call(ToolInput::Text(text_of(item, "input").to_owned()))),
        other => {
            losses.add(format!("output[{index}]"), format!("a {other:?} item is not known to the client's protocol"));
        }
    }
}

/// The summary, or the reasoning itself where an open model shows it.
fn read_reasoning(item: &Value) -> ReplyPart {
    let texts = |name| list_of(item, name).iter().map(|part| text_of(part, "text")).collect::<Vec<_>>();
    let summary = texts("summary");
    let text = if summary.is_empty() { texts("content") } else { summary }.join("\n\n");
    let encrypted = item.get("encrypted_content").and_then(Value::as_str);
    ReplyPart::Reasoning { text, opaque: encrypted.map(|raw| Opaque::Signature(raw.to_owned())) }
}

fn read_link(annotation: &Value) -> Option<Link> {
    (text_of(annotation, "type") == "url_citation").then(|| Link {
        url: text_of(annotation, "url").to_owned(),
        title: text_of(annotation, "title").to_owned(),
        start: annotation.get("start_index").cloned().unwrap_or_else(|| json!(0)),
        end: annotation.get("end_index").cloned().unwrap_or_else(|| json!(0)),
    })
}

/// Writes a reply.
pub(crate) fn write_reply(reply: &Reply, context: &ReplyContext) -> Map<String, Value> {
    let produced = Produced { tool_calls: reply.tool_calls(), refusals: reply.refusals() };
    let finish = finish_to_wire(Dialect::Responses, &reply.finish, produced);
    let mut body = response_object(context, finish.reason);
    if let Some(reason) = finish.detail {
        body.insert("incomplete_details".to_owned(), json!({"reason": reason}));
    }
    body.insert("output".to_owned(), Value::Array(write_items(reply, context)));
    if let Some(counts) = &reply.usage {
        body.insert("usage".to_owned(), render_usage(Dialect::Responses, counts));
    }
    body
}

/// A `response` object without output: every field that clients of the protocol read is there. Streams begin with it, too.
pub fn response_object(context: &ReplyContext, status: &str) -> Map<String, Value> {
    let fields = [
        ("id", json!(reply_id(Dialect::Responses, &context.attempt))),
        ("object", json!("response")),
        ("created_at", json!(context.created_secs)),
        ("status", json!(status)),
        ("error", Value::Null),
        ("incomplete_details", Value::Null),
        ("instructions", Value::Null),
        ("metadata", json!({})),
        ("model", json!(context.model)),
        ("output", json!([])),
        ("parallel_tool_calls", json!(true)),
        ("previous_response_id", Value::Null),
        ("store", json!(false)),
        ("temperature", Value::Null),
        ("tool_choice", json!("auto")),
        ("tools", json!([])),
        ("top_p", Value::Null),
        ("usage", Value::Null),
    ];
    fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Text and refusals in a row are the parts of one message.
fn write_items(reply: &Reply, context: &ReplyContext) -> Vec<Value> {
    let mut items: Vec<Value> = Vec::new();
    let mut open: Vec<Value> = Vec::new();
    for part in &reply.parts {
        match part {
            ReplyPart::Text { text, links } => {
                if !text.is_empty() {
                    open.push(text_part(text, links));
                }
            }
            ReplyPart::Refusal(text) => open.push(json!({"type": "refusal", "refusal": text})),
            ReplyPart::Reasoning { text, opaque } => {
                close_message(&mut items, &mut open, context);
                let id = item_id(ItemKind::Reasoning, &context.attempt, items.len());
                items.push(reasoning_item(&id, text, opaque.as_ref(), context));
            }
            ReplyPart::ToolCall { id, name, input } => {
                close_message(&mut items, &mut open, context);
                items.push(call_item(id, name, input, items.len(), context));
            }
        }
    }
    close_message(&mut items, &mut open, context);
    items
}

fn text_part(text: &str, links: &[Link]) -> Value {
    let annotation = |link: &Link| {
        json!({"type": "url_citation", "url": link.url, "title": link.title, "start_index": link.start,
            "end_index": link.end})
    };
    let annotations: Vec<Value> = links.iter().map(annotation).collect();
    json!({"type": "output_text", "text": text, "annotations": annotations})
}

fn close_message(items: &mut Vec<Value>, open: &mut Vec<Value>, context: &ReplyContext) {
    if !open.is_empty() {
        items.push(json!({
            "id": item_id(ItemKind::Message, &context.attempt, items.len()),
            "type": "message",
            "status": "completed",
            "role": "assistant",
            "content": std::mem::take(open),
        }));
    }
}

fn reasoning_item(id: &str, text: &str, opaque: Option<&Opaque>, context: &ReplyContext) -> Value {
    let summary = if text.is_empty() { json!([]) } else { json!([{"type": "summary_text", "text": text}]) };
    let mut item = json!({"id": id, "type": "reasoning", "summary": summary});
    if let Some(opaque) = opaque {
        item["encrypted_content"] = json!(wrap(&context.issuer, opaque));
    }
    item
}

fn call_item(id: &str, name: &str, input: &ToolInput, index: usize, context: &ReplyContext) -> Value {
    let call_id = wire_tool_id(Dialect::Responses, id);
    let made = |kind| item_id(kind, &context.attempt, index);
    match input {
        ToolInput::Json(text) => json!({
            "id": made(ItemKind::FunctionCall),
            "type": "function_call",
            "status": "completed",
            "call_id": call_id,
            "name": name,
            "arguments": if text.trim().is_empty() { "{}" } else { text },
        }),
        ToolInput::Text(text) => json!({
            "id": made(ItemKind::CustomToolCall),
            "type": "custom_tool_call",
            "status": "completed",
            "call_id": call_id,
            "name": name,
            "input": text,
        }),
    }
}
