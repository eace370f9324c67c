//! What a model can do, as far as it is known, and what a request needs of it.
//!
//! Owns the small table of well-known models. What the operator says wins over it, and what nobody knows is allowed: a
//! provider's own refusal is better than a model that is never tried.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Something that some models can do and others cannot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Capability {
    /// Calls tools.
    Tools,
    /// Reads images.
    Vision,
    /// Keeps to a JSON schema by the provider's own means.
    JsonSchema,
    /// Thinks before it answers, as much as it is told to.
    Reasoning,
    /// Answers in a stream.
    Streaming,
}

impl Capability {
    /// Every one, for tables and tests.
    pub const ALL: [Self; 5] = [Self::Tools, Self::Vision, Self::JsonSchema, Self::Reasoning, Self::Streaming];

    /// The stable name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tools => "tools",
            Self::Vision => "vision",
            Self::JsonSchema => "json_schema",
            Self::Reasoning => "reasoning",
            Self::Streaming => "streaming",
        }
    }

    /// The reason with which routing leaves out a model that lacks it.
    pub fn lacking(self) -> &'static str {
        match self {
            Self::Tools => "lacks_tools",
            Self::Vision => "lacks_vision",
            Self::JsonSchema => "lacks_json_schema",
            Self::Reasoning => "lacks_reasoning",
            Self::Streaming => "lacks_streaming",
        }
    }
}

/// What is known of a model; an absent capability is not known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Capabilities(pub BTreeMap<Capability, bool>);

impl Capabilities {
    /// What the table knows of the model called `id`, with or without its vendor's prefix.
    pub fn of_name(id: &str) -> Self {
        let name = id.rsplit('/').next().unwrap_or(id).to_ascii_lowercase();
        let lacking = LACKING.iter().filter(|(beginning, _)| name.starts_with(beginning));
        Self(lacking.flat_map(|(_, lacking)| lacking.iter().map(|one| (*one, false))).collect())
    }

    /// These, where `known` says nothing else.
    #[must_use]
    pub fn overridden_by(mut self, known: &Self) -> Self {
        self.0.extend(&known.0);
        self
    }

    /// The first of `needs` that is known to be missing.
    pub fn missing(&self, needs: &[Capability]) -> Option<Capability> {
        needs.iter().copied().find(|need| self.0.get(need) == Some(&false))
    }
}

use Capability::{JsonSchema, Reasoning, Streaming, Tools, Vision};

/// Models, by the beginning of their names, and what they are documented not to do.
const LACKING: [(&str, &[Capability]); 23] = [
    ("gpt-3.5-turbo", &[Vision, JsonSchema, Reasoning]),
    ("gpt-4-0613", &[Vision, JsonSchema, Reasoning]),
    ("gpt-4o", &[Reasoning]),
    ("gpt-4.1", &[Reasoning]),
    ("o1-mini", &[Tools, Vision, JsonSchema]),
    ("o1-preview", &[Tools, Vision, JsonSchema]),
    ("o3-mini", &[Vision]),
    ("claude-2", &[Tools, Vision, JsonSchema, Reasoning]),
    ("claude-instant", &[Tools, Vision, JsonSchema, Reasoning]),
    ("claude-3-opus", &[Reasoning]),
    ("claude-3-sonnet", &[Reasoning]),
    ("claude-3-haiku", &[Reasoning]),
    ("claude-3-5", &[Reasoning]),
    ("deepseek-chat", &[Vision]),
    ("deepseek-reasoner", &[Vision]),
    ("codestral", &[Vision]),
    ("llama-2", &[Tools, Vision]),
    ("llama-3-", &[Vision]),
    ("text-embedding", &[Tools, Vision, JsonSchema, Reasoning, Streaming]),
    ("whisper", &[Tools, Vision, JsonSchema, Reasoning, Streaming]),
    ("tts-", &[Tools, Vision, JsonSchema, Reasoning, Streaming]),
    ("dall-e", &[Tools, Vision, JsonSchema, Reasoning, Streaming]),
    ("gemma-2", &[Tools, Vision]),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_knows_a_model_with_and_without_its_vendor_and_nothing_of_others() {
        for id in ["o1-mini", "openai/o1-mini-2024-09-12", "OpenAI/O1-Mini"] {
            assert_eq!(Capabilities::of_name(id).missing(&[Capability::Streaming, Capability::Vision]), Some(Vision));
        }
        assert_eq!(Capabilities::of_name("my-own-model").missing(&Capability::ALL), None);
    }

    #[test]
    fn what_the_operator_says_wins() {
        let said = Capabilities(BTreeMap::from([(Tools, true), (Streaming, false)]));
        let known = Capabilities::of_name("llama-2-70b").overridden_by(&said);
        assert_eq!(known.missing(&[Tools]), None);
        assert_eq!(known.missing(&[Tools, Streaming, Vision]), Some(Streaming));
    }

    #[test]
    fn names_are_as_they_are_written() {
        for one in Capability::ALL {
            assert_eq!(serde_json::to_value(one).unwrap(), one.as_str());
            assert_eq!(one.lacking(), format!("lacks_{}", one.as_str()));
        }
    }
}
