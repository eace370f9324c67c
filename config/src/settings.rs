//! The settings of a process: typed, checked, and one immutable value.
//!
//! Owns the meaning and the ranges of every setting. Must not know where a value came from (the layers do) nor how a
//! change reaches the parts (the live snapshot does).

use std::{
    fmt,
    net::SocketAddr,
    ops::RangeInclusive,
    path::{Path, PathBuf},
};

use secrecy::SecretString;
use tokenhub_domain::{Catalogue, NanoDollars, ProviderOrigin, RoutingProfile, limits};

use crate::{
    ClientKeys, ConfigError, Configured, CorsOrigins, Environment, EventStreamSettings, Flags, Origin, Origins,
    PayloadKeys, Secrets, VerifierSettings, WebhookSettings, credentials, event_streams,
    file::ConfigFile,
    key::KEYS,
    layers::Layers,
    parse::{Values, boolean, budget, processors, socket_addr, temperature, threads},
    temporal, variables, verifiers, webhooks,
    worker::{self, WorkerSettings},
};

/// How log lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One object a line.
    Json,
}

/// Where Temporal is. TLS, API key and metadata come from Temporal's own variables and file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemporalSettings {
    /// `host:port`, without a scheme.
    pub address: String,
    /// The namespace.
    pub namespace: String,
    /// The queue that workers poll.
    pub task_queue: String,
    /// Root of the web UI, without a trailing slash, for links.
    pub ui_url: Option<String>,
    /// How long a workflow may take beyond the deadline of its run.
    pub execution_grace_ms: u64,
}

/// When to stop asking Temporal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerSettings {
    /// Failures in a row that open it.
    pub failures: u32,
    /// How long it stays open before a probe.
    pub open_ms: u64,
}

/// Clocks of one provider call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Until the connection stands.
    pub connect_ms: u64,
    /// Until the response headers.
    pub headers_ms: u64,
    /// Until the first streamed token.
    pub first_token_ms: u64,
    /// Between two pieces of a body.
    pub idle_ms: u64,
    /// For the whole call.
    pub total_ms: u64,
}

/// What only `tokenhub up` needs. A port is the one to take, 0 a free one, none the usual one if it is free.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpSettings {
    /// Whether to start a Temporal server: none is named and Temporal is not switched off.
    pub temporal_server: bool,
    /// Port of the Temporal server it starts.
    pub temporal_port: Option<u16>,
    /// Port of that server's web UI.
    pub temporal_ui_port: Option<u16>,
    /// Port of the local model.
    pub local_model_port: u16,
    /// Port of the demo models.
    pub demo_port: u16,
    /// Whether the local model may be started.
    pub local_model: bool,
    /// Python that has the local model's packages.
    pub local_model_python: Option<PathBuf>,
    /// The `temporal` binary.
    pub temporal_bin: Option<PathBuf>,
    /// The `tokenhub-worker` binary.
    pub worker_bin: Option<PathBuf>,
}

