//! The breaker before the durable path: after a few failures of Temporal itself, requests stop waiting for it.
//!
//! Owns the state machine and nothing else: the caller brings the time, reports the events and runs the probe. Only
//! Temporal's own failures may be reported; a provider's failure, a client's disconnect or a refused budget says nothing
//! about Temporal.
//!
//! | state | failure | success | admit | `probe_due` |
//! |---|---|---|---|---|
//! | closed | counted; the third within the window opens | count cleared | admitted | no |
//! | open, before its end | stays open | stays open: a straggler proves nothing | refused | no |
//! | open, after its end | stays open | stays open | refused | yes, once: half-open |
//! | half-open | open again | closed | refused | no; again once the probe is lost |
//!
//! The probe runs in the background, so no request ever pays for finding out. A probe that reports nothing within the
//! open time is lost, and the next one is due: a dead task cannot hold the breaker open for ever.

use serde::{Deserialize, Serialize};
use tokenhub_domain::UnixMicros;

/// How long a refused caller is told to wait while a probe is on its way.
const PROBE_WAIT_MS: u64 = 1_000;

/// When to open and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BreakerSettings {
    /// Failures that open it.
    pub failures: u32,
    /// How long it stays open before a probe is due.
    pub open_ms: u64,
    /// Failures further apart than this do not add up.
    pub window_ms: u64,
}

impl Default for BreakerSettings {
    fn default() -> Self {
        Self { failures: 3, open_ms: 30_000, window_ms: 60_000 }
    }
}

/// A failure of Temporal itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BreakerFailure {
    /// Nobody listens at its address, or the connection broke.
    ConnectRefused,
    /// It answers that it cannot serve.
    Unavailable,
    /// A start was not acknowledged in time.
    StartDeadline,
    /// It accepts starts, and no worker picks them up.
    NoPoller,
}

impl BreakerFailure {
    /// The stable name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ConnectRefused => "connect_refused",
            Self::Unavailable => "unavailable",
            Self::StartDeadline => "start_deadline",
            Self::NoPoller => "no_poller",
        }
    }
}

/// Whether a request may take the durable path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// The breaker is closed: go ahead.
    Closed,
    /// It is not: run in process or refuse.
    Open {
        /// When asking again makes sense.
        retry_after_ms: u64,
    },
}

/// The name of a state, for the health page and the metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BreakerState {
    /// Requests go to Temporal.
    Closed,
    /// Requests do not.
    Open,
    /// Requests do not, and a probe is on its way.
    HalfOpen,
}

impl BreakerState {
    /// The stable name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
        }
    }
}

/// What an operator may see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct BreakerSnapshot {
    /// The state.
    pub state: BreakerState,
    /// The latest failure that counts.
    pub reason: Option<BreakerFailure>,
    /// Failures counted towards opening; the full number once open.
    pub failures: u32,
    /// When a probe will be due; none while closed.
    pub next_probe_at: Option<UnixMicros>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Machine {
    Closed { failures: u32, last: Option<(UnixMicros, BreakerFailure)> },
    Open { until: UnixMicros, reason: BreakerFailure },
    HalfOpen { lost_at: UnixMicros, reason: BreakerFailure },
}

/// The machine. One per process, shared under a lock of the caller's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Breaker {
    settings: BreakerSettings,
    machine: Machine,
}

impl Breaker {
    /// A closed breaker.
    pub fn new(settings: BreakerSettings) -> Self {
        Self { settings, machine: Machine::Closed { failures: 0, last: None } }
    }

    /// A breaker that is open from the start, for a process that found nobody at Temporal's address.
    pub fn opened(settings: BreakerSettings, now: UnixMicros, reason: BreakerFailure) -> Self {
        Self { settings, machine: Self::open(settings, now, reason) }
    }

    /// Whether a request may take the durable path now.
    pub fn admit(&self, now: UnixMicros) -> Admission {
        match self.machine {
            Machine::Closed { .. } => Admission::Closed,
            Machine::Open { until, .. } => {
                Admission::Open { retry_after_ms: until.millis_since(now).max(PROBE_WAIT_MS) }
            }
            Machine::HalfOpen { .. } => Admission::Open { retry_after_ms: PROBE_WAIT_MS },
        }
    }

