//! The decision of a person about an answer before it goes out.
//!
//! Owns what may be wished for and what a decision can be. Must not know how anybody is asked or where it is kept.

use serde::{Deserialize, Serialize};

use crate::{Answer, Outcome, Text, UnixMicros};

/// A run that has its answer waits for a decision about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApprovalWish {
    /// At most so long.
    pub timeout_ms: u64,
    /// What is decided when nobody has by then.
    pub on_timeout: OnTimeout,
}

/// What follows when nobody has decided in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnTimeout {
    /// The answer goes out.
    Approve,
    /// It does not.
    Reject,
    /// The run fails.
    Fail,
}

impl OnTimeout {
    const ALL: [Self; 3] = [Self::Approve, Self::Reject, Self::Fail];

    /// The stable name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Approve => "approve",
            Self::Reject => "reject",
            Self::Fail => "fail",
        }
    }

    /// The policy named `name`.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|policy| policy.as_str() == name)
    }
}

/// Asks for a decision, or how one that was asked for stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ApprovalRequest {
    /// How it is asked for.
    pub wish: ApprovalWish,
    /// What the run has come to.
    pub outcome: Outcome,
}

/// How a decision stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ApprovalStanding {
    /// Nobody has decided.
    Waiting {
        /// There is time for so long.
        left_ms: u64,
    },
    /// Somebody has, or the time is over. It never changes again.
    Resolved(Resolution),
    /// The same about another outcome than the one that was shown with the request: a run that changed hands may have come
    /// to a different one, and what somebody has read is what counts.
    ResolvedOther {
        /// What was decided.
        resolution: Resolution,
        /// About what.
        outcome: Box<Outcome>,
    },
}

/// A decision.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resolution {
    /// The answer goes out.
    Approved,
    /// Another one goes out in its place.
    Edited {
        /// What takes the place of [`Answer::main_text_mut`].
        text: Text,
    },
    /// It does not go out.
    Rejected,
    /// Nobody has decided in time.
    Expired,
}

/// The state of a decision, as it is kept and shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ApprovalState {
    /// Nobody has decided.
    Pending,
    /// See [`Resolution::Approved`].
    Approved,
    /// See [`Resolution::Edited`].
    Edited,
    /// See [`Resolution::Rejected`].
    Rejected,
    /// See [`Resolution::Expired`].
    Expired,
}

impl ApprovalState {
    /// Every state, for tables and tests.
    pub const ALL: [Self; 5] = [Self::Pending, Self::Approved, Self::Edited, Self::Rejected, Self::Expired];

    /// The stable name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Approved => "approved",
            Self::Edited => "edited",
            Self::Rejected => "rejected",
            Self::Expired => "expired",
        }
    }

    /// The state named `name`.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }
}

/// By which way somebody decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecidedBy {
    /// With an API key.
    Key,
    /// By the signed link.
    Link,
    /// Nobody did: the time ran out.
    Timeout,
}

impl DecidedBy {
    const ALL: [Self; 3] = [Self::Key, Self::Link, Self::Timeout];

    /// The stable name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Link => "link",
            Self::Timeout => "timeout",
        }
    }

    /// The way named `name`.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|way| way.as_str() == name)
    }
}

/// When a decision is due that is asked for now.
pub fn expiry(wish: ApprovalWish, now: UnixMicros) -> UnixMicros {
    now.plus_millis(wish.timeout_ms)
}

impl Answer {
    /// The text that counts. Of a chat it is the provider's whole body.
    pub fn main_text(&self) -> Option<&Text> {
        match self {
            Self::Chat { body } => Some(body),
            Self::Adversarial(answer) => {
                Some(answer.rounds.last().map_or(&answer.initial_plan, |round| &round.refined_plan))
            }
            Self::Vote(answer) => answer.ballots.get(answer.selected).map(|ballot| &ballot.content),
            Self::Refine(answer) => Some(&answer.refined_response),
            Self::BestOfN(answer) => answer.candidates.get(answer.selected).map(|ballot| &ballot.content),
            Self::Cascade(answer) => Some(&answer.response),
            Self::Fuse(answer) => Some(&answer.response),
        }
    }

    /// The same: what an edit replaces.
    pub fn main_text_mut(&mut self) -> Option<&mut Text> {
        match self {
            Self::Chat { body } => Some(body),
            Self::Adversarial(answer) => match answer.rounds.last_mut() {
                Some(round) => Some(&mut round.refined_plan),
                None => Some(&mut answer.initial_plan),
            },
            Self::Vote(answer) => answer.ballots.get_mut(answer.selected).map(|ballot| &mut ballot.content),
            Self::Refine(answer) => Some(&mut answer.refined_response),
            Self::BestOfN(answer) => answer.candidates.get_mut(answer.selected).map(|ballot| &mut ballot.content),
            Self::Cascade(answer) => Some(&mut answer.response),
            Self::Fuse(answer) => Some(&mut answer.response),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_read_back() {
        for state in ApprovalState::ALL {
            assert_eq!(ApprovalState::parse(state.as_str()), Some(state));
        }
        for policy in OnTimeout::ALL {
            assert_eq!(OnTimeout::parse(policy.as_str()), Some(policy));
        }
        for way in DecidedBy::ALL {
            assert_eq!(DecidedBy::parse(way.as_str()), Some(way));
        }
    }
}
