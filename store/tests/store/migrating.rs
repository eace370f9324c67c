//! Opening and migrating.

use tokenhub_domain::RunId;
use tokenhub_store::{Store, StoreError};

use crate::{
    databases::{Database, on_both_databases, sqlite},
    rows,
};

on_both_databases!(
    processes_that_start_together_on_an_empty_database_all_succeed,
    migrating_again_changes_nothing,
    a_database_without_tables_is_an_error_that_is_not_taken_for_an_outage,
);

async fn processes_that_start_together_on_an_empty_database_all_succeed(database: Database) {
    let starts: Vec<_> = (0..6)
        .map(|_| {
            let url = database.url.clone();
            tokio::spawn(async move {
                let store = Store::open(&url).await.unwrap();
                store.migrate().await.unwrap();
                store
            })
        })
        .collect();
    for start in starts {
        let store = start.await.unwrap();
        store.ping().await.unwrap();
        store.runs().insert(&rows::run(&RunId::generate_plan())).await.unwrap();
    }
}

async fn migrating_again_changes_nothing(database: Database) {
    let store = database.store().await;
    let run = rows::run(&RunId::generate_plan());
    store.runs().insert(&run).await.unwrap();
    store.migrate().await.unwrap();
    assert!(store.runs().get(&run.tenant, &run.run_id).await.unwrap().is_some());
}

async fn a_database_without_tables_is_an_error_that_is_not_taken_for_an_outage(database: Database) {
    let error = database.bare_store().await.ledger_rows().all().await.unwrap_err();
    assert!(matches!(error, StoreError::Read { .. }), "{error:?}");
    assert!(!error.is_unavailable());
}

#[tokio::test]
async fn a_server_that_is_away_is_an_outage() {
    let error = Store::open("postgres://nobody@localhost/none?host=/nonexistent").await.unwrap_err();
    assert!(error.is_unavailable(), "{error:?}");
}

#[tokio::test]
async fn a_file_that_another_process_keeps_locked_is_an_outage() {
    let database = sqlite();
    let store = database.store().await;
    let other = sea_orm::Database::connect(&database.url).await.unwrap();
    let held = sea_orm::TransactionTrait::begin(&other).await.unwrap();
    sea_orm::ConnectionTrait::execute_unprepared(&held, "DELETE FROM runs").await.unwrap();
    let error = store.runs().insert(&rows::run(&RunId::generate_plan())).await.unwrap_err();
    assert!(error.is_unavailable(), "{error:?}");
    held.rollback().await.unwrap();
    store.runs().insert(&rows::run(&RunId::generate_plan())).await.unwrap();
}

#[tokio::test]
async fn an_unknown_scheme_and_a_missing_folder_are_refused_at_once() {
    let started = std::time::Instant::now();
    assert!(matches!(Store::open("mysql://localhost/x").await, Err(StoreError::UnknownScheme)));
    assert!(matches!(Store::open("sqlite:///nonexistent/x.db?mode=rwc").await, Err(StoreError::Open(_))));
    assert!(started.elapsed() < std::time::Duration::from_secs(4), "it was taken for a lock and waited for");
}
