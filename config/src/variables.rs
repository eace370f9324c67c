//! Every environment variable that means something to TokenHub.
//!
//! Owns the list that deployment files are checked against and the warnings for names that nobody reads: a misspelt
//! variable is otherwise a default that looks like a decision.

use crate::{Environment, file::nearest};

/// Every variable that some process of this build reads.
pub const KNOWN_VARIABLES: &[&str] = &[
    "ANTHROPIC_API_KEY",
    "ANTHROPIC_API_KEY_FILE",
    "ANTHROPIC_BASE_URL",
    "DATABASE_URL",
    "DATABASE_URL_FILE",
    "OPENAI_API_KEY",
    "OPENAI_API_KEY_FILE",
    "OPENAI_BASE_URL",
    "OPENROUTER_API_KEY",
    "OPENROUTER_API_KEY_FILE",
    "OPENROUTER_BASE_URL",
    "RUST_LOG",
    "TEMPORAL_ADDRESS",
    "TEMPORAL_API_KEY",
    "TEMPORAL_CODEC_AUTH",
    "TEMPORAL_CODEC_ENDPOINT",
    "TEMPORAL_CONFIG_FILE",
    "TEMPORAL_NAMESPACE",
    "TEMPORAL_PROFILE",
    "TEMPORAL_TLS",
    "TEMPORAL_TLS_CLIENT_CERT_DATA",
    "TEMPORAL_TLS_CLIENT_CERT_PATH",
    "TEMPORAL_TLS_CLIENT_KEY_DATA",
    "TEMPORAL_TLS_CLIENT_KEY_PATH",
    "TEMPORAL_TLS_DISABLE_HOST_VERIFICATION",
    "TEMPORAL_TLS_SERVER_CA_CERT_DATA",
    "TEMPORAL_TLS_SERVER_CA_CERT_PATH",
    "TEMPORAL_TLS_SERVER_NAME",
    "TOKENHUB_ADMIN_TOKEN",
    "TOKENHUB_ADMIN_TOKEN_FILE",
    "TOKENHUB_API_THREADS",
    "TOKENHUB_BREAKER_FAILURES",
    "TOKENHUB_BREAKER_OPEN_MS",
    "TOKENHUB_BUILD_ID",
    "TOKENHUB_CLIENT_KEY",
    "TOKENHUB_CLIENT_KEYS",
    "TOKENHUB_CLIENT_KEYS_FILE",
    "TOKENHUB_CLIENT_KEY_FILE",
    "TOKENHUB_CODEC_CORS_ORIGIN",
    "TOKENHUB_CONFIG",
    "TOKENHUB_CONNECT_TIMEOUT_MS",
    "TOKENHUB_CONNECT_TIMEOUT_SECS",
    "TOKENHUB_CORS_ORIGINS",
    "TOKENHUB_CREDENTIALS_FILE",
    "TOKENHUB_DATA_DIR",
    "TOKENHUB_DB_DSN",
    "TOKENHUB_DB_DSN_FILE",
    "TOKENHUB_DEFAULT_MAX_BUDGET_USD",
    "TOKENHUB_DEFAULT_MAX_LATENCY_MS",
    "TOKENHUB_DEFAULT_MODE",
    "TOKENHUB_DEMO_PORT",
    "TOKENHUB_EPHEMERAL_PROVIDERS",
    "TOKENHUB_EVENT_STREAMS_MAX",
    "TOKENHUB_EVENT_STREAMS_PER_KEY_MAX",
    "TOKENHUB_EXECUTION_GRACE_MS",
    "TOKENHUB_EXPLORATION_TEMP",
    "TOKENHUB_EXPLORATION_TEMPERATURE",
    "TOKENHUB_FIRST_TOKEN_TIMEOUT_MS",
    "TOKENHUB_FIRST_TOKEN_TIMEOUT_SECS",
    "TOKENHUB_HEADERS_TIMEOUT_MS",
    "TOKENHUB_HEADERS_TIMEOUT_SECS",
    "TOKENHUB_HEDGE_AFTER_MS",
    "TOKENHUB_IDLE_TIMEOUT_MS",
    "TOKENHUB_IDLE_TIMEOUT_SECS",
    "TOKENHUB_LISTEN_ADDR",
    "TOKENHUB_LIVE_SIGNALS",
    "TOKENHUB_LOCAL_MODEL",
    "TOKENHUB_LOCAL_MODEL_PORT",
    "TOKENHUB_LOCAL_MODEL_PYTHON",
    "TOKENHUB_LOG_FORMAT",
    "TOKENHUB_LOG_LEVEL",
    "TOKENHUB_PARENT_PIPE",
    "TOKENHUB_PAYLOAD_KEYS",
    "TOKENHUB_PAYLOAD_KEYS_FILE",
    "TOKENHUB_PENALTIES",
    "TOKENHUB_PROBE_INTERVAL_SECS",
    "TOKENHUB_PROVIDER_TIMEOUT_SECS",
    "TOKENHUB_SECRET_KEY",
    "TOKENHUB_SECRET_KEY_FILE",
    "TOKENHUB_SHUTDOWN_DRAIN_SECS",
    "TOKENHUB_START_DEADLINE_MS",
    "TOKENHUB_TEMPORAL_BIN",
    "TOKENHUB_TEMPORAL_ENABLED",
    "TOKENHUB_TEMPORAL_HOST",
    "TOKENHUB_TEMPORAL_NAMESPACE",
    "TOKENHUB_TEMPORAL_PORT",
    "TOKENHUB_TEMPORAL_TASK_QUEUE",
    "TOKENHUB_TEMPORAL_UI_PORT",
    "TOKENHUB_TEMPORAL_UI_URL",
    "TOKENHUB_TOTAL_TIMEOUT_MS",
    "TOKENHUB_VERIFIER_HOSTS",
    "TOKENHUB_VERIFIER_TIMEOUT_MS",
    "TOKENHUB_WEBHOOK_ALLOWED_HOSTS",
    "TOKENHUB_WEBHOOK_RETRY_MS",
    "TOKENHUB_WEBHOOK_SECRET",
    "TOKENHUB_WEBHOOK_SECRET_FILE",
    "TOKENHUB_WORKER_ACTIVITY_SLOTS",
    "TOKENHUB_WORKER_BIN",
    "TOKENHUB_WORKER_CACHED_WORKFLOWS",
    "TOKENHUB_WORKER_DEPLOYMENT",
    "TOKENHUB_WORKER_GRACE_SECS",
    "TOKENHUB_WORKER_LOCAL_ACTIVITY_SLOTS",
    "TOKENHUB_WORKER_METRICS_ADDR",
    "TOKENHUB_WORKER_PROMOTE",
    "TOKENHUB_WORKER_THREADS",
    "TOKENHUB_WORKER_WORKFLOW_SLOTS",
];

