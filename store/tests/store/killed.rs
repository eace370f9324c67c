//! A real process is killed with a call in flight. The child is this test binary again, told to run `the_child`.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Command, Stdio},
    time::Duration,
};

use tokenhub_domain::{AttemptId, InstanceId};
use tokenhub_store::LedgerState;

use crate::{
    databases::{Database, on_both_databases},
    ledger::{Running, rows, send},
    rows::attempt,
};

const URL_VARIABLE: &str = "TOKENHUB_TEST_CHILD_URL";
const FOLDER_VARIABLE: &str = "TOKENHUB_TEST_CHILD_FOLDER";

on_both_databases!(a_killed_process_is_found_dead_and_its_call_is_orphaned);

async fn a_killed_process_is_found_dead_and_its_call_is_orphaned(database: Database) {
    let store = database.store().await;
    let running = Running::start(&store, &database).await;
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["killed::the_child", "--exact", "--ignored", "--nocapture"])
        .env(URL_VARIABLE, &database.url)
        .env(FOLDER_VARIABLE, database.data_dir())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let said = lines.find_map(|line| line.strip_prefix("sent ").map(str::to_owned)).unwrap();
    let (instance, id) = said.split_once(' ').unwrap();
    let (instance, id) = (InstanceId::from(instance), AttemptId::from(id));
    assert!(!running.ledger.is_instance_dead(&instance));
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(running.ledger.is_instance_dead(&instance));
    running.ledger.adopt_dead().await.unwrap();
    let rows = rows(&store).await;
    assert_eq!(rows.len(), 1);
    assert_eq!((&rows[0].attempt, rows[0].state), (&id, LedgerState::Orphaned));
    assert!(running.ledger.is_instance_dead(&instance));
}

#[tokio::test]
#[ignore = "the part of the child in a_killed_process_is_found_dead_and_its_call_is_orphaned"]
#[expect(clippy::disallowed_methods, reason = "how the parent speaks to the child")]
async fn the_child() {
    let (Ok(url), Ok(folder)) = (std::env::var(URL_VARIABLE), std::env::var(FOLDER_VARIABLE)) else { return };
    let store = tokenhub_store::Store::open(&url).await.unwrap();
    let stop = tokio_util::sync::CancellationToken::new();
    let tracker = tokio_util::task::TaskTracker::new();
    let instance = InstanceId::generate();
    let ledger = tokenhub_store::Ledger::open(store, folder.as_ref(), instance.clone(), &tracker, stop).await.unwrap();
    let id = send(&ledger, attempt(1));
    writeln!(std::io::stdout(), "\nsent {instance} {id}").unwrap();
    // The parent kills it long before; a child whose parent died goes by itself.
    tokio::time::sleep(Duration::from_mins(1)).await;
}
