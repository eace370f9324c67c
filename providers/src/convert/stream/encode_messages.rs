//! Neutral pieces into Messages events.
//!
//! At most one block is open, because the official clients put the pieces together by that. The end of the message waits
//! for the final token counts, and nothing but `message_stop` follows it.

use std::sync::Arc;

use serde::Serialize;
use serde_json::json;
use tokenhub_domain::Dialect;

use super::OutEvent;
use super::links::Link;
use super::pieces::{Block, Encode};
use crate::call::EventKind;
use crate::convert::{
    Finish, Opaque, Produced, ReplyContext, UsageCounts, WireFinish, finish_to_wire, render_usage, reply_id,
    wire_tool_id, wrap, wrap_signature,
};

#[derive(Serialize)]
struct BlockDelta<'a> {
    r#type: &'static str,
    index: usize,
    delta: Delta<'a>,
}

#[derive(Serialize)]
#[serde(tag = "type")]
enum Delta<'a> {
    #[serde(rename = "text_delta")]
    Text { text: &'a str },
    #[serde(rename = "thinking_delta")]
    Thinking { thinking: &'a str },
    #[serde(rename = "signature_delta")]
    Signature { signature: &'a str },
    #[serde(rename = "input_json_delta")]
    InputJson { partial_json: &'a str },
}

#[derive(Debug)]
enum Open {
    Nothing,
    Text,
    Thinking,
    Redacted,
    Tool,
}

#[derive(Debug)]
pub(super) struct MessagesEncoder {
    context: Arc<ReplyContext>,
    open: Open,
    /// Blocks begun so far.
    blocks: usize,
    /// Why the model stopped, until it is told.
    owed: Option<WireFinish>,
    out: Vec<OutEvent>,
}

impl MessagesEncoder {
    pub(super) fn new(context: Arc<ReplyContext>) -> Self {
        Self { context, open: Open::Nothing, blocks: 0, owed: None, out: Vec::new() }
    }

    fn write(&mut self, name: &'static str, data: &impl Serialize, kind: EventKind) {
        let data = serde_json::to_string(data).unwrap_or_default();
        self.out.push(OutEvent { name, data, kind });
    }

    fn write_delta(&mut self, delta: Delta<'_>) {
        let name = "content_block_delta";
        let data = BlockDelta { r#type: name, index: self.blocks.saturating_sub(1), delta };
        self.write(name, &data, EventKind::Content);
    }

    fn write_end(&mut self, usage: Option<UsageCounts>) {
        if let Some(WireFinish { reason, detail }) = self.owed.take() {
            let name = "message_delta";
            let data = json!({
                "type": name,
                "delta": {"stop_reason": reason, "stop_sequence": detail},
                "usage": render_usage(Dialect::Messages, &usage.unwrap_or_default()),
            });
            self.write(name, &data, EventKind::Finish);
        }
    }
}

impl Encode for MessagesEncoder {
    fn start(&mut self, usage: Option<UsageCounts>) {
        let name = "message_start";
        let message = json!({
            "id": reply_id(Dialect::Messages, &self.context.attempt),
            "type": "message",
            "role": "assistant",
            "content": [],
            "model": self.context.model,
            "stop_reason": null,
            "stop_sequence": null,
            "usage": render_usage(Dialect::Messages, &usage.unwrap_or_default()),
        });
        self.write(name, &json!({"type": name, "message": message}), EventKind::Preamble);
    }

    fn open(&mut self, block: &Block) {
        let (content, open, kind) = match block {
            // A refusal is text; that it is one is told by the reason to stop.
            Block::Text | Block::Refusal => (json!({"type": "text", "text": ""}), Open::Text, EventKind::Preamble),
            Block::Reasoning => {
                (json!({"type": "thinking", "thinking": "", "signature": ""}), Open::Thinking, EventKind::Preamble)
            }
            Block::Redacted(data) => {
                let data = wrap(&self.context.issuer, &Opaque::Redacted(data.clone()));
                (json!({"type": "redacted_thinking", "data": data}), Open::Redacted, EventKind::Content)
            }
            // Messages has no free-form tools: the input of one keeps its wrapper.
            Block::Tool { id, name, kind: _ } => {
                let id = wire_tool_id(Dialect::Messages, id);
                (json!({"type": "tool_use", "id": id, "name": name, "input": {}}), Open::Tool, EventKind::Content)
            }
        };
        let name = "content_block_start";
        self.write(name, &json!({"type": name, "index": self.blocks, "content_block": content}), kind);
        self.blocks += 1;
        self.open = open;
    }

    fn delta(&mut self, text: &str) {
        match self.open {
            Open::Nothing | Open::Redacted => {}
            Open::Text => self.write_delta(Delta::Text { text }),
            Open::Thinking => self.write_delta(Delta::Thinking { thinking: text }),
            Open::Tool => self.write_delta(Delta::InputJson { partial_json: text }),
        }
    }

    fn signature(&mut self, signature: &str) {
        let signature = wrap_signature(&self.context.issuer, signature);
        self.write_delta(Delta::Signature { signature: &signature });
    }

    /// Links have no form in Messages.
    fn link(&mut self, _link: &Link) {}

    fn close(&mut self) {
        self.open = Open::Nothing;
        let (name, index) = ("content_block_stop", self.blocks.saturating_sub(1));
        self.write(name, &json!({"type": name, "index": index}), EventKind::Preamble);
    }

    fn finish(&mut self, finish: &Finish, produced: Produced) {
        self.owed = Some(finish_to_wire(Dialect::Messages, finish, produced));
    }

    fn final_usage(&mut self, usage: UsageCounts) {
        self.write_end(Some(usage));
    }

    fn end(&mut self, usage: Option<UsageCounts>) {
        self.write_end(usage);
        let name = "message_stop";
        self.write(name, &json!({"type": name}), EventKind::Done);
    }

    fn take(&mut self) -> Vec<OutEvent> {
        std::mem::take(&mut self.out)
    }
}
