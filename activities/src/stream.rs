//! A streamed answer: attempts with failover until the first content, then a pump to the client.
//!
//! Streams pass through no workflow, because a workflow result cannot stream. Each attempt has its ledger row like any
//! other call; the log line is left to the caller, who can make it durable.

mod gate;
mod hedge;
mod pump;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokenhub_domain::{
    AttemptId, Candidate, ClassifyRequest, Deployment, Dialect, ErrorClass, ForwardedHeader, NanoDollars, NextMove,
    PromptPrefix, ProviderFailure, Role, RunContext, StepId, StepKey, UnixMicros,
};
use tokenhub_providers::{EventKind, StreamEvent};
use tokenhub_store::{AttemptOpen, Ledger, Settlement, StoreError};
use tokenhub_workflows::contract::StreamLog;
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::TaskTracker;

use crate::{ActivityFault, World, classify, clock, observed};

/// The step id of a streamed answer.
const STEP: &str = "stream";
/// Events that may wait for a slow client before the upstream is slowed down.
const EVENTS_BUFFERED: usize = 64;

/// What to stream.
pub struct StreamRequest {
    /// Whom to ask, best first.
    pub candidates: Vec<Candidate>,
    /// The protocol of the caller.
    pub dialect: Dialect,
    /// The caller's body, as it came.
    pub body: Bytes,
    /// Headers of the caller that go to a provider of the same protocol.
    pub forwarded: Vec<ForwardedHeader>,
    /// Input tokens, estimated.
    pub estimated_input_tokens: u64,
    /// The first content must come within this.
    pub deadline_ms: u64,
    /// How a long prompt begins.
    pub prefix: Option<PromptPrefix>,
    /// The next candidate is asked as well when nobody has begun within this.
    pub hedge_after_ms: Option<u64>,
}

/// One item of a committed stream.
#[derive(Debug)]
pub enum StreamItem {
    /// The frame of one event in the caller's protocol, blank line included.
    Data(Bytes),
    /// The frame of the event that carries nothing but usage: for callers who asked for it.
    Usage(Bytes),
    /// The provider broke off; nothing follows.
    Failed(ProviderFailure),
}

/// One call that was made for a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TriedCall {
    /// Who was asked.
    pub deployment: Deployment,
    /// Why it did not begin to answer; `None` when it did.
    pub error_class: Option<ErrorClass>,
    /// Until its first content or its failure.
    pub elapsed_ms: u64,
}

/// A stream that has begun.
pub struct OpenStream {
    /// Who answers.
    pub deployment: Deployment,
    /// The calls that were made, the answering one last.
    pub calls: Vec<TriedCall>,
    /// Names of what the provider's protocol could not express of the request.
    pub losses: Vec<String>,
    /// The events up to the first content: they go out together.
    pub first: Vec<StreamItem>,
    /// The other events; ends after the last one. Dropping it aborts the upstream call.
    pub items: mpsc::Receiver<StreamItem>,
    /// What to log, once the stream is over.
    pub log: oneshot::Receiver<StreamLog>,
}

/// Why there is no stream.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// Every candidate failed before its first content; with the calls that were made, in their order.
    #[error("no candidate began to answer")]
    Failed(ProviderFailure, Vec<TriedCall>),
    /// The ledger could not take the attempt, so none was made.
    #[error("the attempt could not be recorded")]
    Fault(#[source] ActivityFault),
}

/// One attempt of a stream. Dropped without an end, as when the client goes away before the first content, it is void.
struct Attempt {
    id: AttemptId,
    deployment: Deployment,
    body_bytes: usize,
    started: Instant,
    began: UnixMicros,
    ledger: Ledger,
    end: AttemptEnd,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum AttemptEnd {
    Unknown,
    Recorded,
}

impl Attempt {
    fn call(&self) -> observed::Call<'_> {
        observed::Call { deployment: &self.deployment, body_bytes: self.body_bytes }
    }

