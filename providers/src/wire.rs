//! Bodies on the wire: the few fields that a gateway must change, and nothing else.
//!
//! Owns edits on the bytes of a JSON object. Must not build a tree of the body: what is not named stays to the byte.

mod patch;
mod request;

pub(crate) use request::{Delivery, in_background, in_foreground, request_body, with_model};
