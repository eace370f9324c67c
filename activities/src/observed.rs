//! What this process has seen of the deployments it called, and the picture of it that selections read.
//!
//! Owns the lock and the picture's age; what evidence is and how it fades is `routing`'s. Kept in memory and by each
//! process for itself: a figure that is minutes old is worth little, and every process sees enough of its own calls.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use tokenhub_domain::{Deployment, ErrorClass, NanoDollars, UnixMicros};
use tokenhub_routing::{Observations, Sample, SampleResult, Signals};

use crate::clock;

/// A picture this old is taken again: selections see a call this much later, and many share the work.
const PICTURE_AGE: Duration = Duration::from_millis(100);
/// Bytes of a request that make one token, as on the way in.
const BYTES_PER_TOKEN: usize = 4;
/// Between two looks for what is forgotten.
const FORGET_INTERVAL: Duration = Duration::from_mins(10);

/// Calls of this process, as far as they tell something about who answered them.
pub struct Observed {
    seen: Mutex<Seen>,
    picture: ArcSwap<Picture>,
}

struct Seen {
    observations: Observations,
    forgot_at: Instant,
}

struct Picture {
    signals: Arc<Signals>,
    taken_at: Instant,
}

/// A call that is over, before its result.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call<'a> {
    /// Who was called.
    pub(crate) deployment: &'a Deployment,
    /// How large the request was.
    pub(crate) body_bytes: usize,
}

impl Default for Observed {
    fn default() -> Self {
        let now = Instant::now();
        Self {
            seen: Mutex::new(Seen { observations: Observations::default(), forgot_at: now }),
            picture: ArcSwap::from_pointee(Picture { signals: Arc::default(), taken_at: now }),
        }
    }
}

impl Observed {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An answer in one body.
    pub(crate) fn answered(&self, call: Call<'_>, latency_ms: u64, cost: NanoDollars) {
        self.note(call, SampleResult::Whole { latency_ms, cost });
    }

    /// A stream that ended well.
    pub(crate) fn streamed(&self, call: Call<'_>, first_token_ms: u64, cost: NanoDollars) {
        self.note(call, SampleResult::Streamed { first_token_ms, cost });
    }

    /// A failure after `elapsed_ms`.
    pub(crate) fn failed(&self, call: Call<'_>, class: ErrorClass, elapsed_ms: u64) {
        self.note(call, SampleResult::Failed { class, elapsed_ms });
    }

    fn note(&self, call: Call<'_>, result: SampleResult) {
        let input_tokens = (call.body_bytes / BYTES_PER_TOKEN) as u64;
        let sample = Sample { ended: clock::now(), input_tokens, result };
        self.seen().observations.note(call.deployment, &sample);
    }

    /// What selections go by.
    pub fn signals(&self) -> Arc<Signals> {
        let picture = self.picture.load();
        if picture.taken_at.elapsed() < PICTURE_AGE {
            return Arc::clone(&picture.signals);
        }
        let now = clock::now();
        let signals = {
            let mut seen = self.seen();
            if seen.forgot_at.elapsed() >= FORGET_INTERVAL {
                seen.observations.forget_old(now);
                seen.forgot_at = Instant::now();
            }
            Arc::new(seen.observations.signals(now))
        };
        self.picture.store(Arc::new(Picture { signals: Arc::clone(&signals), taken_at: Instant::now() }));
        signals
    }

    /// Everything, for people, and the time it is seen at.
    pub fn observations(&self) -> (Observations, UnixMicros) {
        (self.seen().observations.clone(), clock::now())
    }
}
