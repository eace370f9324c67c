//! One child process: started with an explicit environment, killed by pid, gone when the handle is.

use std::{
    collections::BTreeMap,
    fs::File,
    future::Future,
    net::TcpListener,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU16, Ordering},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill, killpg},
    unistd::Pid,
};

#[derive(Clone, Copy)]
enum Group {
    Ours,
    Own,
}

/// A running program of ours or of others.
pub struct Process {
    child: Child,
    name: String,
    log: PathBuf,
    group: Group,
}

impl Process {
    /// Starts `program` with exactly `environment` (and PATH), its output in a file of `log_dir`.
    pub fn start(
        name: &str,
        program: &Path,
        arguments: &[String],
        environment: &BTreeMap<String, String>,
        log_dir: &Path,
    ) -> Self {
        Self::start_in(name, program, arguments, environment, log_dir, Group::Ours)
    }

    /// The same as the leader of a process group of its own, as a shell starts a foreground job.
    pub fn start_group(
        name: &str,
        program: &Path,
        arguments: &[String],
        environment: &BTreeMap<String, String>,
        log_dir: &Path,
    ) -> Self {
        Self::start_in(name, program, arguments, environment, log_dir, Group::Own)
    }

    fn start_in(
        name: &str,
        program: &Path,
        arguments: &[String],
        environment: &BTreeMap<String, String>,
        log_dir: &Path,
        group: Group,
    ) -> Self {
        let log = log_dir.join(format!("{name}-{}.log", uuid::Uuid::now_v7().simple()));
        let file = File::create(&log).unwrap();
        let mut command = Command::new(program);
        if let Group::Own = group {
            command.process_group(0);
        }
        let child = command
            .args(arguments)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", log_dir)
            .envs(environment)
            .current_dir(log_dir)
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap_or_else(|error| panic!("{} does not start: {error}", program.display()));
        Self { child, name: name.to_owned(), log, group }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it printed so far.
    pub fn output(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let _ = kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), signal);
    }

    /// Sends a signal to the whole group of a process from [`Self::start_group`].
    pub fn signal_group(&self, signal: Signal) {
        let _ = killpg(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), signal);
    }

    /// SIGKILL, and waits until the process is gone.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// SIGTERM, and waits for a clean exit.
    pub async fn stop(mut self, patience: Duration) {
        if self.exited() {
            return;
        }
        // A stopped process would never see the signal, and one that has only just been started dies of it.
        self.signal(Signal::SIGCONT);
        let deadline = Instant::now() + patience;
        while !self.catches(Signal::SIGTERM) && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.signal(Signal::SIGTERM);
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait().unwrap() {
                assert!(status.success(), "{} ended with {status}:\n{}", self.name, self.output());
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{} did not stop within {patience:?}:\n{}", self.name, self.output());
    }

    /// Whether it has a handler for a signal, which bit of a mask in `/proc` says; true of one that is gone.
    fn catches(&self, signal: Signal) -> bool {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
        let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
        mask.is_none_or(|mask| mask >> (signal as i32 - 1) & 1 == 1)
    }

    /// Waits until something listens on all of these loopback ports; false when the process ended instead.
    pub async fn listens(&mut self, ports: &[u16], patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline {
            let mut all = true;
            for port in ports {
                all &= tokio::net::TcpStream::connect(("127.0.0.1", *port)).await.is_ok();
            }
            // Asked last: a listener may be somebody else's.
            if self.exited() {
                return false;
            }
            if all {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{} does not listen on {ports:?} within {patience:?}:\n{}", self.name, self.output());
    }

    /// Whether it has ended by itself.
    pub fn exited(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|status| status.is_some())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Group::Own = self.group {
            // A supervisor ends its children itself; killed, it would leave them.
            self.signal_group(Signal::SIGINT);
            let deadline = Instant::now() + Duration::from_secs(30);
            while !self.exited() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(50));
            }
        }
        self.kill();
        if std::thread::panicking() {
            let output = self.output();
            let tail: Vec<&str> = output.lines().rev().take(60).collect();
            eprintln!("--- {} (last lines)\n{}", self.name, tail.into_iter().rev().collect::<Vec<_>>().join("\n"));
        }
    }
}

/// A binary of this workspace, built beside the test.
pub fn binary(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test.parent().and_then(Path::parent).unwrap().join(name);
    assert!(path.exists(), "{} is missing: build the workspace's binaries first (make test does)", path.display());
    path
}

/// A port that was free a moment ago, for programs that cannot pick one themselves. It lies below those that the system
/// gives to outgoing connections, which would take it before the program does, and this process hands it out once.
pub fn free_port() -> u16 {
    const PORTS: std::ops::Range<u16> = 10_000..32_000;
    static HANDED_OUT: AtomicU16 = AtomicU16::new(0);
    // Test processes that run beside each other begin at different places.
    let start = std::process::id().wrapping_mul(97);
    loop {
        let place = start.wrapping_add(u32::from(HANDED_OUT.fetch_add(1, Ordering::Relaxed)));
        let port = PORTS.start + u16::try_from(place % u32::from(PORTS.end - PORTS.start)).unwrap();
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// Waits until `check` gives a value.
pub async fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
    patience: Duration,
    mut check: impl FnMut() -> F,
) -> T {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(value) = check().await {
            return value;
        }
        assert!(Instant::now() < deadline, "{what}: not within {patience:?}");
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}
