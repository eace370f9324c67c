//! The task that moves the spool into the database: every 200 ms, or as soon as a batch is full.
//!
//! While the database is away it keeps trying and the file keeps the rows; it says so once, and once when it is over.

use std::{sync::atomic::Ordering, time::Duration};

use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::{BATCH_ROWS, Ledger, Shared, adopt, apply};
use crate::StoreError;

/// Longest time that a row waits for company.
const DRAIN_EVERY: Duration = Duration::from_millis(200);
/// Pause after a failure: the database needs no help in being overloaded.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(250);
/// How often the spools of dead processes are looked for.
const ADOPT_EVERY: Duration = Duration::from_secs(1);

pub(super) async fn run(ledger: Ledger, stop: CancellationToken) {
    let shared = &ledger.shared;
    let mut ticks = interval(DRAIN_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut adopted_at = Instant::now();
    let mut failing = false;
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            _ = ticks.tick() => {}
            () = shared.wake.notified() => {}
        }
        let mut result = drain(shared).await;
        if result.is_ok() && adopted_at.elapsed() >= ADOPT_EVERY {
            adopted_at = Instant::now();
            result = adopt::adopt_dead(shared).await.map(|_| ());
        }
        report(&mut failing, result.as_ref().err());
        if result.is_err() {
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(PAUSE_AFTER_FAILURE) => {}
            }
        }
    }
    close(shared).await;
}

fn report(failing: &mut bool, error: Option<&StoreError>) {
    match (error, *failing) {
        (Some(error), false) => {
            tracing::warn!(error = %error, "the ledger stays in the spool: the database does not take it");
        }
        (None, true) => tracing::info!("the ledger reaches the database again"),
        (Some(_), true) | (None, false) => {}
    }
    *failing = error.is_some();
}

/// Moves what has been appended up to now. Concurrent callers take turns, so each finds its own rows moved.
pub(super) async fn drain(shared: &Shared) -> Result<(), StoreError> {
    let _turn = shared.draining.lock().await;
    shared.appended.store(0, Ordering::Relaxed);
    let until = shared.spool().end();
    loop {
        let batch = shared.spool().next_batch(BATCH_ROWS, until).map_err(StoreError::DrainSpool)?;
        let Some(batch) = batch else { break };
        apply::apply(&shared.store, &shared.instance, batch.records).await?;
        shared.spool().mark_drained(batch.end).map_err(StoreError::DrainSpool)?;
    }
    drain_stuck(shared).await
}

/// Brings over what the file does not take, as on a full disk.
async fn drain_stuck(shared: &Shared) -> Result<(), StoreError> {
    let stuck = shared.spool().take_stuck();
    if stuck.is_empty() {
        return Ok(());
    }
    let applied = apply::apply(&shared.store, &shared.instance, stuck.clone()).await;
    if applied.is_err() {
        shared.spool().hold_again(stuck)?;
    }
    applied
}

/// The last drain. A spool that is still needed is left for the next process to adopt.
async fn close(shared: &Shared) {
    if let Err(error) = drain(shared).await {
        tracing::warn!(%error, "the spool is left for the next process to adopt");
        return;
    }
    let finished = shared.nothing_in_flight() && shared.spool().close_if_drained();
    if finished && let Err(error) = adopt::bury(&shared.paths) {
        tracing::warn!(%error, "could not remove the drained spool");
    }
}

#[cfg(test)]
mod tests {
    use tokenhub_domain::{
        AttemptId, InstanceId, NanoDollars, PricePerMillion, PriceSource, Role, TenantId, UnixMicros,
    };
    use tokio_util::task::TaskTracker;

    use super::*;
    use crate::{AttemptOpen, LedgerState, Settlement, Store, Waste};

    fn open(attempt: &AttemptId) -> AttemptOpen {
        AttemptOpen {
            attempt_id: attempt.clone(),
            tenant: TenantId::default_tenant(),
            run_id: "run_1".into(),
            step: "answer".into(),
            step_key: "run_1|answer".into(),
            role: Role::Answer,
            provider: "p".into(),
            model: "m".into(),
            principal: "key".into(),
            api_key_id: "key".into(),
            request_id: "req_1".into(),
            config_version: 1,
            tags: tokenhub_domain::Tags::default(),
            estimated_cost: NanoDollars::default(),
            at: UnixMicros(1),
        }
    }

    fn settlement() -> Settlement {
        Settlement {
            usage_json: None,
            input_tokens: 3,
            output_tokens: 2,
            cost: NanoDollars(7),
            input_price: PricePerMillion::default(),
            output_price: PricePerMillion::default(),
            price_source: PriceSource::Manual,
            finish_reason: None,
            error_class: None,
            status_code: None,
            latency_ms: 1,
            waste: Waste::Used,
            at: UnixMicros(2),
        }
    }

    #[tokio::test]
    async fn what_a_full_disk_does_not_take_reaches_the_database_without_it() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&format!("sqlite://{}?mode=rwc", folder.path().join("db").display())).await.unwrap();
        store.migrate().await.unwrap();
        let (tracker, stop) = (TaskTracker::new(), CancellationToken::new());
        let instance = InstanceId::from("inst_1");
        let ledger = Ledger::open(store.clone(), folder.path(), instance, &tracker, stop.clone()).await.unwrap();
        let attempt = AttemptId::from("att_1");
        ledger.reserve(open(&attempt));
        ledger.sent(&attempt, UnixMicros(1)).unwrap();
        ledger.settle_with_log(&attempt, settlement()).unwrap();
        ledger.shared.spool().refuse_writes();
        ledger.flush().await.unwrap();
        let rows = store.ledger_rows().of_run(&TenantId::default_tenant(), &"run_1".into()).await.unwrap();
        let seen: Vec<_> = rows.iter().map(|row| (row.state, row.cost)).collect();
        assert_eq!(seen, [(LedgerState::Settled, NanoDollars(7))]);
        stop.cancel();
        tracker.close();
        tracker.wait().await;
    }
}