    fn fail(&mut self, class: ErrorClass, status: Option<u16>) -> Result<(), StoreError> {
        self.end = AttemptEnd::Recorded;
        self.ledger.fail(&self.id, class, status, elapsed_ms(self.started), clock::now())
    }

    fn settle(&mut self, settlement: Settlement) -> Result<(), StoreError> {
        self.end = AttemptEnd::Recorded;
        self.ledger.settle(&self.id, settlement)
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if self.end == AttemptEnd::Unknown
            && let Err(error) = self.fail(ErrorClass::Cancelled, None)
        {
            tracing::error!(error = &error as &dyn std::error::Error, attempt = %self.id, "an attempt has no end");
        }
    }
}

/// A stream whose first content is there, with the calls that were made for it, its own last.
type Opened = (Attempt, Vec<TriedCall>, gate::Begun);

/// Opens a stream at the first candidate that begins to answer.
pub async fn open(
    world: &Arc<World>,
    tracker: &TaskTracker,
    run: &RunContext,
    request: StreamRequest,
) -> Result<OpenStream, StreamError> {
    let started = Instant::now();
    let (attempt, calls, begun) = match request.hedge_after_ms {
        Some(after_ms) if request.candidates.len() > 1 => hedge::race(world, run, &request, after_ms, started).await?,
        Some(_) | None => in_turn(world, run, &request, request.candidates.clone(), started).await?,
    };
    world.warm.note(request.prefix, &attempt.deployment);
    Ok(pump::start(world, tracker, run, (attempt, calls), begun, started))
}

/// Asks `candidates` one after the other.
async fn in_turn(
    world: &World,
    run: &RunContext,
    request: &StreamRequest,
    mut untried: Vec<Candidate>,
    started: Instant,
) -> Result<Opened, StreamError> {
    if untried.is_empty() {
        let failure = ProviderFailure::of(ErrorClass::BadRequest, "no model is eligible");
        return Err(StreamError::Failed(failure, Vec::new()));
    }
    let mut current = untried.remove(0);
    let mut calls = Vec::new();
    let mut tries = 0;
    let mut max_output_tokens = None;
    loop {
        tries += 1;
        wait_for_turn(world, &current.deployment, request, (started, &calls)).await?;
        let mut attempt =
            begin(world, run, (&current.deployment, request.body.len()), tries).map_err(StreamError::Fault)?;
        let time_left_ms = request.deadline_ms.saturating_sub(elapsed_ms(started));
        let limits = gate::Limits { max_output_tokens, first_content: Duration::from_millis(time_left_ms) };
        let begun = gate::first_content(world, &attempt, request, &limits).await;
        calls.push(TriedCall {
            deployment: attempt.deployment.clone(),
            error_class: begun.as_ref().err().map(|failure| failure.class),
            elapsed_ms: elapsed_ms(attempt.started),
        });
        let failure = match begun {
            Ok(begun) => return Ok((attempt, calls, begun)),
            Err(failure) => failure,
        };
        world.health.note(&attempt.deployment, Err(&failure), attempt.began);
        world.observed.failed(attempt.call(), failure.class, elapsed_ms(attempt.started));
        attempt.fail(failure.class, failure.status).map_err(|error| StreamError::Fault(error.into()))?;
        let next = classify::run(&ClassifyRequest {
            step: StepId::from(STEP),
            failure: failure.clone(),
            tries,
            failed: current.clone(),
            untried: untried.clone(),
            estimated_input_tokens: request.estimated_input_tokens,
            max_output_tokens,
            time_left_ms: request.deadline_ms.saturating_sub(elapsed_ms(started)),
        });
        match next {
            NextMove::Retry { delay_ms } => tokio::time::sleep(Duration::from_millis(delay_ms)).await,
            NextMove::Shrink { max_output_tokens: fitting } => max_output_tokens = Some(fitting),
            NextMove::Next { deployment } => {
                let Some(index) = untried.iter().position(|candidate| candidate.deployment == deployment) else {
                    return Err(StreamError::Failed(failure, calls));
                };
                current = untried.remove(index);
                tries = 0;
                max_output_tokens = None;
            }
            NextMove::Stop => return Err(StreamError::Failed(failure, calls)),
        }
    }
}

