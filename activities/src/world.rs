//! What every activity reaches: the database, the ledger, the providers and the current catalogue.

use std::{path::PathBuf, sync::Arc};

use arc_swap::ArcSwap;
use tokenhub_config::{Settings, VerifierSettings};
use tokenhub_domain::{Catalogue, InstanceId};
use tokenhub_providers::{Providers, ProvidersError, Timeouts, Upstream};
use tokenhub_routing::{LiveSignals, Temperature};
use tokenhub_store::{Ledger, Store, StoreError};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    Counts, FaultPoints, Health, Observed, Penalties, events::Events, pace::Pace, send::Turns, verify::Verifiers,
    warm::WarmPrefixes,
};

/// The outside of the activities, shared by all of them.
pub struct World {
    /// The database.
    pub store: Store,
    /// Provider attempts, on their way into the database.
    pub ledger: Ledger,
    /// The upstreams; swapped as a whole when the configuration is reloaded.
    pub providers: ArcSwap<Providers>,
    /// What can be called; swapped as a whole.
    pub catalogue: ArcSwap<Catalogue>,
    /// The penalties of providers.
    pub health: Arc<Health>,
    /// What calls have shown of those who answered them.
    pub observed: Arc<Observed>,
    /// How often somebody else than the best is asked first.
    pub temperature: Temperature,
    /// Who has which prompt's beginning in its cache.
    pub warm: WarmPrefixes,
    /// Who may be asked about an answer.
    pub verifiers: Verifiers,
    /// What happens, for those who watch.
    pub events: Events,
    /// Whose turn it is at providers that may only be called so often.
    pub(crate) pace: Pace,
    /// Whose turn it is to show what is being written.
    pub(crate) turns: Turns,
    /// What this process has recorded.
    pub counts: Counts,
    /// This process.
    pub instance: InstanceId,
    /// Pauses for crash tests; empty in every release build.
    pub faults: FaultPoints,
}

/// What a world is made of.
pub struct WorldParts {
    /// Where the database is.
    pub database_url: String,
    /// Where the spool is.
    pub data_dir: PathBuf,
    /// What can be called.
    pub catalogue: Catalogue,
    /// The upstreams.
    pub upstreams: Vec<Upstream>,
    /// Whether providers that fail are left out for a while.
    pub penalties: Penalties,
    /// Whether what calls have shown ranks anybody.
    pub live_signals: LiveSignals,
    /// How often somebody else than the best is asked first.
    pub temperature: Temperature,
    /// Who may be asked about an answer.
    pub verifiers: VerifierSettings,
    /// Pauses for crash tests.
    pub faults: FaultPoints,
}

impl WorldParts {
    /// What the settings say.
    pub fn of(settings: &Settings, faults: FaultPoints) -> Self {
        Self {
            database_url: settings.database_url.clone(),
            data_dir: settings.data_dir.clone(),
            catalogue: settings.catalogue.clone(),
            upstreams: upstreams(settings),
            penalties: if settings.penalties { Penalties::On } else { Penalties::Off },
            live_signals: if settings.live_signals { LiveSignals::On } else { LiveSignals::Off },
            temperature: Temperature::new(settings.exploration_temperature),
            verifiers: settings.verifiers.clone(),
            faults,
        }
    }
}

/// The providers of the settings, with their keys and clocks.
pub fn upstreams(settings: &Settings) -> Vec<Upstream> {
    let timeouts = Timeouts {
        connect_ms: settings.timeouts.connect_ms,
        headers_ms: settings.timeouts.headers_ms,
        first_token_ms: settings.timeouts.first_token_ms,
        idle_ms: settings.timeouts.idle_ms,
        total_ms: settings.timeouts.total_ms,
    };
    let providers = settings.catalogue.providers.iter();
    let models = || settings.catalogue.models.iter().filter(|model| !model.quirks.is_empty());
    providers
        .map(|provider| Upstream {
            provider: provider.clone(),
            credentials: settings.credentials.get(&provider.id).cloned().unwrap_or_default(),
            timeouts,
            quirks: models()
                .filter(|model| model.provider_id == provider.id)
                .map(|model| (model.id.clone(), model.quirks.clone()))
                .collect(),
        })
        .collect()
}

/// A world that could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum WorldError {
    /// The data directory.
    #[error("the data directory could not be made")]
    MakeDataDir(#[source] std::io::Error),
    /// The database or the spool.
    #[error("the database or the spool could not be opened")]
    OpenStore(#[from] StoreError),
    /// The upstreams.
    #[error("the providers could not be set up")]
    OpenProviders(#[from] ProvidersError),
}

impl World {
    /// Opens the database, brings it to the current schema and takes over the spools of dead processes.
    ///
    /// The tasks of ledger and penalties run in `tracker` until `stop`.
    pub async fn open(parts: WorldParts, tracker: &TaskTracker, stop: CancellationToken) -> Result<Self, WorldError> {
        std::fs::create_dir_all(&parts.data_dir).map_err(WorldError::MakeDataDir)?;
        let store = Store::open(&parts.database_url).await?;
        store.migrate().await?;
        let instance = InstanceId::generate();
        let ledger = Ledger::open(store.clone(), &parts.data_dir, instance.clone(), tracker, stop.clone()).await?;
        let providers = Providers::new(parts.upstreams.clone())?;
        let health = Arc::new(Health::new(store.clone(), parts.penalties));
        health.know(&parts.upstreams);
        health.refresh().await?;
        let observed = Arc::new(Observed::new(parts.live_signals));
        let (sharing, until) = (Arc::clone(&health), stop.clone());
        tracker.spawn(async move { sharing.keep_sharing(until).await });
        let (sharing, to, from) = (Arc::clone(&observed), store.clone(), instance.clone());
        tracker.spawn(async move { sharing.keep_sharing(to, from, stop).await });
        Ok(Self {
            store,
            ledger,
            providers: ArcSwap::from_pointee(providers),
            health,
            observed,
            temperature: parts.temperature,
            catalogue: ArcSwap::from_pointee(parts.catalogue),
            warm: WarmPrefixes::default(),
            verifiers: Verifiers::of(parts.verifiers),
            events: Events::default(),
            pace: Pace::default(),
            turns: Turns::default(),
            counts: Counts::default(),
            instance,
            faults: parts.faults,
        })
    }
}
