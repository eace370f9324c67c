//! What a model needs beside its protocol: tools under other names, and answers whose structure is written as text.
//!
//! Pure apart from the stream that it is laid over. Works on Chat Completions as the upstream speaks them, so that
//! whatever is converted later finds a usual answer. A model without quirks never comes here.

mod arguments;
mod gemma4;
mod reply;
mod stream;
mod tool_names;

pub(crate) use reply::reply;
pub(crate) use stream::stream;
pub(crate) use tool_names::request;
