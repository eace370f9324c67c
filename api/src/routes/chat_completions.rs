//! `POST /v1/chat/completions`: the OpenAI form. The answer is the provider's own, untouched.

use std::time::{Instant, SystemTime};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, header},
    response::{IntoResponse, Response},
};
use tokenhub_activities::stream::{self as upstream, StreamError, StreamRequest};
use tokenhub_domain::{
    ChatSpec, Deployment, DurabilityMark, NanoDollars, PlanSpec, ProviderFailure, RunContext, RunId, RunKind,
    ShortlistWish, StopReason, TokenUsage, UnixMicros,
};
use tokenhub_routing::Signals;
use tokenhub_telemetry::RequestKind;
use tokenhub_workflows::contract::StreamLog;
use tokio::sync::oneshot;

use super::{Answers, entry, entry::Entry, run_request};
use crate::{
    dispatch::{Answered, Job, Origin, Readback},
    durability::{self, Delivery},
    error::{FailedRun, Problem, Shape},
    idempotency,
    parse::completions::{self, UsageChunk},
    render::{self, RunHeaders},
    state::{Gate, Models, Runner},
    stream,
};

/// The handler.
pub(super) async fn create(
    State(gate): State<Gate>,
    State(models): State<Models>,
    State(runner): State<Runner>,
    request: Request,
) -> Response {
    let mut response = match answer(&gate, &models, &runner, request).await {
        Ok(response) => response,
        Err(problem) => problem.into_response(Shape::OpenAi),
    };
    if response.extensions().get::<Answers>().is_none() {
        response.extensions_mut().insert(Answers(RequestKind::Chat));
    }
    response
}

async fn answer(gate: &Gate, models: &Models, runner: &Runner, request: Request) -> Result<Response, Problem> {
    let entry = entry::enter(gate, request, tokenhub_domain::limits::PROTOCOL_BODY_BYTES).await?;
    let parsed = completions::parse(&entry.body)?;
    let base = run_request::base(models, &entry, RunKind::Chat, RunId::generate_run(), parsed.ask);
    let catalogue = models.world.catalogue.load_full();
    let wish = durability::wish(&entry.headers, parsed.delivery)?;
    if parsed.delivery == Delivery::Stream {
        idempotency::refuse_for_stream(&entry.headers)?;
    }
    let identity = entry.identity()?;
    let model = run_request::named_model(&catalogue, &base, "model", parsed.model.as_deref(), 0)?;
    let spec = ChatSpec { base, model };
    match parsed.delivery {
        Delivery::Stream => open_stream(models, runner, &entry, spec, parsed.usage_chunk).await,
        Delivery::Whole => {
            let job = Job { spec: PlanSpec::Chat(spec), wish, identity, readback: Readback::Unpromised };
            Ok(whole(&runner.dispatcher.answer(job).await?))
        }
    }
}

fn whole(answered: &Answered) -> Response {
    let headers = headers_of(answered);
    let mut response = match render::completion_body(&answered.outcome) {
        Ok(body) => ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], body).into_response(),
        Err(problem) => problem.into_response(Shape::OpenAi),
    };
    response.headers_mut().extend(headers);
    response
}

/// Everything that headers tell about a finished run.
pub(super) fn headers_of(answered: &Answered) -> HeaderMap {
    let mut headers = HeaderMap::new();
    RunHeaders { run_id: &answered.run_id, workflow_id: answered.workflow_id.as_ref(), mark: answered.mark }
        .write(&mut headers);
    render::write_outcome(&mut headers, &answered.outcome);
    match answered.origin {
        Origin::Fresh => {}
        Origin::Replayed => {
            headers.insert(render::REPLAYED, HeaderValue::from_static("true"));
        }
    }
    headers
}

/// Streams an answer: no workflow, the ledger as for any call, the log when it is over.
pub(super) async fn open_stream(
    models: &Models,
    runner: &Runner,
    entry: &Entry,
    spec: ChatSpec,
    usage_chunk: UsageChunk,
) -> Result<Response, Problem> {
    let base = spec.base;
    let wish = ShortlistWish { profile: base.policy.profile, model: spec.model, min_weight: 0 };
    let catalogue = models.world.catalogue.load_full();
    let select = run_request::select_request(&base);
    let shortlist = tokenhub_routing::shortlist(&catalogue, &wish, &select, &Signals::default());
    if shortlist.candidates.is_empty() {
        let failure = tokenhub_orchestrate::no_eligible_model(&shortlist.skipped);
        let stop_reason = StopReason::NoEligibleModel;
        let run = FailedRun { failure: Some(failure), stop_reason, ..FailedRun::default() };
        return Err(Problem::RunFailed(Box::new(run)));
    }
    let body = base.original.as_inline().map(str::to_owned).ok_or(Problem::Internal)?;
    let request = StreamRequest {
        candidates: shortlist.candidates,
        dialect: base.dialect,
        body: body.into(),
        forwarded: base.forwarded,
        estimated_input_tokens: base.estimated_input_tokens,
        deadline_ms: base.deadline_ms,
    };
    tracing::debug!(run = %base.run.run_id, request = %entry.request_id, "a stream is opened");
    let opened = upstream::open(&runner.world, &runner.tasks, &base.run, request).await;
    let mut headers = HeaderMap::new();
    RunHeaders { run_id: &base.run.run_id, workflow_id: None, mark: DurabilityMark::Stream }.write(&mut headers);
    match opened {
        Ok(open) => {
            render::write_deployment(&mut headers, &open.deployment.model, &open.deployment.provider);
            render::insert(&mut headers, render::NEGOTIATED_MODEL, open.deployment.model.as_str());
            runner.dispatcher.log_stream(open.log);
            let mut response = stream::response(open.items, usage_chunk, headers);
            response.extensions_mut().insert(Answers(RequestKind::Stream));
            Ok(response)
        }
        Err(StreamError::Failed(failure, deployment)) => {
            let (log_in, log) = oneshot::channel();
            // The receiver is at hand, so it takes the line.
            let _ = log_in.send(log_of_failure(base.run, deployment, &failure, entry.arrival.0));
            runner.dispatcher.log_stream(log);
            let stop_reason = StopReason::AllFailed;
            let run = FailedRun { failure: Some(failure), stop_reason, ..FailedRun::default() };
            Err(Problem::RunFailed(Box::new(run)))
        }
        Err(StreamError::Fault(fault)) => {
            tracing::error!(fault = &fault as &dyn std::error::Error, "a stream could not be recorded");
            Err(Problem::StoreAway)
        }
    }
}

/// The log line of a stream that never began.
fn log_of_failure(
    run: RunContext,
    deployment: Option<Deployment>,
    failure: &ProviderFailure,
    arrival: Instant,
) -> StreamLog {
    let (model, provider) = deployment.map(|one| (one.model, one.provider)).unzip();
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
