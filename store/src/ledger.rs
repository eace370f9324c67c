//! The ledger: one row for each provider call, whatever dies; and the lines of the request log, which go the same way.
//!
//! The hot path never waits for the database. `sent` appends the whole open row to the spool of this process before the
//! bytes leave; the end of the call is appended likewise; a task drains the spool in batches. What a dead process left
//! in its spool is adopted by any other that sees the same data directory.
//! Knows attempts, not steps or runs: whether a call may be made is the journal's business.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokenhub_domain::{AttemptId, ErrorClass, InstanceId, Owner, StepKey, TenantId, UnixMicros, limits};
use tokio::sync::Notify;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

mod adopt;
mod apply;
mod drain;
mod record;
mod spool;
mod waiting;

pub use record::{AttemptOpen, Settlement, Waste};

use crate::{DecisionRow, RequestLogRow, Store, StoreError};
use record::{AttemptFailure, Ending, SpoolRecord};
use spool::{Admission, Spool, SpoolPaths};

/// Lines drained in one transaction; as many waiting lines wake the drain at once.
const BATCH_ROWS: usize = 1_024;
/// The folder of the spools in the data directory.
const SPOOL_FOLDER: &str = "spool";

/// The ledger of this process. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Ledger {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    store: Store,
    instance: InstanceId,
    directory: PathBuf,
    paths: SpoolPaths,
    spool: Mutex<Spool>,
    in_flight: Mutex<HashMap<AttemptId, Flight>>,
    appended: AtomicUsize,
    wake: Notify,
    draining: tokio::sync::Mutex<()>,
    adopting: tokio::sync::Mutex<()>,
}

/// An attempt of this process that has not ended.
#[derive(Debug)]
enum Flight {
    Reserved(Box<AttemptOpen>),
    Sent,
    /// Announced by an earlier process, whose row may not have arrived.
    Attached(Box<AttemptOpen>, UnixMicros),
}

impl Ledger {
    /// Makes the spool of `instance`, adopts those of dead processes and starts the drain.
    ///
    /// The database may be away. Cancel `stop` when the work that the ledger serves has ended: the drain then empties
    /// the spool, and removes it if no attempt is in flight. Whatever is left is adopted by the next process.
    pub async fn open(
        store: Store,
        data_dir: &Path,
        instance: InstanceId,
        tracker: &TaskTracker,
        stop: CancellationToken,
    ) -> Result<Self, StoreError> {
        let directory = data_dir.join(SPOOL_FOLDER);
        fs::create_dir_all(&directory).map_err(|source| StoreError::OpenSpool { path: directory.clone(), source })?;
        let paths = SpoolPaths::of(&directory, &instance);
        let spool = Spool::create(&paths, limits::SPOOL_BYTES)?;
        let ledger = Self {
            shared: Arc::new(Shared {
                store,
                instance,
                directory,
                paths,
                spool: Mutex::new(spool),
                in_flight: Mutex::default(),
                appended: AtomicUsize::new(0),
                wake: Notify::new(),
                draining: tokio::sync::Mutex::default(),
                adopting: tokio::sync::Mutex::default(),
            }),
        };
        if let Err(error) = ledger.adopt_dead().await {
            tracing::warn!(%error, "could not adopt the spools of dead processes yet");
        }
        tracker.spawn(drain::run(ledger.clone(), stop));
        Ok(ledger)
    }

    /// The process whose ledger this is.
    pub fn instance(&self) -> &InstanceId {
        &self.shared.instance
    }

    /// Announces an attempt. Nothing is written yet; every attempt ends with [`Self::settle`] or [`Self::fail`].
    pub fn reserve(&self, open: AttemptOpen) {
        self.in_flight().insert(open.attempt_id.clone(), Flight::Reserved(Box::new(open)));
    }

    /// Takes part in an attempt that another process has announced at `sent_at` and cannot end any more. Nothing is written
    /// before it ends; its row is then made where that of the other process has not arrived.
    pub fn attach(&self, open: AttemptOpen, sent_at: UnixMicros) {
        let attempt = open.attempt_id.clone();
        self.in_flight().entry(attempt).or_insert(Flight::Attached(Box::new(open), sent_at));
    }

    /// Records, safe from a kill, that the bytes are about to leave. On an error they must not, and the attempt is
    /// forgotten: nothing is written of it.
    pub fn sent(&self, attempt: &AttemptId, at: UnixMicros) -> Result<(), StoreError> {
        let open = match self.in_flight().get_mut(attempt) {
            Some(flight) => match std::mem::replace(flight, Flight::Sent) {
                Flight::Reserved(open) => *open,
                // Both have left.
                Flight::Sent | Flight::Attached(..) => return Ok(()),
            },
            None => return Err(StoreError::UnknownAttempt(attempt.clone())),
        };
        let record =
            SpoolRecord { attempt: attempt.clone(), open: Some(open), sent_at: Some(at), ..SpoolRecord::default() };
        let appended = self.append(record, Admission::Bounded);
        if appended.is_err() {
            self.in_flight().remove(attempt);
        }
        appended
    }