    /// Whether the caller must run a probe now. Saying yes once is a transition: the probe's outcome is expected.
    #[must_use]
    pub fn probe_due(&mut self, now: UnixMicros) -> bool {
        let (due_at, reason) = match self.machine {
            Machine::Closed { .. } => return false,
            Machine::Open { until, reason } => (until, reason),
            Machine::HalfOpen { lost_at, reason } => (lost_at, reason),
        };
        let is_due = now >= due_at;
        if is_due {
            self.machine = Machine::HalfOpen { lost_at: now.plus_millis(self.settings.open_ms), reason };
        }
        is_due
    }

    /// Temporal failed, for a request or for the probe.
    pub fn on_failure(&mut self, now: UnixMicros, reason: BreakerFailure) {
        self.machine = match self.machine {
            Machine::Closed { failures, last } => {
                let is_recent = last.is_some_and(|(at, _)| now.millis_since(at) <= self.settings.window_ms);
                let failures = if is_recent { failures.saturating_add(1) } else { 1 };
                if failures >= self.settings.failures {
                    Self::open(self.settings, now, reason)
                } else {
                    Machine::Closed { failures, last: Some((now, reason)) }
                }
            }
            open @ Machine::Open { .. } => open,
            Machine::HalfOpen { .. } => Self::open(self.settings, now, reason),
        };
    }

    /// Temporal did what was asked, for a request or for the probe.
    pub fn on_success(&mut self, _now: UnixMicros) {
        self.machine = match self.machine {
            Machine::Closed { .. } | Machine::HalfOpen { .. } => Machine::Closed { failures: 0, last: None },
            open @ Machine::Open { .. } => open,
        };
    }

    /// What an operator may see.
    pub fn state(&self, now: UnixMicros) -> BreakerSnapshot {
        let open = |state, reason, next_probe_at| BreakerSnapshot {
            state,
            reason: Some(reason),
            failures: self.settings.failures,
            next_probe_at: Some(next_probe_at),
        };
        match self.machine {
            Machine::Closed { failures, last } => {
                let counted = last.filter(|(at, _)| now.millis_since(*at) <= self.settings.window_ms);
                BreakerSnapshot {
                    state: BreakerState::Closed,
                    reason: counted.map(|(_, reason)| reason),
                    failures: if counted.is_some() { failures } else { 0 },
                    next_probe_at: None,
                }
            }
            Machine::Open { until, reason } => open(BreakerState::Open, reason, until),
            Machine::HalfOpen { lost_at, reason } => open(BreakerState::HalfOpen, reason, lost_at),
        }
    }

