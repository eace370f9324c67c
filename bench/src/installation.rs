//! Everything that is measured, as processes on free ports with a data directory of their own.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, bail};
use clap::ValueEnum;
use serde::Serialize;
use serde_json::{Value, json};
use tokenhub_demo::{Reply, Rule};

use crate::{
    http::{self, Prepared},
    nginx::{self, Nginx},
    processes::{Launch, Process, free_port, listens, on_path, sibling},
    resources::resident_kib,
};

/// Without these the dev server dispatches a task every 50 ms, and timers and retries cost a second.
const TEMPORAL_TUNING: [&str; 8] = [
    "history.transferProcessorMaxPollRPS=5000",
    "history.timerProcessorMaxPollRPS=5000",
    "history.timerProcessorMaxTimeShift=\"1ms\"",
    "history.workflowIdReuseMinimalInterval=\"0s\"",
    "matching.numTaskqueueReadPartitions=1",
    "matching.numTaskqueueWritePartitions=1",
    "matching.useNewMatcher=true",
    "matching.enableFairness=true",
];
/// The key of the installation, which exists only as long as the run.
pub(crate) const CLIENT_KEY: &str = "tokenhub_0000000000000000000000000000000000000000000000000000000000000001";
/// Models that answer at once.
pub(crate) const FAST_MODELS: [&str; 3] = ["alpha", "beta", "gamma"];
/// Answers at once as a judge does.
pub(crate) const JUDGE_MODEL: &str = "judge";
/// Takes [`SLOW_ANSWER`] to answer; its calls are listed by the provider.
pub(crate) const SLOW_MODEL: &str = "slow";
/// How long the slow model takes.
pub(crate) const SLOW_ANSWER: Duration = Duration::from_millis(1_500);
/// Streams one piece of [`DRIPPING_ANSWER`] after another, so slowly that many streams are open together.
pub(crate) const DRIPPING_MODEL: &str = "dripping";
const DRIPPING_ANSWER: &str = "Paris is the capital of France, as everybody knows, and it has been so for a very long time; \
                               two million people live there, and twice as many would like to, if only for a spring.";
const DRIP: Duration = Duration::from_millis(100);
/// The smallest weight of the fast models, above that of the others.
pub(crate) const FAST_WEIGHT: u32 = 5;
const OTHER_WEIGHT: u32 = 1;
/// What the fast models say: as long as a short chat answer.
const FAST_ANSWER: &str = "The capital of France is Paris. It has been the seat of government, with interruptions, \
                           since the tenth century, and about two million people live there.";
const PATIENCE: Duration = Duration::from_secs(30);
/// A breaker that an overloaded machine has opened stays open for 30 s.
const DURABLE_PATIENCE: Duration = Duration::from_mins(1);

/// Where Temporal keeps its histories.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(crate) enum TemporalDatabase {
    /// In memory: the disk of this machine is not part of the figures.
    Memory,
    /// In a file with a write-ahead log, as `tokenhub up` keeps it.
    File,
}

/// Resident memory of our processes, in KiB.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Memory {
    /// The API.
    pub(crate) api_kib: u32,
    /// The worker.
    pub(crate) worker_kib: u32,
}

/// The running processes.
pub(crate) struct Installation {
    environment: BTreeMap<String, String>,
    provider: Process,
    /// `host:port` of the provider.
    pub(crate) provider_authority: String,
    temporal: Process,
    /// `host:port` of Temporal.
    pub(crate) temporal_address: String,
    /// The worker of the bare workflow.
    pub(crate) bare_worker: Process,
    /// The proxy to compare with, where there is one.
    pub(crate) nginx: Option<Nginx>,
    /// A proxy that does nothing.
    pub(crate) empty_proxy: Process,
    /// Where it listens.
    pub(crate) empty_proxy_authority: String,
    /// The worker of the durable chats.
    pub(crate) worker: Process,
    /// The API.
    pub(crate) api: Process,
    /// `host:port` of the API.
    pub(crate) api_authority: String,
    // The last field: the processes end before their folder goes.
    folder: Folder,
}

