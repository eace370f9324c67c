//! The spool file of one process: what must survive it, before the database has it.
//!
//! Appending is one `write(2)`, which a killed process cannot take back. The file is held under an exclusive lock while
//! the process lives; a spool whose lock is free belongs to a dead one. The file appears under its name only when it is
//! locked, so nobody mistakes a young process for a dead one. What is in the database is left out by a new file, which
//! takes the place of the old one likewise: a process killed meanwhile leaves one of the two, and both are whole.
//! Knows bytes and lines, not what they mean to the database.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
};

use tokenhub_domain::InstanceId;

use super::{record::SpoolRecord, waiting::Waiting};
use crate::StoreError;

/// Bytes read at once; a longer line is read whole.
const CHUNK_BYTES: usize = 256 * 1024;
/// Drained bytes up to this stay in the file; getting rid of them would cost more than the space.
const KEEP_BYTES: u64 = 1024 * 1024;
/// The file is rewritten when the drained part is this fraction of the rest, so that a long rest is not copied for ever.
const KEEP_OF_REST: u64 = 4;

/// Explanations take no more than this fraction of what may wait.
const SPARE_OF_BOUND: u64 = 4;

/// The names of the files of one process.
#[derive(Clone, Debug)]
pub(super) struct SpoolPaths {
    pub(super) live: PathBuf,
    pub(super) unborn: PathBuf,
    pub(super) dead: PathBuf,
}

impl SpoolPaths {
    pub(super) fn of(directory: &Path, instance: &InstanceId) -> Self {
        let named = |ending: &str| directory.join(format!("{instance}.{ending}"));
        Self { live: named("jsonl"), unborn: named("new"), dead: named("dead") }
    }
}

/// The file that this process appends to. Positions count from the first byte ever appended, so that they stay true
/// when the file is rewritten.
#[derive(Debug)]
pub(super) struct Spool {
    paths: SpoolPaths,
    file: File,
    /// Lines on their way into the file: what is held, and the one in the making. The memory is used again.
    lines: Vec<u8>,
    /// The records of the lines that are held, each with the length of its line.
    held: Vec<(u64, SpoolRecord)>,
    /// What was appended lately.
    waiting: Waiting,
    /// The position of the first byte of the file.
    start: u64,
    /// Everything before this position is in the database.
    drained: u64,
    end: u64,
    /// How much may wait for the database.
    bytes_max: u64,
    /// A failed write may have left half a line, which could not be cut off.
    torn: bool,
    closed: bool,
}

/// Whether a record may be refused when the spool is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// The start of an attempt: better not made than unaccounted for.
    Bounded,
    /// The end of an attempt that was admitted.
    Always,
    /// The same, written together with the next record, which follows at once; the drain writes it at the latest.
    WithNext,
    /// Written with the next record, and left out while much waits for the database: it explains, and is no account.
    Spare,
}

impl Spool {
    pub(super) fn create(paths: &SpoolPaths, bytes_max: u64) -> Result<Self, StoreError> {
        let failed = |source| StoreError::OpenSpool { path: paths.live.clone(), source };
        if paths.live.exists() {
            return Err(failed(io::Error::from(io::ErrorKind::AlreadyExists)));
        }
        let file = create_locked(&paths.unborn).map_err(failed)?;
        fs::rename(&paths.unborn, &paths.live).map_err(failed)?;
        let paths = paths.clone();
        let waiting = Waiting::default();
        Ok(Self {
            paths,
            file,
            lines: Vec::new(),
            held: Vec::new(),
            waiting,
            start: 0,
            drained: 0,
            end: 0,
            bytes_max,
            torn: false,
            closed: false,
        })
    }

