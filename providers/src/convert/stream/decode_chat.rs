//! Chat Completions chunks into neutral pieces.
//!
//! Chat has no blocks: a text ends where something else begins, and a tool call when its JSON is complete and another
//! block has begun, because until then more of it may come.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use tokenhub_domain::Dialect;

use super::json_end::JsonEnd;
use super::links::Link;
use super::pieces::{Block, BlockId, Piece};
use super::text::{Joiner, Wire};
use super::{Decode, StreamError};
use crate::convert::{ReplyContext, restore_tool, usage};

#[derive(Deserialize)]
struct Chunk<'a> {
    #[serde(borrow, default)]
    choices: Option<Vec<Choice<'a>>>,
    #[serde(default)]
    usage: Option<Value>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Choice<'a> {
    #[serde(default)]
    index: u64,
    #[serde(borrow, default)]
    delta: Option<Delta<'a>>,
    #[serde(default)]
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct Delta<'a> {
    #[serde(borrow, default)]
    content: Option<&'a RawValue>,
    #[serde(borrow, default)]
    reasoning_content: Option<Wire<'a>>,
    #[serde(borrow, default)]
    reasoning: Option<Wire<'a>>,
    #[serde(borrow, default)]
    refusal: Option<Wire<'a>>,
    #[serde(borrow, default)]
    tool_calls: Option<Vec<CallDelta<'a>>>,
    /// The older form of a call.
    #[serde(borrow, default)]
    function_call: Option<FunctionDelta<'a>>,
    #[serde(default)]
    annotations: Option<Value>,
}

#[derive(Deserialize)]
struct CallDelta<'a> {
    #[serde(default)]
    index: Option<u64>,
    #[serde(default)]
    id: Option<String>,
    #[serde(borrow, default)]
    function: Option<FunctionDelta<'a>>,
}

#[derive(Deserialize)]
struct FunctionDelta<'a> {
    #[serde(default)]
    name: Option<String>,
    /// A text; some servers send the object itself.
    #[serde(borrow, default)]
    arguments: Option<&'a RawValue>,
}

/// A part of a `content` that is a list.
#[derive(Deserialize)]
pub(crate) struct Part<'a> {
    #[serde(borrow, default)]
    pub(crate) text: Option<Wire<'a>>,
    #[serde(borrow, default)]
    pub(crate) refusal: Option<Wire<'a>>,
    #[serde(borrow, default)]
    pub(crate) thinking: Option<Vec<Part<'a>>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Saying {
    Text,
    Refusal,
    Reasoning,
}

/// A tool call in progress.
#[derive(Debug, Default)]
struct Call {
    index: Option<u64>,
    id: Option<String>,
    /// What came before its name was known.
    early: String,
    block: Option<BlockId>,
    joiner: Joiner,
    json: JsonEnd,
    is_closed: bool,
}

#[derive(Debug)]
pub(super) struct ChatDecoder {
    context: Arc<ReplyContext>,
    started: bool,
    finished: bool,
    blocks: BlockId,
    saying: Option<(Saying, BlockId)>,
    joiner: Joiner,
    /// Characters of the answer's text so far, and before the block that is open.
    chars: u64,
    chars_before: u64,
    calls: Vec<Call>,
}

impl ChatDecoder {
    pub(super) fn new(context: Arc<ReplyContext>) -> Self {
        Self {
            context,
            started: false,
            finished: false,
            blocks: 0,
            saying: None,
            joiner: Joiner::default(),
            chars: 0,
            chars_before: 0,
            calls: Vec::new(),
        }
    }

    fn open(&mut self, block: Block, pieces: &mut Vec<Piece>) -> BlockId {
        self.stop_saying(pieces);
        let id = self.blocks;
        self.blocks += 1;
        pieces.push(Piece::Open(id, block));
        self.close_complete_calls(pieces);
        id
    }

