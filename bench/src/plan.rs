//! How much of everything a run measures.

use std::time::Duration;

use serde::Serialize;

use crate::kinds::Kind;

/// How thorough a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Size {
    /// Enough to trust the figures.
    Full,
    /// Enough to see that everything works.
    Quick,
}

/// The counts of a run.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Plan {
    /// How thorough it is.
    pub(crate) size: Size,
    /// Every kind gets a slice in each.
    pub(crate) rounds: usize,
    /// Plain requests in a slice.
    pub(crate) http_slice: usize,
    /// Streams in a slice.
    pub(crate) stream_slice: usize,
    /// Workflows with one step in a slice.
    pub(crate) workflow_slice: usize,
    /// Votes in a slice.
    pub(crate) vote_slice: usize,
    /// Requests of each kind before the first round.
    pub(crate) warm_up: usize,
    /// Turns of the throughput measurement; every kind has one in each.
    pub(crate) load_turns: usize,
    /// The length of one.
    pub(crate) load_turn: Duration,
    /// Streams that are open at the same time.
    pub(crate) streams: usize,
    /// Durable chats of the throughput measurement.
    pub(crate) loaded_chats: usize,
    /// Durable chats of the whole run, for the slowest of them.
    pub(crate) chats: usize,
    /// Workers that are killed.
    pub(crate) kills: usize,
}

impl Plan {
    /// The counts of `size`.
    pub(crate) fn of(size: Size) -> Self {
        match size {
            Size::Full => Self {
                size,
                rounds: 20,
                http_slice: 100,
                stream_slice: 50,
                workflow_slice: 50,
                vote_slice: 10,
                warm_up: 50,
                load_turns: 3,
                load_turn: Duration::from_secs(3),
                streams: 1_000,
                loaded_chats: 1_000,
                chats: 5_000,
                kills: 3,
            },
            Size::Quick => Self {
                size,
                rounds: 4,
                http_slice: 50,
                stream_slice: 20,
                workflow_slice: 25,
                vote_slice: 5,
                warm_up: 20,
                load_turns: 1,
                load_turn: Duration::from_secs(1),
                streams: 200,
                loaded_chats: 150,
                chats: 400,
                kills: 1,
            },
        }
    }

    /// The length of a slice.
    pub(crate) fn slice(&self, kind: Kind) -> usize {
        match kind {
            Kind::Direct | Kind::Nginx | Kind::EmptyProxy | Kind::FastPath => self.http_slice,
            Kind::DirectStream | Kind::NginxStream | Kind::EmptyProxyStream | Kind::HubStream => self.stream_slice,
            Kind::Bare | Kind::DurableChat => self.workflow_slice,
            Kind::VoteMajority | Kind::VoteJudge => self.vote_slice,
        }
    }
}
