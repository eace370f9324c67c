//! Why something is not begun that may be begun a little later: there is too much of it already.

/// A bound on what is there at the same time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LimitRefusal {
    /// The tenant has as many unfinished runs as it may.
    #[error("{max} runs of this tenant have not ended yet, and it may have no more at a time")]
    Runs {
        /// As many as it may have.
        max: u64,
    },
    /// The client key has as many streams of events as it may.
    #[error("{max} streams of events are open with this client key, and it may have no more at a time in one process")]
    StreamsOfKey {
        /// As many as it may have.
        max: usize,
    },
    /// The process has as many streams of events as it may.
    #[error("{max} streams of events are open in this process, and it may have no more at a time")]
    Streams {
        /// As many as it may have.
        max: usize,
    },
}

impl LimitRefusal {
    /// The code.
    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::Runs { .. } => "too_many_unfinished_runs",
            Self::StreamsOfKey { .. } | Self::Streams { .. } => "too_many_event_streams",
        }
    }
}