/// A folder that lasts as long as the run.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed is in the system's folder for temporary files.
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Installation {
    /// Starts everything and waits until the API serves durably.
    pub(crate) async fn start(database: TemporalDatabase) -> anyhow::Result<Self> {
        let path = std::env::temp_dir().join(format!("tokenhub-bench-{}", uuid::Uuid::now_v7().simple()));
        let owned = Folder(path.clone());
        let folder = path.as_path();
        fs::create_dir_all(folder.join("data"))?;
        let (provider, provider_authority) = start_provider(folder).await?;
        let (temporal, temporal_address) = start_temporal(folder, database).await?;
        let nginx = nginx::start(folder, &provider_authority).await?;
        let (empty_proxy, empty_proxy_authority) = start_empty_proxy(folder, &provider_authority).await?;
        let bare_worker = start_bare_worker(folder, &temporal_address, &provider_authority)?;
        let environment = BTreeMap::from(
            [
                ("TOKENHUB_DATA_DIR", folder.join("data").display().to_string()),
                ("TOKENHUB_CREDENTIALS_FILE", credentials(folder, &provider_authority, "sk-bench")?),
                ("TOKENHUB_CLIENT_KEY", CLIENT_KEY.to_owned()),
                ("TOKENHUB_LISTEN_ADDR", "127.0.0.1:0".to_owned()),
                ("TEMPORAL_ADDRESS", temporal_address.clone()),
            ]
            .map(|(name, value)| (name.to_owned(), value)),
        );
        let worker = start_worker(folder, &environment)?;
        let (api, api_authority) = start_api(folder, &environment).await?;
        let installation = Self {
            environment,
            provider,
            provider_authority,
            temporal,
            temporal_address,
            bare_worker,
            nginx,
            empty_proxy,
            empty_proxy_authority,
            worker,
            api,
            api_authority,
            folder: owned,
        };
        installation.wait_until_durable().await?;
        Ok(installation)
    }

    /// Starts one more worker, with its own provider key, so that the provider's list tells the workers apart.
    pub(crate) async fn start_worker_with_key(&self, key: &str) -> anyhow::Result<Process> {
        let mut environment = self.environment.clone();
        let file = credentials(&self.folder.0, &self.provider_authority, key)?;
        environment.insert("TOKENHUB_CREDENTIALS_FILE".to_owned(), file);
        let mut worker = start_worker(&self.folder.0, &environment)?;
        worker.printed(PATIENCE, |output| output.contains("polling").then_some(())).await?;
        Ok(worker)
    }

    /// What our processes occupy.
    pub(crate) fn memory(&self) -> anyhow::Result<Memory> {
        Ok(Memory { api_kib: resident_kib(self.api.pid())?, worker_kib: resident_kib(self.worker.pid())? })
    }

    /// The ends of all logs.
    pub(crate) fn last_log_lines(&self) -> String {
        let nginx = self.nginx.as_ref().map(|nginx| &nginx.process);
        let processes = [&self.provider, &self.temporal, &self.empty_proxy, &self.bare_worker, &self.worker, &self.api];
        processes.into_iter().chain(nginx).map(Process::last_lines).collect()
    }

    /// Waits until the API would have a workflow carry the next request.
    pub(crate) async fn wait_until_durable(&self) -> anyhow::Result<()> {
        const LOOK_INTERVAL: Duration = Duration::from_millis(50);
        let health = Prepared::get(&self.api_authority, "/healthz?verbose").key(CLIENT_KEY);
        let closed = async {
            loop {
                // Before the API is ready it may refuse to tell.
                if http::once(&health).await.is_ok_and(|body| body["temporal"]["breaker"]["state"] == "closed") {
                    return;
                }
                tokio::time::sleep(LOOK_INTERVAL).await;
            }
        };
        let waited = tokio::time::timeout(DURABLE_PATIENCE, closed).await;
        waited.with_context(|| format!("no durable service after {DURABLE_PATIENCE:?}:\n{}", self.last_log_lines()))
    }
}

