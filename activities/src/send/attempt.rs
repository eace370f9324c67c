//! The call itself, with its ledger row.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokenhub_domain::{AttemptId, ErrorClass, Operation, ProviderFailure, SendOutcome, SendRequest, UnixMicros, Use};
use tokenhub_providers::{Call, Completion, Providers, Reported};
use tokenhub_store::{AttemptOpen, Settlement, StoreError};

use super::{
    Sending, background,
    body::body,
    conclusion,
    deltas::Showing,
    journaled::Held,
    patience,
    reserve::{self, Owed, Reserved},
    shape, unwanted,
};
use crate::{ActivityFault, clock, presence::Presence};

/// Between two tries to reach a database that is away.
const STORE_RETRY_INTERVAL: Duration = Duration::from_millis(250);
/// A database that is there and refuses may be failing over; for a minute it is asked again.
const REFUSALS_MAX: u32 = 240;

/// A call that ended, and what the ledger needs to correct its row.
pub(super) struct Called {
    pub(super) attempt: AttemptId,
    pub(super) outcome: SendOutcome,
    pub(super) settlement: Option<Settlement>,
    /// To be given back once, by whoever hands the outcome in first.
    pub(super) owed: Owed,
    /// The pieces of text that were shown while it was written.
    pub(super) deltas: Option<u64>,
}

/// A call on its way: what it takes to make it and to conclude it.
pub(super) struct Flight {
    pub(super) attempt: AttemptId,
    pub(super) providers: Arc<Providers>,
    pub(super) body: Bytes,
    pub(super) measures: shape::Measures,
    max_output_tokens: Option<u64>,
    model_output_tokens: Option<u64>,
    /// What it was given of the limits of its run.
    pub(super) taken: Option<Use>,
    pub(super) sent_at: UnixMicros,
    /// When this process joined it, and how long it was on its way before.
    joined: (Instant, Duration),
}

impl Flight {
    /// What `attempt` has to say, with nothing taken and nothing announced.
    pub(super) async fn of<P: Presence>(
        sending: &Sending<'_, P>,
        attempt: AttemptId,
        sent_at: UnixMicros,
    ) -> Result<Self, ActivityFault> {
        let Sending { world, request, .. } = sending;
        let (body, measures) = (body(sending).await?, shape::measures_of(sending).await?);
        let before = Duration::from_micros(u64::try_from(clock::now().0 - sent_at.0).unwrap_or_default());
        Ok(Self {
            attempt,
            providers: world.providers.load_full(),
            body,
            measures,
            max_output_tokens: request.max_output_tokens,
            model_output_tokens: world.catalogue.load().model(&request.deployment).and_then(|it| it.max_output_tokens),
            taken: None,
            sent_at,
            joined: (Instant::now(), before),
        })
    }

    /// The call as the provider is asked.
    pub(super) fn call<'a>(&'a self, request: &'a SendRequest) -> Call<'a> {
        Call {
            attempt: &self.attempt,
            model: &request.deployment.model,
            credential: &request.deployment.credential,
            dialect: request.dialect,
            body: self.body.clone(),
            forwarded: &request.forwarded,
            max_output_tokens: self.max_output_tokens,
            model_output_tokens: self.model_output_tokens,
            timeout: Duration::from_millis(request.longest_ms()),
            first_token_timeout: request.first_token_timeout_ms.map(Duration::from_millis),
        }
    }

    /// How long it has been on its way.
    pub(super) fn elapsed(&self) -> Duration {
        self.joined.0.elapsed() + self.joined.1
    }
}

