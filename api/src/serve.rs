//! The life of an API process: what is opened in which order, what a reload swaps, how it stops.

use std::{
    future::IntoFuture,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::Context;
use arc_swap::ArcSwap;
use tokenhub_activities::{Curator, FaultPoints, PayloadCodec, World, WorldError, WorldParts};
use tokenhub_config::{Live, Settings, keys};
use tokenhub_routing::BreakerSettings;
use tokenhub_store::StoreError;
use tokenhub_telemetry::Metrics;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    admin::AdminToken,
    approval_link::ApprovalLinks,
    auth::Gatekeeper,
    dispatch::{
        Dispatcher,
        breaker_task::{self, BreakerCell},
        temporal_link::TemporalLink,
    },
    event_streams::EventStreams,
    lanes::Lanes,
    routes,
    state::{Admin, AppState, Draining, Gate, Health, Models, Parts, Payloads, Runner},
    webhooks::Deliverer,
};

/// Between two tries to open a database that is not there yet.
const OPEN_RETRY: Duration = Duration::from_secs(1);
/// A connection that is still busy this long after the drain is cut.
const CLOSE_GRACE: Duration = Duration::from_secs(1);

/// Serves on `listener` until `stop`, then finishes what it is in.
pub async fn serve(live: Arc<Live>, listener: TcpListener, stop: CancellationToken) -> anyhow::Result<()> {
    serve_with(live, FaultPoints::none(), listener, stop).await
}

/// [`serve`] with pauses for crash tests.
pub async fn serve_with(
    live: Arc<Live>,
    faults: FaultPoints,
    listener: TcpListener,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    allow_many_connections();
    let settings = live.settings();
    let keys = (gatekeeper(&settings)?, admin_token(&settings)?);
    let tasks = TaskTracker::new();
    // The ledger outlives the requests: it drains after the last one.
    let (ledger_tasks, ledger_stop) = (TaskTracker::new(), CancellationToken::new());
    let listener = listener.into_std()?;
    let opening = Opening { ledger_tasks: &ledger_tasks, ledger_stop: &ledger_stop, stop: &stop };
    let Some(world) = open_world(&settings, &faults, &listener, &opening).await? else { return Ok(()) };
    let listener = TcpListener::from_std(listener)?;
    let background = TaskTracker::new();
    let draining = Draining::default();
    let parts = assemble(&live, &world, keys, &tasks, &background, &stop, &draining)?;
    let curator = &parts.admin.curator;
    curator.catch_up().await.context("the catalogue cannot be read")?;
    background.spawn(Arc::clone(curator).keep_following(stop.clone()));
    watch_hangups(parts.gate.clone(), parts.admin.clone(), stop.clone(), &background)?;
    let interval = Duration::from_secs(settings.probe_interval_secs);
    background.spawn(tokenhub_activities::prober::keep_probing(Arc::clone(&world), interval, stop.clone()));
    background.spawn(tokenhub_activities::discovery::keep_discovering(Arc::clone(&world), stop.clone()));
    background.spawn(Deliverer::new(&world, &live, &parts.metrics).keep_delivering(stop.clone()));

    let drain = Duration::from_secs(settings.shutdown_drain_secs);
    let mut lanes =
        Lanes::start(settings.api_threads, &routes::router(AppState(Arc::new(parts)))).context("no thread to serve")?;
    serve_http(&mut lanes, listener, &stop, &draining, drain).await;
    tasks.close();
    if tokio::time::timeout(drain, tasks.wait()).await.is_err() {
        tracing::warn!(runs = tasks.len(), "stopping with runs unfinished; their leases expire");
    }
    background.close();
    background.wait().await;
    if let Err(error) = world.ledger.flush().await {
        tracing::error!(error = &error as &dyn std::error::Error, "the spool keeps what the database did not take");
    }
    ledger_stop.cancel();
    ledger_tasks.close();
    ledger_tasks.wait().await;
    lanes.end().await;
    Ok(())
}

