//! The beginning of a long prompt, by a name that two requests with the same beginning share.
//!
//! Owns what counts as the beginning: tools, instructions and turns, as they were written, as far as providers cache them.
//! Short prompts have none, because nobody caches them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

/// Providers cache from 1,024 tokens on; four bytes make one.
const PREFIX_BYTES: usize = 4_096;
/// The fields that come first in what a model reads, in that order.
const FIELDS: [&str; 5] = ["tools", "system", "instructions", "messages", "input"];

/// The beginning of a prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PromptPrefix(u64);

impl PromptPrefix {
    /// That of a request body, a JSON object in any of the protocols; `None` where it is too short to be cached.
    pub fn of(body: &str) -> Option<Self> {
        if body.len() < PREFIX_BYTES {
            return None;
        }
        let fields: BTreeMap<&str, &RawValue> = serde_json::from_str(body).ok()?;
        let mut hash = Sha256::new();
        let mut left = PREFIX_BYTES;
        for text in FIELDS.iter().filter_map(|field| fields.get(field)).map(|value| value.get().as_bytes()) {
            let part = text.get(..left.min(text.len())).unwrap_or_default();
            hash.update(part);
            left -= part.len();
        }
        let digest = hash.finalize();
        let first = digest.get(..8).and_then(|bytes| bytes.try_into().ok()).map(u64::from_be_bytes);
        first.filter(|_| left == 0).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn chat(system: &str, turns: &[&str]) -> String {
        let mut messages = vec![json!({"role": "system", "content": system})];
        messages.extend(turns.iter().map(|turn| json!({"role": "user", "content": turn})));
        json!({"model": "m", "temperature": turns.len(), "messages": messages}).to_string()
    }

    #[test]
    fn a_conversation_keeps_its_prefix_while_it_goes_on() {
        let rules = "Be brief. ".repeat(500);
        let first = PromptPrefix::of(&chat(&rules, &["one"]));
        assert!(first.is_some());
        assert_eq!(PromptPrefix::of(&chat(&rules, &["one", "two", "three"])), first);
        assert_ne!(PromptPrefix::of(&chat(&rules.to_uppercase(), &["one"])), first);
        let with_tools = json!({"messages": [{"role": "user", "content": rules}], "tools": [{"name": "f"}]});
        assert_ne!(PromptPrefix::of(&with_tools.to_string()), first);
    }

    #[test]
    fn a_short_prompt_and_what_is_no_object_have_none() {
        assert_eq!(PromptPrefix::of(&chat("Be brief.", &["one"])), None);
        assert_eq!(PromptPrefix::of(&json!({"user": "x".repeat(5_000), "messages": []}).to_string()), None);
        assert_eq!(PromptPrefix::of(&"[".repeat(5_000)), None);
    }
}