/// Sends the request and settles its ledger row; in the background where the provider works so and a lease is held.
pub(super) async fn call<P: Presence>(sending: &Sending<'_, P>, held: Option<&Held>) -> Result<Called, ActivityFault> {
    let Sending { world, request, .. } = sending;
    let mut flight = Flight::of(sending, AttemptId::generate(), clock::now()).await?;
    match reserve::take(sending, &flight.body).await? {
        Ok(None) => {}
        Ok(Some(Reserved { taken, output_limit })) => {
            (flight.taken, flight.max_output_tokens) = (Some(taken), Some(output_limit));
        }
        Err(failure) => {
            let outcome = SendOutcome::Failed { failure, duplicate_calls: 0, latency_ms: 0, wasted_tokens: 0 };
            return Ok(Called {
                attempt: flight.attempt,
                outcome,
                settlement: None,
                owed: Owed::default(),
                deltas: None,
            });
        }
    }
    let _taken = flight.taken.map(|taken| world.counts.reserve(taken.cost));
    (flight.sent_at, flight.joined) = (clock::now(), (Instant::now(), Duration::ZERO));
    world.ledger.reserve(opening(sending, &flight));
    world.ledger.sent(&flight.attempt, flight.sent_at)?;
    let (provider, call) = (&request.deployment.provider, flight.call(request));
    let (mut shown, mut reported) = (None, None);
    let result = match held {
        Some(held) if request.operation == Operation::Chat && flight.providers.takes_in_background(provider, &call) => {
            background::carry_out(sending, held, &flight).await
        }
        Some(_) | None => {
            shown = Showing::of(sending, held);
            tokio::select! {
                result = carry_out(&flight.providers, request, call, (shown.as_ref(), &mut reported)) => result,
                () = unwanted(sending) => Err(withdrawn()),
                () = patience::ends(sending, Duration::from_millis(request.timeout_ms)) => {
                    let message = "the deadline passed before the answer was there";
                    Err(ProviderFailure::of(ErrorClass::StepDeadline, message))
                }
            }
        }
    };
    if let Some(shown) = &shown {
        shown.close();
    }
    let called = conclusion::conclude(sending, flight, result, reported).await?;
    let deltas = match shown {
        Some(shown) => Some(shown.end().await),
        None => None,
    };
    Ok(Called { deltas, ..called })
}

/// What a call that nobody waits for any more comes to.
pub(super) fn withdrawn() -> ProviderFailure {
    ProviderFailure::of(ErrorClass::Cancelled, "the call was withdrawn")
}

/// The ledger row of a call.
pub(super) fn opening<P: Presence>(Sending { run, request, key, .. }: &Sending<'_, P>, flight: &Flight) -> AttemptOpen {
    AttemptOpen {
        attempt_id: flight.attempt.clone(),
        tenant: run.tenant.clone(),
        run_id: run.run_id.clone(),
        step: request.step.clone(),
        step_key: key.clone(),
        role: request.role,
        provider: request.deployment.provider.clone(),
        model: request.deployment.model.clone(),
        principal: run.principal.clone(),
        api_key_id: run.api_key_id.clone(),
        request_id: run.request_id.clone(),
        config_version: run.config_version,
        tags: run.labels.tags.clone(),
        estimated_cost: flight.taken.map(|taken| taken.cost).unwrap_or_default(),
        at: flight.sent_at,
    }
}

async fn carry_out(
    providers: &Providers,
    request: &SendRequest,
    call: Call<'_>,
    (showing, reported): (Option<&Showing>, &mut Option<Reported>),
) -> Result<Completion, ProviderFailure> {
    let provider = &request.deployment.provider;
    match (request.operation, showing) {
        (Operation::Chat, Some(showing)) => {
            providers.complete_streamed(provider, call, &mut |text: &str| showing.show(text), reported).await
        }
        (Operation::Chat, None) => providers.complete(provider, call).await,
        (Operation::Embeddings, _) => providers.embed(provider, call).await,
    }
}

/// Repeats a read, or what precedes a call, while the database is away. Nothing is paid by it, so every other error ends it.
pub(crate) async fn patiently<T, F>(mut act: impl FnMut() -> F) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, StoreError>>,
{
    loop {
        match act().await {
            Err(error) if error.is_unavailable() => {
                tracing::warn!(%error, "the database is away; the step waits for it");
                tokio::time::sleep(STORE_RETRY_INTERVAL).await;
            }
            result => return result,
        }
    }
}

/// Repeats a write that must not be lost, whatever the error says: the answer is paid for.
pub(super) async fn insistently<T, F>(mut write: impl FnMut() -> F) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, StoreError>>,
{
    let mut refusals = 0;
    loop {
        match write().await {
            Err(error) if error.is_unavailable() || refusals < REFUSALS_MAX => {
                refusals += u32::from(!error.is_unavailable());
                tracing::warn!(error = &error as &dyn std::error::Error, "a paid answer waits for the database");
                tokio::time::sleep(STORE_RETRY_INTERVAL).await;
            }
            result => return result,
        }
    }
}