/// A stream holds two descriptors, and many systems start a program with a limit of 1,024 that it may raise itself.
fn allow_many_connections() {
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(files) => tracing::debug!(files, "open files are limited"),
        Err(error) => tracing::warn!(%error, "the limit of open files stays as it is"),
    }
}

/// Serves until `stop`, and then for as long as connections are busy, within `drain`.
async fn serve_http(
    lanes: &mut Lanes,
    listener: TcpListener,
    stop: &CancellationToken,
    draining: &Draining,
    drain: Duration,
) {
    let cut = async {
        stop.cancelled().await;
        draining.begin();
        tokio::time::sleep(drain + CLOSE_GRACE).await;
    };
    tokio::select! {
        () = lanes.serve(listener, stop) => {}
        () = cut => {}
    }
}

fn assemble(
    live: &Arc<Live>,
    world: &Arc<World>,
    (key, token): (Gatekeeper, AdminToken),
    tasks: &TaskTracker,
    background: &TaskTracker,
    stop: &CancellationToken,
    draining: &Draining,
) -> anyhow::Result<Parts> {
    let curator = Arc::new(Curator::new(Arc::clone(world), Arc::clone(live))?);
    let settings = live.settings();
    let metrics = Arc::new(Metrics::new());
    let breaker = Arc::new(BreakerCell::new(breaker_settings(&settings)));
    let codec = PayloadCodec::new(&settings.payload_keys).context("the payload keys cannot be used")?;
    let connecting = |temporal| Arc::new(TemporalLink::new(temporal, codec.clone(), metrics.temporal()));
    let link = settings.temporal.clone().map(connecting);
    if let Some(link) = &link {
        background.spawn(Arc::clone(link).keep_connecting(world.instance.clone(), stop.clone()));
        background.spawn(breaker_task::keep_probing(Arc::clone(link), Arc::clone(&breaker), stop.clone()));
    }
    let dispatcher = Dispatcher::new(
        Arc::clone(world),
        link.clone(),
        Arc::clone(&breaker),
        Arc::clone(&metrics),
        tasks.clone(),
        Duration::from_millis(settings.start_deadline_ms),
        stop.clone(),
    );
    background.spawn(dispatcher.keep_sweeping(stop.clone()));
    let token = Arc::new(ArcSwap::from_pointee(token));
    let started_at_secs = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    Ok(Parts {
        gate: Gate { key: Arc::new(ArcSwap::from_pointee(key)) },
        models: Models {
            world: Arc::clone(world),
            live: Arc::clone(live),
            started_at_secs: i64::try_from(started_at_secs).unwrap_or_default(),
        },
        runner: Runner {
            dispatcher,
            world: Arc::clone(world),
            tasks: tasks.clone(),
            links: Arc::new(approval_links(&settings)?),
            temporal_ui: temporal_ui(&settings),
            stopping: stop.clone(),
            event_streams: Arc::new(EventStreams::new(settings.event_streams)),
        },
        health: Health {
            world: Arc::clone(world),
            link,
            breaker,
            metrics: Arc::clone(&metrics),
            draining: draining.clone(),
        },
        admin: Admin { token: Arc::clone(&token), world: Arc::clone(world), curator, stopping: stop.clone() },
        payloads: Payloads { token: Arc::clone(&token), codec },
        metrics,
    })
}

fn breaker_settings(settings: &Settings) -> BreakerSettings {
    BreakerSettings {
        failures: settings.breaker.failures,
        open_ms: settings.breaker.open_ms,
        ..BreakerSettings::default()
    }
}

/// Root of the Temporal UI and the namespace.
fn temporal_ui(settings: &Settings) -> Option<Arc<(String, String)>> {
    let temporal = settings.temporal.as_ref()?;
    temporal.ui_url.clone().map(|root| Arc::new((root, temporal.namespace.clone())))
}

fn gatekeeper(settings: &Settings) -> anyhow::Result<Gatekeeper> {
    let own = keys::client_key(settings).context("there is no client key")?;
    Ok(Gatekeeper::new(&own, &settings.client_keys)?)
}

fn approval_links(settings: &Settings) -> anyhow::Result<ApprovalLinks> {
    keys::secret_key(settings).map(|secret| ApprovalLinks::new(&secret)).context("there is no secret key")
}

