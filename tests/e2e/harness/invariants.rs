//! What must hold between the provider's count and the ledger after every test, killed processes or not.

use std::{collections::BTreeSet, path::Path};

use tokenhub_demo::ScriptedProvider;
use tokenhub_domain::InstanceId;
use tokenhub_store::{Ledger, LedgerState, Store};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// What a test did to its processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disturbance {
    /// Nothing: ledger and provider agree on every call.
    None,
    /// Something was killed: a call may have been announced that never left.
    Kills,
}

/// Adopts what dead processes left and compares the ledger with what the provider saw.
pub async fn check(database_url: &str, data_dir: &Path, provider: &ScriptedProvider, disturbance: Disturbance) {
    let store = Store::open(database_url).await.unwrap();
    let (tracker, stop) = (TaskTracker::new(), CancellationToken::new());
    let ledger = Ledger::open(store.clone(), data_dir, InstanceId::generate(), &tracker, stop.clone()).await.unwrap();
    ledger.adopt_dead().await.unwrap();
    ledger.flush().await.unwrap();
    stop.cancel();
    tracker.close();
    tracker.wait().await;

    let rows = store.ledger_rows().all().await.unwrap();
    let in_ledger: BTreeSet<String> = rows.iter().map(|row| row.attempt.to_string()).collect();
    assert_eq!(in_ledger.len(), rows.len(), "one row for each attempt");
    let seen: Vec<String> = provider.calls().into_iter().map(|call| call.attempt_id.unwrap_or_default()).collect();
    let at_provider: BTreeSet<String> = seen.iter().cloned().collect();
    assert_eq!(at_provider.len(), seen.len(), "an attempt id was sent twice");
    let unknown: Vec<&String> = at_provider.difference(&in_ledger).collect();
    assert!(unknown.is_empty(), "calls that the ledger does not know: {unknown:?}");
    let settled: BTreeSet<String> =
        rows.iter().filter(|row| row.state == LedgerState::Settled).map(|row| row.attempt.to_string()).collect();
    let invented: Vec<&String> = settled.difference(&at_provider).collect();
    assert!(invented.is_empty(), "settled attempts that never reached the provider: {invented:?}");
    let open: Vec<_> =
        rows.iter().filter(|row| matches!(row.state, LedgerState::Reserved | LedgerState::Sent)).collect();
    assert!(open.is_empty(), "attempts that nobody ended: {open:?}");
    if disturbance == Disturbance::None {
        assert_eq!(in_ledger, at_provider, "an undisturbed test has no other rows than calls");
    }
}
