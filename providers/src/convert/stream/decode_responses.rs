//! Responses events into neutral pieces.
//!
//! The same text may come in pieces, once more when its part is done, again with the finished item and again with the
//! finished response; some servers send only the last of these. Each is compared with what was already said, and only
//! the rest is passed on. Items are told apart by their place: some gateways change their ids with every event.

mod event;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;
use serde_json::value::RawValue;
use tokenhub_domain::Dialect;

use super::links::Link;
use super::pieces::{Block, BlockId, Piece};
use super::text::{Joiner, Wire};
use super::{Decode, StreamError};
use crate::convert::{ReplyContext, ToolKind, restore_tool, usage, wrap_free_form};
use event::{Item, ResponsesEvent, Whole};

/// Between two parts of one chain of thought.
const PART_BREAK: &str = "\n\n";

/// A part of an item, in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Summary(usize),
    Content(usize),
    Arguments,
    Input,
}

/// What was said so far at one place.
#[derive(Debug, Default)]
struct Said {
    block: BlockId,
    text: String,
    joiner: Joiner,
    /// Annotations so far: the finished item has all of them again.
    annotations: usize,
}

/// An item of the output.
#[derive(Debug, Default)]
struct Seen {
    said: BTreeMap<Place, Said>,
    /// The one block of a chain of thought or of a call.
    block: Option<BlockId>,
    is_done: bool,
}

#[derive(Debug)]
pub(super) struct ResponsesDecoder {
    context: Arc<ReplyContext>,
    blocks: BlockId,
    items: BTreeMap<usize, Seen>,
    /// Items announced without a place.
    unplaced: usize,
}

impl ResponsesDecoder {
    pub(super) fn new(context: Arc<ReplyContext>) -> Self {
        Self { context, blocks: 0, items: BTreeMap::new(), unplaced: 0 }
    }

    fn open(&mut self, block: Block, pieces: &mut Vec<Piece>) -> BlockId {
        let id = self.blocks;
        self.blocks += 1;
        pieces.push(Piece::Open(id, block));
        id
    }

    /// The block of a place, opened when it is new. Nothing for a call that was never announced: its name is unknown
    /// until the finished item.
    fn block_at(&mut self, item: usize, place: Place, block: Block, pieces: &mut Vec<Piece>) -> Option<BlockId> {
        let seen = self.items.entry(item).or_default();
        if let Some(said) = seen.said.get(&place) {
            return Some(said.block);
        }
        let shared = seen.block;
        let id = match (&block, shared) {
            (Block::Reasoning | Block::Tool { .. }, Some(id)) => {
                let is_another_part = block == Block::Reasoning && !seen.said.is_empty();
                if is_another_part {
                    pieces.push(Piece::Delta(id, PART_BREAK.to_owned()));
                }
                id
            }
            (Block::Tool { name, .. }, None) if name.is_empty() => return None,
            (Block::Reasoning | Block::Tool { .. }, None) => {
                let id = self.open(block, pieces);
                self.items.entry(item).or_default().block = Some(id);
                id
            }
            (Block::Text | Block::Refusal | Block::Redacted(_), _) => self.open(block, pieces),
        };
        let said = Said { block: id, ..Said::default() };
        self.items.entry(item).or_default().said.insert(place, said);
        Some(id)
    }

    /// A chain of thought may come as a summary and as itself; what is said first is told.
    fn is_said_otherwise(&self, item: usize, place: Place, block: &Block) -> bool {
        let other = |said: &Place| {
            matches!((said, place), (Place::Summary(_), Place::Content(_)) | (Place::Content(_), Place::Summary(_)))
        };
        *block == Block::Reasoning && self.items.get(&item).is_some_and(|seen| seen.said.keys().any(other))
    }

    /// A piece of a text.
    fn say(&mut self, item: usize, place: Place, block: Block, text: Wire<'_>, pieces: &mut Vec<Piece>) {
        if text.is_empty() || self.is_said_otherwise(item, place, &block) {
            return;
        }
        let Some(id) = self.block_at(item, place, block, pieces) else { return };
        if let Some(said) = self.items.get_mut(&item).and_then(|seen| seen.said.get_mut(&place)) {
            let text = said.joiner.add(text);
            said.text.push_str(&text);
            pieces.push(Piece::Delta(id, text));
        }
    }

    /// A whole text: what of it was not said yet.
    fn complete(&mut self, item: usize, place: Place, block: Block, text: Option<Wire<'_>>, pieces: &mut Vec<Piece>) {
        let Some(text) = text.map(Wire::whole).filter(|text| !text.is_empty()) else { return };
        let said = self.items.get(&item).and_then(|seen| seen.said.get(&place));
        let rest = match said {
            Some(said) => text.strip_prefix(said.text.as_str()).unwrap_or_default(),
            None => &text,
        };
        self.say(item, place, block, Wire::from(rest), pieces);
    }

