//! How many clients may follow the events of plans at the same time.

use crate::{ConfigError, parse::Values};

/// Bounds on the streams of events of one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventStreamSettings {
    /// All together.
    pub max: usize,
    /// Those of one client key.
    pub max_per_key: usize,
}

/// The bounds on streams of events.
pub(crate) fn read(values: &Values) -> Result<EventStreamSettings, ConfigError> {
    Ok(EventStreamSettings {
        max: values.number("events.streams_max", 1..=1_000_000, "1 to 1000000")?,
        max_per_key: values.number("events.streams_per_key_max", 1..=1_000_000, "1 to 1000000")?,
    })
}