    pub(super) fn append(&mut self, record: SpoolRecord, admission: Admission) -> Result<(), StoreError> {
        if self.closed {
            return Err(StoreError::LedgerClosed);
        }
        let (bytes_before, held_before) = (self.lines.len(), self.held.len());
        if admission == Admission::Spare && self.waiting_bytes() + bytes_before as u64 > self.bytes_max / SPARE_OF_BOUND
        {
            return Ok(());
        }
        let length = match self.add_line(&record) {
            Ok(length) if admission == Admission::Bounded && self.waiting_bytes() + length > self.bytes_max => {
                Err(StoreError::SpoolFull)
            }
            added => added,
        };
        let written = length.and_then(|length| {
            self.held.push((length, record));
            if matches!(admission, Admission::WithNext | Admission::Spare) {
                Ok(())
            } else {
                self.write_lines().map_err(StoreError::AppendSpool)
            }
        });
        if written.is_err() {
            // What was held before stays so.
            self.lines.truncate(bytes_before);
            self.held.truncate(held_before);
        }
        written
    }

    /// Adds a line to those that are on their way; its length.
    fn add_line(&mut self, record: &SpoolRecord) -> Result<u64, StoreError> {
        let before = self.lines.len();
        serde_json::to_writer(&mut self.lines, record).map_err(StoreError::EncodeSpool)?;
        self.lines.push(b'\n');
        Ok((self.lines.len() - before) as u64)
    }

    fn waiting_bytes(&self) -> u64 {
        self.end - self.drained
    }

    /// Writes what is held.
    fn write_lines(&mut self) -> io::Result<()> {
        if self.held.is_empty() {
            return Ok(());
        }
        if self.torn {
            self.write(b"\n")?;
            self.end += 1;
            self.torn = false;
        }
        let lines = std::mem::take(&mut self.lines);
        let written = self.write(&lines);
        self.lines = lines;
        written?;
        self.lines.clear();
        for (length, record) in self.held.drain(..) {
            self.end += length;
            self.waiting.push(self.end, record);
        }
        Ok(())
    }

    /// All of it or, as far as the file can be cut back, nothing.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes).inspect_err(|_| {
            self.torn = self.file.set_len(self.end - self.start).is_err();
            if self.torn {
                self.end = self.file.metadata().map_or(self.end, |metadata| self.start + metadata.len());
                self.waiting.forget(self.end);
            }
        })
    }

    /// Where the spool ends. What is held is written first, if the file takes it.
    pub(super) fn end(&mut self) -> u64 {
        if let Err(error) = self.write_lines() {
            tracing::warn!(%error, held = self.held.len(), "the spool file does not take what is held");
        }
        self.end
    }

    /// What the file does not take, to be brought to the database without it. Nothing while the file holds anything that
    /// the database lacks: an end must not come there before its beginning.
    pub(super) fn take_stuck(&mut self) -> Vec<SpoolRecord> {
        if self.drained < self.end || self.write_lines().is_ok() {
            return Vec::new();
        }
        self.lines.clear();
        self.held.drain(..).map(|(_, record)| record).collect()
    }

    /// Holds what was taken and could not be brought to the database either.
    pub(super) fn hold_again(&mut self, records: Vec<SpoolRecord>) -> Result<(), StoreError> {
        for record in records {
            let length = self.add_line(&record)?;
            self.held.push((length, record));
        }
        Ok(())
    }

    /// Lets every write fail from now on.
    #[cfg(test)]
    pub(super) fn refuse_writes(&mut self) {
        self.file = File::open(&self.paths.live).unwrap();
    }

    /// The next records before the position `until` that are not in the database, at most `count`. What is not in
    /// memory any more, after a failure of the database, is read from the file.
    pub(super) fn next_batch(&mut self, count: usize, until: u64) -> io::Result<Option<SpoolBatch>> {
        let in_file_until = self.waiting.start().min(until);
        if self.drained < in_file_until {
            let file = self.file.try_clone()?;
            let mut reader = SpoolReader { file, start: self.start, offset: self.drained, end: in_file_until };
            return reader.next(count);
        }
        Ok(self.waiting.take(count, until).map(|(records, end)| SpoolBatch { records, end }))
    }

    /// Remembers that everything before `offset` is in the database.
    pub(super) fn mark_drained(&mut self, offset: u64) -> io::Result<()> {
        self.drained = offset;
        let rest = self.end - self.drained;
        if self.drained - self.start <= KEEP_BYTES.max(rest / KEEP_OF_REST) {
            return Ok(());
        }
        if rest == 0 {
            self.file.set_len(0)?;
            self.start = self.end;
        } else if let Err(error) = self.rewrite() {
            // A full disk, most likely. The file is as good as before, and needs no space to be emptied.
            tracing::debug!(%error, "could not rewrite the spool");
        }
        Ok(())
    }

    /// Leaves out what is in the database.
    fn rewrite(&mut self) -> io::Result<()> {
        remove_if_there(&self.paths.unborn)?;
        let file = create_locked(&self.paths.unborn)?;
        let written = self.copy_rest(&file).and_then(|()| fs::rename(&self.paths.unborn, &self.paths.live));
        if let Err(error) = written {
            remove_if_there(&self.paths.unborn)?;
            return Err(error);
        }
        // The lock of the old file ends only here: whoever gets it finds that the name belongs to the new one.
        self.file = file;
        self.start = self.drained;
        Ok(())
    }

    fn copy_rest(&self, mut to: &File) -> io::Result<()> {
        let mut rest =
            SpoolReader { file: self.file.try_clone()?, start: self.start, offset: self.drained, end: self.end };
        while rest.offset < rest.end {
            let chunk = rest.read_chunk(CHUNK_BYTES)?;
            to.write_all(&chunk)?;
            rest.offset += chunk.len() as u64;
        }
        Ok(())
    }

    /// Refuses everything from now on, if all of it is in the database.
    pub(super) fn close_if_drained(&mut self) -> bool {
        self.closed = self.drained == self.end && self.held.is_empty();
        self.closed
    }
}

