//! How many clients follow the events of plans at the same time: each of them looks into the database again and again.
//!
//! Owns the count of this process. Must not know what a stream tells.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokenhub_config::EventStreamSettings;
use tokenhub_domain::ApiKeyId;

use crate::error::LimitRefusal;

/// The streams of this process.
pub(crate) struct EventStreams {
    settings: EventStreamSettings,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    all: usize,
    by_key: BTreeMap<ApiKeyId, usize>,
}

/// A stream; its place is free again when it is dropped.
pub(crate) struct OpenStream {
    streams: Arc<EventStreams>,
    key: ApiKeyId,
}

impl EventStreams {
    /// None is open.
    pub(crate) fn new(settings: EventStreamSettings) -> Self {
        Self { settings, open: Mutex::default() }
    }

    /// Takes a place for one more.
    pub(crate) fn open(self: &Arc<Self>, key: &ApiKeyId) -> Result<OpenStream, LimitRefusal> {
        let mut open = self.counts();
        if open.all >= self.settings.max {
            return Err(LimitRefusal::Streams { max: self.settings.max });
        }
        if open.by_key.get(key).is_some_and(|count| *count >= self.settings.max_per_key) {
            return Err(LimitRefusal::StreamsOfKey { max: self.settings.max_per_key });
        }
        open.all += 1;
        *open.by_key.entry(key.clone()).or_default() += 1;
        Ok(OpenStream { streams: Arc::clone(self), key: key.clone() })
    }

    /// Nothing panics while it is held.
    fn counts(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        let mut open = self.streams.counts();
        open.all = open.all.saturating_sub(1);
        if let Some(count) = open.by_key.get_mut(&self.key) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                open.by_key.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_and_a_process_have_their_bounds_and_a_place_is_free_when_its_stream_ends() {
        let streams = Arc::new(EventStreams::new(EventStreamSettings { max: 3, max_per_key: 2 }));
        let (a, b) = (ApiKeyId::from("a"), ApiKeyId::from("b"));
        let first = streams.open(&a).unwrap();
        let _second = streams.open(&a).unwrap();
        assert_eq!(streams.open(&a).err(), Some(LimitRefusal::StreamsOfKey { max: 2 }));
        let _third = streams.open(&b).unwrap();
        assert_eq!(streams.open(&b).err(), Some(LimitRefusal::Streams { max: 3 }));
        drop(first);
        assert!(streams.open(&a).is_ok());
    }
}
