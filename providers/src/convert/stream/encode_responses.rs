//! Neutral pieces into Responses events.
//!
//! Texts and refusals in a row are the parts of one message; every other block is an item of its own. Everything that was
//! sent in pieces is sent again when it is whole, and the finished items once more in the last event: clients take their
//! history from there.

use std::sync::Arc;

use serde_json::{Map, Value, json};
use tokenhub_domain::Dialect;

use super::OutEvent;
use super::links::Link;
use super::pieces::{Block, Encode};
use crate::call::EventKind;
use crate::convert::{
    Finish, ItemKind, Opaque, Produced, ReplyContext, ToolKind, UsageCounts, WireFinish, finish_to_wire, item_id,
    render_usage, response_object, unwrap_free_form, wire_tool_id, wrap, wrap_signature,
};

/// The item that is open.
#[derive(Debug)]
struct Open {
    id: String,
    form: Form,
    /// Its finished parts.
    parts: Vec<Value>,
    /// What was sent of the part, or of the call.
    text: String,
    /// What the text that is open refers to.
    annotations: Vec<Value>,
    encrypted: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Form {
    Text,
    Refusal,
    Reasoning,
    Call { call_id: String, name: String, kind: ToolKind },
}

impl Form {
    fn of(block: &Block) -> Self {
        match block {
            Block::Text => Self::Text,
            Block::Refusal => Self::Refusal,
            Block::Reasoning | Block::Redacted(_) => Self::Reasoning,
            Block::Tool { id, name, kind } => {
                Self::Call { call_id: wire_tool_id(Dialect::Responses, id), name: name.clone(), kind: *kind }
            }
        }
    }

    fn item_kind(&self) -> ItemKind {
        match self {
            Self::Text | Self::Refusal => ItemKind::Message,
            Self::Reasoning => ItemKind::Reasoning,
            Self::Call { kind: ToolKind::Function, .. } => ItemKind::FunctionCall,
            Self::Call { kind: ToolKind::FreeForm, .. } => ItemKind::CustomToolCall,
        }
    }

    fn is_message(&self) -> bool {
        self.item_kind() == ItemKind::Message
    }

    /// The part that holds `text`; nothing for a call, which has none.
    fn part(&self, text: &str, annotations: &[Value]) -> Option<Value> {
        match self {
            Self::Text => Some(json!({"type": "output_text", "text": text, "annotations": annotations})),
            Self::Refusal => Some(json!({"type": "refusal", "refusal": text})),
            Self::Reasoning => Some(json!({"type": "summary_text", "text": text})),
            Self::Call { .. } => None,
        }
    }
}

impl Open {
    fn item(&self, status: &str) -> Value {
        let (id, parts) = (&self.id, &self.parts);
        match &self.form {
            Form::Text | Form::Refusal => {
                json!({"id": id, "type": "message", "status": status, "role": "assistant", "content": parts})
            }
            Form::Reasoning => {
                let mut item = json!({"id": id, "type": "reasoning", "summary": parts});
                if let Some(encrypted) = &self.encrypted {
                    item["encrypted_content"] = json!(encrypted);
                }
                item
            }
            Form::Call { call_id, name, kind } => {
                let (item_type, field) = match kind {
                    ToolKind::Function => ("function_call", "arguments"),
                    ToolKind::FreeForm => ("custom_tool_call", "input"),
                };
                json!({"id": id, "type": item_type, "status": status, "call_id": call_id, "name": name,
                    field: self.text})
            }
        }
    }

    /// The names of the events of a part: of the piece, the whole text, the start and the end of the part.
    fn event_names(&self) -> [&'static str; 4] {
        const TEXT_PART: [&str; 2] = ["response.content_part.added", "response.content_part.done"];
        let ([delta, done], [added, part_done]) = match &self.form {
            Form::Text => (["response.output_text.delta", "response.output_text.done"], TEXT_PART),
            Form::Refusal => (["response.refusal.delta", "response.refusal.done"], TEXT_PART),
            Form::Reasoning => (
                ["response.reasoning_summary_text.delta", "response.reasoning_summary_text.done"],
                ["response.reasoning_summary_part.added", "response.reasoning_summary_part.done"],
            ),
            Form::Call { kind: ToolKind::Function, .. } => {
                (["response.function_call_arguments.delta", "response.function_call_arguments.done"], ["", ""])
            }
            Form::Call { kind: ToolKind::FreeForm, .. } => {
                (["response.custom_tool_call_input.delta", "response.custom_tool_call_input.done"], ["", ""])
            }
        };
        [delta, done, added, part_done]
    }

    /// The whole text under its field, as the event that repeats it has it.
    fn whole(&self) -> Value {
        let text = &self.text;
        match &self.form {
            Form::Text => json!({"text": text, "logprobs": []}),
            Form::Refusal => json!({"refusal": text}),
            Form::Reasoning => json!({"text": text}),
            Form::Call { kind: ToolKind::Function, name, .. } => json!({"name": name, "arguments": text}),
            Form::Call { kind: ToolKind::FreeForm, .. } => json!({"input": text}),
        }
    }
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

