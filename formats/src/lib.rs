//! What TokenHub understands in texts and does to them: directives in messages, schemas, and the forms of answers.
//!
//! Pure: text and JSON in, text and JSON out. Owns the grammar of directives, where each protocol keeps a conversation, a
//! schema and the texts of an answer, and the check of a text against a schema or a pattern. Must not know models, providers, runs or
//! HTTP: what follows from a directive is decided by `api`, and when a text is checked by `activities`.

mod answer;
mod conversation;
mod directive;
mod edit;
mod extract;
mod pattern;
mod plain_text;
mod request;
mod schema;

pub use answer::{Shaped, shape_body, shape_text, with_text};
pub use conversation::{ConversationError, strip};
pub use directive::{DirectiveError, Directives, MARKER, Program, Role, Taken, mentions_marker, take};
pub use edit::set_field;
pub use pattern::{Pattern, PatternError};
pub use request::{SchemaField, find_schema, limit_output, place_schema};
pub use schema::{Schema, SchemaError};
