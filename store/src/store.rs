//! The handle on the database, from which every repository is made.
//!
//! Knows the two databases' settings, and nothing of the tables. On `SQLite` all writes of a process go through one
//! connection: they queue fairly in memory instead of polling for the file lock, which only other processes contend for.

use std::time::{Duration, Instant};

use sea_orm::{
    ConnectOptions, ConnectionTrait, Database, DatabaseConnection, DatabaseTransaction, SqliteTransactionMode,
    TransactionOptions, TransactionTrait,
    sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};

use crate::{
    Approvals, Budgets, CatalogueRecords, Contents, Cooldowns, Decisions, Journal, LedgerRows, Observations,
    PlanDeltas, PlanEvents, PlanTemplates, RequestLog, Runs, Signals, StoreError, WebhookDeliveries,
};

/// How long a statement waits for a lock, a connection or a server before it fails.
const PATIENCE: Duration = Duration::from_secs(5);
/// Pause between tries to open a `SQLite` file that another process is just creating.
const OPEN_RETRY: Duration = Duration::from_millis(20);
/// Pages that the writer keeps, in KiB as `SQLite` counts them, negated: a batch of the ledger touches more than the 2 MB
/// of the default, and a page that has no room is written before its time.
const SQLITE_WRITER_CACHE: &str = "-8000";
/// Pages of the log before they are brought home. A batch writes some of them again and again; four times the default
/// brings each home once.
const SQLITE_LOG_PAGES: &str = "4000";
/// Readers of one `SQLite` file. Reads are short; more connections only cost memory.
const SQLITE_READERS: u32 = 4;
/// Connections of one process to `PostgreSQL`; with ten processes still below its default of 100.
const POSTGRES_CONNECTIONS: u32 = 8;
/// A connection that rested longer is checked before use, because the server may have gone and come back.
const POSTGRES_TRUSTED_IDLE: Duration = Duration::from_secs(1);

/// The database. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    reader: DatabaseConnection,
    writer: DatabaseConnection,
}

impl Store {
    /// Connects to `sqlite://<path>?mode=rwc` or `postgres://…`. The schema is brought up to date by [`Self::migrate`].
    pub async fn open(url: &str) -> Result<Self, StoreError> {
        if url.starts_with("postgres:") || url.starts_with("postgresql:") {
            let pool = Database::connect(postgres_options(url)).await.map_err(StoreError::Open)?;
            return Ok(Self { reader: pool.clone(), writer: pool });
        }
        if !url.starts_with("sqlite:") {
            return Err(StoreError::UnknownScheme);
        }
        let writer = connect_to_sqlite(sqlite_writer_options(url)).await?;
        // Each connection to a database in memory would see a database of its own.
        if url.contains(":memory:") || url.contains("mode=memory") {
            return Ok(Self { reader: writer.clone(), writer });
        }
        let reader = connect_to_sqlite(sqlite_options(url, SQLITE_READERS)).await?;
        Ok(Self { reader, writer })
    }

    /// Brings the schema up to date; processes that do so at the same time wait for each other.
    pub async fn migrate(&self) -> Result<(), StoreError> {
        tokenhub_migrations::migrate(&self.writer).await.map_err(StoreError::Migrate)
    }

    /// Whether the database answers.
    pub async fn ping(&self) -> Result<(), StoreError> {
        self.reader.execute_unprepared("SELECT 1").await.map(|_| ()).map_err(StoreError::Ping)
    }

    /// The runs.
    pub fn runs(&self) -> Runs {
        Runs::new(self.clone())
    }

    /// The journal of steps.
    pub fn journal(&self) -> Journal {
        Journal::new(self.clone())
    }

    /// The decisions about answers.
    pub fn approvals(&self) -> Approvals {
        Approvals::new(self.clone())
    }

    /// The limits of bounded runs.
    pub fn budgets(&self) -> Budgets {
        Budgets::new(self.clone())
    }

    /// What was asked of runs while they ran.
    pub fn signals(&self) -> Signals {
        Signals::new(self.clone())
    }

    /// The long texts.
    pub fn contents(&self) -> Contents {
        Contents::new(self.clone())
    }