    /// Records an answered call. Again with [`Waste::Wasted`] when its answer turns out not to be used.
    pub fn settle(&self, attempt: &AttemptId, settlement: Settlement) -> Result<(), StoreError> {
        self.end(attempt, Ending::Settled(settlement))
    }

    /// [`Self::settle`] for a call of which a log line follows at once: both are written together. A kill in between
    /// leaves the attempt without an end.
    pub fn settle_with_log(&self, attempt: &AttemptId, settlement: Settlement) -> Result<(), StoreError> {
        self.end_as(attempt, Ending::Settled(settlement), Admission::WithNext)
    }

    /// Records a call without an answer, or one that was never sent.
    pub fn fail(
        &self,
        attempt: &AttemptId,
        class: ErrorClass,
        status_code: Option<u16>,
        latency_ms: u64,
        at: UnixMicros,
    ) -> Result<(), StoreError> {
        self.end(attempt, Ending::Void(AttemptFailure { class, status_code, latency_ms, at }))
    }

    /// Writes a line of the request log; the first one of a request and run stays.
    pub fn log(&self, row: RequestLogRow) -> Result<(), StoreError> {
        self.append(SpoolRecord { log: Some(Box::new(row)), ..SpoolRecord::default() }, Admission::Always)
    }

    /// Keeps what a selection found; the first of a run stays. Written together with the next line, which is about the
    /// call that was decided on; a kill before it loses what led to nothing.
    pub fn decided(&self, row: DecisionRow) -> Result<(), StoreError> {
        self.append(SpoolRecord { decision: Some(Box::new(row)), ..SpoolRecord::default() }, Admission::Spare)
    }

    fn end(&self, attempt: &AttemptId, ending: Ending) -> Result<(), StoreError> {
        self.end_as(attempt, ending, Admission::Always)
    }

    fn end_as(&self, attempt: &AttemptId, ending: Ending, admission: Admission) -> Result<(), StoreError> {
        let (open, sent_at) = match self.in_flight().get(attempt) {
            Some(Flight::Reserved(open)) => (Some((**open).clone()), None),
            Some(Flight::Attached(open, sent_at)) => (Some((**open).clone()), Some(*sent_at)),
            Some(Flight::Sent) | None => (None, None),
        };
        let attempt_id = attempt.clone();
        let record = SpoolRecord { attempt: attempt_id, open, sent_at, ending: Some(ending), ..SpoolRecord::default() };
        self.append(record, admission)?;
        self.in_flight().remove(attempt);
        Ok(())
    }

    /// Waits until everything appended so far is in the database.
    pub async fn flush(&self) -> Result<(), StoreError> {
        drain::drain(&self.shared).await
    }

    /// Takes over the spools of dead processes: their rows go to the database, what never ended is marked orphaned,
    /// and the files are removed. Returns how many there were.
    pub async fn adopt_dead(&self) -> Result<usize, StoreError> {
        adopt::adopt_dead(&self.shared).await
    }

    /// Whether that process is known to have ended. False also when nothing is known of it.
    pub fn is_instance_dead(&self, instance: &InstanceId) -> bool {
        adopt::is_dead(&self.shared, instance)
    }

    /// Whether `owner` is a process, or an attempt of one (`process:<instance>/<attempt>`), that is known to have ended.
    pub fn is_owner_dead(&self, owner: &Owner) -> bool {
        let instance = owner.0.strip_prefix("process:").and_then(|process| process.split('/').next());
        instance.is_some_and(|instance| self.is_instance_dead(&InstanceId::from(instance)))
    }

    /// How many calls of that try have left, those of dead processes on this host included.
    pub async fn sends_of(&self, tenant: &TenantId, key: &StepKey) -> Result<u32, StoreError> {
        self.adopt_dead().await?;
        self.flush().await?;
        self.shared.store.ledger_rows().sends_of(tenant, key).await
    }

    /// Tells the answers to that try apart: one was used, and those of the dead are wasted. What they have announced must
    /// be in the database, which it is after [`Self::sends_of`].
    pub async fn waste_all_but(&self, used: &AttemptId, tenant: &TenantId, key: &StepKey) -> Result<(), StoreError> {
        self.shared.store.ledger_rows().waste_all_but(used, tenant, key).await
    }

    fn append(&self, record: SpoolRecord, admission: Admission) -> Result<(), StoreError> {
        self.shared.spool().append(record, admission)?;
        if self.shared.appended.fetch_add(1, Ordering::Relaxed) + 1 == BATCH_ROWS {
            self.shared.wake.notify_one();
        }
        Ok(())
    }

    fn in_flight(&self) -> MutexGuard<'_, HashMap<AttemptId, Flight>> {
        self.shared.in_flight.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    fn spool(&self) -> MutexGuard<'_, Spool> {
        self.spool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn nothing_in_flight(&self) -> bool {
        self.in_flight.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }
}
