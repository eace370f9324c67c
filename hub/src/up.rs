//! `tokenhub up`: everything on this machine, started in order, kept alive, ended in order.
//!
//! Start: database, demo models, Temporal, worker, local model, API. End: API (it drains), worker (it finishes its
//! steps), local model, Temporal, demo models: each part outlives those that need it.

use std::{
    io::{self, Write as _},
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use tokenhub_config::{Environment, Flags, ListenFlags, Live, Loaded, Settings, SharedFlags, keys};
use tokio::{net::TcpListener, task::JoinHandle};

use crate::{
    banner::{Banner, KeyPlace, api_url},
    demo_models::DemoModels,
    migrate,
    parts::Folders,
    pid_files::PidFiles,
    plan::{Plan, worker_part},
    readiness,
    signals::Signals,
    supervise::{Part, Running},
};

/// A first start creates databases; later ones take a fraction of this.
const API_PATIENCE: Duration = Duration::from_secs(30);
/// Parts that are not ready by then are announced as not ready.
const PARTS_PATIENCE: Duration = Duration::from_secs(15);
/// Beyond its drain the API needs this long to write its last rows.
const API_MARGIN: Duration = Duration::from_secs(5);

/// What `up` takes.
#[derive(clap::Args)]
pub struct UpArguments {
    #[command(flatten)]
    shared: SharedFlags,
    #[command(flatten)]
    listen: ListenFlags,
    /// Port of the Temporal server; 0 takes a free one (`TOKENHUB_TEMPORAL_PORT`; 7233 if it is free)
    #[arg(long, value_name = "PORT")]
    temporal_port: Option<String>,
    /// Port of the Temporal UI; 0 takes a free one (`TOKENHUB_TEMPORAL_UI_PORT`; 8233 if it is free)
    #[arg(long, value_name = "PORT")]
    temporal_ui_port: Option<String>,
    /// Port of the local model (`TOKENHUB_LOCAL_MODEL_PORT`; a free one)
    #[arg(long, value_name = "PORT")]
    local_model_port: Option<String>,
    /// Port of the demo models (`TOKENHUB_DEMO_PORT`; a free one)
    #[arg(long, value_name = "PORT")]
    demo_port: Option<String>,
    /// Do not start the local model (`TOKENHUB_LOCAL_MODEL=false`)
    #[arg(long)]
    no_local_model: bool,
}

impl UpArguments {
    fn into_flags(self) -> Flags {
        let mut flags = self.shared.into_flags();
        self.listen.add_to(&mut flags);
        let own = [
            ("temporal-port", self.temporal_port),
            ("temporal-ui-port", self.temporal_ui_port),
            ("local-model-port", self.local_model_port),
            ("demo-port", self.demo_port),
            ("no-local-model", self.no_local_model.then(|| "false".to_owned())),
        ];
        flags.extend(own.into_iter().filter_map(|(name, value)| Some((name, value?))));
        flags
    }
}

/// Runs until a signal or until the API fails.
pub async fn run(arguments: UpArguments) -> anyhow::Result<()> {
    let flags = arguments.into_flags();
    let environment = Environment::of_process();
    let loaded = Settings::load(&flags, &environment)?;
    let settings = &loaded.settings;
    tokenhub_telemetry::init(&settings.log_level, settings.log_format)?;
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    let folders = Folders::create(&settings.data_dir).context("cannot make the data directory")?;
    let pid_files = Arc::new(PidFiles::hold(&folders.run)?);
    for name in pid_files.end_leftovers().await.context("cannot clean up after an earlier start")? {
        tracing::warn!(part = name, "was left by an earlier start and has been ended");
    }
    migrate::migrate(settings).await?;
    keys::client_key(settings)?;
    keys::admin_token(settings)?;
    let listener = TcpListener::bind(settings.listen_addr)
        .await
        .with_context(|| format!("cannot listen on {}", settings.listen_addr))?;
    let plan = Plan::make(&loaded, environment, listener.local_addr()?).await?;
    let (live, _) = Live::load(flags.clone(), plan.environment.clone())?;
    let signals = Signals::listen()?;

    let mut parts = Parts::default();
    let ended = match parts.start(&plan, &live, &flags, &folders, &pid_files, &signals) {
        Ok(()) => serve(&plan, &live, &loaded, listener, &signals).await,
        Err(error) => Err(error),
    };
    parts.stop().await;
    if let Some(demo) = plan.demo_models {
        DemoModels::stop(demo).await;
    }
    tracing::info!("stopped");
    ended
}

/// The supervised children, in the order in which they end.
#[derive(Default)]
struct Parts {
    worker: Option<Running>,
    local_model: Option<Running>,
    temporal: Option<Running>,
}

impl Parts {
    fn start(
        &mut self,
        plan: &Plan,
        live: &Live,
        flags: &Flags,
        folders: &Folders,
        pid_files: &Arc<PidFiles>,
        signals: &Signals,
    ) -> anyhow::Result<()> {
        let start = |part: Part| {
            let what = format!("cannot start {}", part.program.display());
            Running::start(part, Arc::clone(pid_files), signals.clone()).context(what)
        };
        let settings = live.settings();
        if let Some(server) = &plan.temporal {
            self.temporal = Some(start(server.part(folders, &plan.environment))?);
        }
        if let Some(model) = &plan.local_model {
            self.local_model = Some(start(model.part(folders, &plan.environment))?);
        }
        if settings.temporal.is_some() {
            let (program, grace_secs) = (settings.up.worker_bin.clone(), settings.worker.grace_secs);
            self.worker = Some(start(worker_part(program, grace_secs, flags, &plan.environment)?)?);
        }
        Ok(())
    }

    async fn stop(self) {
        for part in [self.worker, self.local_model, self.temporal].into_iter().flatten() {
            part.stop().await;
        }
    }
}

/// Runs the API until it ends, and announces everything once it is ready.
async fn serve(
    plan: &Plan,
    live: &Arc<Live>,
    loaded: &Loaded,
    listener: TcpListener,
    signals: &Signals,
) -> anyhow::Result<()> {
    let address = listener.local_addr()?;
    let mut api = tokio::spawn(tokenhub_api::serve(Arc::clone(live), listener, signals.stop.clone()));
    let announced = tokio::select! {
        announced = announce(plan, live, loaded, address) => announced,
        ended = &mut api => return ended.context("the API failed")?,
    };
    if announced.is_err() {
        signals.stop.cancel();
    }
    let drain = Duration::from_secs(live.settings().shutdown_drain_secs);
    api_end(api, signals, drain).await.and(announced)
}

async fn api_end(mut api: JoinHandle<anyhow::Result<()>>, signals: &Signals, drain: Duration) -> anyhow::Result<()> {
    let out_of_patience = async {
        signals.stop.cancelled().await;
        tracing::info!("stopping; press Ctrl-C again to stop at once");
        tokio::select! {
            () = tokio::time::sleep(drain + API_MARGIN) => {}
            () = signals.kill.cancelled() => {}
        }
    };
    tokio::select! {
        ended = &mut api => ended.context("the API failed")?,
        () = out_of_patience => {
            tracing::warn!("the API did not end in time");
            api.abort();
            Ok(())
        }
    }
}

async fn announce(plan: &Plan, live: &Live, loaded: &Loaded, address: std::net::SocketAddr) -> anyhow::Result<()> {
    let client = reqwest::Client::builder().no_proxy().build().context("cannot make an HTTP client")?;
    let api = api_url(address);
    let ready = format!("{api}/readyz");
    anyhow::ensure!(
        readiness::within(API_PATIENCE, || readiness::answers(&client, &ready)).await,
        "the API did not become ready within {} s",
        API_PATIENCE.as_secs()
    );
    let (temporal_problem, model_problem) =
        tokio::join!(temporal_problem(live, &client, &api), model_problem(plan, &client));
    let notes = plan.notes.iter().cloned().chain(temporal_problem).chain(model_problem).collect();
    let settings = live.settings();
    let temporal = settings.temporal.as_ref();
    let banner = Banner {
        api: address,
        temporal: temporal.map_or_else(|| "off: nothing is durable".to_owned(), |temporal| temporal.address.clone()),
        temporal_ui: temporal.and_then(|temporal| temporal.ui_url.clone()),
        client_key: key_place(loaded, "client_key", keys::CLIENT_KEY_FILE, "TOKENHUB_CLIENT_KEY"),
        admin_token: key_place(loaded, "admin_token", keys::ADMIN_TOKEN_FILE, "TOKENHUB_ADMIN_TOKEN"),
        offered: plan.offered.clone(),
        model: readiness::first_model(&client, &api).await,
        notes,
    };
    let mut out = io::stdout().lock();
    out.write_all(banner.text().as_bytes())?;
    out.flush()?;
    Ok(())
}

/// What is missing for durable answers, after a fair wait.
async fn temporal_problem(live: &Live, client: &reqwest::Client, api: &str) -> Option<String> {
    let address = live.settings().temporal.as_ref()?.address.clone();
    let durable = readiness::within(PARTS_PATIENCE, || readiness::is_durable(client, api)).await;
    (!durable).then(|| {
        format!("degraded: no Temporal with a worker at {address} yet; answers are not durable until it is there")
    })
}

/// Whether the local model is missing, after a fair wait.
async fn model_problem(plan: &Plan, client: &reqwest::Client) -> Option<String> {
    let health = plan.local_model.as_ref()?.health_url();
    let ready = readiness::within(PARTS_PATIENCE, || readiness::answers(client, &health)).await;
    (!ready).then(|| "the local model is not ready yet, see run/local-model.log in the data directory".to_owned())
}

fn key_place(loaded: &Loaded, setting: &str, file: &str, variable: &'static str) -> KeyPlace {
    use tokenhub_config::Origin;

    let data_file = || KeyPlace::File(loaded.settings.data_dir.join(file));
    match loaded.origins.of(setting).map(|row| &row.origin) {
        Some(Origin::Variable(_)) => KeyPlace::Variable(variable),
        Some(Origin::VariableFile { path, .. }) => {
            std::path::absolute(path).map_or_else(|_| data_file(), KeyPlace::File)
        }
        Some(Origin::File { path, line }) => KeyPlace::Reference(format!("{}:{line}", path.display())),
        Some(Origin::Flag(_) | Origin::Document(_) | Origin::Default) | None => data_file(),
    }
}