    fn open(settings: BreakerSettings, now: UnixMicros, reason: BreakerFailure) -> Machine {
        Machine::Open { until: now.plus_millis(settings.open_ms), reason }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: BreakerSettings = BreakerSettings { failures: 3, open_ms: 30_000, window_ms: 60_000 };
    const REFUSED: BreakerFailure = BreakerFailure::ConnectRefused;

    fn at(millis: i64) -> UnixMicros {
        UnixMicros(millis * 1_000)
    }

    fn opened_at_zero() -> Breaker {
        let mut breaker = Breaker::new(SETTINGS);
        for _ in 0..3 {
            breaker.on_failure(at(0), REFUSED);
        }
        breaker
    }

    #[test]
    fn the_third_failure_in_a_row_opens_and_a_success_in_between_prevents_it() {
        let mut breaker = Breaker::new(SETTINGS);
        breaker.on_failure(at(0), REFUSED);
        breaker.on_failure(at(1), REFUSED);
        breaker.on_success(at(2));
        breaker.on_failure(at(3), REFUSED);
        breaker.on_failure(at(4), REFUSED);
        assert_eq!(breaker.admit(at(4)), Admission::Closed);
        assert_eq!(breaker.state(at(4)).failures, 2);
        breaker.on_failure(at(5), BreakerFailure::NoPoller);
        assert_eq!(breaker.admit(at(5)), Admission::Open { retry_after_ms: 30_000 });
        assert_eq!(
            breaker.state(at(5)),
            BreakerSnapshot {
                state: BreakerState::Open,
                reason: Some(BreakerFailure::NoPoller),
                failures: 3,
                next_probe_at: Some(at(30_005)),
            }
        );
    }

    #[test]
    fn failures_further_apart_than_the_window_do_not_add_up() {
        let mut breaker = Breaker::new(SETTINGS);
        for turn in 0..10 {
            breaker.on_failure(at(turn * 60_001), REFUSED);
        }
        assert_eq!(breaker.state(at(9 * 60_001)).failures, 1);
        assert_eq!(breaker.state(at(10 * 60_001)).failures, 0, "and are forgotten");
    }

    #[test]
    fn requests_are_refused_until_a_background_probe_succeeds() {
        let mut breaker = opened_at_zero();
        assert!(!breaker.probe_due(at(29_999)));
        assert!(breaker.probe_due(at(30_000)));
        assert!(!breaker.probe_due(at(30_001)), "one probe at a time");
        assert_eq!(breaker.admit(at(30_001)), Admission::Open { retry_after_ms: PROBE_WAIT_MS });
        breaker.on_failure(at(30_500), BreakerFailure::StartDeadline);
        assert!(!breaker.probe_due(at(60_499)));
        assert!(breaker.probe_due(at(60_500)));
        breaker.on_success(at(60_600));
        assert_eq!(breaker.admit(at(60_600)), Admission::Closed);
        assert_eq!(breaker.state(at(60_600)).next_probe_at, None);
    }

    #[test]
    fn a_lost_probe_is_replaced() {
        let mut breaker = opened_at_zero();
        assert!(breaker.probe_due(at(30_000)));
        assert!(!breaker.probe_due(at(59_999)));
        assert!(breaker.probe_due(at(60_000)));
    }

    #[test]
    fn stragglers_neither_close_an_open_breaker_nor_prolong_it() {
        let mut breaker = opened_at_zero();
        let before = breaker.clone();
        breaker.on_success(at(10));
        breaker.on_failure(at(10_000), BreakerFailure::Unavailable);
        assert_eq!(breaker, before);
    }

    #[derive(Clone, Copy, Debug)]
    enum Event {
        Failure,
        Success,
        Probe,
        Pass,
    }

    /// Every sequence of eight events, checked after each against the table and a count of probes in flight.
    #[test]
    fn no_sequence_of_events_reaches_an_illegal_pair() {
        const EVENTS: [Event; 4] = [Event::Failure, Event::Success, Event::Probe, Event::Pass];
        let mut reached = [false; 3];
        for code in 0..4_usize.pow(8) {
            let mut breaker = Breaker::new(SETTINGS);
            let (mut now, mut probe_since) = (0, None);
            for place in 0..8 {
                let before = breaker.state(at(now)).state;
                let event = EVENTS[code / 4_usize.pow(place) % 4];
                match event {
                    Event::Failure => breaker.on_failure(at(now), REFUSED),
                    Event::Success => breaker.on_success(at(now)),
                    Event::Probe => {
                        if breaker.probe_due(at(now)) {
                            let is_only_one = probe_since.is_none_or(|since| now - since >= 30_000);
                            assert!(is_only_one, "{code}: a second probe while one is in flight");
                            probe_since = Some(now);
                        }
                    }
                    Event::Pass => now += 15_000,
                }
                let after = breaker.state(at(now)).state;
                let is_legal = match (before, after) {
                    (BreakerState::Closed | BreakerState::HalfOpen, BreakerState::Open) => {
                        matches!(event, Event::Failure)
                    }
                    (BreakerState::HalfOpen, BreakerState::Closed) => matches!(event, Event::Success),
                    (BreakerState::Open, BreakerState::HalfOpen) => matches!(event, Event::Probe),
                    (BreakerState::Closed, BreakerState::HalfOpen) | (BreakerState::Open, BreakerState::Closed) => {
                        false
                    }
                    (BreakerState::Closed, BreakerState::Closed)
                    | (BreakerState::Open, BreakerState::Open)
                    | (BreakerState::HalfOpen, BreakerState::HalfOpen) => true,
                };
                assert!(is_legal, "{code}: {before:?} to {after:?} by {event:?}");
                if after != BreakerState::HalfOpen {
                    probe_since = None;
                }
                assert_eq!(breaker.admit(at(now)) == Admission::Closed, after == BreakerState::Closed);
                assert_eq!(breaker.state(at(now)).next_probe_at.is_none(), after == BreakerState::Closed);
                reached[after as usize] = true;
            }
        }
        assert_eq!(reached, [true; 3], "every state is reachable");
    }
}
