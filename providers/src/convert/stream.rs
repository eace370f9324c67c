//! Conversion of a stream between Chat Completions, Responses and Messages, event by event.
//!
//! Pure: a decoder for the upstream's protocol makes neutral pieces, which an encoder for the client's protocol writes.
//! Decoders know nothing of clients and encoders nothing of upstreams. A stream that stops before its protocol's last event
//! is an error by type: an end is never made up.

mod decode_chat;
mod decode_messages;
mod decode_responses;
mod encode_chat;
mod encode_messages;
mod encode_responses;
mod fault;
mod json_end;
mod links;
mod pieces;
mod text;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use tokenhub_domain::Dialect;

use super::{Finish, Loss, Produced, ReplyContext, UsageCounts, finish_loss, finish_of, made_tool_id};
use crate::call::EventKind;
use decode_chat::ChatDecoder;
use decode_messages::MessagesDecoder;
use decode_responses::ResponsesDecoder;
use encode_chat::ChatEncoder;
use encode_messages::MessagesEncoder;
use encode_responses::ResponsesEncoder;
use links::Link;
use pieces::{Block, BlockId, Encode, Piece, Row};

pub(crate) use decode_chat::Part;
pub use fault::{ReplyPlace, StreamFault, error_event};
pub(crate) use json_end::JsonEnd;
pub(crate) use text::{Joiner, Wire};

/// An event in the client's protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutEvent {
    /// The `event` field; empty for Chat.
    pub name: &'static str,
    /// The payload, one line.
    pub data: String,
    /// What it is there for.
    pub kind: EventKind,
}

impl OutEvent {
    /// The event as it goes over the wire, blank line included.
    pub fn frame(&self) -> Bytes {
        match self.name {
            "" => format!("data: {}\n\n", self.data),
            name => format!("event: {name}\ndata: {}\n\n", self.data),
        }
        .into()
    }
}

/// Why a stream cannot be converted further.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// It ended before its protocol's last event, or without telling why the model stopped.
    #[error("the stream ended before it was complete")]
    Truncated,
    /// The upstream reported an error in place of an event.
    #[error("the provider reported an error")]
    Upstream {
        /// The event's data, to be classified.
        body: Vec<u8>,
    },
    /// An event is not of its protocol.
    #[error("an event of the stream cannot be read: {0}")]
    Unreadable(String),
}

impl StreamError {
    fn upstream(body: &[u8]) -> Self {
        Self::Upstream { body: body.to_vec() }
    }

    fn unreadable(reason: &str) -> Self {
        Self::Unreadable(reason.to_owned())
    }

    fn not_of(dialect: Dialect, error: &serde_json::Error) -> Self {
        Self::Unreadable(format!("not an event of {}: {error}", dialect.as_str()))
    }
}

/// Reads an upstream's events.
trait Decode: Send {
    fn decode(&mut self, name: &str, data: &[u8], pieces: &mut Vec<Piece>) -> Result<(), StreamError>;

    /// The upstream closed the connection before its last event.
    fn end(&mut self, pieces: &mut Vec<Piece>) -> Result<(), StreamError>;
}

/// Converts one stream.
pub struct StreamConverter {
    from: Dialect,
    to: Dialect,
    decoder: Box<dyn Decode>,
    encoder: Box<dyn Encode>,
    row: Row,
    pieces: Vec<Piece>,
    progress: Progress,
    context: Arc<ReplyContext>,
    produced: Produced,
    call_ids: BTreeSet<String>,
    usage: Option<UsageCounts>,
    losses: Vec<Loss>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Before,
    Started,
    Ended,
}

impl fmt::Debug for StreamConverter {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (from, to, progress) = (self.from, self.to, self.progress);
        formatter
            .debug_struct("StreamConverter")
            .field("from", &from)
            .field("to", &to)
            .field("at", &progress)
            .finish_non_exhaustive()
    }
}

impl StreamConverter {
    /// A converter from what the upstream speaks to what the client speaks.
    pub fn new(from: Dialect, to: Dialect, context: ReplyContext) -> Self {
        let context = Arc::new(context);
        let decoder: Box<dyn Decode> = match from {
            Dialect::Chat => Box::new(ChatDecoder::new(Arc::clone(&context))),
            Dialect::Messages => Box::new(MessagesDecoder::new(Arc::clone(&context))),
            Dialect::Responses => Box::new(ResponsesDecoder::new(Arc::clone(&context))),
        };
        let encoder: Box<dyn Encode> = match to {
            Dialect::Chat => Box::new(ChatEncoder::new(Arc::clone(&context))),
            Dialect::Messages => Box::new(MessagesEncoder::new(Arc::clone(&context))),
            Dialect::Responses => Box::new(ResponsesEncoder::new(Arc::clone(&context))),
        };
        Self {
            from,
            to,
            decoder,
            encoder,
            row: Row::default(),
            pieces: Vec::new(),
            progress: Progress::Before,
            context,
            produced: Produced::default(),
            call_ids: BTreeSet::new(),
            usage: None,
            losses: Vec::new(),
        }
    }

