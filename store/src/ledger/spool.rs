//! The spool file of one process: what must survive it, before the database has it.
//!
//! Appending is one `write(2)`, which a killed process cannot take back. The file is held under an exclusive lock while
//! the process lives; a spool whose lock is free belongs to a dead one. The file appears under its name only when it is
//! locked, so nobody mistakes a young process for a dead one.
//! Knows bytes and lines, not what they mean to the database.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use tokenhub_domain::InstanceId;

use super::record::SpoolRecord;
use crate::StoreError;

/// Bytes read at once; a longer line is read whole.
const CHUNK_BYTES: usize = 256 * 1024;
/// A drained spool above this is emptied; below it, emptying would cost more than the space.
const KEEP_BYTES: u64 = 1024 * 1024;

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

/// The file that this process appends to.
#[derive(Debug)]
pub(super) struct Spool {
    file: File,
    bytes: u64,
    bytes_max: u64,
    drained: u64,
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
}

impl Spool {
    pub(super) fn create(paths: &SpoolPaths, bytes_max: u64) -> Result<Self, StoreError> {
        let failed = |source| StoreError::OpenSpool { path: paths.live.clone(), source };
        if paths.live.exists() {
            return Err(failed(io::Error::from(io::ErrorKind::AlreadyExists)));
        }
        let file = OpenOptions::new().read(true).append(true).create_new(true).open(&paths.unborn).map_err(failed)?;
        file.try_lock().map_err(|error| failed(error.into()))?;
        fs::rename(&paths.unborn, &paths.live).map_err(failed)?;
        Ok(Self { file, bytes: 0, bytes_max, drained: 0, torn: false, closed: false })
    }

    pub(super) fn append(&mut self, record: &SpoolRecord, admission: Admission) -> Result<(), StoreError> {
        if self.closed {
            return Err(StoreError::LedgerClosed);
        }
        let mut line = if self.torn { vec![b'\n'] } else { Vec::with_capacity(1024) };
        serde_json::to_writer(&mut line, record).map_err(StoreError::EncodeSpool)?;
        line.push(b'\n');
        let length = line.len() as u64;
        if admission == Admission::Bounded && self.bytes + length > self.bytes_max {
            return Err(StoreError::SpoolFull);
        }
        match self.file.write_all(&line) {
            Ok(()) => {
                self.bytes += length;
                self.torn = false;
                Ok(())
            }
            Err(error) => {
                self.torn = self.file.set_len(self.bytes).is_err();
                if self.torn {
                    self.bytes = self.file.metadata().map_or(self.bytes, |metadata| metadata.len());
                }
                Err(StoreError::AppendSpool(error))
            }
        }
    }

    /// What has been appended and is not yet in the database.
    pub(super) fn undrained(&self) -> io::Result<Option<SpoolReader>> {
        if self.drained == self.bytes {
            return Ok(None);
        }
        Ok(Some(SpoolReader { file: self.file.try_clone()?, offset: self.drained, end: self.bytes }))
    }

    /// Remembers that everything before `offset` is in the database.
    pub(super) fn mark_drained(&mut self, offset: u64) -> io::Result<()> {
        self.drained = offset;
        if self.drained == self.bytes && self.bytes > KEEP_BYTES {
            self.file.set_len(0)?;
            self.bytes = 0;
            self.drained = 0;
        }
        Ok(())
    }

    /// Refuses everything from now on, if all of it is in the database.
    pub(super) fn close_if_drained(&mut self) -> bool {
        self.closed = self.drained == self.bytes;
        self.closed
    }
}

/// Reads a spool in batches.
#[derive(Debug)]
pub(super) struct SpoolReader {
    file: File,
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
        Ok(Self { file, offset: 0, end })
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
        self.file.read_exact_at(&mut chunk, self.offset)?;
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