    /// An event of the part that is open.
    fn write_at(&mut self, name: &'static str, open: &Open, fields: Value, kind: EventKind) {
        let mut place = json!({"item_id": open.id, "output_index": self.output.len()});
        match open.form {
            Form::Text | Form::Refusal => place["content_index"] = json!(open.parts.len()),
            Form::Reasoning => place["summary_index"] = json!(open.parts.len()),
            Form::Call { .. } => {}
        }
        if let (Value::Object(place), Value::Object(fields)) = (&mut place, fields) {
            place.extend(fields);
        }
        self.write(name, place, kind);
    }

    fn write_delta(&mut self, open: &Open, text: &str) {
        let [name, ..] = open.event_names();
        let fields = match open.form {
            Form::Text => json!({"delta": text, "logprobs": []}),
            Form::Refusal | Form::Reasoning | Form::Call { .. } => json!({"delta": text}),
        };
        self.write_at(name, open, fields, EventKind::Content);
    }

    /// The first word of a text opens its part.
    fn open_part(&mut self, open: &Open) {
        if let Some(part) = open.form.part("", &[]) {
            let [_, _, name, _] = open.event_names();
            self.write_at(name, open, json!({"part": part}), EventKind::Preamble);
        }
    }

    fn close_part(&mut self, open: &mut Open) {
        if open.text.is_empty() {
            return;
        }
        let [_, done, _, part_done] = open.event_names();
        self.write_at(done, open, open.whole(), EventKind::Preamble);
        if let Some(part) = open.form.part(&open.text, &std::mem::take(&mut open.annotations)) {
            self.write_at(part_done, open, json!({"part": part}), EventKind::Preamble);
            open.parts.push(part);
            open.text.clear();
        }
    }

    fn close_item(&mut self) {
        if let Some(open) = self.open.take() {
            let item = open.item("completed");
            let fields = json!({"output_index": self.output.len(), "item": item});
            self.write("response.output_item.done", fields, EventKind::Content);
            self.output.push(item);
        }
    }
}

impl Encode for ResponsesEncoder {
    fn start(&mut self, _usage: Option<UsageCounts>) {
        for name in ["response.created", "response.in_progress"] {
            let response = response_object(&self.context, "in_progress");
            self.write(name, json!({"response": response}), EventKind::Preamble);
        }
    }

    fn open(&mut self, block: &Block) {
        let form = Form::of(block);
        if let Some(open) = self.open.as_mut().filter(|open| open.form.is_message() && form.is_message()) {
            open.form = form;
            return;
        }
        self.close_item();
        let (encrypted, kind) = match block {
            Block::Text | Block::Refusal | Block::Reasoning => (None, EventKind::Preamble),
            Block::Redacted(data) => {
                let encrypted = wrap(&self.context.issuer, &Opaque::Redacted(data.clone()));
                (Some(encrypted), EventKind::Content)
            }
            Block::Tool { .. } => (None, EventKind::Content),
        };
        let id = item_id(form.item_kind(), &self.context.attempt, self.output.len());
        let open = Open { id, form, parts: Vec::new(), text: String::new(), annotations: Vec::new(), encrypted };
        let fields = json!({"output_index": self.output.len(), "item": open.item("in_progress")});
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

    /// Behind the text that it is about, whose part is open.
    fn link(&mut self, link: &Link) {
        let Some(mut open) = self.open.take() else { return };
        if open.form == Form::Text && !open.text.is_empty() {
            let Link { url, title, start, end } = link;
            let annotation = json!({"type": "url_citation", "url": url, "title": title, "start_index": start,
                "end_index": end});
            let fields = json!({"annotation_index": open.annotations.len(), "annotation": annotation});
            self.write_at("response.output_text.annotation.added", &open, fields, EventKind::Content);
            open.annotations.push(annotation);
        }
        self.open = Some(open);
    }

    fn close(&mut self) {
        let Some(mut open) = self.open.take() else { return };
        if let Form::Call { kind: ToolKind::FreeForm, .. } = open.form {
            open.text = unwrap_free_form(&open.text);
            let input = open.text.clone();
            self.write_delta(&open, &input);
        }
        self.close_part(&mut open);
        let goes_on = open.form.is_message();
        self.open = Some(open);
        if !goes_on {
            self.close_item();
        }
    }

    fn finish(&mut self, finish: &Finish, produced: Produced) {
        self.close_item();
        self.finish = Some(finish_to_wire(Dialect::Responses, finish, produced));
    }

    fn final_usage(&mut self, _usage: UsageCounts) {}

    fn end(&mut self, usage: Option<UsageCounts>) {
        let finish = self.finish.take().unwrap_or(WireFinish { reason: "completed", detail: None });
        let mut response = response_object(&self.context, finish.reason);
        response.insert("output".to_owned(), Value::Array(std::mem::take(&mut self.output)));
        if let Some(usage) = usage {
            response.insert("usage".to_owned(), render_usage(Dialect::Responses, &usage));
        }
        let name = match finish.detail {
            Some(detail) => {
                response.insert("incomplete_details".to_owned(), json!({"reason": detail}));
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
