//! The interleaved run: in every round each kind gets a slice, and the order turns by one.
//!
//! So a machine that gets slower or faster meanwhile does so for every kind, and none always follows the same other.

use std::{collections::BTreeMap, time::Duration};

use anyhow::Context;

use crate::{
    installation::Installation,
    kinds::{Carried, Kind, Lane, Lanes},
    measure::Samples,
    plan::Plan,
    resources::cpu_time,
};

/// What the rounds measured.
#[derive(Debug, Default)]
pub(crate) struct Rounds {
    /// The samples of each kind, round by round.
    pub(crate) samples: BTreeMap<Kind, Vec<Samples>>,
    /// Processor time of the worker in the slices of durable chats.
    pub(crate) worker_cpu: Duration,
    /// Processor time of the API in the slices of the fast path.
    pub(crate) api_cpu: Duration,
    /// Durable requests that were answered in process.
    pub(crate) in_process: usize,
}

impl Rounds {
    /// All samples of a kind.
    pub(crate) fn of(&self, kind: Kind) -> Samples {
        let mut all = Samples::default();
        self.samples.get(&kind).into_iter().flatten().for_each(|slice| all.extend(slice));
        all
    }

    /// The durable chats.
    pub(crate) fn durable_chats(&self) -> Samples {
        self.of(Kind::DurableChat)
    }
}

/// Fills caches, pools and poller counts.
pub(crate) async fn warm_up(plan: &Plan, lanes: &mut Lanes) -> anyhow::Result<()> {
    for (kind, lane) in &mut lanes.0 {
        slice(lane, plan.warm_up).await.with_context(|| format!("warming up: {}", kind.title()))?;
    }
    Ok(())
}

/// Measures every kind in every round.
pub(crate) async fn run(plan: &Plan, lanes: &mut Lanes, installation: &Installation) -> anyhow::Result<Rounds> {
    let mut rounds = Rounds::default();
    let mut order: Vec<Kind> = lanes.0.keys().copied().collect();
    for _ in 0..plan.rounds {
        for kind in &order {
            let Some(lane) = lanes.0.get_mut(kind) else { continue };
            let before = (cpu_time(installation.worker.pid())?, cpu_time(installation.api.pid())?);
            let (samples, in_process) =
                slice(lane, plan.slice(*kind)).await.with_context(|| format!("measuring: {}", kind.title()))?;
            match kind {
                Kind::DurableChat => rounds.worker_cpu += cpu_time(installation.worker.pid())? - before.0,
                Kind::FastPath => rounds.api_cpu += cpu_time(installation.api.pid())? - before.1,
                Kind::Direct
                | Kind::Nginx
                | Kind::DirectStream
                | Kind::NginxStream
                | Kind::HubStream
                | Kind::Bare
                | Kind::VoteMajority
                | Kind::VoteJudge => {}
            }
            rounds.in_process += in_process;
            rounds.samples.entry(*kind).or_default().push(samples);
        }
        order.rotate_left(1);
    }
    Ok(rounds)
}

async fn slice(lane: &mut Lane, requests: usize) -> anyhow::Result<(Samples, usize)> {
    let (mut samples, mut in_process) = (Samples::default(), 0);
    for _ in 0..requests {
        let taken = lane.once().await?;
        match taken.carried {
            Carried::AsAsked => samples.push(taken.time),
            Carried::InProcess => in_process += 1,
        }
    }
    Ok((samples, in_process))
}
