//! What the routes share. Each route takes the part it needs, so that a handler cannot reach what it must not.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use arc_swap::ArcSwap;
use axum::extract::FromRef;
use tokenhub_activities::{Curator, PayloadCodec, World};
use tokenhub_config::Live;
use tokenhub_telemetry::Metrics;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    admin::AdminToken,
    approval_link::ApprovalLinks,
    auth::Gatekeeper,
    dispatch::{Dispatcher, breaker_task::BreakerCell, temporal_link::TemporalLink},
    event_streams::EventStreams,
};

/// Everything. Cheap to clone, because every request does.
#[derive(Clone)]
pub(crate) struct AppState(pub(crate) Arc<Parts>);

/// What there is; only `serve` builds it.
pub(crate) struct Parts {
    /// Who may come in.
    pub(crate) gate: Gate,
    /// What is asked about a model before a run begins.
    pub(crate) models: Models,
    /// Who carries runs.
    pub(crate) runner: Runner,
    /// What the health routes read.
    pub(crate) health: Health,
    /// What administrators reach.
    pub(crate) admin: Admin,
    /// What the codec routes read.
    pub(crate) payloads: Payloads,
    /// What the request counter writes.
    pub(crate) metrics: Arc<Metrics>,
}

/// The client keys in force; a reload swaps them.
#[derive(Clone)]
pub(crate) struct Gate {
    /// The keys.
    pub(crate) key: Arc<ArcSwap<Gatekeeper>>,
}

/// The admin token in force, and what it opens.
#[derive(Clone)]
pub(crate) struct Admin {
    /// The token; a reload swaps it.
    pub(crate) token: Arc<ArcSwap<AdminToken>>,
    /// Providers and their penalties.
    pub(crate) world: Arc<World>,
    /// Changes the catalogue.
    pub(crate) curator: Arc<Curator>,
    /// The process is about to stop.
    pub(crate) stopping: CancellationToken,
}

/// The admin token in force, and what decrypts the payloads that Temporal keeps.
#[derive(Clone)]
pub(crate) struct Payloads {
    /// The token; a reload swaps it.
    pub(crate) token: Arc<ArcSwap<AdminToken>>,
    /// The keys are in it.
    pub(crate) codec: PayloadCodec,
}

/// Catalogue and defaults.
#[derive(Clone)]
pub(crate) struct Models {
    /// The catalogue is in it.
    pub(crate) world: Arc<World>,
    /// Defaults of policies.
    pub(crate) live: Arc<Live>,
    /// When the process started, in seconds: the `created` of every model.
    pub(crate) started_at_secs: i64,
}

/// What chat and plan routes work with.
#[derive(Clone)]
pub(crate) struct Runner {
    /// Carries runs.
    pub(crate) dispatcher: Dispatcher,
    /// For streams and for reading runs back.
    pub(crate) world: Arc<World>,
    /// Streams are tracked here.
    pub(crate) tasks: TaskTracker,
    /// Signs the links by which answers are decided about.
    pub(crate) links: Arc<ApprovalLinks>,
    /// Root of the Temporal UI and the namespace, for links.
    pub(crate) temporal_ui: Option<Arc<(String, String)>>,
    /// The process is about to stop.
    pub(crate) stopping: CancellationToken,
    /// Who follows events.
    pub(crate) event_streams: Arc<EventStreams>,
}

/// What an operator asks about.
#[derive(Clone)]
pub(crate) struct Health {
    /// The database.
    pub(crate) world: Arc<World>,
    /// Temporal, when it is configured.
    pub(crate) link: Option<Arc<TemporalLink>>,
    /// The breaker before it.
    pub(crate) breaker: Arc<BreakerCell>,
    /// The numbers.
    pub(crate) metrics: Arc<Metrics>,
    /// Whether the process still takes requests.
    pub(crate) draining: Draining,
}

/// Set once, when the process begins to stop.
#[derive(Clone, Default)]
pub(crate) struct Draining(Arc<AtomicBool>);

impl Draining {
    /// The process stops.
    pub(crate) fn begin(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether it does.
    pub(crate) fn has_begun(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

macro_rules! part {
    ($part:ty, $field:ident) => {
        impl FromRef<AppState> for $part {
            fn from_ref(state: &AppState) -> Self {
                state.0.$field.clone()
            }
        }
    };
}

part!(Gate, gate);
part!(Admin, admin);
part!(Payloads, payloads);
part!(Models, models);
part!(Runner, runner);
part!(Health, health);
part!(Arc<Metrics>, metrics);
