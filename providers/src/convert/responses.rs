//! OpenAI Responses: requests and whole replies to and from the neutral form.

mod decode;
mod decode_items;
mod encode;
mod encode_items;
mod reply;

pub(crate) use decode::decode;
pub(crate) use encode::encode;
pub use reply::response_object;
pub(crate) use reply::{read_reply, write_reply};
