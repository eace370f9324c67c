//! Looks after providers without a request: whether anybody is there, and who does better or worse than before.
//!
//! Owns when a provider is looked at: at its interval, at once when it is new or has another address, and often while
//! nobody is found there, so that the return of a provider costs no request its time. Of several processes the one that
//! comes first looks for all. A probe asks for the list of models; it ranks nobody, costs nothing and is in no ledger.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use tokenhub_domain::{Catalogue, ErrorClass, ModelId, Provider, ProviderFailure, ProviderId};
use tokenhub_routing::Condition;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::{World, clock, condition, events::AdminEvent};

/// Between two looks at what is due.
const TICK: Duration = Duration::from_millis(500);
/// A probe is not waited for longer; that it took so long says nothing.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two looks at a provider where nobody was found.
const ABSENT_INTERVAL: Duration = Duration::from_secs(2);

/// Looks until `stop`; `interval` zero is never, but changes of health are told all the same.
pub async fn keep_probing(world: Arc<World>, interval: Duration, stop: CancellationToken) {
    let mut prober = Prober {
        world,
        interval,
        began: Instant::now(),
        lag: Duration::from_millis(rand::random_range(0..4_000)),
        known: HashMap::new(),
        conditions: BTreeMap::new(),
    };
    // Who is there at the start is asked at the interval: a fleet that starts together must not ask all at once.
    let catalogue = prober.world.catalogue.load_full();
    prober.known = catalogue.providers.iter().map(|one| (one.id.clone(), addresses(one))).collect();
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let catalogue = prober.world.catalogue.load_full();
        if !prober.interval.is_zero() {
            prober.probe_due(&catalogue).await;
        }
        prober.tell_changes(&catalogue);
    }
}

struct Prober {
    world: Arc<World>,
    interval: Duration,
    began: Instant,
    /// This process is a little later than the others, so that one of them looks for all.
    lag: Duration,
    /// The addresses of each provider when it was last looked at.
    known: HashMap<ProviderId, Vec<String>>,
    conditions: BTreeMap<(ProviderId, ModelId), Condition>,
}

impl Prober {
    async fn probe_due(&mut self, catalogue: &Catalogue) {
        self.known.retain(|id, _| catalogue.provider(id).is_some());
        let due: Vec<ProviderId> = catalogue
            .providers
            .iter()
            .filter(|provider| provider.enabled && self.is_due(provider))
            .map(|provider| provider.id.clone())
            .collect();
        for provider in catalogue.providers.iter().filter(|provider| provider.enabled) {
            self.known.insert(provider.id.clone(), addresses(provider));
        }
        join_all(due.iter().map(|provider| probe(&self.world, provider))).await;
    }

    fn is_due(&self, provider: &Provider) -> bool {
        if self.known.get(&provider.id).is_none_or(|known| *known != addresses(provider)) {
            return true;
        }
        let absent = self.world.health.is_absent(&provider.id);
        let interval = if absent { self.interval.min(ABSENT_INTERVAL) } else { self.interval + self.lag };
        let interval_ms = u64::try_from(interval.as_millis()).unwrap_or(u64::MAX);
        match self.world.observed.last_probe(&provider.id) {
            Some(probe) => clock::now().millis_since(probe.at) >= interval_ms,
            None => absent || self.began.elapsed() >= interval,
        }
    }

    /// Tells who does better or worse than at the last look; nobody at the first, unless it is down.
    fn tell_changes(&mut self, catalogue: &Catalogue) {
        let (seen, now) = self.world.observed.observations();
        let mut conditions = BTreeMap::new();
        for model in catalogue.models.iter().filter(|model| catalogue.is_callable(model)) {
            let Some(provider) = catalogue.provider(&model.provider_id) else { continue };
            let (to, _) = condition::of_deployment(&self.world, &seen, now, (provider, model));
            let key = (provider.id.clone(), model.id.clone());
            let from = self.conditions.get(&key).copied().unwrap_or(Condition::Healthy);
            if from != to {
                tracing::info!(
                    provider = %provider.id, model = %model.id, from = from.as_str(), to = to.as_str(),
                    "health_change"
                );
                let (provider_id, model_id) = key.clone();
                self.world.events.tell(AdminEvent::HealthChange { provider_id, model_id, from, to, at: now });
            }
            conditions.insert(key, to);
        }
        self.conditions = conditions;
    }
}

async fn probe(world: &World, provider: &ProviderId) {
    let (began, started) = (clock::now(), Instant::now());
    let providers = world.providers.load_full();
    let listed = tokio::time::timeout(PATIENCE, providers.list_models(provider)).await;
    let found = match listed {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(failure)) => Err(failure),
        Err(_) => Err(ProviderFailure::of(ErrorClass::StepDeadline, "the probe was not answered in time")),
    };
    let latency_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    let reached = found.as_ref().err().is_none_or(|failure| failure.class != ErrorClass::Transport);
    world.observed.probed(provider, reached, latency_ms);
    world.health.note_probe(provider, found.as_ref().copied(), began);
    if let Err(failure) = found {
        tracing::debug!(%provider, class = failure.class.as_str(), reached, "a probe was not answered well");
    }
}

fn addresses(provider: &Provider) -> Vec<String> {
    std::iter::once(&provider.base_url).chain(&provider.replicas).cloned().collect()
}
