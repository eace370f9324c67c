//! Conversion between Chat Completions, Responses and Messages, through one neutral form.
//!
//! Pure: JSON in, JSON out, no socket, no clock, no randomness; ids come from the attempt. Same-protocol pairs never come
//! here: their bytes are forwarded. What a target cannot express is recorded as a [`Loss`] and never dropped in silence.

mod neutral;

pub use neutral::{ConvertError, Finish, Issuer, Loss, ReplyContext, Target, ToolNames, UsageCounts};
