//! One child process, kept alive until it is told to stop.
//!
//! Owns start, restart with backoff, and an end in two steps: SIGTERM to the child's own process group, SIGKILL when its
//! patience is over. Children are in groups of their own because Ctrl-C in a terminal reaches the whole foreground
//! group, and the parts have to end in order.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs::File,
    io,
    path::PathBuf,
    process::{ExitStatus, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use tokio::{
    process::{Child, ChildStdin, Command},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use crate::{backoff::Backoff, pid_files::PidFiles, signals::Signals};

/// Where a child writes.
#[derive(Clone, Debug)]
pub(crate) enum Output {
    /// Where we write: its lines are ours.
    Inherited,
    /// To a file that each start empties.
    File(PathBuf),
}

/// What a child has as standard input.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Lifeline {
    /// A pipe that we hold: its end tells the child that we are gone, even when we were killed.
    Pipe,
    /// Nothing: the program does not look at it.
    Null,
}

/// How to run one part.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub(crate) name: &'static str,
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<OsString>,
    /// The whole environment: nothing is inherited beside it.
    pub(crate) environment: BTreeMap<String, String>,
    pub(crate) lifeline: Lifeline,
    pub(crate) output: Output,
    /// How long it may take to end by itself.
    pub(crate) patience: Duration,
    /// What a reload means to it.
    pub(crate) on_reload: OnReload,
}

/// What a part does when the files are to be read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnReload {
    /// It hears a hang-up and reads them.
    HangUp,
    /// It reads none.
    Nothing,
}

/// A part that runs, or is about to run again.
#[derive(Debug)]
pub(crate) struct Running {
    name: &'static str,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    /// Starts `part`. The first start is tried here, so that a wrong program is an error and not a loop.
    pub(crate) fn start(part: Part, pid_files: Arc<PidFiles>, signals: Signals) -> io::Result<Self> {
        let first = spawn(&part, &pid_files)?;
        let (name, stop) = (part.name, CancellationToken::new());
        let task = tokio::spawn(keep_alive(part, first, pid_files, stop.clone(), signals));
        Ok(Self { name, stop, task })
    }

    /// Ends the part and waits until it has.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        if let Err(error) = self.task.await {
            tracing::error!(part = self.name, %error, "the supervision of a part failed");
        }
    }
}

/// A child and the end of the pipe that it may watch.
struct Spawned {
    child: Child,
    /// Kept here because waiting for a child closes the end that is left in it.
    lifeline: Option<ChildStdin>,
}

fn spawn(part: &Part, pid_files: &PidFiles) -> io::Result<Spawned> {
    let (out, err) = match &part.output {
        Output::Inherited => (Stdio::inherit(), Stdio::inherit()),
        Output::File(path) => {
            let file = File::create(path)?;
            (file.try_clone()?.into(), file.into())
        }
    };
    let stdin = match part.lifeline {
        Lifeline::Pipe => Stdio::piped(),
        Lifeline::Null => Stdio::null(),
    };
    let mut child = Command::new(&part.program)
        .args(&part.arguments)
        .env_clear()
        .envs(&part.environment)
        .stdin(stdin)
        .stdout(out)
        .stderr(err)
        .process_group(0)
        .kill_on_drop(true)
        .spawn()?;
    if let Some(pid) = child.id() {
        pid_files.write(part.name, pid)?;
        tracing::debug!(part = part.name, pid, "started");
    }
    let lifeline = child.stdin.take();
    Ok(Spawned { child, lifeline })
}

async fn keep_alive(part: Part, first: Spawned, pid_files: Arc<PidFiles>, stop: CancellationToken, signals: Signals) {
    let mut backoff = Backoff::new();
    let mut spawned = first;
    loop {
        let started = Instant::now();
        if live(&part, &mut spawned, &stop, &signals).await == Life::Ended {
            break;
        }
        let mut lived = started.elapsed();
        spawned = loop {
            let pause = backoff.pause_after(lived);
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stop.cancelled() => return pid_files.remove(part.name),
                () = signals.kill.cancelled() => return pid_files.remove(part.name),
            }
            match spawn(&part, &pid_files) {
                Ok(spawned) => break spawned,
                Err(error) => tracing::error!(part = part.name, %error, "cannot start"),
            }
            lived = Duration::ZERO;
        };
        tracing::info!(part = part.name, "started again");
    }
    pid_files.remove(part.name);
}