/// Variables of TokenHub (Go) that have no meaning here yet.
const UNUSED: &[&str] = &[
    "TOKENHUB_ADMIN_RATE_LIMIT_BURST",
    "TOKENHUB_ADMIN_RATE_LIMIT_RPS",
    "TOKENHUB_HEALTH_PROBE_DISABLED",
    "TOKENHUB_MAX_HEDGED_PROVIDERS",
    "TOKENHUB_OTEL_ENABLED",
    "TOKENHUB_OTEL_ENDPOINT",
    "TOKENHUB_OTEL_SERVICE_NAME",
    "TOKENHUB_PRICING_REFRESH_ENABLED",
    "TOKENHUB_PRICING_REFRESH_INTERVAL_SECS",
    "TOKENHUB_RATE_LIMIT_BURST",
    "TOKENHUB_RATE_LIMIT_RPS",
    "TOKENHUB_VAULT_ENABLED",
    "TOKENHUB_VAULT_PASSWORD",
];

/// One line for each `TOKENHUB_` variable that nothing reads.
pub(crate) fn warnings(environment: &Environment) -> Vec<String> {
    environment
        .iter()
        .map(|(name, _)| name)
        .filter(|name| name.starts_with("TOKENHUB_") && !KNOWN_VARIABLES.contains(name))
        .map(|name| {
            if UNUSED.contains(&name) {
                return format!("{name} is not used by this build");
            }
            let near = nearest(name, KNOWN_VARIABLES.iter().copied());
            let suggestion = near.map_or(String::new(), |near| format!(", did you mean {near}?"));
            format!("{name} is not a variable of TokenHub{suggestion}")
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::{KEYS, Secrecy};

    #[test]
    fn the_list_is_sorted_and_holds_every_variable_of_every_setting() {
        assert!(KNOWN_VARIABLES.is_sorted());
        for key in KEYS {
            for variable in key.variables {
                assert!(KNOWN_VARIABLES.contains(variable), "{variable}");
                let file = format!("{variable}_FILE");
                assert_eq!(KNOWN_VARIABLES.contains(&file.as_str()), key.secrecy != Secrecy::Open, "{file}");
            }
        }
    }

    #[test]
    fn names_that_nothing_reads_are_reported() {
        let environment =
            Environment::from([("TOKENHUB_LISTEN_ADR", "x"), ("TOKENHUB_RATE_LIMIT_RPS", "1"), ("PATH", "/bin")]);
        let lines = warnings(&environment);
        assert_eq!(
            lines,
            [
                "TOKENHUB_LISTEN_ADR is not a variable of TokenHub, did you mean TOKENHUB_LISTEN_ADDR?",
                "TOKENHUB_RATE_LIMIT_RPS is not used by this build",
            ]
        );
    }
}
