//! Anthropic Messages: requests and whole replies to and from the neutral form.

mod decode;
mod decode_turns;
mod encode;
mod encode_turns;
mod reply;
mod thinking;

pub(crate) use decode::decode;
pub(crate) use encode::encode;
pub(crate) use reply::{read_reply, write_reply};

/// Where arguments are kept that are no JSON object.
const MALFORMED_FIELD: &str = "malformed_arguments";