/// How a child's life ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    /// By itself.
    Died,
    /// Because we ended it.
    Ended,
}

/// Waits for the end of one child, and brings it about when asked.
async fn live(part: &Part, spawned: &mut Spawned, stop: &CancellationToken, signals: &Signals) -> Life {
    loop {
        tokio::select! {
            status = spawned.child.wait() => {
                report_death(part, status);
                return Life::Died;
            }
            () = stop.cancelled() => break,
            () = signals.kill.cancelled() => break,
            () = signals.reload.notified(), if part.on_reload == OnReload::HangUp => {
                signal_group(&spawned.child, Signal::SIGHUP);
            },
        }
    }
    end(part, spawned, &signals.kill).await;
    Life::Ended
}

fn report_death(part: &Part, status: io::Result<ExitStatus>) {
    let log = match &part.output {
        Output::Inherited => String::new(),
        Output::File(path) => format!(", see {}", path.display()),
    };
    match status {
        Ok(status) => tracing::warn!(part = part.name, %status, "ended, it is started again{log}"),
        Err(error) => tracing::error!(part = part.name, %error, "was lost, it is started again{log}"),
    }
}

async fn end(part: &Part, spawned: &mut Spawned, kill: &CancellationToken) {
    let Spawned { child, lifeline } = spawned;
    signal_group(child, if kill.is_cancelled() { Signal::SIGKILL } else { Signal::SIGTERM });
    // A child that sits in a read of its standard input could not end before the read does.
    drop(lifeline.take());
    let ended = tokio::select! {
        _ = child.wait() => true,
        () = tokio::time::sleep(part.patience) => false,
        () = kill.cancelled() => false,
    };
    if !ended {
        tracing::warn!(part = part.name, "did not end in time and is killed");
        signal_group(child, Signal::SIGKILL);
        let _ = child.wait().await;
    }
}

