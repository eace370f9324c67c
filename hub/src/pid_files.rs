//! Which processes this data directory's `up` has started, written down so that the next one can clean up.
//!
//! A supervisor that is killed outright cannot end its children. Each child's pid and start time are in a file; the next
//! `up` ends the group of every one that is still the same process. The start time is what tells a child from a
//! stranger that got its pid.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};

const EXTENSION: &str = "pid";
/// How long a left-over process may take to end by itself.
const PATIENCE: Duration = Duration::from_secs(5);
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// The folder of pid files, held by one `up` at a time.
#[derive(Debug)]
pub(crate) struct PidFiles {
    folder: PathBuf,
    _lock: File,
}

impl PidFiles {
    /// Takes the folder; fails when another `up` holds it.
    pub(crate) fn hold(folder: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(folder)?;
        let path = folder.join("up.lock");
        let mut lock = File::options().read(true).write(true).create(true).truncate(false).open(&path)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let holder = fs::read_to_string(&path).unwrap_or_default();
                anyhow::bail!("another `tokenhub up` (pid {}) uses this data directory", holder.trim());
            }
            Err(TryLockError::Error(error)) => return Err(error.into()),
        }
        lock.set_len(0)?;
        write!(lock, "{}", std::process::id())?;
        Ok(Self { folder: folder.to_owned(), _lock: lock })
    }

    /// Ends what a killed `up` left; returns the names of the parts that were still running.
    pub(crate) async fn end_leftovers(&self) -> io::Result<Vec<String>> {
        let mut ended = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let path = entry?.path();
            if path.extension().is_none_or(|extension| extension != EXTENSION) {
                continue;
            }
            if let Some((pid, start)) = fs::read_to_string(&path).ok().as_deref().and_then(parse)
                && is_alive(pid, start)
            {
                end(pid, start).await;
                ended.push(path.file_stem().unwrap_or_default().to_string_lossy().into_owned());
            }
            fs::remove_file(&path)?;
        }
        Ok(ended)
    }

    /// Writes down that `name` runs as `pid`.
    pub(crate) fn write(&self, name: &str, pid: u32) -> io::Result<()> {
        let start = start_of(pid).unwrap_or_default();
        fs::write(self.path(name), format!("{pid} {start}\n"))
    }

    /// Forgets `name`.
    pub(crate) fn remove(&self, name: &str) {
        // A file that stays names a process that is gone, which the next `up` finds out.
        let _ = fs::remove_file(self.path(name));
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name).with_extension(EXTENSION)
    }
}

fn parse(text: &str) -> Option<(u32, &str)> {
    let (pid, start) = text.trim().split_once(' ')?;
    Some((pid.parse().ok()?, start))
}

fn is_alive(pid: u32, start: &str) -> bool {
    !start.is_empty() && start_of(pid).as_deref() == Some(start)
}

/// When `pid` was started: the kernel's number on Linux, `ps`'s text elsewhere. None for a zombie, which has ended.
fn start_of(pid: u32) -> Option<String> {
    if Path::new("/proc/self/stat").exists() {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The second field is a name in brackets that may itself hold anything; state is the next, start the 22nd.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let is_zombie = fields.first().is_some_and(|state| *state == "Z");
        return fields.get(19).filter(|_| !is_zombie).map(|start| (*start).to_owned());
    }
    let output = Command::new("ps").args(["-o", "lstart=", "-p", &pid.to_string()]).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (!text.is_empty()).then_some(text)
}

async fn end(pid: u32, start: &str) {
    let Ok(group) = i32::try_from(pid).map(Pid::from_raw) else { return };
    // A failure means that the group is gone, which is what is wanted.
    let _ = killpg(group, Signal::SIGTERM);
    let ended = async {
        while is_alive(pid, start) {
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    };
    if tokio::time::timeout(PATIENCE, ended).await.is_err() {
        let _ = killpg(group, Signal::SIGKILL);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt as _;

    use super::*;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("tokenhub-pids-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        folder
    }

    #[tokio::test]
    async fn a_left_over_process_is_ended_and_a_stranger_with_its_pid_is_not() {
        let folder = folder("left");
        let files = PidFiles::hold(&folder).unwrap();
        let sleeper = || Command::new("sleep").arg("60").process_group(0).spawn().unwrap();
        let (mut left, mut stranger) = (sleeper(), sleeper());
        files.write("left", left.id()).unwrap();
        fs::write(folder.join("stranger.pid"), format!("{} 1\n", stranger.id())).unwrap();
        assert_eq!(files.end_leftovers().await.unwrap(), ["left"]);
        assert!(!left.wait().unwrap().success());
        assert!(stranger.try_wait().unwrap().is_none(), "the stranger still runs");
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "only the lock is left");
        stranger.kill().unwrap();
        stranger.wait().unwrap();
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_second_supervisor_is_refused_while_the_first_lives() {
        let folder = folder("lock");
        let first = PidFiles::hold(&folder).unwrap();
        let refusal = PidFiles::hold(&folder).unwrap_err().to_string();
        assert!(refusal.contains(&std::process::id().to_string()), "{refusal}");
        drop(first);
        // A test that is just starting a child shares our descriptors until the child's program runs.
        let held = (0..200).any(|_| {
            std::thread::sleep(Duration::from_millis(10));
            PidFiles::hold(&folder).is_ok()
        });
        assert!(held);
        fs::remove_dir_all(folder).unwrap();
    }
}