    /// Takes the next event of the upstream and gives what the client gets for it, which may be nothing. After an error
    /// the converter is of no use.
    pub fn push(&mut self, name: &str, data: &[u8]) -> Result<Vec<OutEvent>, StreamError> {
        if self.progress == Progress::Ended {
            return Ok(Vec::new());
        }
        let mut pieces = std::mem::take(&mut self.pieces);
        self.decoder.decode(name, data, &mut pieces)?;
        self.write(&mut pieces)?;
        self.pieces = pieces;
        Ok(self.encoder.take())
    }

    /// The upstream closed the connection: what is still owed to the client, or [`StreamError::Truncated`].
    pub fn finish(mut self) -> Result<Vec<OutEvent>, StreamError> {
        if self.progress == Progress::Ended {
            return Ok(Vec::new());
        }
        let mut pieces = Vec::new();
        self.decoder.end(&mut pieces)?;
        self.write(&mut pieces)?;
        Ok(self.encoder.take())
    }

    /// The counts that the upstream has reported so far.
    pub fn usage(&self) -> Option<UsageCounts> {
        self.usage
    }

    /// What the client's protocol could not say so far.
    pub fn losses(&self) -> &[Loss] {
        &self.losses
    }

    fn write(&mut self, pieces: &mut Vec<Piece>) -> Result<(), StreamError> {
        for piece in pieces.drain(..) {
            match piece {
                Piece::Start(usage) => {
                    self.usage = usage.or(self.usage);
                    self.start();
                }
                Piece::Open(id, mut block) => {
                    self.start();
                    self.note(&mut block);
                    self.row.open(id, block, self.encoder.as_mut());
                }
                Piece::Delta(id, text) => self.row.delta(id, &text, self.encoder.as_mut())?,
                Piece::Signature(id, signature) => {
                    self.lose_opaque();
                    self.row.signature(id, signature, self.encoder.as_mut());
                }
                Piece::Link(id, link) => self.link(id, link),
                Piece::Close(id) => self.row.close(id, self.encoder.as_mut()),
                Piece::Usage(usage) => self.usage = Some(usage),
                Piece::FinalUsage(usage) => {
                    self.usage = Some(usage);
                    self.encoder.final_usage(usage);
                }
                Piece::Lost { field } => self.lose(field),
                Piece::Finish(reason, detail) => {
                    self.start();
                    self.row.close_all(self.encoder.as_mut());
                    let finish = finish_of(self.from, Some(&reason), detail.as_deref(), self.produced);
                    self.end_with(&finish);
                }
                Piece::End => {
                    if self.usage.is_none() {
                        let reason = "the upstream told no token counts".to_owned();
                        self.losses.push(Loss { field: "usage".to_owned(), reason });
                    }
                    self.encoder.end(self.usage);
                    self.progress = Progress::Ended;
                }
            }
        }
        Ok(())
    }

    fn start(&mut self) {
        if self.progress == Progress::Before {
            self.progress = Progress::Started;
            self.encoder.start(self.usage);
        }
    }

    /// Counts a block, and gives a call an id of its own where the upstream did not.
    fn note(&mut self, block: &mut Block) {
        match block {
            Block::Tool { id, .. } => {
                if id.is_empty() || self.call_ids.contains(id) {
                    *id = made_tool_id(&self.context.attempt, self.produced.tool_calls);
                }
                self.call_ids.insert(id.clone());
                self.produced.tool_calls += 1;
            }
            Block::Refusal => self.produced.refusals += 1,
            Block::Redacted(_) => self.lose_opaque(),
            Block::Text | Block::Reasoning => {}
        }
    }

    /// A citation of Messages is signed by whoever found the page, so nobody else can make one.
    fn link(&mut self, id: BlockId, link: Link) {
        match self.to {
            Dialect::Messages => self.lose("annotations".to_owned()),
            Dialect::Chat | Dialect::Responses => self.row.link(id, link, self.encoder.as_mut()),
        }
    }

    fn lose(&mut self, field: String) {
        self.losses.push(Loss { field, reason: format!("{} has no form for it in a stream", self.to.as_str()) });
    }

    /// Chat has no place for what only the issuer of a thought can read.
    fn lose_opaque(&mut self) {
        match self.to {
            Dialect::Chat => self.lose("reasoning signature".to_owned()),
            Dialect::Messages | Dialect::Responses => {}
        }
    }

    fn end_with(&mut self, finish: &Finish) {
        self.losses.extend(finish_loss(self.to, finish));
        self.encoder.finish(finish, self.produced);
    }
}

#[cfg(test)]
mod tests;
