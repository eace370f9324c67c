//! What can go wrong with stored state, by the operation that failed.

use std::{io, path::PathBuf};

use sea_orm::{DbErr, RuntimeErr, sqlx};
use tokenhub_domain::{AttemptId, ContentHash, RunId, StepKey};

/// Primary result codes of `SQLite` that say the file cannot be used now: busy, locked, I/O error, full, cannot open.
const SQLITE_UNAVAILABLE: [i64; 5] = [5, 6, 10, 13, 14];
/// Those of them that pass when another process lets go: busy, locked.
const SQLITE_LOCKED: [i64; 2] = [5, 6];
/// SQLSTATE prefixes of `PostgreSQL` that say the server cannot serve now: connection exceptions, out of resources,
/// operator intervention, and failures of its host.
const POSTGRES_UNAVAILABLE: [&str; 4] = ["08", "53", "57P", "58"];

/// A failed operation.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The URL names no database that we can use.
    #[error("the database url must begin with sqlite: or postgres:")]
    UnknownScheme,
    /// Connecting failed.
    #[error("could not open the database")]
    Open(#[source] DbErr),
    /// The schema could not be brought up to date.
    #[error("could not migrate the database")]
    Migrate(#[source] DbErr),
    /// The database did not answer.
    #[error("could not reach the database")]
    Ping(#[source] DbErr),
    /// A query failed.
    #[error("could not read {what}")]
    Read {
        /// Which rows.
        what: &'static str,
        /// Why.
        #[source]
        source: DbErr,
    },
    /// A change failed; nothing of it was stored.
    #[error("could not write {what}")]
    Write {
        /// Which rows.
        what: &'static str,
        /// Why.
        #[source]
        source: DbErr,
    },
    /// A stored value is not one that this version knows.
    #[error("column {column} holds {value:?}, which is not known")]
    Decode {
        /// Where.
        column: &'static str,
        /// What.
        value: String,
    },
    /// There is no such run.
    #[error("there is no run {0}")]
    UnknownRun(RunId),
    /// No lease was ever taken on this step.
    #[error("there is no journal entry {0}")]
    UnknownStep(StepKey),
    /// The text is not stored (any more).
    #[error("there is no content {}", .0.0)]
    UnknownContent(ContentHash),
    /// The attempt was not reserved by this process.
    #[error("there is no reserved attempt {0}")]
    UnknownAttempt(AttemptId),
    /// The same row changed under us again and again.
    #[error("gave up on {0} after repeated concurrent changes")]
    Contended(&'static str),
    /// The spool file could not be made or locked.
    #[error("could not open the spool {path}")]
    OpenSpool {
        /// Its path.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A record could not be encoded for the spool.
    #[error("could not encode a spool record")]
    EncodeSpool(#[source] serde_json::Error),
    /// A record could not be appended.
    #[error("could not append to the spool")]
    AppendSpool(#[source] io::Error),
    /// The spool could not be read back, shortened or removed.
    #[error("could not read the spool back")]
    DrainSpool(#[source] io::Error),
    /// The spool has reached its bound because the database was away for long.
    #[error("the spool is full")]
    SpoolFull,
    /// The ledger was shut down.
    #[error("the ledger is closed")]
    LedgerClosed,
}

impl StoreError {
    /// Whether the operation may succeed later without any change: the database is away, busy or full.
    pub fn is_unavailable(&self) -> bool {
        match self {
            Self::Open(source)
            | Self::Migrate(source)
            | Self::Ping(source)
            | Self::Read { source, .. }
            | Self::Write { source, .. } => database_is_unavailable(source),
            Self::SpoolFull | Self::LedgerClosed | Self::Contended(_) => true,
            Self::UnknownScheme
            | Self::Decode { .. }
            | Self::UnknownRun(_)
            | Self::UnknownStep(_)
            | Self::UnknownContent(_)
            | Self::UnknownAttempt(_)
            | Self::OpenSpool { .. }
            | Self::EncodeSpool(_)
            | Self::AppendSpool(_)
            | Self::DrainSpool(_) => false,
        }
    }

    /// Whether another process holds the lock of a `SQLite` file.
    pub(crate) fn is_lock_contention(&self) -> bool {
        let Self::Open(DbErr::Conn(RuntimeErr::SqlxError(cause))) = self else { return false };
        cause.as_database_error().and_then(sqlite_code).is_some_and(|code| SQLITE_LOCKED.contains(&code))
    }

    pub(crate) fn reading(what: &'static str) -> impl Fn(DbErr) -> Self {
        move |source| Self::Read { what, source }
    }

    pub(crate) fn writing(what: &'static str) -> impl Fn(DbErr) -> Self {
        move |source| Self::Write { what, source }
    }
}

fn database_is_unavailable(error: &DbErr) -> bool {
    if matches!(error, DbErr::ConnectionAcquire(_)) {
        return true;
    }
    let (DbErr::Conn(RuntimeErr::SqlxError(cause))
    | DbErr::Exec(RuntimeErr::SqlxError(cause))
    | DbErr::Query(RuntimeErr::SqlxError(cause))) = error
    else {
        return false;
    };
    match cause.as_database_error() {
        Some(refused) => refused.code().is_some_and(|code| code_means_unavailable(&code, refused)),
        None => matches!(
            **cause,
            sqlx::Error::Io(_)
                | sqlx::Error::Tls(_)
                | sqlx::Error::PoolTimedOut
                | sqlx::Error::PoolClosed
                | sqlx::Error::WorkerCrashed
        ),
    }
}

fn code_means_unavailable(code: &str, refused: &dyn sqlx::error::DatabaseError) -> bool {
    match sqlite_code(refused) {
        Some(code) => SQLITE_UNAVAILABLE.contains(&code),
        None => POSTGRES_UNAVAILABLE.iter().any(|prefix| code.starts_with(prefix)),
    }
}

/// The primary result code, which is the low byte of the extended one.
fn sqlite_code(refused: &dyn sqlx::error::DatabaseError) -> Option<i64> {
    refused.try_downcast_ref::<sqlx::sqlite::SqliteError>()?;
    refused.code()?.parse::<i64>().ok().map(|extended| extended & 0xff)
}
