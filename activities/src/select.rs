//! The first step of a run: claim it, then rank the models for each purpose.
//!
//! Both executors come here, so whoever is second finds the claim taken and buys nothing.

use tokenhub_domain::{Owner, RunContext, SelectRequest, Selection, Shortlist, ShortlistWish};
use tokenhub_routing::Situation;
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
    Ok(Selection::Claimed(shortlists(world, request)))
}

/// One shortlist for each wish of `request`, as things are now. Drawn anew each time: of a workflow's lists the history
/// has the only copy.
pub fn shortlists(world: &World, request: &SelectRequest) -> Vec<Shortlist> {
    let catalogue = world.catalogue.load_full();
    let signals = world.observed.signals(&catalogue);
    let of_wish = |wish: &ShortlistWish| {
        let situation = Situation {
            catalogue: &catalogue,
            signals: &signals,
            temperature: world.temperature,
            seed: rand::random(),
        };
        tokenhub_routing::shortlist(&situation, wish, request)
    };
    let mut lists: Vec<_> = request.wishes.iter().map(of_wish).collect();
    world.health.sift(&mut lists);
    lists
}
