//! The gate: nothing is promised to a client before a provider has said something.

use std::time::Duration;

use futures_util::{StreamExt, stream::BoxStream};
use tokenhub_domain::{ErrorClass, ProviderFailure};
use tokenhub_providers::{Call, EventKind, StreamEvent};

use super::{Attempt, StreamRequest};
use crate::{World, losses};

/// Events held back for one stream; a provider that sends more before any content is broken.
const HELD_EVENTS_MAX: usize = 1_024;

/// A stream whose first content has arrived.
pub(super) struct Begun {
    /// Names of what the request lost on its way.
    pub(super) losses: Vec<String>,
    pub(super) held: Vec<StreamEvent>,
    pub(super) rest: BoxStream<'static, Result<StreamEvent, ProviderFailure>>,
}

/// What bounds one attempt.
pub(super) struct Limits {
    pub(super) max_output_tokens: Option<u64>,
    /// The first content must come within this; the stream itself is bounded by the provider's own clocks.
    pub(super) first_content: Duration,
}

/// Calls the provider and holds everything back until the first content.
pub(super) async fn first_content(
    world: &World,
    attempt: &Attempt,
    request: &StreamRequest,
    limits: &Limits,
) -> Result<Begun, ProviderFailure> {
    let begun = tokio::time::timeout(limits.first_content, begin(world, attempt, request, limits.max_output_tokens));
    begun.await.unwrap_or_else(|_| {
        // The caller's clock, and not the provider's: it says little about how fast the provider is.
        Err(ProviderFailure::of(ErrorClass::StepDeadline, "the first content did not come within the deadline"))
    })
}

async fn begin(
    world: &World,
    attempt: &Attempt,
    request: &StreamRequest,
    max_output_tokens: Option<u64>,
) -> Result<Begun, ProviderFailure> {
    let providers = world.providers.load_full();
    let call = Call {
        attempt: &attempt.id,
        model: &attempt.deployment.model,
        credential: &attempt.deployment.credential,
        dialect: request.dialect,
        body: request.body.clone(),
        forwarded: &request.forwarded,
        max_output_tokens,
        model_output_tokens: world.catalogue.load().model(&attempt.deployment).and_then(|it| it.max_output_tokens),
        timeout: Duration::from_millis(tokenhub_domain::limits::RUN_DEADLINE_MS),
        first_token_timeout: None,
    };
    let streaming = providers.stream(&attempt.deployment.provider, call).await?;
    let losses = losses::names_of(&streaming.losses);
    let mut rest = streaming.events;
    let mut held = Vec::new();
    while let Some(event) = rest.next().await {
        let event = event?;
        let kind = event.kind;
        held.push(event);
        match kind {
            // A provider that ends properly without a word has answered: with nothing.
            EventKind::Content | EventKind::Finish | EventKind::Done => return Ok(Begun { losses, held, rest }),
            EventKind::Preamble | EventKind::UsageOnly => {}
        }
        if held.len() > HELD_EVENTS_MAX {
            return Err(ProviderFailure::of(ErrorClass::ServerError, "the stream has no content"));
        }
    }
    Err(ProviderFailure::of(ErrorClass::StreamBroken, "the stream ended before its first content"))
}
