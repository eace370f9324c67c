//! The first step of a run: claim it, then rank the models for each purpose.
//!
//! Both executors come here, so whoever is second finds the claim taken and buys nothing.

use tokenhub_domain::{Owner, RunContext, SelectRequest, Selection};
use tokenhub_routing::Signals;
use tokenhub_store::Claim;

use crate::{ActivityFault, Keeping, World, clock, fault_points::FaultPoint};

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
    let catalogue = world.catalogue.load();
    let signals = Signals::default();
    let mut lists: Vec<_> =
        request.wishes.iter().map(|wish| tokenhub_routing::shortlist(&catalogue, wish, request, &signals)).collect();
    world.health.sift(&mut lists);
    Ok(Selection::Claimed(lists))
}
