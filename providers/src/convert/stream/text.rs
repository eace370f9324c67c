//! Strings of a stream's pieces, including halves of characters.
//!
//! A server that counts in UTF-16 may cut between the two halves of a surrogate pair; each half is then a legal escape in
//! a piece of its own, and only both together are a character.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, Visitor};

/// A JSON string that may end or begin in the middle of a surrogate pair: UTF-8, with such halves in three bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wire<'a>(Cow<'a, [u8]>);

impl Wire<'_> {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The string where no other piece belongs to it.
    pub(crate) fn whole(self) -> String {
        let mut joiner = Joiner::default();
        let mut text = joiner.add(self);
        text.push_str(joiner.rest());
        text
    }
}

impl<'a> From<&'a str> for Wire<'a> {
    fn from(text: &'a str) -> Self {
        Self(Cow::Borrowed(text.as_bytes()))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Wire<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Read as bytes, because only then the JSON reader lets lone surrogates pass.
        deserializer.deserialize_bytes(WireVisitor)
    }
}

struct WireVisitor;

impl<'de> Visitor<'de> for WireVisitor {
    type Value = Wire<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a string")
    }

    fn visit_borrowed_bytes<E: Error>(self, bytes: &'de [u8]) -> Result<Self::Value, E> {
        Ok(Wire(Cow::Borrowed(bytes)))
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Self::Value, E> {
        Ok(Wire(Cow::Owned(bytes.to_vec())))
    }
}

/// Puts the pieces of one text together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Joiner {
    /// The first half of a pair whose second half has not come yet.
    high: Option<u32>,
}

/// What stands for half a character that never became a whole one.
const LOST: &str = "\u{FFFD}";

impl Joiner {
    /// The text of the next piece, without a half character at its end.
    pub(crate) fn add(&mut self, piece: Wire<'_>) -> String {
        if self.high.is_none() {
            match piece.0 {
                Cow::Borrowed(bytes) => match std::str::from_utf8(bytes) {
                    Ok(text) => return text.to_owned(),
                    Err(_) => return self.add_slowly(bytes),
                },
                Cow::Owned(bytes) => match String::from_utf8(bytes) {
                    Ok(text) => return text,
                    Err(error) => return self.add_slowly(error.as_bytes()),
                },
            }
        }
        self.add_slowly(&piece.0)
    }

    /// What is left at the end of the text.
    pub(crate) fn rest(&mut self) -> &'static str {
        if self.high.take().is_some() { LOST } else { "" }
    }

    fn add_slowly(&mut self, bytes: &[u8]) -> String {
        let mut text = String::with_capacity(bytes.len());
        let mut rest = bytes;
        while let Some((surrogate, length)) = surrogate_at(rest).or_else(|| self.skip(&mut rest, &mut text)) {
            let is_high = surrogate < 0xDC00;
            match (self.high.take(), is_high) {
                (Some(high), false) => {
                    let code = 0x1_0000 + ((high - 0xD800) << 10) + (surrogate - 0xDC00);
                    text.push(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
                }
                (None, false) => text.push_str(LOST),
                (before, true) => {
                    text.push_str(if before.is_some() { LOST } else { "" });
                    self.high = Some(surrogate);
                }
            }
            rest = &rest[length..];
        }
        text
    }

    /// Takes everything before the next half character, and that half.
    fn skip(&mut self, rest: &mut &[u8], text: &mut String) -> Option<(u32, usize)> {
        let end = (0..rest.len()).find(|&start| surrogate_at(&rest[start..]).is_some()).unwrap_or(rest.len());
        if end > 0 {
            text.push_str(self.rest());
            text.push_str(&String::from_utf8_lossy(&rest[..end]));
        }
        *rest = &rest[end..];
        surrogate_at(rest)
    }
}

/// The half character that `bytes` begins with, and its length.
fn surrogate_at(bytes: &[u8]) -> Option<(u32, usize)> {
    match bytes {
        [0xED, second @ 0xA0..=0xBF, third @ 0x80..=0xBF, ..] => {
            Some((0xD000 | (u32::from(second & 0x3F) << 6) | u32::from(third & 0x3F), 3))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(pieces: &[&str]) -> String {
        let mut joiner = Joiner::default();
        let mut text = String::new();
        for piece in pieces {
            text.push_str(&joiner.add(serde_json::from_str(piece).unwrap()));
        }
        text + joiner.rest()
    }

    #[test]
    fn halves_of_a_character_in_two_pieces_become_one_character() {
        assert_eq!(joined(&[r#""a\ud83d""#, r#""\ude00b""#]), "a😀b");
        assert_eq!(joined(&[r#""\ud83d""#, r#""""#, r#""\ude00\ud83d""#, r#""\ude01""#]), "😀😁");
        assert_eq!(joined(&[r#""\ud83d\ude00é""#]), "😀é");
    }

    #[test]
    fn a_half_without_its_other_half_is_replaced_and_nothing_else_is_lost() {
        assert_eq!(joined(&[r#""a\ud83d""#]), "a\u{FFFD}");
        assert_eq!(joined(&[r#""\ude00a""#]), "\u{FFFD}a");
        assert_eq!(joined(&[r#""\ud83d""#, r#""\ud83d\ude00""#]), "\u{FFFD}😀");
        assert_eq!(joined(&[r#""\ud83d""#, r#""é😀""#]), "\u{FFFD}é😀");
    }

    #[test]
    fn ordinary_strings_and_escapes_are_read_as_they_are() {
        assert_eq!(joined(&[r#""plain""#, r#""\"\n\u00e9""#]), "plain\"\né");
        assert!(serde_json::from_str::<Wire<'_>>("7").is_err());
    }
}
