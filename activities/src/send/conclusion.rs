//! What came of a call, told to every place that wants to know: ledger, health, figures, the bounds of its run.
//!
//! Must not make calls and must not hand outcomes in: that is [`super::attempt`]'s and [`super::journaled`]'s.

use tokenhub_domain::{
    AttemptId, ErrorClass, NanoDollars, ProviderFailure, Reply, ReplyForm, SendOutcome, SendRequest, TokenUsage, Use,
};
use tokenhub_providers::{Completion, Reported};
use tokenhub_routing::DEADLINE_EVIDENCE_MS;
use tokenhub_store::{Settlement, StoreError, Waste};

use super::{
    Sending,
    attempt::{Called, Flight, insistently},
    reserve::Owed,
    shape,
};
use crate::{ActivityFault, Keeping, bill, clock, losses, observed, presence::Presence};

/// Takes note of what came of a call. One that failed with its answer half written costs what the provider `reported` of it.
pub(super) async fn conclude<P: Presence>(
    sending: &Sending<'_, P>,
    flight: Flight,
    result: Result<Completion, ProviderFailure>,
    reported: Option<Reported>,
) -> Result<Called, ActivityFault> {
    let latency_ms = u64::try_from(flight.elapsed().as_millis()).unwrap_or(u64::MAX);
    let Sending { world, request, .. } = sending;
    match result {
        Ok(completion) => {
            world.health.note(&request.deployment, Ok(()), flight.sent_at);
            answered(sending, flight, completion, latency_ms).await
        }
        Err(failure) => Ok(failed(sending, flight, failure, reported, latency_ms)),
    }
}

fn failed<P: Presence>(
    sending: &Sending<'_, P>,
    flight: Flight,
    failure: ProviderFailure,
    reported: Option<Reported>,
    latency_ms: u64,
) -> Called {
    let Sending { world, request, .. } = sending;
    if !is_impatience(request, &failure, latency_ms) {
        world.health.note(&request.deployment, Err(&failure), flight.sent_at);
        let called = observed::Call { deployment: &request.deployment, body_bytes: flight.body.len() };
        world.observed.failed(called, failure.class, latency_ms);
    }
    let owed = Owed { taken: flight.taken, used: used_by_failed(&failure, reported.as_ref()) };
    let attempt = flight.attempt;
    let settlement = reported.map(|Reported { usage, usage_json }| Settlement {
        error_class: Some(failure.class),
        status_code: failure.status,
        waste: Waste::Wasted,
        ..bill::settlement(world, &request.deployment, (usage, usage_json), latency_ms)
    });
    let ended = match &settlement {
        Some(settlement) => world.ledger.settle(&attempt, settlement.clone()),
        None => world.ledger.fail(&attempt, failure.class, failure.status, latency_ms, clock::now()),
    };
    report(ended, &attempt);
    let wasted_tokens = settlement.as_ref().map_or(0, |paid| paid.input_tokens.saturating_add(paid.output_tokens));
    world.counts.wasted(wasted_tokens);
    // A workflow that withdraws a call does not learn what it came to, so in process nothing is added either.
    let wasted_tokens = if failure.class == ErrorClass::Cancelled { 0 } else { wasted_tokens };
    let outcome = SendOutcome::Failed { failure, duplicate_calls: 0, latency_ms, wasted_tokens };
    Called { attempt, outcome, settlement, owed, deltas: None }
}

/// Whether a call was ended by a limit that its caller has set so short that it says nothing of the model.
fn is_impatience(request: &SendRequest, failure: &ProviderFailure, elapsed_ms: u64) -> bool {
    failure.class == ErrorClass::FirstTokenTimeout
        && request.first_token_timeout_ms.is_some()
        && elapsed_ms < DEADLINE_EVIDENCE_MS
}

/// What a call without an answer has used of the limits of its run, where that is known: of a provider that refused.
/// Whoever broke off, was too late or was not waited for may have been paid, and may have written more than it had counted.
fn used_by_failed(failure: &ProviderFailure, reported: Option<&Reported>) -> Option<Use> {
    let is_refusal = failure.status.is_some_and(|status| status >= 400) || failure.class == ErrorClass::Transport;
    (is_refusal && reported.is_none()).then(Use::default)
}

/// What an answer has used, where its provider has counted.
fn used_by_answer(completion: &Completion, cost: NanoDollars) -> Option<Use> {
    let TokenUsage { input_tokens, output_tokens } = completion.usage;
    let used = Use { calls: 1, tokens: input_tokens.saturating_add(output_tokens), cost };
    completion.usage_json.is_some().then_some(used)
}

async fn answered<P: Presence>(
    sending: &Sending<'_, P>,
    flight: Flight,
    mut completion: Completion,
    latency_ms: u64,
) -> Result<Called, ActivityFault> {
    let Sending { world, run, keeping, request, .. } = sending;
    let settlement = Settlement {
        finish_reason: completion.finish_reason.clone(),
        ..bill::settlement(world, &request.deployment, (completion.usage, completion.usage_json.clone()), latency_ms)
    };
    let Flight { attempt, measures, body, taken, .. } = flight;
    let called = observed::Call { deployment: &request.deployment, body_bytes: body.len() };
    let cost = settlement.cost;
    let owed = Owed { taken, used: used_by_answer(&completion, cost) };
    world.observed.answered(called, latency_ms, cost);
    world.warm.note(request.prefix, &request.deployment);
    let settled = match keeping {
        Keeping::Rows => world.ledger.settle(&attempt, settlement.clone()),
        // Nothing else outlives the process, so the ledger need not be ahead of it.
        Keeping::LedgerOnly => world.ledger.settle_with_log(&attempt, settlement.clone()),
    };
    report(settled, &attempt);
    // The caller of a chat reads the refusal in the provider's own body; a program needs a text.
    if let (Some(failure), ReplyForm::Text) = (&completion.refusal, request.form) {
        let outcome =
            SendOutcome::Failed { failure: failure.clone(), duplicate_calls: 0, latency_ms, wasted_tokens: 0 };
        return Ok(Called { attempt, outcome, settlement: Some(settlement), owed, deltas: None });
    }
    let shape::Content { text, mismatch, lacks_pattern } =
        shape::content_of(sending, &mut completion, measures).await?;
    let contents = world.store.contents();
    let content = insistently(|| contents.inline_or_store(&run.tenant, text.clone())).await?;
    let reply = Reply {
        attempt: attempt.clone(),
        content,
        finish_reason: completion.finish_reason,
        usage: completion.usage,
        cost,
        latency_ms,
        duplicate_calls: 0,
        losses: losses::names_of(&completion.losses),
        mismatch,
        lacks_pattern,
        wasted_tokens: 0,
        is_kept: false,
    };
    Ok(Called { attempt, outcome: SendOutcome::Answered(reply), settlement: Some(settlement), owed, deltas: None })
}

/// The provider has been paid by now, so a ledger that cannot take the end of a call is no reason to lose the answer.
fn report(ended: Result<(), StoreError>, attempt: &AttemptId) {
    if let Err(error) = ended {
        tracing::error!(error = &error as &dyn std::error::Error, %attempt, "the end of a call is not in the ledger");
    }
}