    fn annotate(&mut self, item: usize, place: Place, annotation: &Value, pieces: &mut Vec<Piece>) {
        let said = self.items.get_mut(&item).and_then(|seen| seen.said.get_mut(&place));
        let block = said.map(|said| {
            said.annotations += 1;
            said.block
        });
        match (Link::of(annotation), block) {
            (Some(link), Some(block)) => pieces.push(Piece::Link(block, link)),
            (None | Some(_), _) => pieces.push(Piece::Lost { field: format!("output[{item}].annotations") }),
        }
    }

    /// What of the annotations of a finished part was not told yet.
    fn complete_annotations(&mut self, item: usize, place: Place, all: Option<&Value>, pieces: &mut Vec<Piece>) {
        let said = self.items.get(&item).and_then(|seen| seen.said.get(&place));
        let told = said.map_or(0, |said| said.annotations);
        for annotation in all.and_then(Value::as_array).into_iter().flatten().skip(told) {
            self.annotate(item, place, annotation, pieces);
        }
    }

    /// The place of an event's item. Some servers leave it out and send one item after the other.
    fn item_of(&mut self, kind: &str, told: Option<usize>) -> usize {
        if told.is_none() && kind == "response.output_item.added" {
            self.unplaced += 1;
        }
        told.unwrap_or(self.unplaced.saturating_sub(1))
    }

    fn call_of(&self, item: &Item<'_>) -> Block {
        let (name, kind) = restore_tool(&self.context, item.name.as_deref().unwrap_or_default());
        let id = item.call_id.clone().or_else(|| item.id.clone()).unwrap_or_default();
        Block::Tool { id, name: name.to_owned(), kind }
    }

    fn add_item(&mut self, index: usize, item: &Item<'_>, pieces: &mut Vec<Piece>) {
        match item.kind.as_str() {
            "function_call" => {
                self.block_at(index, Place::Arguments, self.call_of(item), pieces);
            }
            "custom_tool_call" => {
                self.block_at(index, Place::Input, self.call_of(item), pieces);
            }
            "message" | "reasoning" => {}
            other => {
                self.items.entry(index).or_default();
                pieces.push(Piece::Lost { field: format!("output[{index}] ({other})") });
            }
        }
    }

    fn finish_item(&mut self, index: usize, item: Item<'_>, pieces: &mut Vec<Piece>) {
        if self.items.get(&index).is_some_and(|seen| seen.is_done) {
            return;
        }
        match item.kind.as_str() {
            "message" => {
                for (part_index, part) in item.content.into_iter().flatten().enumerate() {
                    let place = Place::Content(part_index);
                    self.complete(index, place, Block::Text, part.text, pieces);
                    self.complete(index, place, Block::Refusal, part.refusal, pieces);
                    self.complete_annotations(index, place, part.annotations.as_ref(), pieces);
                }
            }
            "reasoning" => {
                for (part_index, part) in item.summary.into_iter().flatten().enumerate() {
                    self.complete(index, Place::Summary(part_index), Block::Reasoning, part.text, pieces);
                }
                for (part_index, part) in item.content.into_iter().flatten().enumerate() {
                    self.complete(index, Place::Content(part_index), Block::Reasoning, part.text, pieces);
                }
                self.sign(index, item.encrypted_content, pieces);
            }
            "function_call" => {
                let call = self.call_of(&item);
                self.block_at(index, Place::Arguments, call.clone(), pieces);
                self.complete(index, Place::Arguments, call, item.arguments, pieces);
            }
            "custom_tool_call" => {
                let call = self.call_of(&item);
                self.block_at(index, Place::Input, call.clone(), pieces);
                // No other protocol has free-form calls, so its text is known only when it can be wrapped.
                let wrapped = wrap_free_form(&item.input.unwrap_or_default().whole());
                self.complete(index, Place::Input, call, Some(Wire::from(wrapped.as_str())), pieces);
            }
            _ if !self.items.contains_key(&index) => self.add_item(index, &item, pieces),
            _ => {}
        }
        self.close_item(index, pieces);
    }

    fn sign(&mut self, index: usize, encrypted: Option<String>, pieces: &mut Vec<Piece>) {
        let Some(encrypted) = encrypted.filter(|encrypted| !encrypted.is_empty()) else { return };
        let known = self.items.get(&index).and_then(|seen| seen.block);
        // The thought may be hidden; what continues it is worth keeping all the same.
        let block = known.unwrap_or_else(|| self.open(Block::Reasoning, pieces));
        self.items.entry(index).or_default().block = Some(block);
        pieces.push(Piece::Signature(block, encrypted));
    }

