//! A call that its provider carries out in the background: begun once, and looked at until it has ended, whoever looks.
//!
//! The provider's name of the response goes into the journal before anything waits for it. So a process that dies while
//! the provider answers costs no second call: the next holder of the lease attaches to the response, and ends the ledger
//! row of the first. A death between the request and the name in the journal costs one call more, and is told as any other.

use std::{pin::pin, time::Duration};

use tokenhub_domain::{ErrorClass, ProviderFailure, ProviderResponseId};
use tokenhub_providers::{Completion, Sight};
use tokenhub_store::{BackgroundCall, LeaseHeld};

use super::{
    Sending,
    attempt::{self, Called, Flight, insistently, patiently, withdrawn},
    conclusion,
    journaled::Held,
    patience, unwanted,
};
use crate::{ActivityFault, fault_points::FaultPoint, presence::Presence};

/// Between the beginning of a response and the first look at it; each wait is longer by half than the one before.
const LOOK_FIRST: Duration = Duration::from_millis(200);
/// The longest wait between two looks, unless the provider asks for a longer one.
const LOOK_LAST: Duration = Duration::from_secs(3);
/// A provider that is asked to wait longer than this between two looks is looked at all the same.
const LOOK_HINT_MAX: Duration = Duration::from_secs(30);
/// Whoever attaches looks for this long at least, even when the step's time is over by then: the answer may be there.
const ATTACHED_LEAST: Duration = Duration::from_secs(5);
/// A call that is withdrawn before it has a name is given this long to get one, by which it can be withdrawn.
const NAME_WAIT: Duration = Duration::from_secs(5);

/// Who looks at a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Looker {
    /// Who began it.
    Beginner,
    /// Who found it in the journal.
    Attached,
}

/// Begins the response of `flight`, keeps its name, and waits until it has ended.
pub(super) async fn carry_out<P: Presence>(
    sending: &Sending<'_, P>,
    held: &Held,
    flight: &Flight,
) -> Result<Completion, ProviderFailure> {
    let (provider, call) = (&sending.request.deployment.provider, flight.call(sending.request));
    let mut beginning = pin!(flight.providers.begin(provider, &call));
    let begun = tokio::select! {
        begun = &mut beginning => begun?,
        () = unwanted(sending) => {
            if let Ok(Ok(begun)) = tokio::time::timeout(NAME_WAIT, beginning).await {
                withdraw(sending, flight, &begun.response).await;
            }
            return Err(withdrawn());
        }
    };
    sending.world.faults.reach(FaultPoint::Begun, sending.request.step.as_str()).await;
    match begun.sight {
        Sight::Answered(completion) => return Ok(*completion),
        Sight::Failed(failure) => return Err(failure),
        Sight::Forgotten => return Err(forgotten()),
        Sight::Working => {}
    }
    let begun = BackgroundCall {
        response: begun.response,
        attempt: flight.attempt.clone(),
        sent_at: flight.sent_at,
        taken: flight.taken,
        reattached: 0,
    };
    keep(sending, held, &begun).await;
    // The provider may have been paid for what it has forgotten, and this process knows that it is over.
    follow(sending, flight, &begun, Looker::Beginner).await.unwrap_or_else(|| Err(forgotten()))
}

/// The response that an earlier holder of the lease has begun.
pub(super) async fn begun_before<P: Presence>(
    sending: &Sending<'_, P>,
    held: &Held,
) -> Result<Option<BackgroundCall>, ActivityFault> {
    if held.epoch == 1 {
        return Ok(None);
    }
    let journal = sending.world.store.journal();
    Ok(patiently(|| journal.background_of(&sending.run.tenant, &sending.key)).await?)
}

/// Waits for a response that an earlier holder has begun, in that holder's ledger row. Nothing when the provider does
/// not know it any more: then the call is to be made again, and nobody knows what the first one cost.
pub(super) async fn reattach<P: Presence>(
    sending: &Sending<'_, P>,
    held: &Held,
    begun: BackgroundCall,
) -> Result<Option<Called>, ActivityFault> {
    let begun = BackgroundCall { reattached: begun.reattached + 1, ..begun };
    let flight = joined(sending, &begun).await?;
    keep(sending, held, &begun).await;
    tracing::info!(step = %sending.request.step, response = %begun.response, "attached to a response in the background");
    let Some(result) = follow(sending, &flight, &begun, Looker::Attached).await else {
        tracing::warn!(step = %sending.request.step, response = %begun.response, "the provider has forgotten a response");
        return Ok(None);
    };
    end(sending, flight, result).await.map(Some)
}

/// Withdraws what an earlier holder has begun: the run has ended meanwhile.
pub(super) async fn abandon<P: Presence>(sending: &Sending<'_, P>, begun: BackgroundCall) -> Result<(), ActivityFault> {
    let flight = joined(sending, &begun).await?;
    withdraw(sending, &flight, &begun.response).await;
    end(sending, flight, Err(withdrawn())).await.map(|_| ())
}

