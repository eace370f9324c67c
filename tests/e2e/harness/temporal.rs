//! A real Temporal dev server on a file database, which a test can kill, stop and bring back.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use super::process::{Process, free_port};

/// Without these every timer and retry costs a second, and every workflow task 50 ms; and tenants take no turns.
const TUNING: [&str; 8] = [
    "history.transferProcessorMaxPollRPS=5000",
    "history.timerProcessorMaxPollRPS=5000",
    "history.timerProcessorMaxTimeShift=\"1ms\"",
    "history.workflowIdReuseMinimalInterval=\"0s\"",
    "matching.numTaskqueueReadPartitions=1",
    "matching.numTaskqueueWritePartitions=1",
    "matching.useNewMatcher=true",
    "matching.enableFairness=true",
];

/// The server takes ports for its own parts, too, and ends when another program was faster.
const STARTS_MAX: usize = 3;
const START_PATIENCE: Duration = Duration::from_secs(30);

/// The server; its ports and its database stay the same over restarts.
pub struct TemporalServer {
    process: Option<Process>,
    port: u16,
    ui_port: u16,
    dir: PathBuf,
}

impl TemporalServer {
    /// Reserves ports in `dir` without starting anything.
    pub fn absent(dir: &Path) -> Self {
        Self { process: None, port: free_port(), ui_port: free_port(), dir: dir.to_owned() }
    }

    /// Starts the server and waits until it answers.
    pub async fn start(&mut self) {
        let program = which("temporal");
        let mut arguments: Vec<String> = [
            "server",
            "start-dev",
            "--ip",
            "127.0.0.1",
            "--log-level",
            "error",
            "--http-port",
            "0",
            "--sqlite-pragma",
            "journal_mode=WAL",
            "--sqlite-pragma",
            "synchronous=NORMAL",
        ]
        .map(str::to_owned)
        .to_vec();
        arguments.extend(["--port".to_owned(), self.port.to_string()]);
        arguments.extend(["--ui-port".to_owned(), self.ui_port.to_string()]);
        arguments.extend(["--db-filename".to_owned(), self.dir.join("temporal.db").display().to_string()]);
        for value in TUNING {
            arguments.extend(["--dynamic-config-value".to_owned(), value.to_owned()]);
        }
        for _ in 0..STARTS_MAX {
            let process = Process::start("temporal", &program, &arguments, &BTreeMap::new(), &self.dir);
            if self.process.insert(process).listens(&[self.port, self.ui_port], START_PATIENCE).await {
                return;
            }
        }
        panic!("Temporal does not start:\n{}", self.process().output());
    }

    /// `host:port` of the gRPC service.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Root of the web UI.
    pub fn ui_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.ui_port)
    }

    /// The running server.
    pub fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("Temporal is running")
    }

    /// kill -9.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
    }
}

/// The program `name` on PATH.
fn which(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|candidate| candidate.is_file())
        .unwrap_or_else(|| panic!("{name} is not on PATH: run the tests with `make test`"))
}
