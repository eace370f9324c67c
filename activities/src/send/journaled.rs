//! The journal around a call: an answer that was received once is returned ever after.

use std::{
    convert::Infallible,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokenhub_domain::{
    AttemptId, CallNumber, ErrorClass, NanoDollars, Owner, ProviderFailure, Reply, SendOutcome, TokenUsage, UnixMicros,
    limits,
};
use tokenhub_store::{Completed, HandedIn, JournalEntry, Lease, LeaseRequest, NewEvent, Settlement, StoreError, Waste};

use super::{
    Sending,
    attempt::{self, Called, insistently, patiently},
    background, is_over, reserve, unwanted,
};
use crate::{
    ActivityFault, clock,
    fault_points::FaultPoint,
    plan_events::{self, ToldCall},
    presence::Presence,
};

/// How often a step looks whether the attempt that holds its lease has answered.
const LEASE_CHECK_INTERVAL: Duration = Duration::from_millis(100);

/// Numbers the calls of this process.
static CALLS: AtomicU64 = AtomicU64::new(0);

/// A lease that we hold.
#[derive(Clone)]
pub(super) struct Held {
    pub(super) owner: Owner,
    pub(super) epoch: i64,
    /// Milliseconds since whoever held it before was last seen alive, where that is known.
    recovered_after_ms: Option<u64>,
    /// Which call of its step it is for, where calls are counted.
    pub(super) call: Option<CallNumber>,
}

enum Grant {
    Done(JournalEntry),
    Held(Held),
}

/// Returns the journaled outcome of this try, or makes the call and journals it.
pub(super) async fn run<P: Presence>(sending: &Sending<'_, P>) -> Result<SendOutcome, ActivityFault> {
    if let Some(kept) = kept(sending).await? {
        return Ok(kept);
    }
    let owner = Owner::call(&sending.world.instance, CALLS.fetch_add(1, Ordering::Relaxed));
    // No byte has left yet, so a step that is not wanted any more, or has run out of time, ends here.
    let patience = Duration::from_millis(sending.request.timeout_ms) + Duration::from_millis(limits::LEASE_MS);
    let grant = tokio::select! {
        grant = tokio::time::timeout(patience, acquire(sending, owner)) => grant.map_err(|_| ActivityFault::OutOfTime)??,
        () = unwanted(sending) => return Err(ActivityFault::Cancelled),
    };
    let held = match grant {
        Grant::Done(entry) => {
            sending.world.counts.journal_hit();
            return replay(sending, &entry).await;
        }
        Grant::Held(held) => held,
    };
    let begun = background::begun_before(sending, &held).await?;
    if held.epoch > 1 {
        sending.world.counts.taken_over(held.recovered_after_ms);
    }
    // Whoever carries on after a death may not have heard that the run was cancelled meanwhile.
    if held.epoch > 1 && is_over(sending).await {
        if let Some(begun) = begun {
            background::abandon(sending, begun).await?;
        }
        let failure = ProviderFailure::of(ErrorClass::Cancelled, "the run has ended");
        return Ok(SendOutcome::Failed { failure, duplicate_calls: 0, latency_ms: 0, wasted_tokens: 0 });
    }
    sending.world.faults.reach(FaultPoint::Send, sending.request.step.as_str()).await;
    let work = async {
        let Sending { world, run, request, key, .. } = sending;
        let call = patiently(|| plan_events::tell_sending(world, run, request, key, held.epoch)).await?;
        let held = Held { call, ..held.clone() };
        let attached = match begun {
            Some(begun) => background::reattach(sending, &held, begun).await?,
            None => None,
        };
        let called = match attached {
            Some(called) => called,
            None => attempt::call(sending, Some(&held)).await?,
        };
        hand_in(sending, &held, called).await
    };
    let outcome = tokio::select! {
        outcome = work => outcome?,
        never = keep(sending, &held) => match never {},
    };
    sending.world.faults.reach(FaultPoint::Journaled, sending.request.step.as_str()).await;
    Ok(outcome)
}

/// Hands an outcome in and returns that of the try: the first one that was.
async fn hand_in<P: Presence>(
    sending: &Sending<'_, P>,
    held: &Held,
    called: Called,
) -> Result<SendOutcome, ActivityFault> {
    let Sending { run, request, key, .. } = sending;
    let outcome_json = serde_json::to_string(&called.outcome)?;
    let call = ToldCall { key, epoch: held.epoch, number: held.call, deltas: called.deltas };
    let told = plan_events::sent(run, request, &call, &called.outcome, called.settlement.as_ref());
    let completed = insistently(|| complete(sending, held, &called, &outcome_json, told.as_ref())).await?;
    let earlier = match completed {
        // Whoever waited for the same response and was first has given back what it did not use.
        Completed::Again(entry) => return replay(sending, &entry).await,
        Completed::First => None,
        Completed::AlreadyDone(entry) => Some(entry),
    };
    reserve::settle(sending, called.owed).await;
    let Some(entry) = earlier else {
        let is_sole = held.epoch == 1;
        return if is_sole {
            Ok(called.outcome)
        } else {
            with_duplicates(sending, called.outcome, &called.attempt).await
        };
    };
    // What broke off is wasted whoever was first, and told as that already.
    if let Some(settlement) = called.settlement.filter(|settlement| settlement.waste == Waste::Used) {
        sending.world.counts.wasted(settlement.input_tokens.saturating_add(settlement.output_tokens));
        let wasted = Settlement { waste: Waste::Wasted, ..settlement };
        sending.world.ledger.settle(&called.attempt, wasted)?;
    }
    replay(sending, &entry).await
}

/// Hands the outcome in, with the event that tells of it. One that is refused does not cost a paid answer.
async fn complete<P: Presence>(
    sending: &Sending<'_, P>,
    held: &Held,
    called: &Called,
    outcome_json: &str,
    told: Option<&NewEvent>,
) -> Result<Completed, StoreError> {
    let journal = sending.world.store.journal();
    let (tenant, key, owner, attempt) = (&sending.run.tenant, &sending.key, &held.owner, &called.attempt);
    let now = clock::now();
    if let Some(event) = told {
        let outcome = HandedIn { tenant, key, owner, outcome_json, attempt, now };
        match journal.complete_and_tell(outcome, &sending.run.run_id, event).await {
            Err(error) if !error.is_unavailable() => {
                tracing::error!(error = &error as &dyn std::error::Error, %attempt, "an event was refused");
            }
            completed => return completed,
        }
    }
    journal.complete(tenant, key, owner, outcome_json, attempt, now).await
}

/// What an earlier run has of this step, when this run keeps it. An answer that is not there any more is asked for anew.
async fn kept<P: Presence>(sending: &Sending<'_, P>) -> Result<Option<SendOutcome>, ActivityFault> {
    let Sending { world, run, request, .. } = sending;
    let Some(earlier) = &request.kept_by else { return Ok(None) };
    let journal = world.store.journal();
    let outcomes = patiently(|| journal.outcomes_of(&run.tenant, earlier, &request.step)).await?;
    let answered = outcomes.iter().find_map(|text| match serde_json::from_str(text) {
        Ok(SendOutcome::Answered(reply)) => Some(reply),
        Ok(SendOutcome::Failed { .. }) | Err(_) => None,
    });
    Ok(answered.map(|reply| {
        let (usage, cost) = (TokenUsage::default(), NanoDollars::default());
        SendOutcome::Answered(Reply {
            usage,
            cost,
            latency_ms: 0,
            duplicate_calls: 0,
            wasted_tokens: 0,
            is_kept: true,
            ..reply
        })
    }))
}

async fn acquire<P: Presence>(sending: &Sending<'_, P>, owner: Owner) -> Result<Grant, ActivityFault> {
    let journal = sending.world.store.journal();
    // What a holder that is found dead has held, which ending it for him forgets.
    let mut seen_until = None;
    loop {
        let lease = patiently(|| {
            journal.lease(LeaseRequest {
                tenant: &sending.run.tenant,
                key: &sending.key,
                run_id: &sending.run.run_id,
                step: &sending.request.step,
                owner: &owner,
                now: clock::now(),
                ttl_ms: limits::LEASE_MS,
            })
        })
        .await?;
        match lease {
            Lease::Done(entry) => return Ok(Grant::Done(entry)),
            Lease::Acquired { epoch, lost_lease_until, .. } => {
                // A lease is renewed by whoever is alive.
                let last_sign = |until: UnixMicros| clock::now().plus_millis(limits::LEASE_MS).millis_since(until);
                let recovered_after_ms = lost_lease_until.or(seen_until).filter(|_| epoch > 1).map(last_sign);
                return Ok(Grant::Held(Held { owner, epoch, recovered_after_ms, call: None }));
            }
            Lease::Busy { owner: holder, lease_until } => {
                seen_until = Some(lease_until);
                if sending.world.ledger.is_owner_dead(&holder) {
                    journal.take_over(&sending.run.tenant, &sending.key, &holder).await?;
                } else {
                    tokio::time::sleep(LEASE_CHECK_INTERVAL).await;
                }
            }
        }
    }
}

/// Renews the lease for as long as the call takes.
async fn keep<P: Presence>(sending: &Sending<'_, P>, held: &Held) -> Infallible {
    let journal = sending.world.store.journal();
    loop {
        tokio::time::sleep(Duration::from_millis(limits::LEASE_RENEW_MS)).await;
        let renewed = journal
            .renew(&sending.run.tenant, &sending.key, &held.owner, held.epoch, clock::now(), limits::LEASE_MS)
            .await;
        if let Err(error) = renewed {
            tracing::warn!(%error, step = %sending.request.step, "a journal lease was not renewed");
        }
    }
}

async fn replay<P: Presence>(sending: &Sending<'_, P>, entry: &JournalEntry) -> Result<SendOutcome, ActivityFault> {
    let outcome: SendOutcome = serde_json::from_str(&entry.outcome_json)?;
    if entry.epoch == 1 { Ok(outcome) } else { with_duplicates(sending, outcome, &entry.attempt).await }
}

/// The outcome with the number of its calls that were made again, counted in the ledger. An answer that was received
/// and died with its process before it was journaled is no part of the result.
async fn with_duplicates<P: Presence>(
    sending: &Sending<'_, P>,
    outcome: SendOutcome,
    used: &AttemptId,
) -> Result<SendOutcome, ActivityFault> {
    let Sending { world, run, key, .. } = sending;
    let ledger = &world.ledger;
    let sends = patiently(|| ledger.sends_of(&run.tenant, key)).await?;
    let mut wasted_tokens = match &outcome {
        SendOutcome::Answered(reply) => reply.wasted_tokens,
        SendOutcome::Failed { wasted_tokens, .. } => *wasted_tokens,
    };
    if sends > 1 {
        patiently(|| ledger.waste_all_but(used, &run.tenant, key)).await?;
        let rows = world.store.ledger_rows();
        wasted_tokens = patiently(|| rows.wasted_tokens_of(&run.tenant, key)).await?;
    }
    let is_call = match &outcome {
        SendOutcome::Answered(_) => true,
        SendOutcome::Failed { failure, .. } => failure.class.is_of_a_call(),
    };
    let duplicate_calls = sends.saturating_sub(u32::from(is_call));
    Ok(match outcome {
        SendOutcome::Answered(reply) => SendOutcome::Answered(Reply { duplicate_calls, wasted_tokens, ..reply }),
        SendOutcome::Failed { failure, latency_ms, .. } => {
            SendOutcome::Failed { failure, duplicate_calls, latency_ms, wasted_tokens }
        }
    })
}
