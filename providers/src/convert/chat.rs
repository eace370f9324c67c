//! Chat Completions: requests and whole replies to and from the neutral form.

mod decode;
mod decode_turns;
mod encode;
mod encode_turns;
mod reply;

pub(crate) use decode::decode;
pub(crate) use encode::encode;
pub(crate) use reply::{message_of, read_reply, write_reply};
