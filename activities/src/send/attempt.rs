//! The call itself, with its ledger row.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokenhub_domain::{
    AttemptId, Bill, ErrorClass, NanoDollars, Operation, ProviderFailure, Reply, ReplyForm, SendOutcome, SendRequest,
    TokenUsage, UnixMicros, Use,
};
use tokenhub_providers::{Call, Completion, Providers, Reported};
use tokenhub_store::{AttemptOpen, Settlement, StoreError, Waste};

use super::{
    Sending, background,
    body::body,
    deltas::Showing,
    journaled::Held,
    patience,
    reserve::{self, Owed, Reserved},
    shape, unwanted,
};
use crate::{ActivityFault, Keeping, bill, clock, losses, observed, presence::Presence};

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
    body: Bytes,
    measures: shape::Measures,
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
    let called = conclude(sending, flight, result, reported).await?;
    let deltas = match shown {
        Some(shown) => Some(shown.end().await),
        None => None,
    };
    Ok(Called { deltas, ..called })
}

/// Takes note of what came of a call, in every place that wants to know. A call that failed with its answer half written
/// costs what the provider `reported` of it.
pub(super) async fn conclude<P: Presence>(
    sending: &Sending<'_, P>,
    flight: Flight,
    result: Result<Completion, ProviderFailure>,
    reported: Option<Reported>,
) -> Result<Called, ActivityFault> {
    let Sending { world, request, .. } = sending;
    world.health.note(&request.deployment, result.as_ref().map(|_| ()), flight.sent_at);
    let latency_ms = u64::try_from(flight.elapsed().as_millis()).unwrap_or(u64::MAX);
    let bill = match (&result, &reported) {
        (Ok(Completion { usage, usage_json, .. }), _) | (Err(_), Some(Reported { usage, usage_json })) => {
            bill_of(sending, usage, usage_json.as_deref())
        }
        (Err(_), None) => Bill::default(),
    };
    let owed = Owed { taken: flight.taken, used: used_by(&result, bill.cost) };
    match result {
        Ok(completion) => Ok(Called { owed, ..answered(sending, flight, (completion, bill), latency_ms).await? }),
        Err(failure) => {
            let called = observed::Call { deployment: &request.deployment, body_bytes: flight.body.len() };
            world.observed.failed(called, failure.class, latency_ms);
            let attempt = flight.attempt;
            let settlement = reported.map(|reported| half_written(reported, bill, failure.class, latency_ms));
            let ended = match &settlement {
                Some(settlement) => world.ledger.settle(&attempt, settlement.clone()),
                None => world.ledger.fail(&attempt, failure.class, failure.status, latency_ms, clock::now()),
            };
            report(ended, &attempt);
            let wasted_tokens =
                settlement.as_ref().map_or(0, |paid| paid.input_tokens.saturating_add(paid.output_tokens));
            world.counts.wasted(wasted_tokens);
            let outcome = SendOutcome::Failed { failure, duplicate_calls: 0, latency_ms, wasted_tokens };
            Ok(Called { attempt, outcome, settlement, owed, deltas: None })
        }
    }
}

/// What an answer costs that broke off behind its first counts.
fn half_written(reported: Reported, bill: Bill, class: ErrorClass, latency_ms: u64) -> Settlement {
    let Bill { cost, input_price, output_price, price_source } = bill;
    Settlement {
        usage_json: reported.usage_json,
        input_tokens: reported.usage.input_tokens,
        output_tokens: reported.usage.output_tokens,
        cost,
        input_price,
        output_price,
        price_source,
        finish_reason: Some(class.as_str().to_owned()),
        latency_ms,
        waste: Waste::Wasted,
        at: clock::now(),
    }
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

/// What an answer costs.
fn bill_of<P: Presence>(sending: &Sending<'_, P>, usage: &TokenUsage, usage_json: Option<&str>) -> Bill {
    let catalogue = sending.world.catalogue.load();
    catalogue
        .model(&sending.request.deployment)
        .map(|model| bill::of(&catalogue, model, usage, usage_json))
        .unwrap_or_default()
}

/// What a call has used of the limits of its run, where that is known: a provider that answered and counted, or that
/// refused. Whoever broke off, was too late or was not waited for may have been paid.
fn used_by(result: &Result<Completion, ProviderFailure>, cost: NanoDollars) -> Option<Use> {
    match result {
        Ok(completion) => {
            let TokenUsage { input_tokens, output_tokens } = completion.usage;
            let used = Use { calls: 1, tokens: input_tokens.saturating_add(output_tokens), cost };
            completion.usage_json.is_some().then_some(used)
        }
        Err(failure) => {
            let is_refusal = failure.status.is_some_and(|status| status >= 400);
            (is_refusal || failure.class == ErrorClass::Transport).then(Use::default)
        }
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

async fn answered<P: Presence>(
    sending: &Sending<'_, P>,
    flight: Flight,
    (mut completion, bill): (Completion, Bill),
    latency_ms: u64,
) -> Result<Called, ActivityFault> {
    let Sending { world, run, keeping, request, .. } = sending;
    let Flight { attempt, measures, body, .. } = flight;
    let called = observed::Call { deployment: &request.deployment, body_bytes: body.len() };
    let owed = Owed::default();
    let Bill { cost, input_price, output_price, price_source } = bill;
    world.observed.answered(called, latency_ms, cost);
    world.warm.note(request.prefix, &request.deployment);
    let settlement = Settlement {
        usage_json: completion.usage_json.clone(),
        input_tokens: completion.usage.input_tokens,
        output_tokens: completion.usage.output_tokens,
        cost,
        input_price,
        output_price,
        price_source,
        finish_reason: completion.finish_reason.clone(),
        latency_ms,
        waste: Waste::Used,
        at: clock::now(),
    };
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
