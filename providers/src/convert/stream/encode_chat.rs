//! Neutral pieces into Chat Completions chunks.
//!
//! Every chunk repeats id, creation time and model; the first has the role; tool calls are counted from 0.

use std::sync::Arc;

use serde::Serialize;
use serde_json::{Value, json};
use tokenhub_domain::Dialect;

use super::OutEvent;
use super::links::Link;
use super::pieces::{Block, Encode};
use crate::call::EventKind;
use crate::convert::{
    Finish, Produced, ReplyContext, ToolKind, UsageCounts, finish_to_wire, render_usage, reply_id, unwrap_free_form,
    wire_tool_id,
};

#[derive(Serialize)]
struct Chunk<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    choices: &'a [Choice<'a>],
    usage: Option<&'a Value>,
}

#[derive(Serialize)]
struct Choice<'a> {
    index: u64,
    delta: Delta<'a>,
    finish_reason: Option<&'static str>,
}

#[derive(Default, Serialize)]
struct Delta<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refusal: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_calls: Option<[Value; 1]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    annotations: Option<[Value; 1]>,
}

#[derive(Debug)]
enum Open {
    Nothing,
    Text,
    Refusal,
    Reasoning,
    Function,
    /// The wrapped input of a free-form tool, which can be read only as a whole.
    FreeForm(String),
}

#[derive(Debug)]
pub(super) struct ChatEncoder {
    context: Arc<ReplyContext>,
    id: String,
    open: Open,
    calls: usize,
    /// Characters of the text so far, and before the block that is open: places are counted in the whole text.
    chars: u64,
    chars_before: u64,
    out: Vec<OutEvent>,
}

impl ChatEncoder {
    pub(super) fn new(context: Arc<ReplyContext>) -> Self {
        let id = reply_id(Dialect::Chat, &context.attempt);
        Self { context, id, open: Open::Nothing, calls: 0, chars: 0, chars_before: 0, out: Vec::new() }
    }

    fn write(&mut self, choices: &[Choice<'_>], usage: Option<&Value>, kind: EventKind) {
        let chunk = Chunk {
            id: &self.id,
            object: "chat.completion.chunk",
            created: self.context.created_secs,
            model: &self.context.model,
            choices,
            usage,
        };
        let data = serde_json::to_string(&chunk).unwrap_or_default();
        self.out.push(OutEvent { name: "", data, kind });
    }

    fn write_delta(&mut self, delta: Delta<'_>, finish_reason: Option<&'static str>, kind: EventKind) {
        self.write(&[Choice { index: 0, delta, finish_reason }], None, kind);
    }

    fn write_call(&mut self, call: Value) {
        self.write_delta(Delta { tool_calls: Some([call]), ..Delta::default() }, None, EventKind::Content);
    }

    /// The place of the call that is open.
    fn call_index(&self) -> usize {
        self.calls.saturating_sub(1)
    }
}

impl Encode for ChatEncoder {
    fn start(&mut self, _usage: Option<UsageCounts>) {
        let delta = Delta { role: Some("assistant"), content: Some(""), ..Delta::default() };
        self.write_delta(delta, None, EventKind::Preamble);
    }

    fn open(&mut self, block: &Block) {
        self.chars_before = self.chars;
        self.open = match block {
            Block::Text => Open::Text,
            Block::Refusal => Open::Refusal,
            Block::Reasoning => Open::Reasoning,
            // Chat has no place for thoughts that only their issuer can read.
            Block::Redacted(_) => Open::Nothing,
            Block::Tool { id, name, kind } => {
                let (id, index) = (wire_tool_id(Dialect::Chat, id), self.calls);
                self.calls += 1;
                let (call, open) = match kind {
                    ToolKind::Function => {
                        let function = json!({"name": name, "arguments": ""});
                        let call = json!({"index": index, "id": id, "type": "function", "function": function});
                        (call, Open::Function)
                    }
                    ToolKind::FreeForm => {
                        let custom = json!({"name": name, "input": ""});
                        let call = json!({"index": index, "id": id, "type": "custom", "custom": custom});
                        (call, Open::FreeForm(String::new()))
                    }
                };
                self.write_call(call);
                open
            }
        };
    }

    fn delta(&mut self, text: &str) {
        let delta = match &mut self.open {
            Open::Nothing => return,
            Open::FreeForm(wrapped) => {
                wrapped.push_str(text);
                return;
            }
            Open::Function => {
                let call = json!({"index": self.call_index(), "function": {"arguments": text}});
                self.write_call(call);
                return;
            }
            Open::Text => {
                self.chars += text.chars().count() as u64;
                Delta { content: Some(text), ..Delta::default() }
            }
            Open::Refusal => Delta { refusal: Some(text), ..Delta::default() },
            Open::Reasoning => Delta { reasoning_content: Some(text), ..Delta::default() },
        };
        self.write_delta(delta, None, EventKind::Content);
    }

    /// Signatures have no place in Chat.
    fn signature(&mut self, _signature: &str) {}

    fn link(&mut self, link: &Link) {
        let Link { url, title, start, end } = link;
        let (start, end) = (start + self.chars_before, end + self.chars_before);
        let citation = json!({"url": url, "title": title, "start_index": start, "end_index": end});
        let annotation = json!({"type": "url_citation", "url_citation": citation});
        self.write_delta(Delta { annotations: Some([annotation]), ..Delta::default() }, None, EventKind::Content);
    }

    fn close(&mut self) {
        match std::mem::replace(&mut self.open, Open::Nothing) {
            Open::FreeForm(wrapped) => {
                let call = json!({"index": self.call_index(), "custom": {"input": unwrap_free_form(&wrapped)}});
                self.write_call(call);
            }
            Open::Nothing | Open::Text | Open::Refusal | Open::Reasoning | Open::Function => {}
        }
    }

    fn finish(&mut self, finish: &Finish, produced: Produced) {
        let reason = finish_to_wire(Dialect::Chat, finish, produced).reason;
        self.write_delta(Delta::default(), Some(reason), EventKind::Finish);
    }

    fn final_usage(&mut self, _usage: UsageCounts) {}

    fn end(&mut self, usage: Option<UsageCounts>) {
        if let Some(usage) = usage {
            let usage = render_usage(Dialect::Chat, &usage);
            self.write(&[], Some(&usage), EventKind::UsageOnly);
        }
        self.out.push(OutEvent { name: "", data: "[DONE]".to_owned(), kind: EventKind::Done });
    }

    fn take(&mut self) -> Vec<OutEvent> {
        std::mem::take(&mut self.out)
    }
}
