//! Messages events into neutral pieces.
//!
//! Blocks have explicit ends. One without a word is left out; a tool call is there from its start.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use tokenhub_domain::Dialect;

use super::links::Link;
use super::pieces::{Block, BlockId, Piece};
use super::text::{Joiner, Wire};
use super::{Decode, StreamError};
use crate::convert::{ReplyContext, UsageCounts, restore_tool, usage};

#[derive(Deserialize)]
struct MessagesEvent<'a> {
    #[serde(default, rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    index: usize,
    #[serde(default)]
    message: Option<Head>,
    #[serde(borrow, default)]
    content_block: Option<Start<'a>>,
    #[serde(borrow, default)]
    delta: Option<Delta<'a>>,
    #[serde(default)]
    usage: Option<Map<String, Value>>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Head {
    #[serde(default)]
    usage: Option<Map<String, Value>>,
}

#[derive(Deserialize)]
struct Start<'a> {
    #[serde(rename = "type")]
    kind: String,
    #[serde(borrow, default)]
    text: Wire<'a>,
    #[serde(borrow, default)]
    thinking: Wire<'a>,
    #[serde(default)]
    signature: Option<String>,
    #[serde(default)]
    data: String,
    #[serde(default)]
    id: String,
    #[serde(default)]
    name: String,
    #[serde(borrow, default)]
    input: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Delta<'a> {
    #[serde(default, rename = "type")]
    kind: Option<String>,
    #[serde(borrow, default)]
    text: Option<Wire<'a>>,
    #[serde(borrow, default)]
    thinking: Option<Wire<'a>>,
    #[serde(borrow, default)]
    partial_json: Option<Wire<'a>>,
    #[serde(default)]
    signature: Option<String>,
    #[serde(default)]
    stop_reason: Option<String>,
    #[serde(default)]
    stop_sequence: Option<String>,
    #[serde(default)]
    citation: Option<Value>,
}

/// A block that the upstream has open.
#[derive(Debug)]
struct OpenBlock {
    /// What to open with the first word, and the id once that has happened.
    begins: Result<BlockId, Block>,
    joiner: Joiner,
    /// The whole input, where a start has it and no delta follows.
    input: Option<String>,
    signature: String,
    /// They are about all of it; how long that is, is known at its end.
    links: Vec<Link>,
    chars: u64,
}

#[derive(Debug)]
pub(super) struct MessagesDecoder {
    context: Arc<ReplyContext>,
    blocks: BlockId,
    open: BTreeMap<usize, OpenBlock>,
    counted: Map<String, Value>,
    finished: bool,
}

impl MessagesDecoder {
    pub(super) fn new(context: Arc<ReplyContext>) -> Self {
        Self { context, blocks: 0, open: BTreeMap::new(), counted: Map::new(), finished: false }
    }

    /// The counts so far: what is told replaces, what is not told stays, nothing adds.
    fn count(&mut self, told: Option<Map<String, Value>>) -> Option<UsageCounts> {
        self.counted.extend(told?.into_iter().filter(|(_, value)| !value.is_null()));
        // Read as one object, because the prompt is the sum of three of its fields.
        let counted = Value::Object(std::mem::take(&mut self.counted));
        let counts = usage(Dialect::Messages, &counted);
        if let Value::Object(counted) = counted {
            self.counted = counted;
        }
        Some(counts)
    }

    fn begin(&mut self, index: usize, start: Start<'_>, pieces: &mut Vec<Piece>) {
        let block = match start.kind.as_str() {
            "text" => Block::Text,
            "thinking" => Block::Reasoning,
            "redacted_thinking" => Block::Redacted(start.data),
            "tool_use" => {
                let (name, kind) = restore_tool(&self.context, &start.name);
                Block::Tool { id: start.id, name: name.to_owned(), kind }
            }
            other => {
                pieces.push(Piece::Lost { field: format!("content[{index}] ({other})") });
                return;
            }
        };
        let is_said_by_its_start = match block {
            Block::Tool { .. } | Block::Redacted(_) => true,
            Block::Text | Block::Refusal | Block::Reasoning => false,
        };
        let input = start.input.map(RawValue::get).filter(|input| !matches!(*input, "{}" | "null" | "\"\""));
        self.open.insert(
            index,
            OpenBlock {
                begins: Err(block),
                joiner: Joiner::default(),
                input: input.map(str::to_owned),
                signature: start.signature.unwrap_or_default(),
                links: Vec::new(),
                chars: 0,
            },
        );
        if is_said_by_its_start {
            self.open_now(index, pieces);
        }
        self.say(index, if start.text.is_empty() { start.thinking } else { start.text }, pieces);
    }

