//! Neutral pieces into Responses events.
//!
//! Each block is an output item of its own. Everything that was sent in pieces is sent again when it is whole, and the
//! finished items once more in the last event: clients take their history from there.

use std::sync::Arc;

use serde_json::{Map, Value, json};
use tokenhub_domain::Dialect;

use super::OutEvent;
use super::pieces::{Block, Encode};
use crate::call::EventKind;
use crate::convert::{
    Finish, ItemKind, Produced, ReplyContext, ToolKind, UsageCounts, WireFinish, finish_to_wire, item_id, render_usage,
    reply_id, unwrap_free_form, wire_tool_id, wrap, wrap_signature,
};

/// A response of which nothing is known yet.
pub(super) fn envelope(id: &str, model: &str, created_secs: u64) -> Value {
    json!({
        "id": id,
        "object": "response",
        "created_at": created_secs,
        "status": "in_progress",
        "error": null,
        "incomplete_details": null,
        "instructions": null,
        "metadata": {},
        "model": model,
        "output": [],
        "parallel_tool_calls": true,
        "temperature": null,
        "tool_choice": "auto",
        "tools": [],
        "top_p": null,
        "usage": null,
    })
}

/// The item that is open.
#[derive(Debug)]
struct Open {
    id: String,
    form: Form,
    /// What was sent of it.
    text: String,
    encrypted: Option<String>,
}

#[derive(Debug)]
enum Form {
    Text,
    Refusal,
    Reasoning,
    Call { call_id: String, name: String, kind: ToolKind },
}

#[derive(Debug)]
pub(super) struct ResponsesEncoder {
    context: Arc<ReplyContext>,
    sequence_number: u64,
    open: Option<Open>,
    output: Vec<Value>,
    finish: Option<WireFinish>,
    out: Vec<OutEvent>,
}

impl ResponsesEncoder {
    pub(super) fn new(context: Arc<ReplyContext>) -> Self {
        Self { context, sequence_number: 0, open: None, output: Vec::new(), finish: None, out: Vec::new() }
    }

    fn write(&mut self, name: &'static str, fields: Value, kind: EventKind) {
        let mut data = Map::with_capacity(8);
        data.insert("type".to_owned(), json!(name));
        data.insert("sequence_number".to_owned(), json!(self.sequence_number));
        if let Value::Object(fields) = fields {
            data.extend(fields);
        }
        self.sequence_number += 1;
        self.out.push(OutEvent { name, data: Value::Object(data).to_string(), kind });
    }

    fn response(&self) -> Value {
        let id = reply_id(Dialect::Responses, &self.context.attempt);
        envelope(&id, &self.context.model, self.context.created_secs)
    }

    fn id_of(&self, form: &Form) -> String {
        let kind = match form {
            Form::Text | Form::Refusal => ItemKind::Message,
            Form::Reasoning => ItemKind::Reasoning,
            Form::Call { kind: ToolKind::Function, .. } => ItemKind::FunctionCall,
            Form::Call { kind: ToolKind::FreeForm, .. } => ItemKind::CustomToolCall,
        };
        item_id(kind, &self.context.attempt, self.output.len())
    }

    /// The part that holds `text`; nothing for a call, which has none.
    fn part_of(form: &Form, text: &str) -> Option<Value> {
        match form {
            Form::Text => Some(json!({"type": "output_text", "annotations": [], "logprobs": [], "text": text})),
            Form::Refusal => Some(json!({"type": "refusal", "refusal": text})),
            Form::Reasoning => Some(json!({"type": "summary_text", "text": text})),
            Form::Call { .. } => None,
        }
    }

    fn item(open: &Open, status: &str) -> Value {
        let parts: Vec<Value> =
            if open.text.is_empty() { Vec::new() } else { Self::part_of(&open.form, &open.text).into_iter().collect() };
        match &open.form {
            Form::Text | Form::Refusal => {
                json!({"id": open.id, "type": "message", "status": status, "role": "assistant", "content": parts})
            }
            Form::Reasoning => {
                let encrypted = &open.encrypted;
                json!({"id": open.id, "type": "reasoning", "summary": parts, "encrypted_content": encrypted})
            }
            Form::Call { call_id, name, kind } => {
                let (item_type, field) = match kind {
                    ToolKind::Function => ("function_call", "arguments"),
                    ToolKind::FreeForm => ("custom_tool_call", "input"),
                };
                json!({"id": open.id, "type": item_type, "status": status, "call_id": call_id, "name": name,
                    field: open.text})
            }
        }
    }

    /// The place of a part, and `fields`.
    fn at(&self, open: &Open, fields: Value) -> Value {
        let mut place = json!({"item_id": open.id, "output_index": self.output.len()});
        match open.form {
            Form::Text | Form::Refusal => place["content_index"] = json!(0),
            Form::Reasoning => place["summary_index"] = json!(0),
            Form::Call { .. } => {}
        }
        if let (Value::Object(place), Value::Object(fields)) = (&mut place, fields) {
            place.extend(fields);
        }
        place
    }

    /// The first word of a text opens its part.
    fn open_part(&mut self, open: &Open) {
        if let Some(part) = Self::part_of(&open.form, "") {
            let name = match open.form {
                Form::Text | Form::Refusal | Form::Call { .. } => "response.content_part.added",
                Form::Reasoning => "response.reasoning_summary_part.added",
            };
            self.write(name, self.at(open, json!({"part": part})), EventKind::Preamble);
        }
    }