/// Everything a process is told.
#[derive(Clone)]
pub struct Settings {
    /// Where the API listens.
    pub listen_addr: SocketAddr,
    /// Threads on which the API serves, one for each processor unless told otherwise.
    pub api_threads: usize,
    /// Database, spool and key files; absolute.
    pub data_dir: PathBuf,
    /// The database; may carry a password, so it is never printed.
    pub database_url: String,
    /// Pages that may call from a browser.
    pub cors_origins: CorsOrigins,
    /// Pages that may have payloads decoded: the Temporal UI, unless others are named.
    pub codec_cors_origins: CorsOrigins,
    /// Log filter.
    pub log_level: String,
    /// Log form.
    pub log_format: LogFormat,
    /// Temporal, or none when everything runs in process.
    pub temporal: Option<TemporalSettings>,
    /// The keys that encrypt what Temporal keeps.
    pub payload_keys: PayloadKeys,
    /// The breaker in front of Temporal.
    pub breaker: BreakerSettings,
    /// How long the start of a workflow may take before the request is answered in process.
    pub start_deadline_ms: u64,
    /// Clocks of provider calls.
    pub timeouts: Timeouts,
    /// How long a stopping API waits for its requests.
    pub shutdown_drain_secs: u64,
    /// The worker.
    pub worker: WorkerSettings,
    /// When the next deployment is asked as well, for requests that do not say; never without it.
    pub hedge_after_ms: Option<u64>,
    /// How often somebody looks whether a provider is there; 0 is never.
    pub probe_interval_secs: u64,
    /// Whether providers that fail are left out for a while.
    pub penalties: bool,
    /// Whether failures and latencies of past calls change the ranking.
    pub live_signals: bool,
    /// How often somebody else than the best is asked first; 0 is never.
    pub exploration_temperature: f64,
    /// Ranking of requests that name none.
    pub default_profile: RoutingProfile,
    /// Budget of requests that name none; none is no cap.
    pub default_max_budget: Option<NanoDollars>,
    /// Deadline of requests that name none.
    pub default_max_latency_ms: u64,
    /// The client key, when it is not the data directory's (see [`crate::keys::client_key`]).
    pub client_key: Option<SecretString>,
    /// Further client keys.
    pub client_keys: ClientKeys,
    /// The admin token, when it is not the data directory's (see [`crate::keys::admin_token`]).
    pub admin_token: Option<SecretString>,
    /// The credentials file that was read.
    pub credentials_file: Option<PathBuf>,
    /// Providers and models.
    pub catalogue: Catalogue,
    /// API keys of the providers that have one.
    pub credentials: Secrets,
    /// What catalogue and keys were made of.
    pub configured: Configured,
    /// Seals what must not be read in the database, when it is not the data directory's (see [`crate::keys::secret_key`]).
    pub secret_key: Option<SecretString>,
    /// How the ends of plans are told.
    pub webhooks: WebhookSettings,
    /// Who may be asked about an answer.
    pub verifiers: VerifierSettings,
    /// How many clients may follow events.
    pub event_streams: EventStreamSettings,
    /// `tokenhub up`.
    pub up: UpSettings,
    /// The process was started by `tokenhub up` with a pipe as standard input: its end means that the parent is gone.
    pub stop_at_end_of_stdin: bool,
}

/// Shows no secret and not everything: enough for a failing test.
impl fmt::Debug for Settings {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Settings")
            .field("listen_addr", &self.listen_addr)
            .field("data_dir", &self.data_dir)
            .field("temporal", &self.temporal)
            .field("catalogue", &self.catalogue)
            .finish_non_exhaustive()
    }
}

/// Settings, where they came from, and what the operator should know.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The settings.
    pub settings: Settings,
    /// Who decided what.
    pub origins: Origins,
    /// Things that are probably not meant; the process starts anyway.
    pub warnings: Vec<String>,
}

