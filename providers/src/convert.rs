//! Conversion between Chat Completions, Responses and Messages, through one neutral form.
//!
//! Pure: JSON in, JSON out, no socket, no clock, no randomness; ids come from the attempt. Same-protocol pairs never come
//! here: their bytes are forwarded. What a target cannot express is recorded as a [`Loss`] and never dropped in silence.

mod finish;
mod neutral;
mod usage;

pub use finish::{Produced, WireFinish, finish_loss, finish_of, finish_to_wire};
pub use neutral::{ConvertError, Finish, Issuer, Loss, ReplyContext, Target, ToolNames, UsageCounts};
pub use usage::{render_usage, usage};
