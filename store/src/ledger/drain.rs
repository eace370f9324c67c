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
    let until = shared.spool().written_end().map_err(StoreError::DrainSpool)?;
    loop {
        let batch = shared.spool().next_batch(BATCH_ROWS, until).map_err(StoreError::DrainSpool)?;
        let Some(batch) = batch else { break };
        apply::apply(&shared.store, &shared.instance, batch.records).await?;
        shared.spool().mark_drained(batch.end).map_err(StoreError::DrainSpool)?;
    }
    Ok(())
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
