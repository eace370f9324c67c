//! The first step of a run: claim it, then rank the models for each purpose.
//!
//! Both executors come here, so whoever is second finds the claim taken and buys nothing.

use tokenhub_domain::{Candidate, Catalogue, Owner, ProviderId, RunContext, SelectRequest, Selection, Shortlist};
use tokenhub_routing::{Decision, Extent, Situation};
use tokenhub_store::{Claim, DecisionRow};

use crate::{ActivityFault, Keeping, World, clock, fault_points::FaultPoint, plan_events};

/// Claims `run` for `owner` and makes one shortlist for each wish.
pub(crate) async fn run(
    world: &World,
    run: &RunContext,
    owner: &Owner,
    keeping: Keeping,
    request: &SelectRequest,
) -> Result<Selection, ActivityFault> {
    world.faults.reach(FaultPoint::Claim, "").await;
    match keeping {
        Keeping::LedgerOnly => {}
        Keeping::Rows => match world.store.runs().claim(&run.tenant, &run.run_id, owner, clock::now()).await? {
            Claim::Won { .. } => {}
            Claim::Held { .. } | Claim::Finished => return Ok(Selection::ClaimLost),
        },
    }
    world.faults.reach(FaultPoint::Select, "").await;
    let selection = Selection::Claimed(shortlists(world, run, request));
    plan_events::tell_started(world, run, owner, &selection).await?;
    Ok(selection)
}

/// One shortlist for each wish of `request`, as things are now. Drawn anew each time: of a workflow's lists the history
/// has the only copy. What was found is kept for those who ask why.
pub fn shortlists(world: &World, run: &RunContext, request: &SelectRequest) -> Vec<Shortlist> {
    let (mut lists, decisions) = ranked(world, request, |lists| world.health.sift(lists));
    keep(world, run, &decisions);
    let catalogue = world.catalogue.load();
    for list in &mut lists {
        list.paced = paced(&catalogue, &list.candidates);
    }
    lists
}

/// The providers of `candidates` that may only be called so often.
fn paced(catalogue: &Catalogue, candidates: &[Candidate]) -> Vec<ProviderId> {
    let paced = catalogue.providers.iter().filter(|provider| provider.max_rate.is_some());
    let is_listed = |id: &&ProviderId| candidates.iter().any(|candidate| candidate.deployment.provider == **id);
    paced.map(|provider| &provider.id).filter(is_listed).cloned().collect()
}

/// The same for a run that is only thought of: nothing is kept, and no trial of a provider is taken.
pub(crate) fn preview(world: &World, request: &SelectRequest) -> Vec<Shortlist> {
    let look = |lists: &mut Vec<Shortlist>| {
        for list in lists.iter_mut() {
            *list = world.health.preview(std::mem::take(list));
        }
    };
    ranked(world, request, look).0
}

fn ranked(
    world: &World,
    request: &SelectRequest,
    sift: impl FnOnce(&mut Vec<Shortlist>),
) -> (Vec<Shortlist>, Vec<Decision>) {
    let catalogue = world.catalogue.load_full();
    let signals = world.observed.signals(&catalogue);
    let warm = world.warm.of(request.prefix);
    let situated = |wish| {
        let situation = Situation {
            catalogue: &catalogue,
            signals: &signals,
            temperature: world.temperature,
            // What a JSON number holds in every language, so that somebody can simulate with it.
            seed: rand::random::<u64>() >> 11,
            warm: &warm,
        };
        (situation, tokenhub_routing::ranking(&situation, wish, request))
    };
    let rankings: Vec<_> = request.wishes.iter().map(situated).collect();
    let mut lists: Vec<_> = rankings.iter().map(|(_, ranking)| ranking.shortlist()).collect();
    sift(&mut lists);
    tokenhub_routing::set_apart(&mut lists, &request.wishes);
    let decided = request.wishes.iter().zip(&rankings).zip(&lists);
    let decisions = decided
        .map(|((wish, (situation, ranking)), list)| Decision::of(situation, wish, request, ranking, list, Extent::Kept))
        .collect();
    (lists, decisions)
}

/// A decision that is not kept costs an explanation and nothing else.
fn keep(world: &World, run: &RunContext, decisions: &[Decision]) {
    // A run that only takes its claim again decides nothing.
    if decisions.is_empty() {
        return;
    }
    let Ok(body) = serde_json::to_string(decisions) else { return };
    let row = DecisionRow { tenant: run.tenant.clone(), run_id: run.run_id.clone(), body, created_at: clock::now() };
    if let Err(error) = world.ledger.decided(row) {
        tracing::debug!(error = &error as &dyn std::error::Error, "a decision was not kept");
    }
}