    fn close_item(&mut self, index: usize, pieces: &mut Vec<Piece>) {
        let seen = self.items.entry(index).or_default();
        seen.is_done = true;
        let mut blocks: Vec<BlockId> = seen.said.values().map(|said| said.block).chain(seen.block).collect();
        for said in seen.said.values_mut() {
            pieces.push(Piece::Delta(said.block, said.joiner.rest().to_owned()));
        }
        blocks.sort_unstable();
        blocks.dedup();
        pieces.extend(blocks.into_iter().map(Piece::Close));
    }

    fn end_reply(&mut self, event: Option<Whole<'_>>, status: &str, pieces: &mut Vec<Piece>) {
        let mut whole = event.unwrap_or(Whole { status: None, incomplete_details: None, usage: None, output: None });
        for (index, item) in whole.output.take().into_iter().flatten().enumerate() {
            self.finish_item(index, item, pieces);
        }
        let counts = whole.usage.filter(Value::is_object).map(|counts| usage(Dialect::Responses, &counts));
        pieces.extend(counts.map(Piece::Usage));
        let status = whole.status.unwrap_or_else(|| status.to_owned());
        pieces.push(Piece::Finish(status, whole.incomplete_details.and_then(|details| details.reason)));
        pieces.push(Piece::End);
    }

    fn read_text(
        &mut self,
        kind: &str,
        item: usize,
        event: ResponsesEvent<'_>,
        pieces: &mut Vec<Piece>,
    ) -> Result<(), StreamError> {
        let content = Place::Content(event.content_index);
        let summary = Place::Summary(event.summary_index);
        let unnamed = || Block::Tool { id: String::new(), name: String::new(), kind: ToolKind::Function };
        // Other events have a delta of another form.
        let delta = match event.delta.map(RawValue::get).filter(|delta| delta.starts_with('"')) {
            Some(delta) => {
                serde_json::from_str(delta).map_err(|error| StreamError::not_of(Dialect::Responses, &error))?
            }
            None => Wire::default(),
        };
        match kind {
            "response.output_text.delta" => self.say(item, content, Block::Text, delta, pieces),
            "response.output_text.done" => self.complete(item, content, Block::Text, event.text, pieces),
            "response.refusal.delta" => self.say(item, content, Block::Refusal, delta, pieces),
            "response.refusal.done" => self.complete(item, content, Block::Refusal, event.refusal, pieces),
            "response.reasoning_summary_text.delta" => self.say(item, summary, Block::Reasoning, delta, pieces),
            "response.reasoning_summary_text.done" => {
                self.complete(item, summary, Block::Reasoning, event.text, pieces);
            }
            "response.reasoning_text.delta" => self.say(item, content, Block::Reasoning, delta, pieces),
            "response.reasoning_text.done" => self.complete(item, content, Block::Reasoning, event.text, pieces),
            "response.function_call_arguments.delta" => {
                self.say(item, Place::Arguments, unnamed(), delta, pieces);
            }
            "response.function_call_arguments.done" => {
                self.complete(item, Place::Arguments, unnamed(), event.arguments, pieces);
            }
            "response.output_text.annotation.added" => {
                if let Some(annotation) = &event.annotation {
                    self.annotate(item, content, annotation, pieces);
                }
            }
            // Parts of items say nothing that their texts do not.
            _ => {}
        }
        Ok(())
    }
}

impl Decode for ResponsesDecoder {
    fn decode(&mut self, name: &str, data: &[u8], pieces: &mut Vec<Piece>) -> Result<(), StreamError> {
        if data.trim_ascii() == b"[DONE]" {
            return Ok(());
        }
        let mut event: ResponsesEvent<'_> =
            serde_json::from_slice(data).map_err(|error| StreamError::not_of(Dialect::Responses, &error))?;
        if event.error.is_some() {
            return Err(StreamError::upstream(data));
        }
        let kind = event.kind.take();
        let kind = kind.as_deref().unwrap_or(name);
        let item_index = self.item_of(kind, event.output_index);
        match kind {
            "error" | "response.failed" => return Err(StreamError::upstream(data)),
            "response.created" => pieces.push(Piece::Start(None)),
            "response.output_item.added" => {
                if let Some(item) = &event.item {
                    self.add_item(item_index, item, pieces);
                }
            }
            "response.output_item.done" => {
                if let Some(item) = event.item {
                    self.finish_item(item_index, item, pieces);
                }
            }
            "response.completed" => self.end_reply(event.response, "completed", pieces),
            "response.incomplete" => self.end_reply(event.response, "incomplete", pieces),
            kind => self.read_text(kind, item_index, event, pieces)?,
        }
        Ok(())
    }

    fn end(&mut self, _pieces: &mut Vec<Piece>) -> Result<(), StreamError> {
        Err(StreamError::Truncated)
    }
}