/// Waits until the provider may be called, within the time that there is for the first content.
async fn wait_for_turn(
    world: &World,
    deployment: &Deployment,
    request: &StreamRequest,
    (started, calls): (Instant, &[TriedCall]),
) -> Result<(), StreamError> {
    let time_left = Duration::from_millis(request.deadline_ms.saturating_sub(elapsed_ms(started)));
    let catalogue = world.catalogue.load_full();
    tokio::time::timeout(time_left, world.pace.turn(&catalogue, &deployment.provider)).await.map_err(|_| {
        let message = "the provider's rate left no room within the deadline";
        StreamError::Failed(ProviderFailure::of(ErrorClass::StepDeadline, message), calls.to_vec())
    })
}

fn begin(
    world: &World,
    run: &RunContext,
    (deployment, body_bytes): (&Deployment, usize),
    tries: u32,
) -> Result<Attempt, ActivityFault> {
    let id = AttemptId::generate();
    world.ledger.reserve(AttemptOpen {
        attempt_id: id.clone(),
        tenant: run.tenant.clone(),
        run_id: run.run_id.clone(),
        step: StepId::from(STEP),
        step_key: StepKey::of(&run.run_id, &StepId::from(STEP), deployment, tries),
        role: Role::Answer,
        provider: deployment.provider.clone(),
        model: deployment.model.clone(),
        principal: run.principal.clone(),
        api_key_id: run.api_key_id.clone(),
        request_id: run.request_id.clone(),
        config_version: run.config_version,
        tags: run.labels.tags.clone(),
        estimated_cost: NanoDollars::default(),
        at: clock::now(),
    });
    world.ledger.sent(&id, clock::now())?;
    Ok(Attempt {
        id,
        deployment: deployment.clone(),
        body_bytes,
        started: Instant::now(),
        began: clock::now(),
        ledger: world.ledger.clone(),
        end: AttemptEnd::Unknown,
    })
}

fn elapsed_ms(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// The item that an event becomes; `None` for counts alone and for Chat's end mark, which the route writes itself. The last
/// event of the other protocols is part of the answer.
fn item_of(event: &StreamEvent) -> Option<StreamItem> {
    match event.kind {
        _ if event.raw.is_empty() => None,
        EventKind::Done if event.raw.trim_ascii() == b"[DONE]" => None,
        EventKind::UsageOnly => Some(StreamItem::Usage(event.frame())),
        EventKind::Preamble | EventKind::Content | EventKind::Finish | EventKind::Done => {
            Some(StreamItem::Data(event.frame()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(name: &'static str, raw: &'static str, kind: EventKind) -> Option<String> {
        let (name, raw) = (Bytes::from_static(name.as_bytes()), Bytes::from_static(raw.as_bytes()));
        let event = StreamEvent { name, raw, kind, usage: None, usage_json: None, finish_reason: None };
        match item_of(&event)? {
            StreamItem::Data(frame) | StreamItem::Usage(frame) => Some(String::from_utf8(frame.to_vec()).unwrap()),
            StreamItem::Failed(_) => None,
        }
    }

    #[test]
    fn the_last_event_of_a_protocol_is_passed_on_and_the_end_mark_of_chat_is_not() {
        assert_eq!(item("", " [DONE]", EventKind::Done), None);
        let stop = item("message_stop", r#"{"type":"message_stop"}"#, EventKind::Done);
        assert_eq!(stop.as_deref(), Some("event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"));
        assert_eq!(item("", "", EventKind::UsageOnly), None);
        assert_eq!(item("", "{}", EventKind::Content).as_deref(), Some("data: {}\n\n"));
    }
}