    fn write_delta(&mut self, open: &Open, text: &str) {
        let (name, fields) = match &open.form {
            Form::Text => ("response.output_text.delta", json!({"delta": text, "logprobs": []})),
            Form::Refusal => ("response.refusal.delta", json!({"delta": text})),
            Form::Reasoning => ("response.reasoning_summary_text.delta", json!({"delta": text})),
            Form::Call { kind: ToolKind::Function, .. } => {
                ("response.function_call_arguments.delta", json!({"delta": text}))
            }
            Form::Call { kind: ToolKind::FreeForm, .. } => {
                ("response.custom_tool_call_input.delta", json!({"delta": text}))
            }
        };
        self.write(name, self.at(open, fields), EventKind::Content);
    }

    /// Everything that repeats the whole text.
    fn write_done(&mut self, open: &Open) {
        let text = &open.text;
        let (name, fields) = match &open.form {
            Form::Text => ("response.output_text.done", json!({"text": text, "logprobs": []})),
            Form::Refusal => ("response.refusal.done", json!({"refusal": text})),
            Form::Reasoning => ("response.reasoning_summary_text.done", json!({"text": text})),
            Form::Call { kind: ToolKind::Function, name, .. } => {
                ("response.function_call_arguments.done", json!({"name": name, "arguments": text}))
            }
            Form::Call { kind: ToolKind::FreeForm, .. } => {
                ("response.custom_tool_call_input.done", json!({"input": text}))
            }
        };
        self.write(name, self.at(open, fields), EventKind::Preamble);
        if let Some(part) = Self::part_of(&open.form, text) {
            let name = match open.form {
                Form::Text | Form::Refusal | Form::Call { .. } => "response.content_part.done",
                Form::Reasoning => "response.reasoning_summary_part.done",
            };
            self.write(name, self.at(open, json!({"part": part})), EventKind::Preamble);
        }
    }
}

impl Encode for ResponsesEncoder {
    fn start(&mut self, _usage: Option<UsageCounts>) {
        for name in ["response.created", "response.in_progress"] {
            self.write(name, json!({"response": self.response()}), EventKind::Preamble);
        }
    }

    fn open(&mut self, block: &Block) {
        let (form, encrypted) = match block {
            Block::Text => (Form::Text, None),
            Block::Refusal => (Form::Refusal, None),
            Block::Reasoning => (Form::Reasoning, None),
            Block::Redacted(opaque) => (Form::Reasoning, Some(wrap(&self.context.issuer, opaque))),
            Block::Tool { id, name, kind } => {
                let call_id = wire_tool_id(Dialect::Responses, id);
                (Form::Call { call_id, name: name.clone(), kind: *kind }, None)
            }
        };
        let kind = match &form {
            Form::Text | Form::Refusal | Form::Reasoning if encrypted.is_none() => EventKind::Preamble,
            Form::Text | Form::Refusal | Form::Reasoning | Form::Call { .. } => EventKind::Content,
        };
        let open = Open { id: self.id_of(&form), form, text: String::new(), encrypted };
        let item = Self::item(&open, "in_progress");
        let fields = json!({"output_index": self.output.len(), "item": item});
        self.write("response.output_item.added", fields, kind);
        self.open = Some(open);
    }

    fn delta(&mut self, text: &str) {
        let Some(mut open) = self.open.take() else { return };
        match open.form {
            // The wrapper of a free-form input can be taken off only when it is whole.
            Form::Call { kind: ToolKind::FreeForm, .. } => {}
            Form::Text | Form::Refusal | Form::Reasoning | Form::Call { kind: ToolKind::Function, .. } => {
                if open.text.is_empty() {
                    self.open_part(&open);
                }
                self.write_delta(&open, text);
            }
        }
        open.text.push_str(text);
        self.open = Some(open);
    }

    fn signature(&mut self, signature: &str) {
        if let Some(open) = &mut self.open {
            open.encrypted = Some(wrap_signature(&self.context.issuer, signature));
        }
    }

    fn close(&mut self) {
        let Some(mut open) = self.open.take() else { return };
        if let Form::Call { kind: ToolKind::FreeForm, .. } = open.form {
            open.text = unwrap_free_form(&open.text);
            let input = open.text.clone();
            self.write_delta(&open, &input);
        }
        if !open.text.is_empty() {
            self.write_done(&open);
        }
        let item = Self::item(&open, "completed");
        let fields = json!({"output_index": self.output.len(), "item": item});
        self.write("response.output_item.done", fields, EventKind::Content);
        self.output.push(item);
    }

    fn finish(&mut self, finish: &Finish, produced: Produced) {
        self.finish = Some(finish_to_wire(Dialect::Responses, finish, produced));
    }

    fn final_usage(&mut self, _usage: UsageCounts) {}

    fn end(&mut self, usage: Option<UsageCounts>) {
        let mut response = self.response();
        let WireFinish { reason, detail } =
            self.finish.take().unwrap_or(WireFinish { reason: "completed", detail: None });
        response["status"] = json!(reason);
        response["output"] = Value::Array(std::mem::take(&mut self.output));
        if let Some(usage) = usage {
            response["usage"] = render_usage(Dialect::Responses, &usage);
        }
        let name = match detail {
            Some(detail) => {
                response["incomplete_details"] = json!({"reason": detail});
                "response.incomplete"
            }
            None => "response.completed",
        };
        self.write(name, json!({"response": response}), EventKind::Done);
    }

    fn take(&mut self) -> Vec<OutEvent> {
        std::mem::take(&mut self.out)
    }
}
