//! What calls have shown of the deployments that answered them, and the picture of it that selections read.
//!
//! Owns the lock, the picture's age, and how processes tell each other: each writes what it has seen itself and adds what
//! the others wrote. What evidence is and how it fades is `routing`'s. While the database is away each process goes by its
//! own calls; no call and no selection ever waits for it.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use tokenhub_domain::{Catalogue, Deployment, ErrorClass, InstanceId, NanoDollars, ProviderId, TenantId, UnixMicros};
use tokenhub_routing::{LiveSignals, Observations, Probe, Sample, SampleResult, Signals};
use tokenhub_store::{Store, StoreError};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::clock;

/// A picture this old is taken again: selections see a call this much later, and many share the work.
const PICTURE_AGE: Duration = Duration::from_millis(100);
/// What one process has seen is known to the others within twice this.
const SHARE_INTERVAL: Duration = Duration::from_secs(1);
/// Between two looks for what is too old to count.
const FORGET_INTERVAL: Duration = Duration::from_mins(10);
/// What was written this long ago has faded.
const KEPT_MS: u64 = 3 * 3_600_000;
/// Bytes of a request that make one token, as on the way in.
const BYTES_PER_TOKEN: usize = 4;

/// Calls, as far as they tell something about who answered them.
pub struct Observed {
    seen: Mutex<Seen>,
    picture: ArcSwap<Picture>,
    live: LiveSignals,
}

#[derive(Default)]
struct Seen {
    own: Observations,
    others: Observations,
    /// Whether the others have not been told of everything.
    news: bool,
}

impl Seen {
    fn all(&self) -> Observations {
        let mut all = self.own.clone();
        all.add(&self.others);
        all
    }
}

struct Picture {
    /// What it is a picture of.
    catalogue: Arc<Catalogue>,
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

impl Observed {
    /// Nothing was seen yet.
    pub(crate) fn new(live: LiveSignals) -> Self {
        let picture = Picture { catalogue: Arc::default(), signals: Arc::default(), taken_at: Instant::now() };
        Self { seen: Mutex::default(), picture: ArcSwap::from_pointee(picture), live }
    }

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

    /// Somebody looked whether `provider` is there, and asked for no answer.
    pub(crate) fn probed(&self, provider: &ProviderId, reached: bool, latency_ms: u64) {
        let mut seen = self.seen();
        seen.own.note_probe(provider, Probe { at: clock::now(), reached, latency_ms });
        seen.news = true;
    }

    /// The latest look at `provider`, whichever process took it.
    pub(crate) fn last_probe(&self, provider: &ProviderId) -> Option<Probe> {
        let seen = self.seen();
        let looks = [seen.own.probe(provider), seen.others.probe(provider)];
        looks.into_iter().flatten().max_by_key(|probe| probe.at)
    }

    fn note(&self, call: Call<'_>, result: SampleResult) {
        let input_tokens = (call.body_bytes / BYTES_PER_TOKEN) as u64;
        let sample = Sample { ended: clock::now(), input_tokens, result };
        let mut seen = self.seen();
        seen.own.note(call.deployment, &sample);
        seen.news = true;
    }

    /// What selections from `catalogue` go by.
    pub fn signals(&self, catalogue: &Arc<Catalogue>) -> Arc<Signals> {
        let picture = self.picture.load();
        if picture.taken_at.elapsed() < PICTURE_AGE && Arc::ptr_eq(&picture.catalogue, catalogue) {
            return Arc::clone(&picture.signals);
        }
        let signals = Arc::new(Signals::of(catalogue, &self.seen().all(), clock::now(), self.live));
        let (catalogue, shown) = (Arc::clone(catalogue), Arc::clone(&signals));
        self.picture.store(Arc::new(Picture { catalogue, signals: shown, taken_at: Instant::now() }));
        signals
    }

    /// Everything, for people, and the time it is seen at.
    pub fn observations(&self) -> (Observations, UnixMicros) {
        (self.seen().all(), clock::now())
    }

    /// Tells the others and listens to them until `stop`, and tells them once more then.
    pub(crate) async fn keep_sharing(&self, store: Store, instance: InstanceId, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(SHARE_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut forgot_at, mut is_away) = (Instant::now(), false);
        loop {
            let stopping = tokio::select! {
                () = stop.cancelled() => true,
                _ = ticks.tick() => false,
            };
            let forget = forgot_at.elapsed() >= FORGET_INTERVAL;
            if forget {
                forgot_at = Instant::now();
            }
            let shared = self.share(&store, &instance, forget).await;
            if let (Err(error), false) = (&shared, is_away) {
                tracing::warn!(error = error as &dyn std::error::Error, "what calls have shown is not shared");
            }
            is_away = shared.is_err();
            if stopping {
                return;
            }
        }
    }

    async fn share(&self, store: &Store, instance: &InstanceId, forget: bool) -> Result<(), StoreError> {
        let (table, tenant, now) = (store.observations(), TenantId::default_tenant(), clock::now());
        let since = UnixMicros(now.0.saturating_sub(i64::try_from(KEPT_MS * 1_000).unwrap_or(i64::MAX)));
        if forget {
            self.seen().own.forget_old(now);
            table.forget(&tenant, since).await?;
        }
        let news = {
            let mut seen = self.seen();
            std::mem::take(&mut seen.news).then(|| serde_json::to_string(&seen.own).unwrap_or_default())
        };
        if let Some(body) = news
            && let Err(error) = table.put(&tenant, instance, body, now).await
        {
            self.seen().news = true;
            return Err(error);
        }
        let mut others = Observations::default();
        for body in table.of_others(&tenant, instance, since).await? {
            // A process of another version may write what is not understood here; its own calls are all that is missed.
            if let Ok(seen) = serde_json::from_str::<Observations>(&body) {
                others.add(&seen);
            }
        }
        others.forget_old(now);
        self.seen().others = others;
        Ok(())
    }
}
