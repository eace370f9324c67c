//! Dead processes: how they are recognised, and what becomes of their spools.
//!
//! A process is dead when the lock of its spool is free. An adopted spool leaves an empty `<instance>.dead` behind for a
//! day, so that whoever waits for that process's leases learns that it need not.

use std::{
    fs::{self, File, OpenOptions},
    io,
    path::Path,
    time::{Duration, SystemTime},
};

use tokenhub_domain::InstanceId;

use super::{
    BATCH_ROWS, Shared, apply,
    spool::{SpoolPaths, SpoolReader, is_file_at, remove_if_there},
};
use crate::StoreError;

/// How long a process is remembered to be dead; its leases end long before.
const REMEMBER_DEAD: Duration = Duration::from_hours(24);
/// A spool that was not given its name after this long belongs to a process that died on the way.
const UNBORN_AFTER: Duration = Duration::from_mins(1);

pub(super) async fn adopt_dead(shared: &Shared) -> Result<usize, StoreError> {
    let _turn = shared.adopting.lock().await;
    let mut adopted = 0;
    for instance in spooled_instances(&shared.directory).map_err(StoreError::DrainSpool)? {
        if instance == shared.instance {
            continue;
        }
        let paths = SpoolPaths::of(&shared.directory, &instance);
        let Some(file) = lock_if_dead(&paths.live).map_err(StoreError::DrainSpool)? else { continue };
        adopt(shared, &instance, file).await?;
        bury(&paths).map_err(StoreError::DrainSpool)?;
        adopted += 1;
        tracing::info!(%instance, "adopted the spool of a dead process");
    }
    Ok(adopted)
}

/// Whether that process is known to have ended.
pub(super) fn is_dead(shared: &Shared, instance: &InstanceId) -> bool {
    let paths = SpoolPaths::of(&shared.directory, instance);
    // A shared lock, so that two who ask at the same time do not take each other for the owner. The mark comes second:
    // a spool that is buried meanwhile has one.
    let is_free = |file: &File| file.try_lock_shared().is_ok() && is_file_at(file, &paths.live).unwrap_or(false);
    File::open(&paths.live).is_ok_and(|file| is_free(&file)) || paths.dead.exists()
}

/// Removes a spool that is no longer needed, and leaves the mark of a dead process. The mark comes first: there is no
/// moment at which the process seems unknown.
pub(super) fn bury(paths: &SpoolPaths) -> io::Result<()> {
    File::create(&paths.dead)?;
    remove_if_there(&paths.live)
}

/// The lock is held by `file` until the rows are safe.
async fn adopt(shared: &Shared, instance: &InstanceId, file: File) -> Result<(), StoreError> {
    let mut reader = SpoolReader::whole(file).map_err(StoreError::DrainSpool)?;
    while let Some(batch) = reader.next(BATCH_ROWS).map_err(StoreError::DrainSpool)? {
        apply::apply(&shared.store, instance, batch.records).await?;
    }
    let orphaned = apply::orphan_open_attempts(&shared.store, instance).await?;
    if orphaned > 0 {
        tracing::warn!(%instance, orphaned, "a process died with provider calls in flight");
    }
    Ok(())
}

fn lock_if_dead(path: &Path) -> io::Result<Option<File>> {
    let file = match OpenOptions::new().read(true).write(true).open(path) {
        Ok(file) => file,
        // Somebody else adopted it meanwhile.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    lock_if_free(file, path)
}

/// A file that was opened just before it was rewritten is free too, but its owner lives and holds the one at `path`.
fn lock_if_free(file: File, path: &Path) -> io::Result<Option<File>> {
    match file.try_lock() {
        Ok(()) => Ok(is_file_at(&file, path)?.then_some(file)),
        Err(fs::TryLockError::WouldBlock) => Ok(None),
        Err(fs::TryLockError::Error(error)) => Err(error),
    }
}

/// Names the instances with a spool, and tidies the folder on the way.
fn spooled_instances(directory: &Path) -> io::Result<Vec<InstanceId>> {
    let mut instances = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let Some(stem) = path.file_stem().and_then(|stem| stem.to_str()) else { continue };
        match path.extension().and_then(|ending| ending.to_str()) {
            Some("jsonl") => instances.push(InstanceId::new(stem)),
            Some("dead") => remove_if_older(&path, REMEMBER_DEAD),
            Some("new") => remove_if_older(&path, UNBORN_AFTER),
            Some(_) | None => {}
        }
    }
    Ok(instances)
}

/// Tidying may fail without harm: the next round tries again.
fn remove_if_older(path: &Path, age: Duration) {
    let modified = fs::metadata(path).and_then(|metadata| metadata.modified());
    let is_older = modified.is_ok_and(|at| SystemTime::now().duration_since(at).is_ok_and(|passed| passed > age));
    if is_older && let Err(error) = fs::remove_file(path) {
        tracing::debug!(%error, path = %path.display(), "could not remove an old file of the spool folder");
    }
}

#[cfg(test)]
mod tests {
    use tokenhub_domain::{AttemptId, UnixMicros};

    use super::*;
    use crate::ledger::{
        record::SpoolRecord,
        spool::{Admission, Spool},
    };

    /// More than is kept of them once they are drained.
    const LINES: usize = 40;
    const LINE_BYTES: usize = 64 * 1024;

    #[test]
    fn who_opened_a_spool_before_it_was_rewritten_does_not_take_its_owner_for_dead() {
        let folder = tempfile::tempdir().unwrap();
        let paths = SpoolPaths::of(folder.path(), &InstanceId::from("inst_1"));
        let open = || OpenOptions::new().read(true).write(true).open(&paths.live).unwrap();
        let mut spool = Spool::create(&paths, u64::MAX).unwrap();
        let attempt = AttemptId::from("x".repeat(LINE_BYTES).as_str());
        let line = SpoolRecord { attempt, sent_at: Some(UnixMicros(1)), ..SpoolRecord::default() };
        (0..LINES).for_each(|_| spool.append(line.clone(), Admission::Always).unwrap());
        let early = open();
        assert!(lock_if_free(open(), &paths.live).unwrap().is_none(), "its owner holds it");
        while is_file_at(&early, &paths.live).unwrap() {
            let batch = spool.next_batch(1, u64::MAX).unwrap().unwrap();
            spool.mark_drained(batch.end).unwrap();
        }
        early.try_lock().unwrap();
        early.unlock().unwrap();
        assert!(lock_if_free(early, &paths.live).unwrap().is_none(), "the lock of the old file says nothing");
        assert!(lock_if_free(open(), &paths.live).unwrap().is_none(), "the new file is held");
        drop(spool);
        assert!(lock_if_free(open(), &paths.live).unwrap().is_some(), "now it is dead");
    }
}
