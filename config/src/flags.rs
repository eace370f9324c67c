//! The command line as a layer of the configuration.
//!
//! Owns the flags that every binary shares. A flag only carries text; the loader parses it, so that a wrong value is
//! refused in the same words wherever it came from.

use std::{collections::BTreeMap, path::PathBuf};

use crate::key::KEYS;

/// Values by flag name, without the dashes. `no-temporal` and `no-local-model` carry `false`, the value they set.
pub type Flags = BTreeMap<&'static str, String>;

/// What every binary takes.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct SharedFlags {
    /// Configuration file (`TOKENHUB_CONFIG`; `tokenhub.toml` of the working directory when there is one)
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where database, spool and key files are kept (`TOKENHUB_DATA_DIR`)
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Database to use instead of the one in the data directory (`DATABASE_URL`)
    #[arg(long, value_name = "URL")]
    pub database_url: Option<String>,
    /// JSON file of providers and models (`TOKENHUB_CREDENTIALS_FILE`)
    #[arg(long, value_name = "FILE")]
    pub credentials_file: Option<PathBuf>,
    /// Temporal server, host:port (`TEMPORAL_ADDRESS`)
    #[arg(long, value_name = "ADDR")]
    pub temporal_address: Option<String>,
    /// Temporal namespace (`TEMPORAL_NAMESPACE`)
    #[arg(long, value_name = "NAME")]
    pub temporal_namespace: Option<String>,
    /// Temporal task queue (`TOKENHUB_TEMPORAL_TASK_QUEUE`)
    #[arg(long, value_name = "NAME")]
    pub temporal_task_queue: Option<String>,
    /// Log filter, such as `info` or `tokenhub_api=debug` (`TOKENHUB_LOG_LEVEL`)
    #[arg(long, value_name = "FILTER")]
    pub log_level: Option<String>,
    /// `text` or `json` (`TOKENHUB_LOG_FORMAT`)
    #[arg(long, value_name = "FORMAT")]
    pub log_format: Option<String>,
    /// Answer without Temporal (`TOKENHUB_TEMPORAL_ENABLED=false`)
    #[arg(long)]
    pub no_temporal: bool,
}

impl SharedFlags {
    /// The flags that were given, as a layer.
    pub fn into_flags(self) -> Flags {
        let path = |path: Option<PathBuf>| path.map(|path| path.display().to_string());
        [
            ("config", path(self.config)),
            ("data-dir", path(self.data_dir)),
            ("database-url", self.database_url),
            ("credentials-file", path(self.credentials_file)),
            ("temporal-address", self.temporal_address),
            ("temporal-namespace", self.temporal_namespace),
            ("temporal-task-queue", self.temporal_task_queue),
            ("log-level", self.log_level),
            ("log-format", self.log_format),
            ("no-temporal", self.no_temporal.then(|| "false".to_owned())),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .collect()
    }
}

/// What the binaries that serve HTTP take besides.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct ListenFlags {
    /// Address to listen on; port 0 takes a free one (`TOKENHUB_LISTEN_ADDR`)
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<String>,
}

impl ListenFlags {
    /// Adds the flag, when it was given.
    pub fn add_to(self, flags: &mut Flags) {
        if let Some(listen) = self.listen {
            flags.insert("listen", listen);
        }
    }
}

/// The same settings as environment variables, for a child process.
pub fn flags_as_variables(flags: &Flags) -> BTreeMap<&'static str, String> {
    flags
        .iter()
        .filter_map(|(flag, value)| {
            let variable = match *flag {
                "config" => Some("TOKENHUB_CONFIG"),
                other => KEYS.iter().find(|key| key.flag == Some(other)).and_then(|key| key.variables.first().copied()),
            };
            Some((variable?, value.clone()))
        })
        .collect()
}
