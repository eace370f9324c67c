//! Prompts and answers as values that are either short text or a reference to stored content.
//!
//! A workflow history carries each text many times, so anything above [`limits::INLINE_TEXT_BYTES`] is stored once, by
//! tenant and hash, and travels as a reference. Storing and loading is the executor's business.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::limits;

/// SHA-256 of a text, in lower-case hex.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ContentHash(pub String);

impl ContentHash {
    /// The hash of `text`.
    pub fn of(text: &str) -> Self {
        Self(hex(&Sha256::digest(text.as_bytes())))
    }
}

/// A text that is stored in the content table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContentRef {
    /// Its key, within the tenant.
    pub hash: ContentHash,
    /// Its length.
    pub bytes: u64,
}

/// A prompt or an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Text {
    /// The text itself.
    Inline(String),
    /// Where the text is.
    Stored(ContentRef),
}

impl Text {
    /// The text when it is inline.
    pub fn as_inline(&self) -> Option<&str> {
        match self {
            Self::Inline(text) => Some(text),
            Self::Stored(_) => None,
        }
    }

    /// Its length in bytes, wherever it is.
    pub fn bytes(&self) -> u64 {
        match self {
            Self::Inline(text) => text.len() as u64,
            Self::Stored(stored) => stored.bytes,
        }
    }

    /// Whether `text` is too long to travel inline.
    pub fn must_be_stored(text: &str) -> bool {
        text.len() > limits::INLINE_TEXT_BYTES
    }
}

impl Default for Text {
    fn default() -> Self {
        Self::Inline(String::new())
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self::Inline(text.to_owned())
    }
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|byte| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]])
        .map(char::from)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_sha_256_in_hex() {
        assert_eq!(
            ContentHash::of("abc").0,
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" // FIPS 180-4, example B.1
        );
    }

    #[test]
    fn only_text_above_the_limit_is_stored() {
        assert!(!Text::must_be_stored(&"x".repeat(limits::INLINE_TEXT_BYTES)));
        assert!(Text::must_be_stored(&"x".repeat(limits::INLINE_TEXT_BYTES + 1)));
    }
}
