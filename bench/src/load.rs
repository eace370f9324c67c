//! Many requests at once: throughput, processor time under load, and the slowest of many durable chats.
//!
//! Closed loops: each connection sends its next request when it has the answer to the last, so a slow server is asked
//! less often and its waits are understated. What is compared is what each kind sustains.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::task::JoinSet;

use crate::{
    http::Prepared,
    installation::Installation,
    kinds::{Carried, Kind, Lane},
    measure::{Samples, count},
    plan::Plan,
    resources::cpu_time,
};

/// Connections of the throughput measurement.
pub(crate) const CONNECTIONS: usize = 64;
/// Durable chats in flight, where a dev server on two cores is saturated.
pub(crate) const CHATS_IN_FLIGHT: usize = 16;
/// Durable chats in flight while the slowest is looked for: lost wake-ups have been seen at few in flight, not at many.
const FEW_IN_FLIGHT: usize = 4;

/// A load of one kind.
#[derive(Debug, Default)]
pub(crate) struct Load {
    /// How long each answer took.
    pub(crate) samples: Samples,
    /// Durable requests that were answered in process.
    pub(crate) in_process: usize,
    /// How long the load lasted.
    pub(crate) elapsed: Duration,
    /// Processor time of what serves meanwhile: the API, or the empty proxy.
    pub(crate) server_cpu: Duration,
    /// Processor time of the worker meanwhile.
    pub(crate) worker_cpu: Duration,
}

impl Load {
    /// Answers in a second.
    pub(crate) fn per_second(&self) -> f64 {
        count(self.samples.len()) / self.elapsed.as_secs_f64()
    }

    fn add(&mut self, other: &Self) {
        self.samples.extend(&other.samples);
        self.in_process += other.in_process;
        self.elapsed += other.elapsed;
        self.server_cpu += other.server_cpu;
        self.worker_cpu += other.worker_cpu;
    }
}

/// Durable chats, many at once.
#[derive(Debug)]
pub(crate) struct DurableLoad {
    /// As many at once as saturate the machine.
    pub(crate) saturated: Load,
    /// A few at once.
    pub(crate) few: Load,
    /// Every durable chat of the run, those of the rounds included.
    pub(crate) all: Samples,
}

/// When a load ends.
#[derive(Clone, Copy, Debug)]
enum End {
    After(Duration),
    Requests(usize),
}

/// Direct, through nginx, the empty proxy and the fast path at 64 connections, in turns.
pub(crate) async fn http(plan: &Plan, installation: &Installation) -> anyhow::Result<BTreeMap<Kind, Load>> {
    let mut loads: BTreeMap<Kind, Load> = BTreeMap::new();
    for _ in 0..plan.load_turns {
        for kind in [Kind::Direct, Kind::Nginx, Kind::EmptyProxy, Kind::FastPath] {
            let Some(request) = kind.request(installation) else { continue };
            let load = run(installation, kind, &request, CONNECTIONS, End::After(plan.load_turn)).await?;
            loads.entry(kind).or_default().add(&load);
        }
    }
    Ok(loads)
}

/// Durable chats at 16 in flight, then at few until the run has as many as planned.
pub(crate) async fn durable(plan: &Plan, installation: &Installation, earlier: Samples) -> anyhow::Result<DurableLoad> {
    let kind = Kind::DurableChat;
    let Some(request) = kind.request(installation) else { anyhow::bail!("there is no durable chat") };
    let end = End::Requests(plan.loaded_chats);
    let saturated = run(installation, kind, &request, CHATS_IN_FLIGHT, end).await?;
    let mut all = earlier;
    all.extend(&saturated.samples);
    let end = End::Requests(plan.chats.saturating_sub(all.len()));
    let few = run(installation, kind, &request, FEW_IN_FLIGHT, end).await?;
    all.extend(&few.samples);
    Ok(DurableLoad { saturated, few, all })
}

async fn run(
    installation: &Installation,
    kind: Kind,
    request: &Prepared,
    in_flight: usize,
    end: End,
) -> anyhow::Result<Load> {
    let (server, worker) = (server(installation, kind), installation.worker.pid());
    let mut lanes = Vec::with_capacity(in_flight);
    for _ in 0..in_flight {
        lanes.push(Lane::http(kind, request).await?);
    }
    let before = (cpu_time(server)?, cpu_time(worker)?);
    let started = Instant::now();
    let asked = Arc::new(AtomicUsize::new(0));
    let mut loops = JoinSet::new();
    for lane in lanes {
        loops.spawn(one_after_another(lane, end, started, Arc::clone(&asked)));
    }
    let mut load = Load::default();
    while let Some(ended) = loops.join_next().await {
        load.add(&ended??);
    }
    load.elapsed = started.elapsed();
    load.server_cpu = cpu_time(server)?.saturating_sub(before.0);
    load.worker_cpu = cpu_time(worker)?.saturating_sub(before.1);
    Ok(load)
}

/// The process that serves a kind. The others are not watched: for them it is the API, which does nothing then.
fn server(installation: &Installation, kind: Kind) -> u32 {
    match kind {
        Kind::EmptyProxy | Kind::EmptyProxyStream => installation.empty_proxy.pid(),
        Kind::Direct
        | Kind::Nginx
        | Kind::FastPath
        | Kind::DirectStream
        | Kind::NginxStream
        | Kind::HubStream
        | Kind::Bare
        | Kind::DurableChat
        | Kind::VoteMajority
        | Kind::VoteJudge => installation.api.pid(),
    }
}

async fn one_after_another(
    mut lane: Lane,
    end: End,
    started: Instant,
    asked: Arc<AtomicUsize>,
) -> anyhow::Result<Load> {
    let mut load = Load::default();
    loop {
        let is_over = match end {
            End::After(length) => started.elapsed() >= length,
            End::Requests(most) => asked.fetch_add(1, Ordering::Relaxed) >= most,
        };
        if is_over {
            return Ok(load);
        }
        let taken = lane.once().await?;
        match taken.carried {
            Carried::AsAsked => load.samples.push(taken.time),
            Carried::InProcess => load.in_process += 1,
        }
    }
}
