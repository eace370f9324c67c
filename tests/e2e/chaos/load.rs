//! Plans of every strategy, submitted at once, while workers die one after the other.

use std::{
    ops::RangeInclusive,
    time::{Duration, Instant},
};

use super::{
    FIRST_CASE,
    clients::{Doors, Ended},
    installation, now_micros, reckoning, seed, undisturbed,
};
use crate::{
    draw::Draw,
    harness::{Disturbance, TestHub},
    scripted::{Case, STRATEGIES},
};

struct Load {
    plans: usize,
    workers: usize,
    apis: usize,
    kills: usize,
    /// Between two kills.
    every: Duration,
    /// What a call takes.
    call_ms: RangeInclusive<u64>,
}

/// One worker after the other dies, and a new one is started; gives the times.
async fn kill_workers(hub: &mut TestHub, load: &Load, draw: &mut Draw) -> Vec<u64> {
    let mut deaths = Vec::new();
    for _ in 0..load.kills {
        tokio::time::sleep(load.every).await;
        let place = draw.place(hub.workers.len());
        hub.workers.remove(place).kill();
        deaths.push(now_micros());
        hub.start_worker(&[]);
    }
    deaths
}

async fn carry(load: Load) {
    let mut draw = Draw::of(seed());
    let mut hub = installation().workers(load.workers).apis(load.apis).start().await;
    let right = undisturbed(&hub).await;
    let programs = STRATEGIES.iter().cycle().take(load.plans).enumerate();
    let cases: Vec<Case> = programs.map(|(place, program)| Case::new(program, FIRST_CASE + place)).collect();
    for case in &cases {
        case.script(&hub, |_| vec![draw.within(&load.call_ms)]);
    }
    let (doors, begun) = (Doors::of(&hub), Instant::now());
    // The promise is about plans that a workflow carries, however long it takes until a worker has time for them.
    let asked: Vec<_> = cases.iter().map(|case| tokio::spawn(doors.clone().run(*case, "required"))).collect();
    let deaths = kill_workers(&mut hub, &load, &mut draw).await;
    let mut ended: Vec<Ended> = Vec::new();
    for asked in asked {
        ended.push(asked.await.unwrap());
    }
    let took = begun.elapsed();
    for Ended { case, answer, .. } in &ended {
        assert_eq!(case.comparable(answer), right[case.program.name], "{case:?}");
    }
    let reckoning = reckoning::reckon(&hub, &ended, &deaths).await;
    let slowest = ended.iter().map(|ended| ended.took).max().unwrap_or_default();
    eprintln!("load: {} kills of workers in {took:.1?}, slowest plan {slowest:.1?}; {reckoning}", deaths.len());
    reckoning.assert_told();
    hub.finish(Disturbance::Kills).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn forty_plans_of_every_strategy_outlive_a_worker_every_two_seconds() {
    let every = Duration::from_secs(2);
    carry(Load { plans: 40, workers: 2, apis: 2, kills: 6, every, call_ms: 300..=2_000 }).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "two minutes: make chaos"]
async fn two_hundred_plans_outlive_a_worker_every_five_seconds() {
    let every = Duration::from_secs(5);
    carry(Load { plans: 200, workers: 3, apis: 2, kills: 12, every, call_ms: 1_000..=9_000 }).await;
}