/// Whether `file` is the one at `path`, and not one whose place another has taken or that was removed.
pub(super) fn is_file_at(file: &File, path: &Path) -> io::Result<bool> {
    let held = file.metadata()?;
    match fs::metadata(path) {
        Ok(named) => Ok((named.dev(), named.ino()) == (held.dev(), held.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

pub(super) fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn create_locked(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).append(true).create_new(true).open(path)?;
    file.try_lock()?;
    Ok(file)
}

/// Reads a spool in batches.
#[derive(Debug)]
pub(super) struct SpoolReader {
    file: File,
    /// The position of the first byte of the file.
    start: u64,
    offset: u64,
    end: u64,
}

/// Lines read together.
#[derive(Debug)]
pub(super) struct SpoolBatch {
    pub(super) records: Vec<SpoolRecord>,
    /// Where the next batch begins.
    pub(super) end: u64,
}

impl SpoolReader {
    /// Reads a whole file of a dead process.
    pub(super) fn whole(file: File) -> io::Result<Self> {
        let end = file.metadata()?.len();
        Ok(Self { file, start: 0, offset: 0, end })
    }

    /// The next lines, at most `count`. None at the end; half a line at the end of the file is left out, and a line
    /// that cannot be read is skipped: its process died while writing it, before anything left.
    pub(super) fn next(&mut self, count: usize) -> io::Result<Option<SpoolBatch>> {
        let mut wanted = CHUNK_BYTES;
        loop {
            let chunk = self.read_chunk(wanted)?;
            let lines: Vec<&[u8]> = chunk.split_inclusive(|byte| *byte == b'\n').collect();
            let complete = lines.iter().take(count).take_while(|line| line.ends_with(b"\n"));
            let batch: Vec<&[u8]> = complete.copied().collect();
            if batch.is_empty() {
                if self.offset + chunk.len() as u64 >= self.end {
                    return Ok(None);
                }
                wanted *= 2;
                continue;
            }
            self.offset += batch.iter().map(|line| line.len() as u64).sum::<u64>();
            return Ok(Some(SpoolBatch { records: batch.into_iter().filter_map(parse).collect(), end: self.offset }));
        }
    }

    fn read_chunk(&self, wanted: usize) -> io::Result<Vec<u8>> {
        let left = usize::try_from(self.end - self.offset).unwrap_or(usize::MAX);
        let mut chunk = vec![0; left.min(wanted)];
        self.file.read_exact_at(&mut chunk, self.offset - self.start)?;
        Ok(chunk)
    }
}

fn parse(line: &[u8]) -> Option<SpoolRecord> {
    if line.trim_ascii().is_empty() {
        return None;
    }
    match serde_json::from_slice(line) {
        Ok(record) => Some(record),
        Err(error) => {
            tracing::warn!(%error, bytes = line.len(), "skipped an unreadable spool line");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead, BufReader},
        process::{Command, Stdio},
        time::{Duration, Instant},
    };

    use tokenhub_domain::{AttemptId, ErrorClass, UnixMicros};

    use super::*;
    use crate::ledger::record::{AttemptFailure, Ending};

    const FOLDER_VARIABLE: &str = "TOKENHUB_TEST_SPOOL_FOLDER";
    const BOUND_BYTES: u64 = 256 * 1024;
    const NO_BOUND: u64 = u64::MAX;

    fn paths(folder: &Path) -> SpoolPaths {
        SpoolPaths::of(folder, &InstanceId::from("inst_1"))
    }

    /// A line of a little more than `bytes`, known by its number.
    fn line(number: usize, bytes: usize) -> SpoolRecord {
        let failure =
            AttemptFailure { class: ErrorClass::Transport, status_code: None, latency_ms: 0, at: UnixMicros(0) };
        let attempt = AttemptId::from(format!("{number}_{}", "x".repeat(bytes)).as_str());
        SpoolRecord { attempt, ending: Some(Ending::Void(failure)), ..SpoolRecord::default() }
    }

    fn numbers(records: &[SpoolRecord]) -> Vec<usize> {
        records.iter().map(|record| record.attempt.as_str().split('_').next().unwrap().parse().unwrap()).collect()
    }

    fn all_numbers(mut reader: SpoolReader) -> Vec<usize> {
        std::iter::from_fn(|| reader.next(256).unwrap()).flat_map(|batch| numbers(&batch.records)).collect()
    }

    fn length(paths: &SpoolPaths) -> u64 {
        paths.live.metadata().unwrap().len()
    }

    #[test]
    fn a_held_line_is_written_with_the_next_or_when_it_is_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let paths = paths(folder.path());
        let mut spool = Spool::create(&paths, BOUND_BYTES).unwrap();
        spool.append(line(0, 10), Admission::WithNext).unwrap();
        assert_eq!(length(&paths), 0);
        assert!(!spool.close_if_drained(), "something is held");
        spool.append(line(1, 10), Admission::Always).unwrap();
        let written = length(&paths);
        assert_eq!(written, spool.end());
        spool.append(line(2, 10), Admission::WithNext).unwrap();
        assert_eq!(length(&paths), written);
        let refused = spool.append(line(3, 300 * 1024), Admission::Bounded);
        assert!(matches!(refused, Err(StoreError::SpoolFull)), "{refused:?}");
        let end = spool.end();
        assert_eq!(length(&paths), end);
        let batch = spool.next_batch(9, end).unwrap().unwrap();
        assert_eq!((numbers(&batch.records), batch.end), (vec![0, 1, 2], end));
        assert_eq!(all_numbers(SpoolReader::whole(File::open(&paths.live).unwrap()).unwrap()), [0, 1, 2]);
    }

    #[test]
    fn what_the_file_takes_goes_by_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = Spool::create(&paths(folder.path()), BOUND_BYTES).unwrap();
        spool.append(line(0, 10), Admission::WithNext).unwrap();
        assert_eq!(spool.take_stuck(), []);
        let end = spool.end();
        assert_eq!(numbers(&spool.next_batch(9, end).unwrap().unwrap().records), [0]);
    }

    #[test]
    fn what_the_file_does_not_take_is_held_and_can_be_taken_without_it() {
        let folder = tempfile::tempdir().unwrap();
        let paths = paths(folder.path());
        let mut spool = Spool::create(&paths, BOUND_BYTES).unwrap();
        spool.append(line(0, 10), Admission::Always).unwrap();
        let end = spool.end();
        spool.append(line(1, 10), Admission::WithNext).unwrap();
        spool.refuse_writes();
        assert!(spool.append(line(2, 10), Admission::Always).is_err());
        assert_eq!(spool.end(), end, "what is in the file can be drained all the same");
        assert_eq!(spool.take_stuck(), [], "what came before it is not in the database yet");
        spool.mark_drained(end).unwrap();
        let stuck = spool.take_stuck();
        assert_eq!((numbers(&stuck), spool.take_stuck().len()), (vec![1], 0));
        spool.hold_again(stuck).unwrap();
        assert_eq!(numbers(&spool.take_stuck()), [1]);
    }

    #[test]
    fn a_spool_that_is_never_empty_is_neither_full_nor_larger_than_what_waits() {
        const LINES: usize = 8_000; // more than 8 MiB: the file is rewritten at least 7 times
        let folder = tempfile::tempdir().unwrap();
        let paths = paths(folder.path());
        let mut spool = Spool::create(&paths, BOUND_BYTES).unwrap();
        let (mut appended, mut drained, mut largest, mut rewrites) = (0, Vec::new(), 0, 0);
        let mut append = |spool: &mut Spool, count: usize| {
            for _ in 0..count {
                spool.append(line(appended, 1024), Admission::Bounded).unwrap();
                appended += 1;
            }
            appended
        };
        append(&mut spool, 100);
        while drained.len() < LINES {
            // As many as are drained come in addition while the batches are on their way.
            let until = spool.end();
            while let Some(batch) = spool.next_batch(50, until).unwrap() {
                let told = append(&mut spool, batch.records.len());
                largest = largest.max(length(&paths));
                drained.extend(numbers(&batch.records));
                let before = length(&paths);
                spool.mark_drained(batch.end).unwrap();
                rewrites += usize::from(length(&paths) < before);
                assert!(told > drained.len(), "some lines always wait");
            }
        }
        while let Some(batch) = spool.next_batch(50, u64::MAX).unwrap() {
            drained.extend(numbers(&batch.records));
            spool.mark_drained(batch.end).unwrap();
        }
        assert!(drained.iter().copied().eq(0..drained.len()), "each line is drained once, in its order");
        assert!(rewrites >= 7, "{rewrites}");
        assert!(largest <= BOUND_BYTES + KEEP_BYTES, "{largest}");
    }

    #[test]
    fn what_waits_is_bounded_and_what_is_drained_makes_room() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = Spool::create(&paths(folder.path()), BOUND_BYTES).unwrap();
        let admitted =
            (0..1_000).take_while(|number| spool.append(line(*number, 1024), Admission::Bounded).is_ok()).count();
        assert!((200..256).contains(&admitted), "{admitted}");
        assert!(matches!(spool.append(line(0, 1024), Admission::Bounded), Err(StoreError::SpoolFull)));
        let batch = spool.next_batch(10, u64::MAX).unwrap().unwrap();
        spool.mark_drained(batch.end).unwrap();
        let again =
            (0..1_000).take_while(|number| spool.append(line(*number, 1024), Admission::Bounded).is_ok()).count();
        assert!((10..12).contains(&again), "{again}");
    }

    #[test]
    fn a_batch_that_the_database_did_not_take_is_read_again_from_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = Spool::create(&paths(folder.path()), NO_BOUND).unwrap();
        (0..6).for_each(|number| spool.append(line(number, 10), Admission::Bounded).unwrap());
        let refused = spool.next_batch(4, u64::MAX).unwrap().unwrap();
        assert_eq!(numbers(&refused.records), [0, 1, 2, 3]);
        let again = spool.next_batch(9, u64::MAX).unwrap().unwrap();
        assert_eq!((numbers(&again.records), again.end), (vec![0, 1, 2, 3], refused.end));
        spool.mark_drained(again.end).unwrap();
        assert_eq!(numbers(&spool.next_batch(9, u64::MAX).unwrap().unwrap().records), [4, 5]);
    }

    #[test]
    fn a_spool_that_cannot_be_rewritten_goes_on_as_it_is() {
        const LINE_BYTES: usize = 256 * 1024;
        let folder = tempfile::tempdir().unwrap();
        let paths = paths(folder.path());
        let mut spool = Spool::create(&paths, NO_BOUND).unwrap();
        let drain_one = |spool: &mut Spool| {
            let batch = spool.next_batch(1, u64::MAX).unwrap().unwrap();
            spool.mark_drained(batch.end).unwrap();
            numbers(&batch.records)[0]
        };
        (0..8).for_each(|number| spool.append(line(number, LINE_BYTES), Admission::Bounded).unwrap());
        fs::create_dir(&paths.unborn).unwrap();
        let drained: Vec<usize> = (0..6).map(|_| drain_one(&mut spool)).collect();
        assert_eq!(drained, [0, 1, 2, 3, 4, 5]);
        assert!(length(&paths) > 8 * LINE_BYTES as u64, "nothing took its place");
        fs::remove_dir(&paths.unborn).unwrap();
        assert_eq!(drain_one(&mut spool), 6);
        assert!(length(&paths) < 2 * LINE_BYTES as u64, "it is rewritten as soon as that is possible");
        spool.append(line(8, LINE_BYTES), Admission::Bounded).unwrap();
        assert_eq!(all_numbers(SpoolReader::whole(File::open(&paths.live).unwrap()).unwrap()), [7, 8]);
        assert_eq!(drain_one(&mut spool), 7);
    }

    /// The child is this test binary again, told to run `the_child`. It is killed as soon as a new file is seen with
    /// more than `bytes`; at its birth the spool has none. Returns whether the kill came before the new file took the
    /// place of the old one.
    fn kill_while_it_rewrites(bytes: u64) -> bool {
        let folder = tempfile::tempdir().unwrap();
        let paths = paths(folder.path());
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["ledger::spool::tests::the_child", "--exact", "--ignored", "--nocapture"])
            .env(FOLDER_VARIABLE, folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let (mut appended, mut drained) = (None, None);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while child.try_wait().unwrap().is_none() {
                    if paths.unborn.metadata().is_ok_and(|unborn| unborn.len() > bytes) {
                        child.kill().unwrap();
                        child.wait().unwrap();
                    }
                }
            });
            for said in lines {
                match said.split_once(' ') {
                    Some(("appended", number)) => appended = number.parse::<usize>().ok().or(appended),
                    Some(("drained", number)) => drained = number.parse::<usize>().ok().or(drained),
                    Some(_) | None => {}
                }
            }
        });
        let file = File::open(&paths.live).unwrap();
        file.try_lock().unwrap();
        let found = all_numbers(SpoolReader::whole(file).unwrap());
        let (appended, drained) = (appended.unwrap(), drained.unwrap());
        assert!(found.windows(2).all(|pair| pair[1] == pair[0] + 1), "{found:?}");
        assert!(found[0] <= drained + 1 && *found.last().unwrap() >= appended, "{drained} {appended} {found:?}");
        paths.unborn.exists()
    }

    #[test]
    fn a_process_that_is_killed_while_it_rewrites_loses_no_line() {
        let deadline = Instant::now() + Duration::from_mins(1);
        let mut halves_left = 0;
        while halves_left < 3 {
            assert!(Instant::now() < deadline, "no process was killed while it rewrote its spool");
            halves_left += u64::from(kill_while_it_rewrites(halves_left * 4 * 1024 * 1024));
        }
    }

    #[test]
    #[ignore = "the part of the child in a_process_that_is_killed_while_it_rewrites_loses_no_line"]
    #[expect(clippy::disallowed_methods, reason = "how the parent speaks to the child")]
    fn the_child() {
        const LINE_BYTES: usize = 1024 * 1024;
        const LINES_WAITING: usize = 16;
        let Ok(folder) = std::env::var(FOLDER_VARIABLE) else { return };
        let mut spool = Spool::create(&paths(Path::new(&folder)), NO_BOUND).unwrap();
        let mut out = io::stdout();
        writeln!(out).unwrap();
        // The parent kills it long before; a child whose parent died fails to speak, or ends by itself.
        for number in 0..2_000 {
            spool.append(line(number, LINE_BYTES), Admission::Bounded).unwrap();
            writeln!(out, "appended {number}").unwrap();
            if number >= LINES_WAITING {
                let batch = spool.next_batch(1, u64::MAX).unwrap().unwrap();
                writeln!(out, "drained {}", numbers(&batch.records)[0]).unwrap();
                spool.mark_drained(batch.end).unwrap();
            }
        }
    }
}
