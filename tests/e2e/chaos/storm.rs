//! Fifty clients with a plan each, one after the other, while anything dies: workers, APIs, Temporal.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::Value;
use tokenhub_demo::ScriptedProvider;
use tokio_util::sync::CancellationToken;

use super::{
    FIRST_CASE,
    clients::{Doors, Ended},
    installation, now_micros, reckoning, seed, setting, undisturbed,
};
use crate::{
    draw::Draw,
    harness::{Disturbance, TestHub},
    scripted::{Case, STRATEGIES},
};

const CLIENTS: u64 = 50;
const CALL_MS: std::ops::RangeInclusive<u64> = 200..=3_000;
/// How long Temporal is away.
const OUTAGE_MS: std::ops::RangeInclusive<u64> = 100..=3_000;
const DURABILITIES: [&str; 4] = ["required", "required", "preferred", "none"];

/// One plan after the other, until it is told to stop.
async fn keep_asking(
    doors: Doors,
    provider: ScriptedProvider,
    mut draw: Draw,
    next: Arc<AtomicUsize>,
    stop: CancellationToken,
) -> Vec<Ended> {
    let mut ended = Vec::new();
    while !stop.is_cancelled() {
        let program = STRATEGIES[draw.place(STRATEGIES.len())];
        let case = Case::new(program, next.fetch_add(1, Ordering::Relaxed));
        case.script_at(&provider, |_| vec![draw.within(&CALL_MS)]);
        ended.push(doors.clone().run(case, DURABILITIES[draw.place(DURABILITIES.len())]).await);
    }
    ended
}

/// Kills something and brings it back: seven times of ten a worker, twice an API, once Temporal.
async fn kill_one(hub: &mut TestHub, doors: &Doors, draw: &mut Draw) -> &'static str {
    match draw.below(10) {
        0..=6 => {
            let place = draw.place(hub.workers.len());
            hub.workers.remove(place).kill();
            hub.start_worker(&[]);
            "worker"
        }
        7..=8 => {
            let place = draw.place(hub.apis.len());
            hub.apis.remove(place).0.kill();
            doors.changed(hub);
            hub.start_api().await;
            doors.changed(hub);
            "API"
        }
        _ => {
            hub.temporal.kill();
            tokio::time::sleep(Duration::from_millis(draw.within(&OUTAGE_MS))).await;
            hub.temporal.start().await;
            "Temporal"
        }
    }
}

/// The answer without the mark of who carried it.
fn whoever_carried(mut answer: Value) -> Value {
    answer.as_object_mut().unwrap().remove("durable");
    answer
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "ten minutes (CHAOS_SECONDS, CHAOS_KILLS): make chaos"]
async fn fifty_plans_at_once_outlive_two_hundred_kills_of_anything() {
    let (seconds, kills) = (setting("CHAOS_SECONDS", 600), setting("CHAOS_KILLS", 200));
    let seed = seed();
    let mut draw = Draw::of(seed);
    let mut hub = installation().workers(3).apis(2).start().await;
    let right = undisturbed(&hub).await;
    let (doors, next, stop) = (Doors::of(&hub), Arc::new(AtomicUsize::new(FIRST_CASE)), CancellationToken::new());
    let clients: Vec<_> = (1..=CLIENTS)
        .map(|client| {
            let draw = Draw::of(seed.wrapping_add(client.wrapping_mul(7_919)));
            tokio::spawn(keep_asking(doors.clone(), hub.provider.clone(), draw, Arc::clone(&next), stop.clone()))
        })
        .collect();
    let begun = Instant::now();
    let (mut deaths, mut killed) = (Vec::new(), std::collections::BTreeMap::<&str, u32>::new());
    for number in 1..=kills {
        // Each has a slot of its own, so that slow restarts do not add up.
        let slot_ms = seconds * 1_000 / kills;
        let at = Duration::from_millis((number - 1) * slot_ms + draw.below(slot_ms.max(1)));
        tokio::time::sleep_until((begun + at).into()).await;
        deaths.push(now_micros());
        *killed.entry(kill_one(&mut hub, &doors, &mut draw).await).or_default() += 1;
        assert!(!clients.iter().any(tokio::task::JoinHandle::is_finished), "a client has given up");
    }
    stop.cancel();
    let mut ended = Vec::new();
    for client in clients {
        ended.extend(client.await.unwrap());
    }
    for Ended { case, answer, .. } in &ended {
        let expected = whoever_carried(right[case.program.name].clone());
        assert_eq!(whoever_carried(case.comparable(answer)), expected, "{case:?}");
    }
    let reckoning = reckoning::reckon(&hub, &ended, &deaths).await;
    let slowest = ended.iter().map(|ended| ended.took).max().unwrap_or_default();
    eprintln!("storm: {killed:?} killed in {:.0?}, slowest plan {slowest:.1?}; {reckoning}", begun.elapsed());
    reckoning.assert_told();
    hub.finish(Disturbance::Kills).await;
}