    fn open_now(&mut self, index: usize, pieces: &mut Vec<Piece>) -> Option<BlockId> {
        let open = self.open.get_mut(&index)?;
        match &open.begins {
            Ok(id) => Some(*id),
            Err(block) => {
                let id = self.blocks;
                self.blocks += 1;
                pieces.push(Piece::Open(id, block.clone()));
                open.begins = Ok(id);
                Some(id)
            }
        }
    }

    fn say(&mut self, index: usize, text: Wire<'_>, pieces: &mut Vec<Piece>) {
        if text.is_empty() {
            return;
        }
        let Some(id) = self.open_now(index, pieces) else { return };
        if let Some(open) = self.open.get_mut(&index) {
            open.input = None;
            let text = open.joiner.add(text);
            open.chars += text.chars().count() as u64;
            pieces.push(Piece::Delta(id, text));
        }
    }

    fn change(&mut self, index: usize, delta: Delta<'_>, pieces: &mut Vec<Piece>) {
        if delta.kind.as_deref() == Some("citations_delta") {
            match (delta.citation.as_ref().and_then(Link::of), self.open.get_mut(&index)) {
                (Some(link), Some(open)) => open.links.push(link),
                (None | Some(_), _) => pieces.push(Piece::Lost { field: format!("content[{index}].citations") }),
            }
        }
        if let (Some(signature), Some(open)) = (&delta.signature, self.open.get_mut(&index)) {
            open.signature.push_str(signature);
        }
        for text in [delta.text, delta.thinking, delta.partial_json].into_iter().flatten() {
            self.say(index, text, pieces);
        }
    }

    fn close(&mut self, index: usize, pieces: &mut Vec<Piece>) {
        // A thought may be hidden; its signature is worth keeping all the same.
        if self.open.get(&index).is_some_and(|open| !open.signature.is_empty()) {
            self.open_now(index, pieces);
        }
        let Some(open) = self.open.remove(&index) else { return };
        let (Ok(id), mut joiner) = (open.begins, open.joiner) else { return };
        let rest = open.input.unwrap_or_else(|| joiner.rest().to_owned());
        let end = open.chars + rest.chars().count() as u64;
        pieces.push(Piece::Delta(id, rest));
        pieces.extend(open.links.into_iter().map(|link| Piece::Link(id, Link { start: 0, end, ..link })));
        if !open.signature.is_empty() {
            pieces.push(Piece::Signature(id, open.signature));
        }
        pieces.push(Piece::Close(id));
    }
}

impl Decode for MessagesDecoder {
    fn decode(&mut self, name: &str, data: &[u8], pieces: &mut Vec<Piece>) -> Result<(), StreamError> {
        let event: MessagesEvent<'_> =
            serde_json::from_slice(data).map_err(|error| StreamError::not_of(Dialect::Messages, &error))?;
        if event.error.is_some() {
            return Err(StreamError::upstream(data));
        }
        match event.kind.as_deref().unwrap_or(name) {
            "error" => return Err(StreamError::upstream(data)),
            "message_start" => {
                let counts = self.count(event.message.and_then(|message| message.usage));
                pieces.push(Piece::Start(counts));
            }
            "content_block_start" => {
                if let Some(start) = event.content_block {
                    self.begin(event.index, start, pieces);
                }
            }
            "content_block_delta" => {
                if let Some(delta) = event.delta {
                    self.change(event.index, delta, pieces);
                }
            }
            "content_block_stop" => self.close(event.index, pieces),
            "message_delta" => {
                let counts = self.count(event.usage);
                pieces.extend(counts.map(Piece::Usage));
                let (reason, sequence) =
                    event.delta.map_or((None, None), |delta| (delta.stop_reason, delta.stop_sequence));
                if let Some(reason) = reason.filter(|_| !self.finished) {
                    self.finished = true;
                    pieces.push(Piece::Finish(reason, sequence));
                }
            }
            // Why the model stopped is not made up where nobody told it.
            "message_stop" if !self.finished => return Err(StreamError::Truncated),
            "message_stop" => pieces.push(Piece::End),
            // Pings, and whatever is added to the protocol later.
            _ => {}
        }
        Ok(())
    }

    fn end(&mut self, _pieces: &mut Vec<Piece>) -> Result<(), StreamError> {
        Err(StreamError::Truncated)
    }
}
