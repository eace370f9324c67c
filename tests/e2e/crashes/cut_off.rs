//! A worker that Temporal has given up is not dead: it may still have a call in flight, and its answer counts.

use std::time::Instant;

use nix::sys::signal::Signal;
use serde_json::Value;
use tokenhub_store::Waste;

use super::assert_recovered;
use crate::{
    evidence::Evidence,
    harness::{Disturbance, TestHub},
    relay::Relay,
    scripted::{Case, REFINE, STEP_MS, installation},
};

/// Longer than the heartbeat timeout and the lease, so that the second worker comes while the call runs.
const LONG_CALL_MS: u64 = 7_000;
/// Shorter than them: the answer waits in the socket of a frozen worker.
const SHORT_CALL_MS: u64 = 1_500;

/// An installation whose only worker reaches Temporal through a relay.
async fn behind_a_relay() -> (TestHub, Relay, Value) {
    let mut hub = installation().workers(0).start().await;
    let relay = Relay::to(hub.temporal.address()).await;
    hub.start_worker(&[("TEMPORAL_ADDRESS", relay.address())]);
    hub.wait_until_durable().await;
    let undisturbed = Case::new(&REFINE, 0).undisturbed(&hub).await;
    (hub, relay, undisturbed)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_answer_of_a_worker_that_lost_temporal_is_used_by_the_next_one() {
    let (mut hub, relay, undisturbed) = behind_a_relay().await;
    let case = Case::new(&REFINE, 1);
    case.script(&hub, |step| if step == "answer" { vec![LONG_CALL_MS, STEP_MS] } else { vec![STEP_MS] });
    let asked = case.ask(&hub);
    case.wait_until_in_flight(&hub, &["answer"]).await;
    drop(relay);
    let cut_at = Instant::now();
    hub.start_worker(&[]);
    let ended = asked.await.unwrap().unwrap();
    let ended = assert_recovered(case, "cut from Temporal (7000 ms are work)", &undisturbed, ended, cut_at, 2);
    case.assert_calls(&hub, &ended.answer, &[]);
    // It would stop cleanly too, after a dozen tries to tell Temporal.
    hub.workers.remove(0).kill();
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_comes_after_the_repetition_is_recorded_as_wasted() {
    let (mut hub, relay, undisturbed) = behind_a_relay().await;
    let evidence = Evidence::of(&hub).await;
    let case = Case::new(&REFINE, 1);
    case.script(&hub, |step| if step == "answer" { vec![SHORT_CALL_MS, STEP_MS] } else { vec![STEP_MS] });
    let asked = case.ask(&hub);
    case.wait_until_in_flight(&hub, &["answer"]).await;
    let calls = case.calls(&hub);
    // Before that it may be writing to the database, and a frozen writer keeps all others out.
    evidence.run_of(&calls[0].1).await;
    drop(relay);
    // Frozen, it does not renew its lease, and it is not known to be dead.
    hub.workers[0].signal(Signal::SIGSTOP);
    let frozen_at = Instant::now();
    hub.start_worker(&[]);
    let ended = asked.await.unwrap().unwrap();
    let ended = assert_recovered(case, "cut from Temporal and frozen", &undisturbed, ended, frozen_at, 3);
    case.assert_calls(&hub, &ended.answer, &["answer"]);
    hub.workers[0].signal(Signal::SIGCONT);
    let calls = case.calls(&hub);
    assert_eq!(evidence.waste_of(&calls[0].1).await, Waste::Wasted, "the first call, answered last");
    assert_eq!(evidence.waste_of(&calls[1].1).await, Waste::Used);
    hub.workers.remove(0).kill();
    hub.finish(Disturbance::None).await;
}
