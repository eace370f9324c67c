//! The schema of the database and its changes, one file each, the same for `SQLite` and `PostgreSQL`.
//!
//! Owns table and index definitions; must not know what the rows mean to the product.
//! Conventions: ids are text, money is whole nano-dollars, time is whole microseconds since 1970 UTC, every row has a
//! tenant, and content is bytes so that it can be sealed. A migration that was released is never edited.
//! Month partitions of ledger, request log and events on `PostgreSQL` come together with retention, which is what they
//! are for: without it they would only cost planning time.

use sea_orm_migration::{
    prelude::*,
    sea_orm::{DatabaseBackend, DatabaseConnection, SqliteTransactionMode, TransactionOptions, TransactionTrait},
};

mod m20260101_000001_schema;
mod m20260102_000001_cooldowns;
mod m20260103_000001_observations;
mod m20260104_000001_decisions;
mod m20260105_000001_catalogue;
mod m20260106_000001_budgets;
mod m20260106_000001_plan_event_keys;
mod m20260106_000001_webhooks;
mod m20260107_000001_approvals;
mod m20260108_000001_reattach;
mod m20260108_000001_signals;
mod m20260108_000001_templates;
mod m20260109_000001_plan_deltas;
mod m20260109_000001_step_budgets;

/// The key of the advisory lock that migrating processes queue up at on `PostgreSQL`: "tokenhub" in ASCII.
const ADVISORY_LOCK_KEY: i64 = 0x746f_6b65_6e68_7562;

/// Every migration, in order.
pub struct Migrator;

impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(m20260101_000001_schema::Migration),
            Box::new(m20260102_000001_cooldowns::Migration),
            Box::new(m20260103_000001_observations::Migration),
            Box::new(m20260104_000001_decisions::Migration),
            Box::new(m20260105_000001_catalogue::Migration),
            Box::new(m20260106_000001_budgets::Migration),
            Box::new(m20260106_000001_plan_event_keys::Migration),
            Box::new(m20260106_000001_webhooks::Migration),
            Box::new(m20260107_000001_approvals::Migration),
            Box::new(m20260108_000001_templates::Migration),
            Box::new(m20260108_000001_signals::Migration),
            Box::new(m20260108_000001_reattach::Migration),
            Box::new(m20260109_000001_plan_deltas::Migration),
            Box::new(m20260109_000001_step_budgets::Migration),
        ]
    }
}

/// Brings the database up to date. Processes that start together queue up: one migrates, the others find nothing to do.
///
/// Everything happens in one transaction, which holds the lock: `SQLite`'s write lock, or an advisory lock on `PostgreSQL`.
pub async fn migrate(connection: &DatabaseConnection) -> Result<(), DbErr> {
    let options = TransactionOptions {
        sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
        ..TransactionOptions::default()
    };
    let transaction = connection.begin_with_options(options).await?;
    if connection.get_database_backend() == DatabaseBackend::Postgres {
        transaction.execute_unprepared(&format!("SELECT pg_advisory_xact_lock({ADVISORY_LOCK_KEY})")).await?;
    }
    Migrator::up(&transaction, None).await?;
    transaction.commit().await
}
