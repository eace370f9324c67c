//! Processes are killed while plans run; the plans end as if nothing had happened, and no step is paid for twice.
//!
//! A call in flight when its worker dies may be made again, once for each death, and is shown as `duplicate_calls`.

mod at_a_point;
mod cut_off;
mod in_flight;
mod reattach;
mod temporal_server;
mod unjournaled;

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::{
    harness::TestHub,
    scripted::{Case, Ended, STEP_MS},
};

/// The promise is five seconds plus the remaining work; a loaded machine may take longer.
const RECOVERY_LIMIT: Duration = Duration::from_secs(20);

/// Kills every worker and starts one without faults at once.
fn replace_worker(hub: &mut TestHub) -> Instant {
    for worker in &mut hub.workers {
        worker.kill();
    }
    hub.workers.clear();
    let killed_at = Instant::now();
    hub.start_worker(&[]);
    killed_at
}

/// Asserts that a plan ended well and like the undisturbed one, and prints how long it took to recover. The steps that
/// were left, `steps_left` one after the other, are work and not recovery.
#[track_caller]
fn assert_recovered(
    case: Case,
    what: &str,
    undisturbed: &Value,
    ended: Ended,
    killed_at: Instant,
    steps_left: u64,
) -> Ended {
    let recovery = ended.at.duration_since(killed_at).saturating_sub(Duration::from_millis(steps_left * STEP_MS));
    eprintln!("recovery: {:<11} {what:<36} {:>5} ms", case.program.name, recovery.as_millis());
    let ended = Ended { answer: ended.answer.expect(200), ..ended };
    assert_eq!(case.comparable(&ended.answer), *undisturbed, "{} {what}", case.program.name);
    assert!(recovery < RECOVERY_LIMIT, "{} {what}: {recovery:?}", case.program.name);
    ended
}
