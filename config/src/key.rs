//! The table of settings: one row each, with every name it goes by and its default.
//!
//! Owns names and defaults, nothing else; the layers search by it, the file is checked against it, and the list of
//! known variables is tested against it.

/// Whether a value may be shown and may stand in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Secrecy {
    /// Shown as it is.
    Open,
    /// An address that may carry a password: shown without it, `X_FILE` accepted.
    Url,
    /// Never shown, only by reference in a file, `X_FILE` accepted.
    Secret,
}

/// One setting.
#[derive(Debug)]
pub(crate) struct Key {
    /// Its path in `tokenhub.toml`.
    pub(crate) name: &'static str,
    /// Its flag, without the dashes.
    pub(crate) flag: Option<&'static str>,
    /// Its variables, the one that wins first.
    pub(crate) variables: &'static [&'static str],
    /// Its value when nobody says anything.
    pub(crate) default: Option<&'static str>,
    pub(crate) secrecy: Secrecy,
}

const fn key(name: &'static str, variables: &'static [&'static str], default: &'static str) -> Key {
    Key { name, flag: None, variables, default: Some(default), secrecy: Secrecy::Open }
}

const fn optional(name: &'static str, variables: &'static [&'static str]) -> Key {
    Key { name, flag: None, variables, default: None, secrecy: Secrecy::Open }
}

impl Key {
    const fn flag(mut self, flag: &'static str) -> Self {
        self.flag = Some(flag);
        self
    }

    const fn secrecy(mut self, secrecy: Secrecy) -> Self {
        self.secrecy = secrecy;
        self
    }
}

/// Every setting, in the order in which they are shown. A variable that ends in `_SECS` sets a name that ends in
/// `_ms` after multiplication: the unit is always the last word.
pub(crate) const KEYS: &[Key] = &[
    key("listen_addr", &["TOKENHUB_LISTEN_ADDR"], "127.0.0.1:8080").flag("listen"),
    optional("api.threads", &["TOKENHUB_API_THREADS"]),
    key("data_dir", &["TOKENHUB_DATA_DIR"], "./data").flag("data-dir"),
    optional("database_url", &["DATABASE_URL", "TOKENHUB_DB_DSN"]).flag("database-url").secrecy(Secrecy::Url),
    optional("client_key", &["TOKENHUB_CLIENT_KEY"]).secrecy(Secrecy::Secret),
    optional("client_key_list", &["TOKENHUB_CLIENT_KEYS"]).secrecy(Secrecy::Secret),
    optional("admin_token", &["TOKENHUB_ADMIN_TOKEN"]).secrecy(Secrecy::Secret),
    optional("secret_key", &["TOKENHUB_SECRET_KEY"]).secrecy(Secrecy::Secret),
    key("cors_origins", &["TOKENHUB_CORS_ORIGINS"], "*"),
    optional("codec_cors_origin", &["TOKENHUB_CODEC_CORS_ORIGIN"]),
    optional("credentials_file", &["TOKENHUB_CREDENTIALS_FILE"]).flag("credentials-file"),
    key("shutdown_drain_secs", &["TOKENHUB_SHUTDOWN_DRAIN_SECS"], "30"),
    key("log.level", &["TOKENHUB_LOG_LEVEL", "RUST_LOG"], "info").flag("log-level"),
    key("log.format", &["TOKENHUB_LOG_FORMAT"], "text").flag("log-format"),
    optional("temporal.enabled", &["TOKENHUB_TEMPORAL_ENABLED"]).flag("no-temporal"),
    optional("temporal.address", &["TEMPORAL_ADDRESS", "TOKENHUB_TEMPORAL_HOST"]).flag("temporal-address"),
    key("temporal.namespace", &["TEMPORAL_NAMESPACE", "TOKENHUB_TEMPORAL_NAMESPACE"], "default")
        .flag("temporal-namespace"),
    key("temporal.task_queue", &["TOKENHUB_TEMPORAL_TASK_QUEUE"], "tokenhub").flag("temporal-task-queue"),
    optional("temporal.ui_url", &["TOKENHUB_TEMPORAL_UI_URL"]),
    optional("temporal.payload_keys", &["TOKENHUB_PAYLOAD_KEYS"]).secrecy(Secrecy::Secret),
    key("temporal.start_deadline_ms", &["TOKENHUB_START_DEADLINE_MS"], "1000"),
    key("temporal.execution_grace_ms", &["TOKENHUB_EXECUTION_GRACE_MS"], "720000"),
    key("breaker.failures", &["TOKENHUB_BREAKER_FAILURES"], "3"),
    key("breaker.open_ms", &["TOKENHUB_BREAKER_OPEN_MS"], "30000"),
    key("timeouts.connect_ms", &["TOKENHUB_CONNECT_TIMEOUT_MS", "TOKENHUB_CONNECT_TIMEOUT_SECS"], "5000"),
    key("timeouts.headers_ms", &["TOKENHUB_HEADERS_TIMEOUT_MS", "TOKENHUB_HEADERS_TIMEOUT_SECS"], "60000"),
    key("timeouts.first_token_ms", &["TOKENHUB_FIRST_TOKEN_TIMEOUT_MS", "TOKENHUB_FIRST_TOKEN_TIMEOUT_SECS"], "120000"),
    key("timeouts.idle_ms", &["TOKENHUB_IDLE_TIMEOUT_MS", "TOKENHUB_IDLE_TIMEOUT_SECS"], "60000"),
    key("timeouts.total_ms", &["TOKENHUB_TOTAL_TIMEOUT_MS", "TOKENHUB_PROVIDER_TIMEOUT_SECS"], "600000"),
    key("routing.probe_interval_secs", &["TOKENHUB_PROBE_INTERVAL_SECS"], "30"),
    key("routing.penalties", &["TOKENHUB_PENALTIES"], "true"),
    optional("routing.hedge_after_ms", &["TOKENHUB_HEDGE_AFTER_MS"]),
    key("routing.default_profile", &["TOKENHUB_DEFAULT_MODE"], "normal"),
    key("routing.live_signals", &["TOKENHUB_LIVE_SIGNALS"], "true"),
    key("routing.exploration_temperature", &["TOKENHUB_EXPLORATION_TEMPERATURE", "TOKENHUB_EXPLORATION_TEMP"], "0"),
    optional("routing.default_max_budget_usd", &["TOKENHUB_DEFAULT_MAX_BUDGET_USD"]),
    key("routing.default_max_latency_ms", &["TOKENHUB_DEFAULT_MAX_LATENCY_MS"], "120000"),
    optional("webhooks.secret", &["TOKENHUB_WEBHOOK_SECRET"]).secrecy(Secrecy::Secret),
    optional("webhooks.allowed_hosts", &["TOKENHUB_WEBHOOK_ALLOWED_HOSTS"]),
    key("webhooks.retry_ms", &["TOKENHUB_WEBHOOK_RETRY_MS"], "5000"),
    optional("verifiers.hosts", &["TOKENHUB_VERIFIER_HOSTS"]),
    key("verifiers.timeout_ms", &["TOKENHUB_VERIFIER_TIMEOUT_MS"], "10000"),
    key("events.streams_max", &["TOKENHUB_EVENT_STREAMS_MAX"], "10000"),
    key("events.streams_per_key_max", &["TOKENHUB_EVENT_STREAMS_PER_KEY_MAX"], "1000"),
    key("worker.grace_secs", &["TOKENHUB_WORKER_GRACE_SECS"], "620"),
    key("worker.activity_slots", &["TOKENHUB_WORKER_ACTIVITY_SLOTS"], "400"),
    key("worker.local_activity_slots", &["TOKENHUB_WORKER_LOCAL_ACTIVITY_SLOTS"], "200"),
    key("worker.workflow_slots", &["TOKENHUB_WORKER_WORKFLOW_SLOTS"], "100"),
    key("worker.threads", &["TOKENHUB_WORKER_THREADS"], "1"),
    key("worker.cached_workflows", &["TOKENHUB_WORKER_CACHED_WORKFLOWS"], "1000"),
    optional("worker.metrics_addr", &["TOKENHUB_WORKER_METRICS_ADDR"]),
    optional("worker.deployment", &["TOKENHUB_WORKER_DEPLOYMENT"]),
    optional("worker.build_id", &["TOKENHUB_BUILD_ID"]),
    key("worker.promote", &["TOKENHUB_WORKER_PROMOTE"], "false"),
    optional("up.temporal_port", &["TOKENHUB_TEMPORAL_PORT"]).flag("temporal-port"),
    optional("up.temporal_ui_port", &["TOKENHUB_TEMPORAL_UI_PORT"]).flag("temporal-ui-port"),
    key("up.local_model_port", &["TOKENHUB_LOCAL_MODEL_PORT"], "0").flag("local-model-port"),
    key("up.demo_port", &["TOKENHUB_DEMO_PORT"], "0").flag("demo-port"),
    key("up.local_model", &["TOKENHUB_LOCAL_MODEL"], "true").flag("no-local-model"),
    optional("up.local_model_python", &["TOKENHUB_LOCAL_MODEL_PYTHON"]),
    optional("up.temporal_bin", &["TOKENHUB_TEMPORAL_BIN"]),
    optional("up.worker_bin", &["TOKENHUB_WORKER_BIN"]),
];

/// The row of one setting.
pub(crate) fn key_named(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}
