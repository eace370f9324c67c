//! Ids of replies and items, made from the attempt, and tool ids as each protocol allows them.
//!
//! Nothing here is random: the same call converted twice gets the same ids, and a tool id that had to change changes in the
//! same way in every later turn.

use sha2::{Digest, Sha256};
use tokenhub_domain::{AttemptId, Dialect};

/// Hex digits of a hash that stand for an id.
const ID_HASH_DIGITS: usize = 32;

/// What an output item of Responses is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ItemKind {
    /// `message`
    Message,
    /// `reasoning`
    Reasoning,
    /// `function_call`
    FunctionCall,
    /// `custom_tool_call`
    CustomToolCall,
}

/// The id of a whole reply.
pub fn reply_id(dialect: Dialect, attempt: &AttemptId) -> String {
    let prefix = match dialect {
        Dialect::Chat => "chatcmpl-",
        Dialect::Responses => "resp_",
        Dialect::Messages => "msg_",
    };
    format!("{prefix}{}", bare(attempt))
}

/// The id of the output item at `index` of a Responses reply.
pub fn item_id(kind: ItemKind, attempt: &AttemptId, index: usize) -> String {
    let prefix = match kind {
        ItemKind::Message => "msg",
        ItemKind::Reasoning => "rs",
        ItemKind::FunctionCall => "fc",
        ItemKind::CustomToolCall => "ctc",
    };
    format!("{prefix}_{}_{index}", bare(attempt))
}

/// The id of the tool call at `index` (counted among the calls, from 0), for an upstream that gave none.
pub fn made_tool_id(attempt: &AttemptId, index: usize) -> String {
    format!("call_{}_{index}", bare(attempt))
}

/// `id` as `dialect` allows it: unchanged when it is legal, else a hash of it.
///
/// Messages takes letters, digits, `_` and `-`; Responses up to 64 characters; some Chat servers up to 40.
pub fn wire_tool_id(dialect: Dialect, id: &str) -> String {
    let legal = match dialect {
        Dialect::Chat => !id.is_empty() && id.len() <= 40,
        Dialect::Responses => !id.is_empty() && id.len() <= 64,
        Dialect::Messages => {
            !id.is_empty()
                && id.len() <= 64
                && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
        }
    };
    if legal { id.to_owned() } else { format!("call_{}", hash_digits(id, ID_HASH_DIGITS)) }
}

/// The first `digits` hex digits of the SHA-256 of `text`.
pub(crate) fn hash_digits(text: &str, digits: usize) -> String {
    let bytes = Sha256::digest(text.as_bytes());
    let nibbles = bytes.iter().flat_map(|byte| [byte >> 4, byte & 0x0F]);
    nibbles.take(digits).filter_map(|nibble| char::from_digit(u32::from(nibble), 16)).collect()
}

fn bare(attempt: &AttemptId) -> &str {
    let text = attempt.as_str();
    text.strip_prefix("att_").unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_come_from_the_attempt() {
        let attempt = AttemptId::new("att_0198");
        assert_eq!(reply_id(Dialect::Chat, &attempt), "chatcmpl-0198");
        assert_eq!(reply_id(Dialect::Messages, &attempt), "msg_0198");
        assert_eq!(item_id(ItemKind::Reasoning, &attempt, 2), "rs_0198_2");
        assert_eq!(made_tool_id(&attempt, 0), "call_0198_0");
    }

    #[test]
    fn an_illegal_tool_id_always_becomes_the_same_legal_one() {
        let illegal = "functions.read:0";
        let legal = wire_tool_id(Dialect::Messages, illegal);
        assert_ne!(legal, illegal);
        assert_eq!(legal, wire_tool_id(Dialect::Messages, illegal));
        assert_eq!(wire_tool_id(Dialect::Messages, &legal), legal);
        assert_eq!(wire_tool_id(Dialect::Chat, illegal), illegal);
        assert_eq!(wire_tool_id(Dialect::Chat, &"x".repeat(41)).len(), 37);
        assert!(!wire_tool_id(Dialect::Responses, "").is_empty());
    }
}
