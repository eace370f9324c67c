//! The breaker of this process and the probe that closes it again.
//!
//! The machine is `routing::Breaker`; here are the lock, the clock and the background task. No request ever waits for a
//! probe.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokenhub_domain::UnixMicros;
use tokenhub_routing::{Admission, Breaker, BreakerFailure, BreakerSettings, BreakerSnapshot};
use tokio_util::sync::CancellationToken;

use super::{now, temporal_link::TemporalLink};

/// How often the task looks whether a probe is due.
const TICK: Duration = Duration::from_millis(250);

/// The breaker under its lock.
pub(crate) struct BreakerCell {
    settings: BreakerSettings,
    breaker: Mutex<Breaker>,
    /// When a worker last took a run or ended one, as far as it was seen here.
    worked_at: Mutex<UnixMicros>,
}

impl BreakerCell {
    /// A breaker that is open until Temporal was seen to work once.
    pub(crate) fn new(settings: BreakerSettings) -> Self {
        let breaker = Breaker::opened(settings, now(), BreakerFailure::ConnectRefused);
        Self { settings, breaker: Mutex::new(breaker), worked_at: Mutex::default() }
    }

    /// Whether requests may go to Temporal.
    pub(crate) fn is_closed(&self) -> bool {
        match self.with(|breaker| breaker.admit(now())) {
            Admission::Closed => true,
            Admission::Open { .. } => false,
        }
    }

    /// Temporal failed.
    pub(crate) fn failed(&self, reason: BreakerFailure) {
        tracing::warn!(reason = reason.as_str(), "Temporal failed");
        self.with(|breaker| breaker.on_failure(now(), reason));
    }

    /// Temporal carried a run.
    pub(crate) fn succeeded(&self) {
        self.with(|breaker| breaker.on_success(now()));
    }

    /// A worker took a run, or ended one.
    pub(crate) fn worked(&self, at: UnixMicros) {
        let mut worked_at = self.worked_at.lock().unwrap_or_else(PoisonError::into_inner);
        *worked_at = at.max(*worked_at);
    }

    /// Whether a worker did something after `moment`: then one polls, and a run that waits longer stands in line.
    pub(crate) fn has_worked_since(&self, moment: UnixMicros) -> bool {
        *self.worked_at.lock().unwrap_or_else(PoisonError::into_inner) > moment
    }

    /// What an operator may see.
    pub(crate) fn snapshot(&self) -> BreakerSnapshot {
        self.with(|breaker| breaker.state(now()))
    }

    fn probe_due(&self) -> bool {
        self.with(|breaker| breaker.probe_due(now()))
    }

    /// Closes whatever the state: Temporal has just been found for the first time.
    fn close(&self) {
        self.with(|breaker| *breaker = Breaker::new(self.settings));
    }

    fn with<T>(&self, act: impl FnOnce(&mut Breaker) -> T) -> T {
        act(&mut self.breaker.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Probes until `stop`: at every tick before the first success, since a process that starts beside Temporal should not
/// wait out an open time, and whenever the breaker asks for it afterwards.
pub(crate) async fn keep_probing(link: Arc<TemporalLink>, breaker: Arc<BreakerCell>, stop: CancellationToken) {
    let mut was_seen = false;
    loop {
        tokio::select! {
            () = tokio::time::sleep(TICK) => {}
            () = stop.cancelled() => return,
        }
        if was_seen && !breaker.probe_due() {
            continue;
        }
        match link.probe().await {
            Ok(()) if was_seen => breaker.succeeded(),
            Ok(()) => {
                was_seen = true;
                breaker.close();
                tracing::info!("Temporal answers and a worker polls: runs are durable");
            }
            Err(reason) if was_seen => breaker.failed(reason),
            Err(reason) => tracing::debug!(reason = reason.as_str(), "no durable path yet"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_worker_did_is_told_by_its_time_and_not_by_when_it_was_seen() {
        let cell = BreakerCell::new(BreakerSettings::default());
        assert!(!cell.has_worked_since(UnixMicros(1)));
        cell.worked(UnixMicros(5));
        cell.worked(UnixMicros(3));
        assert!(cell.has_worked_since(UnixMicros(4)) && !cell.has_worked_since(UnixMicros(5)));
    }

    #[test]
    fn a_process_starts_with_an_open_breaker_and_three_failures_open_it_again() {
        let cell = BreakerCell::new(BreakerSettings::default());
        assert!(!cell.is_closed());
        cell.close();
        assert!(cell.is_closed());
        cell.failed(BreakerFailure::NoPoller);
        cell.failed(BreakerFailure::NoPoller);
        assert!(cell.is_closed());
        cell.succeeded();
        cell.failed(BreakerFailure::NoPoller);
        assert!(cell.is_closed(), "a success in between clears the count");
        cell.failed(BreakerFailure::NoPoller);
        cell.failed(BreakerFailure::StartDeadline);
        assert!(!cell.is_closed());
        assert_eq!(cell.snapshot().reason, Some(BreakerFailure::StartDeadline));
    }
}