    fn say(&mut self, saying: Saying, text: Wire<'_>, pieces: &mut Vec<Piece>) {
        if text.is_empty() {
            return;
        }
        let id = match self.saying {
            Some((current, id)) if current == saying => id,
            Some(_) | None => {
                let block = match saying {
                    Saying::Text => Block::Text,
                    Saying::Refusal => Block::Refusal,
                    Saying::Reasoning => Block::Reasoning,
                };
                let id = self.open(block, pieces);
                self.saying = Some((saying, id));
                self.chars_before = self.chars;
                id
            }
        };
        let text = self.joiner.add(text);
        if saying == Saying::Text {
            self.chars += text.chars().count() as u64;
        }
        pieces.push(Piece::Delta(id, text));
    }

    /// A page that the text refers to. Chat counts places in the whole text; a block that is over gets nothing more.
    fn read_annotation(&mut self, annotation: &Value, pieces: &mut Vec<Piece>) {
        match (annotation.get("url_citation").and_then(Link::of), self.saying) {
            (Some(link), Some((Saying::Text, id))) => {
                let place = |at: u64| at.saturating_sub(self.chars_before);
                pieces.push(Piece::Link(id, Link { start: place(link.start), end: place(link.end), ..link }));
            }
            (Some(_) | None, _) => pieces.push(Piece::Lost { field: "annotations".to_owned() }),
        }
    }

    fn stop_saying(&mut self, pieces: &mut Vec<Piece>) {
        if let Some((_, id)) = self.saying.take() {
            pieces.push(Piece::Delta(id, self.joiner.rest().to_owned()));
            pieces.push(Piece::Close(id));
        }
    }

    fn read_delta(&mut self, delta: Delta<'_>, pieces: &mut Vec<Piece>) -> Result<(), StreamError> {
        // Servers that fill both fields say the same in both.
        if let Some(reasoning) = delta.reasoning_content.filter(|text| !text.is_empty()).or(delta.reasoning) {
            self.say(Saying::Reasoning, reasoning, pieces);
        }
        match delta.content.map(RawValue::get) {
            None | Some("null") => {}
            Some(text) if text.starts_with('"') => self.say(Saying::Text, parse(text)?, pieces),
            Some(parts) => {
                for part in parse::<Vec<Part<'_>>>(parts)? {
                    for thought in part.thinking.into_iter().flatten().filter_map(|part| part.text) {
                        self.say(Saying::Reasoning, thought, pieces);
                    }
                    self.say(Saying::Text, part.text.unwrap_or_default(), pieces);
                    self.say(Saying::Refusal, part.refusal.unwrap_or_default(), pieces);
                }
            }
        }
        self.say(Saying::Refusal, delta.refusal.unwrap_or_default(), pieces);
        for annotation in delta.annotations.iter().filter_map(Value::as_array).flatten() {
            self.read_annotation(annotation, pieces);
        }
        let older = delta.function_call.map(|function| CallDelta { index: None, id: None, function: Some(function) });
        for call in delta.tool_calls.into_iter().flatten().chain(older) {
            self.read_call(call, pieces)?;
        }
        Ok(())
    }

    fn read_call(&mut self, delta: CallDelta<'_>, pieces: &mut Vec<Piece>) -> Result<(), StreamError> {
        let id = delta.id.filter(|id| !id.is_empty());
        let (name, arguments) = delta.function.map_or((None, None), |function| (function.name, function.arguments));
        let name = name.filter(|name| !name.is_empty());
        let position = self.position_of(delta.index, id.as_deref(), name.as_deref());
        let call = &mut self.calls[position];
        if call.id.is_none() {
            call.id = id;
        }
        let text = match arguments.map(RawValue::get) {
            None | Some("null") => String::new(),
            Some(text) if text.starts_with('"') => call.joiner.add(parse(text)?),
            Some(object) => object.to_owned(),
        };
        call.json.add(&text);
        if let Some(block) = call.block {
            pieces.push(Piece::Delta(block, text));
            self.close_complete_calls(pieces);
        } else {
            call.early.push_str(&text);
            if let Some(name) = name {
                self.begin_call(position, &name, pieces);
            }
        }
        Ok(())
    }

    /// The call that a delta belongs to. Some servers number none of their calls, or all of them 0: then a new id with a
    /// name is a new call once the one before is complete.
    fn position_of(&mut self, index: Option<u64>, id: Option<&str>, name: Option<&str>) -> usize {
        let known = match index {
            Some(_) => self.calls.iter().rposition(|call| call.index == index),
            None => self.calls.len().checked_sub(1),
        };
        let is_another = |call: &Call| {
            let has_other_id = call.id.as_deref().zip(id).is_some_and(|(before, now)| before != now);
            has_other_id && name.is_some() && call.json.is_complete()
        };
        match known {
            Some(position) if !is_another(&self.calls[position]) => position,
            Some(_) | None => {
                self.calls.push(Call { index, ..Call::default() });
                self.calls.len() - 1
            }
        }
    }

    fn begin_call(&mut self, position: usize, name: &str, pieces: &mut Vec<Piece>) {
        let id = self.calls[position].id.clone().unwrap_or_default();
        let (name, kind) = restore_tool(&self.context, name);
        let tool = Block::Tool { id, name: name.to_owned(), kind };
        let block = self.open(tool, pieces);
        let call = &mut self.calls[position];
        call.block = Some(block);
        pieces.push(Piece::Delta(block, std::mem::take(&mut call.early)));
        self.close_complete_calls(pieces);
    }

    /// A call is over when its JSON is complete and something else has begun.
    fn close_complete_calls(&mut self, pieces: &mut Vec<Piece>) {
        for call in self.calls.iter_mut().filter(|call| !call.is_closed && call.json.is_complete()) {
            if let Some(block) = call.block.filter(|block| block + 1 < self.blocks) {
                call.is_closed = true;
                pieces.push(Piece::Close(block));
            }
        }
    }

    fn finish(&mut self, reason: String, pieces: &mut Vec<Piece>) -> Result<(), StreamError> {
        self.finished = true;
        self.stop_saying(pieces);
        for call in &mut self.calls {
            match call.block {
                Some(block) => pieces.push(Piece::Delta(block, call.joiner.rest().to_owned())),
                None if call.early.is_empty() && call.id.is_none() => {}
                None => return Err(StreamError::unreadable("a tool call has no name")),
            }
        }
        pieces.push(Piece::Finish(reason, None));
        Ok(())
    }
}