async fn joined<P: Presence>(sending: &Sending<'_, P>, begun: &BackgroundCall) -> Result<Flight, ActivityFault> {
    let mut flight = Flight::of(sending, begun.attempt.clone(), begun.sent_at).await?;
    flight.taken = begun.taken;
    Ok(flight)
}

/// Ends the row of whoever began the call.
async fn end<P: Presence>(
    sending: &Sending<'_, P>,
    flight: Flight,
    result: Result<Completion, ProviderFailure>,
) -> Result<Called, ActivityFault> {
    sending.world.ledger.attach(attempt::opening(sending, &flight), flight.sent_at);
    conclusion::conclude(sending, flight, result, None).await
}

/// Keeps the name where the next holder looks for it. One that cannot be kept costs a call if this process dies, and
/// nothing otherwise.
async fn keep<P: Presence>(sending: &Sending<'_, P>, held: &Held, begun: &BackgroundCall) {
    sending.presence.show(&begun.response);
    let journal = sending.world.store.journal();
    let lease = LeaseHeld { tenant: &sending.run.tenant, key: &sending.key, owner: &held.owner, epoch: held.epoch };
    match insistently(|| journal.keep_background(lease, begun)).await {
        Ok(true) => {}
        Ok(false) => tracing::warn!(step = %sending.request.step, "the lease of a response in the background is lost"),
        Err(error) => {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "a response in the background is not in the journal"
            );
        }
    }
}

/// Looks until the response has ended, or nobody waits for it any more. Nothing when the provider does not know it.
async fn follow<P: Presence>(
    sending: &Sending<'_, P>,
    flight: &Flight,
    begun: &BackgroundCall,
    looker: Looker,
) -> Option<Result<Completion, ProviderFailure>> {
    let [limit, due] = [sending.request.longest_ms(), sending.request.timeout_ms].map(Duration::from_millis);
    let (least, first_wait) = match looker {
        Looker::Beginner => (Duration::ZERO, LOOK_FIRST),
        Looker::Attached => (ATTACHED_LEAST, Duration::ZERO),
    };
    let left = |time: Duration| time.saturating_sub(flight.elapsed()).max(least);
    let too_late = |time: Duration| {
        let message = format!("the response did not end within {} ms", time.as_millis());
        ProviderFailure::of(ErrorClass::StepDeadline, message)
    };
    let failure = tokio::select! {
        ended = look_until_ended(sending, flight, &begun.response, first_wait) => return ended,
        () = tokio::time::sleep(left(limit)) => too_late(limit),
        () = patience::ends(sending, left(due)) => too_late(due),
        () = unwanted(sending) => withdrawn(),
    };
    withdraw(sending, flight, &begun.response).await;
    Some(Err(failure))
}

async fn look_until_ended<P: Presence>(
    sending: &Sending<'_, P>,
    flight: &Flight,
    response: &ProviderResponseId,
    mut wait: Duration,
) -> Option<Result<Completion, ProviderFailure>> {
    let (provider, call) = (&sending.request.deployment.provider, flight.call(sending.request));
    loop {
        tokio::time::sleep(wait).await;
        wait = (wait * 3 / 2).clamp(LOOK_FIRST, LOOK_LAST);
        match flight.providers.look(provider, &call, response).await {
            Ok(Sight::Working) => {}
            Ok(Sight::Answered(completion)) => return Some(Ok(*completion)),
            Ok(Sight::Failed(failure)) => return Some(Err(failure)),
            Ok(Sight::Forgotten) => return None,
            Err(failure) if failure.class.is_transient() => {
                let hint = failure.retry_after_ms.map(Duration::from_millis).unwrap_or_default();
                wait = wait.max(hint.min(LOOK_HINT_MAX));
                tracing::warn!(class = failure.class.as_str(), %response, "a response could not be looked at; it may go on");
            }
            // What was refused is the look. What the call costs nobody knows, and a status would say that it is nothing.
            Err(failure) => return Some(Err(ProviderFailure { status: None, ..failure })),
        }
    }
}

/// A provider that cannot be told works on, for nobody.
async fn withdraw<P: Presence>(sending: &Sending<'_, P>, flight: &Flight, response: &ProviderResponseId) {
    let (provider, call) = (&sending.request.deployment.provider, flight.call(sending.request));
    if let Err(failure) = flight.providers.withdraw(provider, &call, response).await {
        tracing::warn!(class = failure.class.as_str(), %response, "a response in the background could not be withdrawn");
    }
}

fn forgotten() -> ProviderFailure {
    ProviderFailure::of(ErrorClass::ServerError, "the provider does not know the response any more")
}
