//! The call itself, with its ledger row.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokenhub_domain::{
    AttemptId, Bill, ErrorClass, NanoDollars, Operation, ProviderFailure, Reply, ReplyForm, SendOutcome, SendRequest,
    TokenUsage, Use,
};
use tokenhub_formats::Schema;
use tokenhub_providers::{Call, Completion, Providers};
use tokenhub_store::{AttemptOpen, Settlement, StoreError, Waste};

use super::{
    Sending,
    body::body,
    reserve::{self, Reserved},
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
}

/// Sends the request and settles its ledger row.
pub(super) async fn call<P: Presence>(sending: &Sending<'_, P>) -> Result<Called, ActivityFault> {
    let Sending { world, request, .. } = sending;
    let (body, schema) = (body(sending).await?, shape::schema_of(sending).await?);
    let called = observed::Call { deployment: &request.deployment, body_bytes: body.len() };
    let attempt = AttemptId::generate();
    let reserved = match reserve::take(sending, &body).await? {
        Ok(reserved) => reserved,
        Err(failure) => {
            let outcome = SendOutcome::Failed { failure, duplicate_calls: 0, latency_ms: 0 };
            return Ok(Called { attempt, outcome, settlement: None });
        }
    };
    world.ledger.reserve(opening(sending, &attempt, reserved));
    world.ledger.sent(&attempt, clock::now())?;
    let (started, began) = (Instant::now(), clock::now());
    let providers = world.providers.load_full();
    let call = Call {
        attempt: &attempt,
        model: &request.deployment.model,
        credential: &request.deployment.credential,
        dialect: request.dialect,
        body,
        forwarded: &request.forwarded,
        max_output_tokens: reserved.map(|reserved| reserved.output_limit).or(request.max_output_tokens),
        model_output_tokens: world.catalogue.load().model(&request.deployment).and_then(|it| it.max_output_tokens),
        timeout: Duration::from_millis(request.timeout_ms),
    };
    let result = tokio::select! {
        result = carry_out(&providers, request, call) => result,
        () = unwanted(sending) => Err(ProviderFailure::of(ErrorClass::Cancelled, "the call was withdrawn")),
    };
    world.health.note(&request.deployment, result.as_ref().map(|_| ()), began);
    let latency_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    let bill = result.as_ref().map(|completion| bill_of(sending, completion)).unwrap_or_default();
    reserve::settle(sending, reserved, used_by(&result, bill.cost)).await;
    match result {
        Ok(completion) => answered(sending, (attempt, called), (completion, bill), schema, latency_ms).await,
        Err(failure) => {
            world.observed.failed(called, failure.class, latency_ms);
            let ended = world.ledger.fail(&attempt, failure.class, failure.status, latency_ms, clock::now());
            report(ended, &attempt);
            let outcome = SendOutcome::Failed { failure, duplicate_calls: 0, latency_ms };
            Ok(Called { attempt, outcome, settlement: None })
        }
    }
}

fn opening<P: Presence>(
    Sending { run, request, key, .. }: &Sending<'_, P>,
    attempt: &AttemptId,
    reserved: Option<Reserved>,
) -> AttemptOpen {
    AttemptOpen {
        attempt_id: attempt.clone(),
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
        estimated_cost: reserved.map(|reserved| reserved.taken.cost).unwrap_or_default(),
        at: clock::now(),
    }
}

/// What an answer costs.
fn bill_of<P: Presence>(sending: &Sending<'_, P>, completion: &Completion) -> Bill {
    let catalogue = sending.world.catalogue.load();
    catalogue
        .model(&sending.request.deployment)
        .map(|model| bill::of(&catalogue, model, &completion.usage, completion.usage_json.as_deref()))
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
) -> Result<Completion, ProviderFailure> {
    match request.operation {
        Operation::Chat => providers.complete(&request.deployment.provider, call).await,
        Operation::Embeddings => providers.embed(&request.deployment.provider, call).await,
    }
}

async fn answered<P: Presence>(
    sending: &Sending<'_, P>,
    (attempt, called): (AttemptId, observed::Call<'_>),
    (mut completion, bill): (Completion, Bill),
    schema: Option<Arc<Schema>>,
    latency_ms: u64,
) -> Result<Called, ActivityFault> {
    let Sending { world, run, keeping, request, .. } = sending;
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
        let outcome = SendOutcome::Failed { failure: failure.clone(), duplicate_calls: 0, latency_ms };
        return Ok(Called { attempt, outcome, settlement: Some(settlement) });
    }
    let (content, mismatch) = shape::content_of(sending, &mut completion, schema).await?;
    let contents = world.store.contents();
    let content = insistently(|| contents.inline_or_store(&run.tenant, content.clone())).await?;
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
        is_kept: false,
    };
    Ok(Called { attempt, outcome: SendOutcome::Answered(reply), settlement: Some(settlement) })
}

/// The provider has been paid by now, so a ledger that cannot take the end of a call is no reason to lose the answer.
fn report(ended: Result<(), StoreError>, attempt: &AttemptId) {
    if let Err(error) = ended {
        tracing::error!(error = &error as &dyn std::error::Error, %attempt, "the end of a call is not in the ledger");
    }
}

/// Repeats what precedes a call while the database is away. Nothing has been paid yet, so every other error ends it.
pub(super) async fn patiently<T, F>(mut act: impl FnMut() -> F) -> Result<T, StoreError>
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
