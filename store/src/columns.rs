//! How typed values become columns and back: names of enums, counts as 64-bit integers.

use serde::{Serialize, de::DeserializeOwned};
use tokenhub_domain::Tags;

use crate::StoreError;

/// The name of a field-less enum value, as serde spells it.
pub(crate) fn name_of<T: Serialize>(value: &T) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(name)) => name,
        Ok(_) | Err(_) => String::new(),
    }
}

/// The enum value with that name.
pub(crate) fn named<T: DeserializeOwned>(column: &'static str, name: &str) -> Result<T, StoreError> {
    serde_json::from_value(serde_json::Value::String(name.to_owned()))
        .map_err(|_| StoreError::Decode { column, value: name.to_owned() })
}

/// [`named`] for a column that may be empty.
pub(crate) fn named_if_set<T: DeserializeOwned>(
    column: &'static str,
    name: Option<&str>,
) -> Result<Option<T>, StoreError> {
    name.map(|name| named(column, name)).transpose()
}

/// Tags as a column; most runs have none.
pub(crate) fn tags_column(tags: &Tags) -> Option<String> {
    if tags.is_empty() { None } else { serde_json::to_string(tags).ok() }
}

/// A count as a column. No count here comes near the limit; one that does stays at it.
pub(crate) fn stored(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// A count from a column; what was stored by [`stored`] comes back.
pub(crate) fn counted(column: i64) -> u64 {
    u64::try_from(column).unwrap_or(0)
}

/// A small count from a column.
pub(crate) fn counted_small(column: i64) -> u32 {
    u32::try_from(column).unwrap_or(u32::MAX)
}

/// `PostgreSQL` refuses NUL in text columns, and providers may send one in a name.
pub(crate) fn without_nul(text: String) -> String {
    if text.contains('\0') { text.replace('\0', "\u{fffd}") } else { text }
}
