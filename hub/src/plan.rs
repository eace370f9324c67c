//! What this `up` will start, decided from the configuration before anything is started.
//!
//! Owns the choice (own Temporal or the named one, local and demo models or the operator's) and the environment that
//! every part sees, so that the API in this process and the worker beside it read the same configuration.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::Context;
use tokenhub_config::{Environment, Flags, Loaded, Origin, flags_as_variables};

use crate::{
    banner::api_url,
    demo_models::DemoModels,
    ephemeral::{self, Ephemeral},
    local_model::{HOW_TO_INSTALL, LocalModel},
    parts,
    supervise::{Lifeline, OnReload, Output, Part},
    temporal_server::TemporalServer,
};

/// Beyond its grace a worker needs this long to write its last rows.
const WORKER_MARGIN: Duration = Duration::from_secs(5);
/// Settings of a connection to another server; ours speaks plain text on loopback.
const CONNECTION_VARIABLES: [&str; 5] =
    ["TEMPORAL_TLS", "TEMPORAL_API_KEY", "TEMPORAL_PROFILE", "TEMPORAL_CONFIG_FILE", "TEMPORAL_GRPC_META_"];

/// The parts to start.
#[derive(Debug)]
pub(crate) struct Plan {
    /// What every part sees.
    pub(crate) environment: Environment,
    pub(crate) temporal: Option<TemporalServer>,
    pub(crate) local_model: Option<LocalModel>,
    pub(crate) demo_models: Option<DemoModels>,
    pub(crate) offered: Ephemeral,
    pub(crate) notes: Vec<String>,
}

impl Plan {
    /// Decides, and takes the ports. The demo server, which is part of this process, runs when this returns.
    pub(crate) async fn make(loaded: &Loaded, environment: Environment, api: SocketAddr) -> anyhow::Result<Self> {
        let settings = &loaded.settings;
        let mut plan = Self {
            environment,
            temporal: None,
            local_model: None,
            demo_models: None,
            offered: Ephemeral::default(),
            notes: Vec::new(),
        };
        plan.set("TOKENHUB_DATA_DIR", settings.data_dir.display().to_string());
        let grace = loaded.origins.of("worker.grace_secs");
        if grace.is_none_or(|row| row.origin == Origin::Default) {
            // Who presses Ctrl-C waits for the API's drain; a worker's usual grace is the longest provider call.
            plan.set("TOKENHUB_WORKER_GRACE_SECS", settings.shutdown_drain_secs.to_string());
        }
        if settings.up.temporal_server {
            let mut server = TemporalServer::plan(&settings.up, &plan.environment)?;
            if !settings.payload_keys.is_empty() {
                let endpoint = format!("{}/admin/v1/codec", api_url(api));
                plan.notes
                    .push(format!("payloads at Temporal are encrypted; to read them in its UI, sign in at {endpoint}"));
                server.codec_endpoint = Some(endpoint);
            }
            plan.use_own_temporal(server);
        }
        if !settings.has_configured_provider() {
            plan.offer_models(loaded).await?;
        }
        Ok(plan)
    }

    fn use_own_temporal(&mut self, server: TemporalServer) {
        let foreign: Vec<String> = self
            .environment
            .iter()
            .map(|(name, _)| name.to_owned())
            .filter(|name| CONNECTION_VARIABLES.iter().any(|prefix| name.starts_with(prefix)))
            .collect();
        for name in foreign {
            self.environment = std::mem::take(&mut self.environment).without(&name);
        }
        self.set("TEMPORAL_ADDRESS", server.address());
        if self.environment.get("TOKENHUB_TEMPORAL_UI_URL").is_none() {
            self.set("TOKENHUB_TEMPORAL_UI_URL", server.ui_url());
        }
        self.temporal = Some(server);
    }

    async fn offer_models(&mut self, loaded: &Loaded) -> anyhow::Result<()> {
        let up = &loaded.settings.up;
        if up.local_model {
            self.local_model = LocalModel::plan(up, &self.environment).await?;
            match &self.local_model {
                Some(model) => self.offered.local = Some(model.base_url()),
                None => self.notes.push(HOW_TO_INSTALL.to_owned()),
            }
        }
        let demo = DemoModels::start(up.demo_port).await?;
        self.offered.demo = Some((demo.base_url(), DemoModels::models()));
        self.demo_models = Some(demo);
        let offered = self.offered.to_json();
        self.set(ephemeral::VARIABLE, offered);
        Ok(())
    }

    fn set(&mut self, name: &str, value: String) {
        self.environment = std::mem::take(&mut self.environment).with(name, value);
    }
}

/// The worker as a part: our environment, our flags as variables, and a pipe that ends with us.
pub(crate) fn worker_part(
    loaded_worker_bin: Option<PathBuf>,
    grace_secs: u64,
    flags: &Flags,
    environment: &Environment,
) -> anyhow::Result<Part> {
    let program = match loaded_worker_bin {
        Some(program) => program,
        None => parts::sibling_program("tokenhub-worker").context("cannot find our own program")?,
    };
    let mut variables: BTreeMap<String, String> =
        environment.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    for (name, value) in flags_as_variables(flags) {
        // A flag wins over its variable, and over the file variant that would contradict it.
        variables.remove(&format!("{name}_FILE"));
        variables.insert(name.to_owned(), value);
    }
    variables
        .insert("TOKENHUB_DATA_DIR".to_owned(), environment.get("TOKENHUB_DATA_DIR").unwrap_or_default().to_owned());
    variables.insert("TOKENHUB_PARENT_PIPE".to_owned(), "1".to_owned());
    Ok(Part {
        name: "worker",
        program,
        arguments: Vec::new(),
        environment: variables,
        lifeline: Lifeline::Pipe,
        output: Output::Inherited,
        patience: Duration::from_secs(grace_secs) + WORKER_MARGIN,
        on_reload: OnReload::HangUp,
    })
}