    /// The penalties of providers.
    pub fn cooldowns(&self) -> Cooldowns {
        Cooldowns::new(self.clone())
    }

    /// What processes have seen of deployments.
    pub fn observations(&self) -> Observations {
        Observations::new(self.clone())
    }

    /// The request log.
    pub fn request_log(&self) -> RequestLog {
        RequestLog::new(self.clone())
    }

    /// What happened to plans.
    pub fn plan_events(&self) -> PlanEvents {
        PlanEvents::new(self.clone())
    }

    /// What is being written in plans.
    pub fn plan_deltas(&self) -> PlanDeltas {
        PlanDeltas::new(self.clone())
    }

    /// The templates of plans.
    pub fn plan_templates(&self) -> PlanTemplates {
        PlanTemplates::new(self.clone())
    }

    /// What administrators wrote about providers, models and aliases.
    pub fn catalogue_records(&self) -> CatalogueRecords {
        CatalogueRecords::new(self.clone())
    }

    /// What selections found.
    pub fn decisions(&self) -> Decisions {
        Decisions::new(self.clone())
    }

    /// The ledger's rows as they are in the database; what is still in a spool is not among them.
    pub fn ledger_rows(&self) -> LedgerRows {
        LedgerRows::new(self.clone())
    }

    /// The webhooks on their way.
    pub fn webhook_deliveries(&self) -> WebhookDeliveries {
        WebhookDeliveries::new(self.clone())
    }

    pub(crate) fn reader(&self) -> &DatabaseConnection {
        &self.reader
    }

    pub(crate) fn writer(&self) -> &DatabaseConnection {
        &self.writer
    }

    /// A transaction that is a writing one from its first statement, so that it cannot fail half-way for a lock.
    pub(crate) async fn begin(&self, what: &'static str) -> Result<DatabaseTransaction, StoreError> {
        let options = TransactionOptions {
            sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
            ..TransactionOptions::default()
        };
        self.writer.begin_with_options(options).await.map_err(StoreError::writing(what))
    }
}

fn sqlite_options(url: &str, connections: u32) -> ConnectOptions {
    let mut options = ConnectOptions::new(url);
    options
        .max_connections(connections)
        .acquire_timeout(PATIENCE)
        .test_before_acquire(false)
        .sqlx_logging(false)
        .record_stmt_in_spans(false)
        .map_sqlx_sqlite_opts(as_every_connection);
    options
}

fn sqlite_writer_options(url: &str) -> ConnectOptions {
    let mut options = sqlite_options(url, 1);
    options.map_sqlx_sqlite_opts(|sqlite| {
        as_every_connection(sqlite)
            .pragma("cache_size", SQLITE_WRITER_CACHE)
            .pragma("wal_autocheckpoint", SQLITE_LOG_PAGES)
            // What a statement of many rows may have to undo is kept in memory and not in a file of its own.
            .pragma("temp_store", "memory")
    });
    options
}

fn as_every_connection(sqlite: SqliteConnectOptions) -> SqliteConnectOptions {
    sqlite
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Normal)
        .busy_timeout(PATIENCE)
        .foreign_keys(true)
}

fn postgres_options(url: &str) -> ConnectOptions {
    let mut options = ConnectOptions::new(url);
    options
        .max_connections(POSTGRES_CONNECTIONS)
        .acquire_timeout(PATIENCE)
        .connect_timeout(PATIENCE)
        .test_before_acquire_if_idle_for(POSTGRES_TRUSTED_IDLE)
        .sqlx_logging(false)
        .record_stmt_in_spans(false);
    options
}

/// The switch of a new file to WAL does not wait for a lock but fails, so processes that start together try again.
async fn connect_to_sqlite(options: ConnectOptions) -> Result<DatabaseConnection, StoreError> {
    let started = Instant::now();
    loop {
        match Database::connect(options.clone()).await.map_err(StoreError::Open) {
            Err(error) if error.is_lock_contention() && started.elapsed() < PATIENCE => {
                tokio::time::sleep(OPEN_RETRY).await;
            }
            connected => return connected,
        }
    }
}
