//! Opens a streamed answer: no workflow, the ledger as for any call, the log when it is over.

use std::time::{Instant, SystemTime};

use axum::{http::HeaderMap, response::Response};
use bytes::Bytes;
use tokenhub_activities::stream::{self as upstream, StreamError, StreamRequest, TriedCall};
use tokenhub_domain::{
    ChatSpec, DurabilityMark, DurabilityWish, NanoDollars, ProviderFailure, RunContext, SelectRequest, ShortlistWish,
    StopReason, Text, TokenUsage, UnixMicros,
};
use tokenhub_telemetry::RequestKind;
use tokenhub_workflows::contract::StreamLog;
use tokio::sync::oneshot;

use super::{Answers, entry::Entry, run_request};
use crate::{
    error::{FailedRun, Problem},
    parse::protocol::UsageChunk,
    protocol::Protocol,
    render::{self, RunHeaders},
    request_id,
    state::{Models, Runner},
    stream::{self, Framing},
    trace,
};

/// How a stream goes out, and its log.
pub(super) struct StreamForm<'a> {
    /// The caller's protocol.
    pub(super) protocol: &'a Protocol,
    /// Whether the caller sees the usage chunk.
    pub(super) usage_chunk: UsageChunk,
    /// What is wished for the log; the stream itself is never durable.
    pub(super) wish: DurabilityWish,
}

/// Streams an answer in the form that is asked for.
pub(super) async fn open(
    models: &Models,
    runner: &Runner,
    entry: &Entry,
    spec: ChatSpec,
    form: StreamForm<'_>,
) -> Result<Response, Problem> {
    let StreamForm { protocol, usage_chunk, wish } = form;
    let alias = spec.model.as_ref().and_then(|choice| choice.alias.clone());
    let (run, request) = stream_request(models, spec)?;
    tracing::debug!(run = %run.run_id, request = %entry.request_id, "a stream is opened");
    let opened = upstream::open(&runner.world, &runner.tasks, &run, request).await;
    let mut headers = HeaderMap::new();
    RunHeaders { run_id: &run.run_id, workflow_id: None, mark: DurabilityMark::Stream }.write(&mut headers);
    match opened {
        Ok(open) => {
            render::write_deployment(&mut headers, &open.deployment.model, &open.deployment.provider);
            render::write_losses(&mut headers, &open.losses);
            render::write_alias(&mut headers, alias.as_ref());
            runner.dispatcher.log_stream(open.log, wish);
            let framing = Framing { dialect: protocol.dialect, usage_chunk, request_id: request_id::current() };
            let mut response = stream::response(open.first, open.items, framing, headers);
            trace::write(&mut response, &entry.headers, || trace::of_calls(&open.calls));
            response.extensions_mut().insert(Answers(RequestKind::Stream));
            Ok(response)
        }
        Err(StreamError::Failed(failure, calls)) => {
            let (log_in, log) = oneshot::channel();
            // The receiver is at hand, so it takes the line.
            let _ = log_in.send(log_of_failure(run, calls.last(), &failure, entry.arrival.0));
            runner.dispatcher.log_stream(log, wish);
            let mut response = failed(failure, StopReason::AllFailed).into_response(protocol.shape);
            response.headers_mut().extend(headers);
            trace::write(&mut response, &entry.headers, || trace::of_calls(&calls));
            Ok(response)
        }
        Err(StreamError::Fault(fault)) => {
            tracing::error!(fault = &fault as &dyn std::error::Error, "a stream could not be recorded");
            Err(Problem::StoreAway)
        }
    }
}

/// Whom to ask for what, or that there is nobody.
fn stream_request(models: &Models, spec: ChatSpec) -> Result<(RunContext, StreamRequest), Problem> {
    let base = spec.base;
    let needs = base.needs.clone();
    let wish =
        ShortlistWish { profile: base.policy.profile, model: spec.model, min_weight: 0, needs, apart_from: None };
    let select = SelectRequest { wishes: vec![wish], ..run_request::select_request(&base) };
    let shortlist = tokenhub_activities::shortlists(&models.world, &base.run, &select).pop().unwrap_or_default();
    if shortlist.candidates.is_empty() {
        let failure = tokenhub_orchestrate::no_eligible_model(&shortlist.skipped);
        return Err(failed(failure, StopReason::NoEligibleModel));
    }
    let Text::Inline(body) = base.original else { return Err(Problem::Internal) };
    let request = StreamRequest {
        candidates: shortlist.candidates,
        dialect: base.dialect,
        body: Bytes::from(body),
        forwarded: base.forwarded,
        estimated_input_tokens: base.estimated_input_tokens,
        deadline_ms: base.deadline_ms,
        hedge_after_ms: base.policy.hedge_after_ms,
        prefix: base.prefix,
    };
    Ok((base.run, request))
}

fn failed(failure: ProviderFailure, stop_reason: StopReason) -> Problem {
    Problem::RunFailed(Box::new(FailedRun { failure: Some(failure), stop_reason, ..FailedRun::default() }))
}

/// The log line of a stream that never began.
fn log_of_failure(run: RunContext, last: Option<&TriedCall>, failure: &ProviderFailure, arrival: Instant) -> StreamLog {
    let (model, provider) = last.map(|call| (call.deployment.model.clone(), call.deployment.provider.clone())).unzip();
    StreamLog {
        run,
        model,
        provider,
        usage: TokenUsage::default(),
        cost: NanoDollars::default(),
        latency_ms: u64::try_from(arrival.elapsed().as_millis()).unwrap_or(u64::MAX),
        error_class: Some(failure.class),
        ended_at: UnixMicros::from(SystemTime::now()),
    }
}
