//! Pages that a block of text refers to, read leniently: a slip in a citation must not lose a paid answer.

use serde_json::Value;

use crate::convert::answer::text_of;

/// A page, and the characters of its block that are about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) url: String,
    pub(super) title: String,
    pub(super) start: u64,
    pub(super) end: u64,
}

impl Link {
    /// A citation of any protocol; nothing where it has no address, as a place in a document has none.
    pub(super) fn of(citation: &Value) -> Option<Self> {
        let url = text_of(citation, "url");
        let place = |name: &str| citation.get(name).and_then(Value::as_u64).unwrap_or_default();
        (!url.is_empty()).then(|| Self {
            url: url.to_owned(),
            title: text_of(citation, "title").to_owned(),
            start: place("start_index"),
            end: place("end_index"),
        })
    }
}