impl Settings {
    /// Reads every layer.
    pub fn load(flags: &Flags, environment: &Environment) -> Result<Loaded, ConfigError> {
        refuse_unknown(flags)?;
        let named = flags.get("config").map(String::as_str).or_else(|| environment.get("TOKENHUB_CONFIG"));
        let file = ConfigFile::read(named.map(Path::new))?;
        let mut values = Values::find_all(&Layers { flags, environment, file: file.as_ref() })?;
        let mut warnings = variables::warnings(environment);
        let data_dir = absolute(&mut values, "data_dir")?;
        let database_url = database_url(&mut values, &data_dir)?;
        let temporal = temporal::decide(&mut values, environment, &mut warnings)?;
        let credentials_file = values.text("credentials_file").map(PathBuf::from);
        let sources = credentials::collect(environment, file.as_ref(), credentials_file.as_deref())?;
        let built = sources.configured.build()?;
        let client_key = secret(&values, "client_key")?;
        let client_keys = ClientKeys::read(&values, sources.client_keys, client_key.as_ref())?;

        let mut origins = values.origins();
        origins.push_providers(&built);
        origins.push_client_keys(&client_keys);
        let settings = Self {
            listen_addr: values.required("listen_addr", "IP:PORT", socket_addr)?,
            api_threads: values.optional("api.threads", "1 to 1024", threads)?.unwrap_or_else(processors),
            data_dir,
            database_url,
            cors_origins: values.required("cors_origins", "*, none or a list of origins", CorsOrigins::parse)?,
            codec_cors_origins: CorsOrigins::of_codec(&values, temporal.as_ref())?,
            log_level: values.required("log.level", "a log filter", |text| Some(text.to_owned()))?,
            log_format: values.required("log.format", "text or json", LogFormat::parse)?,
            temporal,
            payload_keys: values.checked("temporal.payload_keys", PayloadKeys::parse)?.unwrap_or_default(),
            breaker: breaker(&values)?,
            start_deadline_ms: values.number("temporal.start_deadline_ms", 1..=60_000, "1 to 60000 milliseconds")?,
            timeouts: timeouts(&values)?,
            shutdown_drain_secs: values.number("shutdown_drain_secs", 0..=3_600, "0 to 3600 seconds")?,
            worker: worker::read(&values)?,
            hedge_after_ms: hedge_after_ms(&values)?,
            probe_interval_secs: values.number("routing.probe_interval_secs", 0..=86_400, "0 to 86400 seconds")?,
            penalties: values.required("routing.penalties", "true or false", boolean)?,
            live_signals: values.required("routing.live_signals", "true or false", boolean)?,
            exploration_temperature: values.required("routing.exploration_temperature", "0 to 10", temperature)?,
            default_profile: values.required("routing.default_profile", PROFILES, RoutingProfile::parse)?,
            default_max_budget: max_budget(&values)?,
            default_max_latency_ms: values.number("routing.default_max_latency_ms", LATENCIES_MS, LATENCIES_RULE)?,
            client_key,
            client_keys,
            admin_token: secret(&values, "admin_token")?,
            credentials_file,
            catalogue: built.catalogue,
            credentials: built.credentials,
            configured: sources.configured,
            secret_key: secret(&values, "secret_key")?,
            webhooks: webhooks::read(&values)?,
            verifiers: verifiers::read(&values)?,
            event_streams: event_streams::read(&values)?,
            up: up(&values)?,
            stop_at_end_of_stdin: environment.get("TOKENHUB_PARENT_PIPE") == Some("1"),
        };
        Ok(Loaded { settings, origins, warnings })
    }

    /// Whether the operator configured a provider; the local and demo models do not count.
    pub fn has_configured_provider(&self) -> bool {
        self.catalogue.providers.iter().any(|provider| provider.origin == ProviderOrigin::Configured)
    }
}

fn refuse_unknown(flags: &Flags) -> Result<(), ConfigError> {
    let is_unknown = |flag: &str| flag != "config" && KEYS.iter().all(|key| key.flag != Some(flag));
    match flags.keys().find(|flag| is_unknown(flag)) {
        Some(flag) => Err(ConfigError::UnknownFlag { flag }),
        None => Ok(()),
    }
}

impl LogFormat {
    /// The name in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::Text, Self::Json].into_iter().find(|format| format.as_str() == text)
    }
}

fn absolute(values: &mut Values, name: &'static str) -> Result<PathBuf, ConfigError> {
    let path = values.required(name, "a path", |text| std::path::absolute(text).ok())?;
    if let Some(origin) = values.get(name).map(|found| found.origin.clone()) {
        values.set(name, path.display().to_string(), origin);
    }
    Ok(path)
}

