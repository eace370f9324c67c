//! The chat routes of the three protocols: one handler, told apart by a row of [`Protocol`].
//!
//! The answer is a body or a stream in the caller's protocol; whether a provider of another one gave it shows nowhere here.

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, header},
    response::{IntoResponse, Response},
    routing::{MethodRouter, post},
};
use tokenhub_domain::{ChatSpec, DurabilityWish, ModelId, PlanSpec, RunId, RunKind, limits};
use tokenhub_telemetry::RequestKind;

use super::{
    Answers,
    entry::{self, Entry},
    open_stream::{self, StreamForm},
    previous_response,
    program::{self, ProgramChat},
    responses,
    run_request::{self, Naming},
    template_chat::{self, TemplateChat},
};
use crate::{
    dispatch::{Answered, Job, Origin, Readback},
    durability::{self, Delivery},
    error::Problem,
    idempotency::{self, Identity},
    parse::protocol as parse,
    protocol::Protocol,
    render::{self, RunHeaders},
    state::{AppState, Gate, Models, Runner},
    trace, validation,
};

/// The route of `protocol`.
pub(super) fn serve(protocol: &'static Protocol) -> MethodRouter<AppState> {
    post(
        move |State(gate): State<Gate>,
              State(models): State<Models>,
              State(runner): State<Runner>,
              request: Request| async move {
            let answered = answer(protocol, &gate, &models, &runner, request).await;
            let mut response = answered.unwrap_or_else(|problem| problem.into_response(protocol.shape));
            if response.extensions().get::<Answers>().is_none() {
                response.extensions_mut().insert(Answers(RequestKind::Chat));
            }
            response
        },
    )
}

async fn answer(
    protocol: &'static Protocol,
    gate: &Gate,
    models: &Models,
    runner: &Runner,
    request: Request,
) -> Result<Response, Problem> {
    let mut entry = entry::enter(gate, request, limits::PROTOCOL_BODY_BYTES).await?;
    let identity = entry.identity()?;
    let validation = validation::wish(&entry.headers)?;
    let mut parsed = parse::parse(protocol.dialect, std::mem::take(&mut entry.body), validation)?;
    if template_chat::is_meant(models, parsed.model.as_deref()) {
        return of_template(protocol, models, runner, &entry, (identity, parsed)).await;
    }
    let wish = durability::wish(&entry.headers, parsed.delivery)?;
    if let Some(program) = parsed.program {
        let chat = ProgramChat {
            protocol,
            program,
            model: parsed.model,
            model_param: "model",
            stream_param: "stream",
            ask: parsed.ask,
            delivery: parsed.delivery,
            wish,
            identity,
        };
        return program::answer(models, runner, &entry, chat).await;
    }
    if let Some(previous) = parsed.previous_response.take() {
        parsed.ask.original =
            previous_response::known_upstream(runner, &entry.caller, &previous, parsed.ask.original).await?;
    }
    let demands = parsed.ask.demands.clone();
    let background = parsed.delivery == Delivery::Background;
    let run_id = if background { RunId::generate_response() } else { RunId::generate_run() };
    let mut base = run_request::base(models, &entry, RunKind::Chat, run_id, parsed.ask, protocol);
    if background {
        base.deadline_ms = limits::RUN_DEADLINE_MS;
    }
    let catalogue = models.world.catalogue.load_full();
    if parsed.delivery == Delivery::Stream {
        idempotency::refuse_for_stream(&entry.headers)?;
    }
    let naming = Naming::of("model", parsed.model.as_deref(), &demands, &base);
    let model = run_request::named_model(&catalogue, &entry, &base, naming)?;
    let alias = model.as_ref().and_then(|choice| choice.alias.clone());
    let spec = ChatSpec { base, model, background };
    if parsed.delivery == Delivery::Stream {
        let form = StreamForm { protocol, usage_chunk: parsed.usage_chunk, wish };
        return open_stream::open(models, runner, &entry, spec, form).await;
    }
    let job = job_of(&entry, spec, wish, identity);
    if background {
        responses::begin(runner, job).await
    } else {
        whole(protocol, runner, &entry, job, alias.as_ref()).await
    }
}

/// A chat whose model is a template.
async fn of_template(
    protocol: &'static Protocol,
    models: &Models,
    runner: &Runner,
    entry: &Entry,
    (identity, parsed): (Option<Identity>, parse::ProtocolRequest),
) -> Result<Response, Problem> {
    if parsed.program.is_some() {
        return Err(Problem::invalid(
            "model",
            "is a template and cannot be combined with a directive that names a mode",
        ));
    }
    if parsed.previous_response.is_some() {
        return Err(Problem::invalid("previous_response_id", "cannot be combined with a template"));
    }
    let chat = TemplateChat {
        protocol,
        model: parsed.model.unwrap_or_default(),
        model_param: "model",
        ask: parsed.ask,
        delivery: parsed.delivery,
        usage_chunk: parsed.usage_chunk,
        identity,
    };
    template_chat::answer(models, runner, entry, chat).await
}

fn job_of(entry: &Entry, spec: ChatSpec, wish: DurabilityWish, identity: Option<Identity>) -> Job {
    let readback = if spec.background { Readback::Promised } else { Readback::Unpromised };
    entry.job(PlanSpec::Chat(spec), wish, identity, readback)
}

/// Waits for the answer, which goes out in one body.
async fn whole(
    protocol: &Protocol,
    runner: &Runner,
    entry: &Entry,
    job: Job,
    alias: Option<&ModelId>,
) -> Result<Response, Problem> {
    let answered = runner.dispatcher.answer(job).await?;
    let mut response = in_one_body(protocol, &answered);
    render::write_alias(response.headers_mut(), alias);
    trace::write(&mut response, &entry.headers, || trace::of_steps(&answered.outcome.steps));
    Ok(response)
}

fn in_one_body(protocol: &Protocol, answered: &Answered) -> Response {
    let headers = headers_of(answered);
    let mut response = match render::completion_body(&answered.outcome) {
        Ok(body) => ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], body).into_response(),
        Err(problem) => problem.into_response(protocol.shape),
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
