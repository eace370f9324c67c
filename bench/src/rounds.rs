//! The interleaved run: in every round each kind gets a slice, and the order turns by one.
//!
//! So a machine that gets slower or faster meanwhile does so for every kind, and none always follows the same other.

use std::{collections::BTreeMap, time::Duration};

use anyhow::Context;

use crate::{
    installation::Installation,
    kinds::{Carried, Kind, Lane, Lanes},
    measure::{Samples, count, milliseconds},
    plan::Plan,
    resources::cpu_time,
};

/// What the rounds measured.
#[derive(Debug, Default)]
pub(crate) struct Rounds {
    /// The samples of each kind, round by round.
    pub(crate) samples: BTreeMap<Kind, Vec<Samples>>,
    /// Processor time that the process of a kind used in its slices: see [`watched`].
    cpu: BTreeMap<Kind, Duration>,
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

    /// Processor time of one request of a kind, in milliseconds, in the process that is watched for it.
    pub(crate) fn cpu_ms_each(&self, kind: Kind) -> Option<f64> {
        let used = self.cpu.get(&kind)?;
        Some(milliseconds(*used) / count(self.of(kind).len()))
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
            let watched = watched(*kind, installation);
            let before = watched.map(cpu_time).transpose()?;
            let (samples, in_process) =
                slice(lane, plan.slice(*kind)).await.with_context(|| format!("measuring: {}", kind.title()))?;
            if let (Some(pid), Some(before)) = (watched, before) {
                *rounds.cpu.entry(*kind).or_default() += cpu_time(pid)?.saturating_sub(before);
            }
            rounds.in_process += in_process;
            rounds.samples.entry(*kind).or_default().push(samples);
        }
        order.rotate_left(1);
    }
    Ok(rounds)
}

/// The process whose processor time says most about a kind: its worker, or the API where it has none.
fn watched(kind: Kind, installation: &Installation) -> Option<u32> {
    match kind {
        Kind::Direct | Kind::Nginx | Kind::DirectStream | Kind::NginxStream => None,
        Kind::EmptyProxy | Kind::EmptyProxyStream => Some(installation.empty_proxy.pid()),
        Kind::FastPath | Kind::HubStream => Some(installation.api.pid()),
        Kind::Bare => Some(installation.bare_worker.pid()),
        Kind::DurableChat | Kind::VoteMajority | Kind::VoteJudge => Some(installation.worker.pid()),
    }
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
