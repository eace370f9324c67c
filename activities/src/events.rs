//! What happens to the installation, told to whoever watches.
//!
//! Owns the kinds of events and the channel of this process. Nobody waits for a watcher: one that is too slow misses some.

use serde::Serialize;
use tokenhub_domain::{ModelId, ProviderId, UnixMicros};
use tokenhub_routing::Condition;
use tokio::sync::broadcast;

/// Events that a watcher may be behind.
const BEHIND_MAX: usize = 1_024;

/// Something that an administrator may want to know at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum AdminEvent {
    /// A deployment does better or worse.
    HealthChange {
        /// Who serves it.
        provider_id: ProviderId,
        /// The model.
        model_id: ModelId,
        /// How it did.
        from: Condition,
        /// How it does.
        to: Condition,
        /// When that was seen.
        at: UnixMicros,
    },
}

impl AdminEvent {
    /// The name of its kind.
    pub fn name(&self) -> &'static str {
        match self {
            Self::HealthChange { .. } => "health_change",
        }
    }
}

/// The channel of a process.
#[derive(Debug)]
pub struct Events(broadcast::Sender<AdminEvent>);

impl Default for Events {
    fn default() -> Self {
        Self(broadcast::channel(BEHIND_MAX).0)
    }
}

impl Events {
    /// Everything that happens from now on.
    pub fn watch(&self) -> broadcast::Receiver<AdminEvent> {
        self.0.subscribe()
    }

    pub(crate) fn tell(&self, event: AdminEvent) {
        // Without a watcher there is nobody to tell.
        let _ = self.0.send(event);
    }
}