async fn start_provider(folder: &Path) -> anyhow::Result<(Process, String)> {
    let mut rules = FAST_MODELS.map(|model| Rule::model(model, [Reply::fast(FAST_ANSWER)])).to_vec();
    rules.push(Rule::model(JUDGE_MODEL, [Reply::fast(r#"{"winner":1}"#)]));
    let slow = u64::try_from(SLOW_ANSWER.as_millis())?;
    rules.push(Rule::model(SLOW_MODEL, [Reply::text("at last").delay_ms(slow)]));
    let drip = u64::try_from(DRIP.as_millis())?;
    rules.push(Rule::model(DRIPPING_MODEL, [Reply::text(DRIPPING_ANSWER).gap_ms(drip)]));
    let models = FAST_MODELS.iter().chain(&[JUDGE_MODEL, SLOW_MODEL, DRIPPING_MODEL]).collect::<Vec<_>>();
    let script = folder.join("script.json");
    fs::write(&script, json!({"models": models, "rules": rules}).to_string())?;
    let mut process = Process::start(&Launch {
        name: "provider",
        program: &sibling("tokenhub-demo")?,
        arguments: &["--script".to_owned(), script.display().to_string()],
        environment: &BTreeMap::new(),
        folder,
    })?;
    let first_line = |output: &str| output.split_once('\n').map(|(line, _)| line.to_owned());
    let url = process.printed(PATIENCE, first_line).await?;
    Ok((process, url.trim_start_matches("http://").to_owned()))
}

async fn start_temporal(folder: &Path, database: TemporalDatabase) -> anyhow::Result<(Process, String)> {
    let program = std::env::var_os("TOKENHUB_TEMPORAL_BIN").map(PathBuf::from).or_else(|| on_path("temporal"));
    let Some(program) = program else { bail!("`temporal` is neither on PATH nor named by TOKENHUB_TEMPORAL_BIN") };
    let port = free_port()?;
    let fixed = ["server", "start-dev", "--headless", "--ip", "127.0.0.1", "--log-level", "error", "--http-port", "0"];
    let mut arguments: Vec<String> = fixed.iter().map(|&argument| argument.to_owned()).collect();
    arguments.extend(["--port".to_owned(), port.to_string()]);
    for value in TEMPORAL_TUNING {
        arguments.extend(["--dynamic-config-value".to_owned(), value.to_owned()]);
    }
    match database {
        TemporalDatabase::Memory => {}
        TemporalDatabase::File => {
            arguments.extend(["--db-filename".to_owned(), folder.join("temporal.db").display().to_string()]);
            for pragma in ["journal_mode=WAL", "synchronous=NORMAL"] {
                arguments.extend(["--sqlite-pragma".to_owned(), pragma.to_owned()]);
            }
        }
    }
    let process = Process::start(&Launch {
        name: "temporal",
        program: &program,
        arguments: &arguments,
        environment: &BTreeMap::new(),
        folder,
    })?;
    let address = format!("127.0.0.1:{port}");
    listens(&address, PATIENCE).await?;
    Ok((process, address))
}

fn start_bare_worker(folder: &Path, temporal: &str, provider: &str) -> anyhow::Result<Process> {
    let url = format!("http://{provider}/v1/chat/completions");
    Process::start(&Launch {
        name: "bare-worker",
        program: &std::env::current_exe()?,
        arguments: &["bare-worker", "--temporal", temporal, "--provider-url", &url].map(str::to_owned),
        environment: &BTreeMap::new(),
        folder,
    })
}

fn start_worker(folder: &Path, environment: &BTreeMap<String, String>) -> anyhow::Result<Process> {
    let program = sibling("tokenhub-worker")?;
    Process::start(&Launch { name: "worker", program: &program, arguments: &[], environment, folder })
}

async fn start_empty_proxy(folder: &Path, provider: &str) -> anyhow::Result<(Process, String)> {
    let program = std::env::current_exe()?;
    let arguments = ["empty-proxy", "--provider", provider].map(str::to_owned);
    let environment = BTreeMap::new();
    let launch =
        Launch { name: "empty-proxy", program: &program, arguments: &arguments, environment: &environment, folder };
    let mut proxy = Process::start(&launch)?;
    let authority = proxy.printed(PATIENCE, listening_on).await?;
    Ok((proxy, authority))
}

async fn start_api(folder: &Path, environment: &BTreeMap<String, String>) -> anyhow::Result<(Process, String)> {
    let program = sibling("tokenhub-api")?;
    let mut api = Process::start(&Launch { name: "api", program: &program, arguments: &[], environment, folder })?;
    let authority = api.printed(PATIENCE, listening_on).await?;
    Ok((api, authority))
}

fn listening_on(output: &str) -> Option<String> {
    let mut lines = output.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    lines.find_map(|line| line.trim().strip_prefix("listening on http://")).map(str::to_owned)
}

/// Writes a credentials file with one provider and returns its path.
fn credentials(folder: &Path, provider: &str, key: &str) -> anyhow::Result<String> {
    let model = |id: &str, weight: u32| -> Value {
        json!({"id": id, "provider_id": "scripted", "weight": weight, "max_context_tokens": 100_000,
            "input_per_1k": 0.001, "output_per_1k": 0.002})
    };
    let fast = FAST_MODELS.iter().map(|id| model(id, FAST_WEIGHT));
    let models: Vec<Value> =
        fast.chain([JUDGE_MODEL, SLOW_MODEL, DRIPPING_MODEL].map(|id| model(id, OTHER_WEIGHT))).collect();
    let provider =
        json!({"id": "scripted", "type": "openai", "base_url": format!("http://{provider}"), "api_key": key});
    let path = folder.join(format!("credentials-{key}.json"));
    fs::write(&path, json!({"providers": [provider], "models": models}).to_string())?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
    Ok(path.display().to_string())
}
