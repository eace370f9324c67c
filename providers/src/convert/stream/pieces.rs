//! The neutral pieces of a streamed reply, and their order.
//!
//! A decoder names blocks and may keep several open; an encoder sees one at a time, from its start to its end. In between
//! the first open block is passed on as it comes, and later ones wait until it closes. No protocol's words are known here.

use std::collections::VecDeque;

use super::StreamError;
use super::links::Link;
use crate::convert::{Finish, Produced, ToolKind, UsageCounts};

/// A block of one reply; counted by the decoder.
pub(super) type BlockId = usize;

/// What a block holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Block {
    /// Words to the user.
    Text,
    /// Words that decline.
    Refusal,
    /// Thoughts, with a signature where the model signs.
    Reasoning,
    /// Thoughts that only their issuer can read; the block is complete with its start.
    Redacted(String),
    /// A call of one of the client's tools; its text is JSON.
    Tool {
        /// The call's id; empty where the upstream gave none.
        id: String,
        /// The tool, as the client named it.
        name: String,
        /// What the client declared it to take.
        kind: ToolKind,
    },
}

/// What a decoder makes of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// The reply begins; the counts that are known by then.
    Start(Option<UsageCounts>),
    /// A block begins.
    Open(BlockId, Block),
    /// More of a block.
    Delta(BlockId, String),
    /// The signature of a block of reasoning.
    Signature(BlockId, String),
    /// A page that a block of text refers to.
    Link(BlockId, Link),
    /// A block is complete.
    Close(BlockId),
    /// Why the model stopped, in the upstream's words: reason and detail.
    Finish(String, Option<String>),
    /// The counts so far.
    Usage(UsageCounts),
    /// The counts, and no others will follow.
    FinalUsage(UsageCounts),
    /// Something that no other protocol can say.
    Lost {
        /// What it was.
        field: String,
    },
    /// The upstream's last event.
    End,
}

/// Writes one block after the other in a client's protocol.
pub(super) trait Encode: Send {
    fn start(&mut self, usage: Option<UsageCounts>);
    fn open(&mut self, block: &Block);
    /// More of the open block.
    fn delta(&mut self, text: &str);
    /// The signature of the open block.
    fn signature(&mut self, signature: &str);
    /// A page that the open text refers to. Only where the client's protocol has a form for it.
    fn link(&mut self, link: &Link);
    /// The open block is complete.
    fn close(&mut self);
    fn finish(&mut self, finish: &Finish, produced: Produced);
    /// The final counts, which may come before the end.
    fn final_usage(&mut self, usage: UsageCounts);
    /// The reply is complete.
    fn end(&mut self, usage: Option<UsageCounts>);
    /// What was written since the last time.
    fn take(&mut self) -> Vec<super::OutEvent>;
}

/// Puts blocks in a row.
#[derive(Debug, Default)]
pub(super) struct Row {
    /// The block that is being passed on.
    live: Option<Live>,
    waiting: VecDeque<Waiting>,
}

#[derive(Debug)]
struct Live {
    id: BlockId,
    /// A tool call whose arguments are blank so far.
    owes_arguments: bool,
}

#[derive(Debug)]
struct Waiting {
    id: BlockId,
    block: Block,
    text: String,
    signature: Option<String>,
    links: Vec<Link>,
    is_closed: bool,
}

impl Row {
    pub(super) fn open(&mut self, id: BlockId, block: Block, encoder: &mut dyn Encode) {
        if self.live.is_none() {
            self.begin(id, &block, encoder);
        } else {
            let (text, links) = (String::new(), Vec::new());
            self.waiting.push_back(Waiting { id, block, text, signature: None, links, is_closed: false });
        }
    }

    pub(super) fn delta(&mut self, id: BlockId, text: &str, encoder: &mut dyn Encode) -> Result<(), StreamError> {
        if text.is_empty() {
            return Ok(());
        }
        match &mut self.live {
            Some(live) if live.id == id => {
                live.owes_arguments &= text.trim().is_empty();
                encoder.delta(text);
            }
            Some(_) | None => match self.waiting.iter_mut().find(|waiting| waiting.id == id) {
                Some(waiting) => waiting.text.push_str(text),
                // White space behind complete JSON changes nothing.
                None if text.trim().is_empty() => {}
                None => return Err(StreamError::unreadable("a block goes on after its end")),
            },
        }
        Ok(())
    }

    pub(super) fn signature(&mut self, id: BlockId, signature: String, encoder: &mut dyn Encode) {
        if self.is_live(id) {
            encoder.signature(&signature);
        } else if let Some(waiting) = self.waiting.iter_mut().find(|waiting| waiting.id == id) {
            waiting.signature = Some(signature);
        }
    }

    pub(super) fn link(&mut self, id: BlockId, link: Link, encoder: &mut dyn Encode) {
        if self.is_live(id) {
            encoder.link(&link);
        } else if let Some(waiting) = self.waiting.iter_mut().find(|waiting| waiting.id == id) {
            waiting.links.push(link);
        }
    }

    pub(super) fn close(&mut self, id: BlockId, encoder: &mut dyn Encode) {
        if self.is_live(id) {
            self.end_live(encoder);
            self.advance(encoder);
        } else if let Some(waiting) = self.waiting.iter_mut().find(|waiting| waiting.id == id) {
            waiting.is_closed = true;
        }
    }

    /// Nothing more comes: everything that waits is complete.
    pub(super) fn close_all(&mut self, encoder: &mut dyn Encode) {
        for waiting in &mut self.waiting {
            waiting.is_closed = true;
        }
        self.end_live(encoder);
        self.advance(encoder);
    }

    fn is_live(&self, id: BlockId) -> bool {
        self.live.as_ref().is_some_and(|live| live.id == id)
    }

    fn begin(&mut self, id: BlockId, block: &Block, encoder: &mut dyn Encode) {
        encoder.open(block);
        let owes_arguments = match block {
            Block::Tool { .. } => true,
            Block::Text | Block::Refusal | Block::Reasoning | Block::Redacted(_) => false,
        };
        self.live = Some(Live { id, owes_arguments });
    }

    fn end_live(&mut self, encoder: &mut dyn Encode) {
        if let Some(live) = self.live.take() {
            if live.owes_arguments {
                encoder.delta("{}");
            }
            encoder.close();
        }
    }

    fn advance(&mut self, encoder: &mut dyn Encode) {
        while self.live.is_none() {
            let Some(next) = self.waiting.pop_front() else { return };
            self.begin(next.id, &next.block, encoder);
            if let Some(live) = self.live.as_mut().filter(|_| !next.text.is_empty()) {
                live.owes_arguments &= next.text.trim().is_empty();
                encoder.delta(&next.text);
            }
            if let Some(signature) = &next.signature {
                encoder.signature(signature);
            }
            for link in &next.links {
                encoder.link(link);
            }
            if next.is_closed {
                self.end_live(encoder);
            }
        }
    }
}