fn admin_token(settings: &Settings) -> anyhow::Result<AdminToken> {
    keys::admin_token(settings).map(|token| AdminToken::new(&token)).context("there is no admin token")
}

/// Opens the database. While it is not there, the process says so on its port; `None` when it stops first.
async fn open_world(
    settings: &Settings,
    faults: &FaultPoints,
    listener: &std::net::TcpListener,
    opening: &Opening<'_>,
) -> anyhow::Result<Option<Arc<World>>> {
    std::fs::create_dir_all(&settings.data_dir)
        .with_context(|| format!("cannot make the data directory {}", settings.data_dir.display()))?;
    if let Some(world) = try_open(settings, faults, opening).await? {
        return Ok(Some(world));
    }
    let opened = CancellationToken::new();
    let router = routes::waiting_router(Live::fixed(settings.clone()));
    let waiting = axum::serve(TcpListener::from_std(listener.try_clone()?)?, router)
        .with_graceful_shutdown(opened.clone().cancelled_owned());
    let waiting = tokio::spawn(waiting.into_future());
    let world = loop {
        tokio::select! {
            () = tokio::time::sleep(OPEN_RETRY) => {}
            () = opening.stop.cancelled() => break None,
        }
        if let Some(world) = try_open(settings, faults, opening).await? {
            break Some(world);
        }
    };
    opened.cancel();
    // Connections that were told to wait are closed, so that the next request reaches the real routes.
    if tokio::time::timeout(CLOSE_GRACE, waiting).await.is_err() {
        tracing::debug!("a connection outlives the wait for the database");
    }
    Ok(world)
}

/// What opening a world needs besides the settings.
struct Opening<'a> {
    ledger_tasks: &'a TaskTracker,
    ledger_stop: &'a CancellationToken,
    stop: &'a CancellationToken,
}

/// `None` when the database is away.
async fn try_open(
    settings: &Settings,
    faults: &FaultPoints,
    opening: &Opening<'_>,
) -> anyhow::Result<Option<Arc<World>>> {
    let parts = WorldParts::of(settings, faults.clone());
    match World::open(parts, opening.ledger_tasks, opening.ledger_stop.clone()).await {
        Ok(world) => Ok(Some(Arc::new(world))),
        Err(WorldError::OpenStore(error)) if StoreError::is_unavailable(&error) => {
            tracing::warn!(error = &error as &dyn std::error::Error, "waiting for the database");
            Ok(None)
        }
        Err(error) => Err(error).context("the API cannot start"),
    }
}

/// SIGHUP: providers, models and the keys of clients and administrators are read again and swapped as a whole, or stay as they are.
fn watch_hangups(gate: Gate, admin: Admin, stop: CancellationToken, tasks: &TaskTracker) -> anyhow::Result<()> {
    let mut hangups = signal(SignalKind::hangup()).context("SIGHUP cannot be listened to")?;
    tasks.spawn(async move {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                hangup = hangups.recv() => if hangup.is_none() { return },
            }
            match reload(&gate, &admin).await {
                Ok(changed) => {
                    tracing::info!(?changed, "configuration reloaded");
                    tokenhub_activities::discovery::discover(&admin.world).await;
                }
                Err(error) => tracing::error!(error = format!("{error:#}"), "the configuration stays as it was"),
            }
        }
    });
    Ok(())
}

async fn reload(gate: &Gate, admin: &Admin) -> anyhow::Result<Vec<String>> {
    let reloaded = admin.curator.reload().await?;
    for warning in &reloaded.warnings {
        tracing::warn!("{warning}");
    }
    if !reloaded.after_restart.is_empty() {
        tracing::warn!(settings = ?reloaded.after_restart, "changed settings that need a restart");
    }
    let settings = admin.curator.live().settings();
    let (key, token) = (gatekeeper(&settings)?, admin_token(&settings)?);
    gate.key.store(Arc::new(key));
    admin.token.store(Arc::new(token));
    Ok(reloaded.changed)
}
