//! Child processes: started with an explicit environment, their output in files, gone when the handle is.

use std::{
    collections::BTreeMap,
    fs::File,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};

/// Between two looks at something that is about to be there.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// A running program.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    name: String,
    log: PathBuf,
}

/// How a program is to be run.
pub(crate) struct Launch<'a> {
    /// What its log is called.
    pub(crate) name: &'a str,
    /// The program.
    pub(crate) program: &'a Path,
    /// Its arguments.
    pub(crate) arguments: &'a [String],
    /// Its environment, beside PATH.
    pub(crate) environment: &'a BTreeMap<String, String>,
    /// Where it runs and where its log is.
    pub(crate) folder: &'a Path,
}

impl Process {
    /// Starts it.
    pub(crate) fn start(launch: &Launch<'_>) -> anyhow::Result<Self> {
        let log = launch.folder.join(format!("{}-{}.log", launch.name, uuid::Uuid::now_v7().simple()));
        let file = File::create(&log)?;
        let child = Command::new(launch.program)
            .args(launch.arguments)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", launch.folder)
            .envs(launch.environment)
            .current_dir(launch.folder)
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("starting {}", launch.program.display()))?;
        Ok(Self { child, name: launch.name.to_owned(), log })
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it printed so far.
    pub(crate) fn output(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The end of what it printed, under its name.
    pub(crate) fn last_lines(&self) -> String {
        const LINES: usize = 8;
        let output = self.output();
        let lines: Vec<&str> = output.lines().collect();
        let tail = &lines[lines.len().saturating_sub(LINES)..];
        format!("--- {}\n{}\n", self.name, tail.join("\n"))
    }

    /// kill -9, and waits until it is gone.
    pub(crate) fn kill(&mut self) {
        // Fails only for a process that has ended, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Waits until `find` finds something in what it printed.
    pub(crate) async fn printed<T>(
        &mut self,
        patience: Duration,
        find: impl Fn(&str) -> Option<T>,
    ) -> anyhow::Result<T> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(found) = find(&self.output()) {
                return Ok(found);
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended with {status}:\n{}", self.name, self.output());
            }
            if Instant::now() > deadline {
                bail!("{} did not say within {patience:?} that it is ready:\n{}", self.name, self.output());
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Waits until something listens at `address`.
pub(crate) async fn listens(address: &str, patience: Duration) -> anyhow::Result<()> {
    let deadline = Instant::now() + patience;
    while tokio::net::TcpStream::connect(address).await.is_err() {
        if Instant::now() > deadline {
            bail!("nothing listens at {address} after {patience:?}");
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
    Ok(())
}

/// A port that was free a moment ago, for programs that cannot pick one themselves.
pub(crate) fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// A program of this workspace, built beside the bench.
pub(crate) fn sibling(name: &str) -> anyhow::Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name(name);
    if !path.is_file() {
        bail!("{} is missing: `make bench` builds it", path.display());
    }
    Ok(path)
}

/// A program on PATH.
pub(crate) fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|candidate| candidate.is_file())
}