/// Signals the child's group. The id is none once the child was waited for, so a stranger is never hit.
fn signal_group(child: &Child, signal: Signal) {
    if let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()) {
        // A failure means that the group is gone, which is what a signal is for.
        let _ = killpg(Pid::from_raw(pid), signal);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    struct Stage {
        folder: PathBuf,
        pid_files: Arc<PidFiles>,
        signals: Signals,
    }

    impl Stage {
        fn new(name: &str) -> Self {
            let folder = std::env::temp_dir().join(format!("tokenhub-parts-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&folder);
            let pid_files = Arc::new(PidFiles::hold(&folder).unwrap());
            Self { folder, pid_files, signals: Signals::default() }
        }

        fn start(&self, script: &str, lifeline: Lifeline, patience: Duration) -> Running {
            let part = Part {
                name: "part",
                program: "/bin/sh".into(),
                arguments: vec!["-c".into(), script.into()],
                environment: BTreeMap::from([("PATH".into(), "/usr/bin:/bin".into()), ("GIVEN".into(), "yes".into())]),
                lifeline,
                output: Output::File(self.folder.join("out.log")),
                patience,
                on_reload: OnReload::HangUp,
            };
            Running::start(part, Arc::clone(&self.pid_files), self.signals.clone()).unwrap()
        }

        async fn until(&self, file: &str, holds: impl Fn(&str) -> bool) -> String {
            for _ in 0..400 {
                let text = fs::read_to_string(self.folder.join(file)).unwrap_or_default();
                if holds(&text) {
                    return text;
                }
                tokio::time::sleep(Duration::from_millis(25)).await;
            }
            panic!("{file} never got there");
        }
    }

    impl Drop for Stage {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.folder);
        }
    }

    #[tokio::test]
    async fn a_part_that_dies_is_started_again_with_its_own_environment_only() {
        let stage = Stage::new("again");
        let starts = stage.folder.join("starts");
        let script =
            format!("echo \"$GIVEN $HOME\" >> {0}; [ $(wc -l < {0}) -lt 3 ] || exec sleep 60", starts.display());
        let running = stage.start(&script, Lifeline::Null, Duration::from_secs(5));
        let text = stage.until("starts", |text| text.lines().count() == 3).await;
        assert_eq!(text, "yes \nyes \nyes \n");
        assert!(stage.folder.join("part.pid").exists());
        running.stop().await;
        assert!(!stage.folder.join("part.pid").exists());
    }

    #[tokio::test]
    async fn the_lifeline_lasts_as_long_as_the_supervision() {
        let stage = Stage::new("lifeline");
        // Ends when the other end of its standard input is gone; a start leaves a line.
        let starts = stage.folder.join("starts");
        let script = format!("echo start >> {}; exec cat", starts.display());
        let running = stage.start(&script, Lifeline::Pipe, Duration::from_secs(20));
        stage.until("starts", |text| text.contains("start")).await;
        tokio::time::sleep(Duration::from_millis(400)).await;
        assert_eq!(fs::read_to_string(&starts).unwrap(), "start\n");
        let Running { task, .. } = running;
        task.abort();
        // The aborted supervision drops the pipe and the child with it.
        assert!(task.await.unwrap_err().is_cancelled());
    }

    #[tokio::test]
    async fn a_part_that_reads_files_hears_a_reload() {
        let stage = Stage::new("reload");
        let script = "trap 'echo again' HUP; echo ready; while :; do sleep 0.05; done";
        let running = stage.start(script, Lifeline::Null, Duration::from_secs(20));
        stage.until("out.log", |text| text.contains("ready")).await;
        // The supervision is a task of its own; it has to be waiting to hear this.
        tokio::time::sleep(Duration::from_millis(100)).await;
        stage.signals.reload.notify_waiters();
        stage.until("out.log", |text| text.contains("again")).await;
        running.stop().await;
    }

    #[tokio::test]
    async fn a_part_is_asked_to_end_before_it_is_killed() {
        let stage = Stage::new("ends");
        let script = "trap 'echo asked; exit 0' TERM; echo ready; while :; do sleep 0.05; done";
        let running = stage.start(script, Lifeline::Null, Duration::from_secs(20));
        stage.until("out.log", |text| text.contains("ready")).await;
        running.stop().await;
        stage.until("out.log", |text| text.contains("asked")).await;
    }

    #[tokio::test]
    async fn a_part_that_does_not_listen_is_killed_when_its_patience_is_over_or_at_once_when_asked() {
        let stage = Stage::new("deaf");
        let script = "trap '' TERM; echo ready; while :; do sleep 0.05; done";
        let running = stage.start(script, Lifeline::Null, Duration::from_millis(100));
        stage.until("out.log", |text| text.contains("ready")).await;
        tokio::time::timeout(Duration::from_secs(10), running.stop()).await.unwrap();
        let running = stage.start(script, Lifeline::Null, Duration::from_mins(10));
        stage.until("out.log", |text| text.contains("ready")).await;
        stage.signals.kill.cancel();
        tokio::time::timeout(Duration::from_secs(10), running.stop()).await.unwrap();
    }

    #[tokio::test]
    async fn a_program_that_does_not_exist_is_an_error() {
        let stage = Stage::new("absent");
        let part = Part {
            name: "part",
            program: "/nowhere/program".into(),
            arguments: Vec::new(),
            environment: BTreeMap::new(),
            lifeline: Lifeline::Pipe,
            output: Output::Inherited,
            patience: Duration::ZERO,
            on_reload: OnReload::Nothing,
        };
        let error = Running::start(part, Arc::clone(&stage.pid_files), stage.signals.clone()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
