//! Conversion between Chat Completions, Responses and Messages, through one neutral form.
//!
//! Pure: JSON in, JSON out, no socket, no clock, no randomness; ids come from the attempt. Same-protocol pairs never come
//! here: their bytes are forwarded. What a target cannot express is recorded as a [`Loss`] and never dropped in silence.

mod finish;
mod ids;
mod neutral;
mod reasoning;
pub mod stream;
mod tool_names;
mod usage;

pub use finish::{Produced, WireFinish, finish_loss, finish_of, finish_to_wire};
pub use ids::{ItemKind, item_id, made_tool_id, reply_id, wire_tool_id};
pub use neutral::{
    Abilities, ConvertError, Effort, Finish, Issuer, Loss, ReasoningBack, ReplyContext, SystemBlocks, SystemInside,
    Target, ThinkingForm, ToolNames, UsageCounts,
};
pub use reasoning::{Opaque, TUNNEL_PREFIX, unwrap, unwrap_signature, wrap, wrap_signature};
pub(crate) use tool_names::wrap_free_form;
pub use tool_names::{ToolKind, restore_tool, unwrap_free_form, wire_tool_name};
pub use usage::{render_usage, usage};