impl Decode for ChatDecoder {
    fn decode(&mut self, _name: &str, data: &[u8], pieces: &mut Vec<Piece>) -> Result<(), StreamError> {
        if data.trim_ascii() == b"[DONE]" {
            return self.end(pieces);
        }
        let chunk: Chunk<'_> =
            serde_json::from_slice(data).map_err(|error| StreamError::not_of(Dialect::Chat, &error))?;
        if chunk.error.is_some() {
            return Err(StreamError::upstream(data));
        }
        let choices = chunk.choices.unwrap_or_default();
        let is_final = choices.is_empty();
        let choice = choices.into_iter().find(|choice| choice.index == 0);
        // What comes behind the finish reason repeats it, and is read for its counts only.
        if let Some(choice) = choice.filter(|_| !self.finished) {
            if !self.started {
                self.started = true;
                pieces.push(Piece::Start(None));
            }
            if let Some(delta) = choice.delta {
                self.read_delta(delta, pieces)?;
            }
            if let Some(reason) = choice.finish_reason.filter(|reason| !reason.is_empty()) {
                self.finish(reason, pieces)?;
            }
        }
        if let Some(counts) = chunk.usage.filter(Value::is_object) {
            let counts = usage(Dialect::Chat, &counts);
            let is_final = is_final && self.finished;
            pieces.push(if is_final { Piece::FinalUsage(counts) } else { Piece::Usage(counts) });
        }
        Ok(())
    }

    /// Some compatible servers leave out the end mark; their finish reason says that nothing is missing. The mark without
    /// a reason says nothing of the kind, and no reason is made up for it.
    fn end(&mut self, pieces: &mut Vec<Piece>) -> Result<(), StreamError> {
        if !self.finished {
            return Err(StreamError::Truncated);
        }
        pieces.push(Piece::End);
        Ok(())
    }
}

fn parse<'a, T: Deserialize<'a>>(json: &'a str) -> Result<T, StreamError> {
    serde_json::from_str(json).map_err(|error| StreamError::not_of(Dialect::Chat, &error))
}
