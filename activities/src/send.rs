//! One provider call: journal, ledger, bytes, journal.
//!
//! The order is the durability contract. The journal lease comes first, so that two attempts never call at once; the
//! ledger knows of the call before its bytes leave; the answer is journaled before anybody is told.

mod attempt;
mod background;
mod body;
mod conclusion;
mod deltas;
mod journaled;
mod patience;
mod reserve;
mod shape;

pub(crate) use attempt::patiently;
pub(crate) use deltas::Turns;
pub(crate) use reserve::Said;

use std::time::Duration;

use tokenhub_domain::{RunContext, SendOutcome, SendRequest, StepKey};

use crate::{
    ActivityFault, Keeping, World,
    presence::{Pacing, Presence, Withdrawal},
};

/// How often a doubtful withdrawal is checked against the run's row.
const WITHDRAWAL_CHECK_INTERVAL: Duration = Duration::from_millis(500);

/// Everything a call needs to know.
pub(crate) struct Sending<'a, P> {
    pub(crate) world: &'a World,
    pub(crate) run: &'a RunContext,
    pub(crate) keeping: Keeping,
    pub(crate) request: &'a SendRequest,
    pub(crate) presence: &'a P,
    pub(crate) key: StepKey,
}

/// Carries out one try of one step, or returns what an earlier attempt of the same try brought.
pub(crate) async fn run<P: Presence>(
    world: &World,
    run: &RunContext,
    keeping: Keeping,
    request: &SendRequest,
    presence: &P,
) -> Result<SendOutcome, ActivityFault> {
    let key = StepKey::of(&run.run_id, &request.step, &request.deployment, request.try_number);
    let sending = Sending { world, run, keeping, request, presence, key };
    let work = async {
        match presence.pacing() {
            Pacing::Temporal => {}
            Pacing::Here => wait_for_turn(&sending).await?,
        }
        match keeping {
            Keeping::LedgerOnly => {
                let called = attempt::call(&sending, None).await?;
                reserve::settle(&sending, called.owed).await;
                Ok(called.outcome)
            }
            Keeping::Rows => journaled::run(&sending).await,
        }
    };
    tokio::select! {
        outcome = work => outcome,
        never = presence.keep_beating() => match never {},
    }
}

/// Nothing is leased yet, so a step that is not wanted any more, or has run out of time, ends here.
async fn wait_for_turn<P: Presence>(sending: &Sending<'_, P>) -> Result<(), ActivityFault> {
    let Sending { world, request, .. } = sending;
    let catalogue = world.catalogue.load_full();
    let turn = world.pace.turn(&catalogue, &request.deployment.provider);
    tokio::select! {
        // A turn that is there is taken without a look at the others.
        biased;
        turn = tokio::time::timeout(Duration::from_millis(request.timeout_ms), turn) => {
            turn.map_err(|_| ActivityFault::OutOfTime)
        }
        () = unwanted(sending) => Err(ActivityFault::Cancelled),
    }
}

/// Completes when the call is certainly not wanted any more.
async fn unwanted<P: Presence>(sending: &Sending<'_, P>) {
    sending.presence.withdrawn().await;
    match sending.presence.withdrawal() {
        Withdrawal::Decided => {}
        Withdrawal::Doubtful => {
            while !is_over(sending).await && !is_answered(sending).await {
                tokio::time::sleep(WITHDRAWAL_CHECK_INTERVAL).await;
            }
        }
    }
}

/// Whether another deployment has answered the step meanwhile.
async fn is_answered<P: Presence>(sending: &Sending<'_, P>) -> bool {
    let Sending { world, run, request, .. } = sending;
    let outcomes = world.store.journal().outcomes_of(&run.tenant, &run.run_id, &request.step).await;
    outcomes.unwrap_or_default().iter().any(|text| {
        serde_json::from_str::<SendOutcome>(text).is_ok_and(|outcome| matches!(outcome, SendOutcome::Answered(_)))
    })
}

/// Whether the run is known to have ended.
async fn is_over<P: Presence>(sending: &Sending<'_, P>) -> bool {
    let row = sending.world.store.runs().get(&sending.run.tenant, &sending.run.run_id).await;
    row.ok().flatten().is_some_and(|row| row.status.is_final())
}