/// The database address in the form that the store takes; `file:` is how TokenHub (Go) writes a SQLite path.
fn database_url(values: &mut Values, data_dir: &Path) -> Result<String, ConfigError> {
    const KNOWN: [&str; 3] = ["sqlite:", "postgres://", "postgresql://"];
    let given = values.optional("database_url", "a sqlite: or postgres:// address", |text| {
        let url = text
            .strip_prefix("file:")
            .map_or_else(|| text.to_owned(), |path| sqlite_url(Path::new(path.split('?').next().unwrap_or(path))));
        KNOWN.iter().any(|scheme| url.starts_with(scheme)).then_some(url)
    })?;
    let url = given.unwrap_or_else(|| sqlite_url(&data_dir.join("tokenhub.db")));
    let origin = values.get("database_url").map_or(Origin::Default, |found| found.origin.clone());
    values.set("database_url", url.clone(), origin);
    Ok(url)
}

fn sqlite_url(path: &Path) -> String {
    let escaped = path.display().to_string().replace('%', "%25").replace('?', "%3F").replace('#', "%23");
    format!("sqlite://{escaped}?mode=rwc")
}

fn secret(values: &Values, name: &'static str) -> Result<Option<SecretString>, ConfigError> {
    values.optional(name, "a text without spaces", |text| {
        (!text.is_empty() && !text.contains(char::is_whitespace)).then(|| SecretString::from(text))
    })
}

fn breaker(values: &Values) -> Result<BreakerSettings, ConfigError> {
    Ok(BreakerSettings {
        failures: values.number("breaker.failures", 1..=1_000, "1 to 1000")?,
        open_ms: values.number("breaker.open_ms", 1..=3_600_000, "1 to 3600000 milliseconds")?,
    })
}

fn timeouts(values: &Values) -> Result<Timeouts, ConfigError> {
    let millis = |name| values.number(name, 1..=3_600_000, "1 to 3600000 milliseconds");
    Ok(Timeouts {
        connect_ms: millis("timeouts.connect_ms")?,
        headers_ms: millis("timeouts.headers_ms")?,
        first_token_ms: millis("timeouts.first_token_ms")?,
        idle_ms: millis("timeouts.idle_ms")?,
        total_ms: millis("timeouts.total_ms")?,
    })
}

fn max_budget(values: &Values) -> Result<Option<NanoDollars>, ConfigError> {
    let cap = values.optional("routing.default_max_budget_usd", "dollars, 0 to 100", budget)?;
    // As in a request, 0 is no cap.
    Ok(cap.filter(|cap| cap.0 > 0))
}

fn hedge_after_ms(values: &Values) -> Result<Option<u64>, ConfigError> {
    let in_range = |text: &str| text.parse().ok().filter(|millis| *millis <= limits::POLICY_LATENCY_MS_MAX);
    let given = values.optional("routing.hedge_after_ms", "0 to 300000 milliseconds", in_range)?;
    Ok(given.filter(|millis| *millis > 0))
}

const LATENCIES_MS: RangeInclusive<u64> = 1..=limits::POLICY_LATENCY_MS_MAX;
const LATENCIES_RULE: &str = "1 to 300000 milliseconds";
const PROFILES: &str = "cheap, normal, high_confidence, planning, adversarial or thompson";

fn up(values: &Values) -> Result<UpSettings, ConfigError> {
    let port = |name| values.optional(name, "a port", |text| text.parse::<u16>().ok());
    let path = |name| values.text(name).map(PathBuf::from);
    let switched_off = values.optional("temporal.enabled", "true or false", boolean)? == Some(false);
    Ok(UpSettings {
        temporal_server: !switched_off && values.get("temporal.address").is_none(),
        temporal_port: port("up.temporal_port")?,
        temporal_ui_port: port("up.temporal_ui_port")?,
        local_model_port: port("up.local_model_port")?.unwrap_or(0),
        demo_port: port("up.demo_port")?.unwrap_or(0),
        local_model: values.required("up.local_model", "true or false", boolean)?,
        local_model_python: path("up.local_model_python"),
        temporal_bin: path("up.temporal_bin"),
        worker_bin: path("up.worker_bin"),
    })
}
