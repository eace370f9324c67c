//! The wire protocols that clients and providers speak.
//!
//! Only their names: what their bodies look like is the business of `providers`.

use serde::{Deserialize, Serialize};

/// A request header that a caller's protocol defines and a provider of that protocol has to see. Never a secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForwardedHeader {
    /// In lower case.
    pub name: String,
    /// As it came.
    pub value: String,
}

/// What a provider is asked to do with a body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// Answer it.
    #[default]
    Chat,
    /// Make vectors of its texts.
    Embeddings,
}

/// A wire protocol of a chat.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dialect {
    /// OpenAI Chat Completions.
    #[default]
    Chat,
    /// OpenAI Responses.
    Responses,
    /// Anthropic Messages.
    Messages,
}

impl Dialect {
    /// Every one.
    pub const ALL: [Self; 3] = [Self::Chat, Self::Responses, Self::Messages];

    /// The stable name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Responses => "responses",
            Self::Messages => "messages",
        }
    }
}
