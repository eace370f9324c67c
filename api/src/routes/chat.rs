//! `POST /v1/chat`: the native form, with TokenHub's four fields around the provider's answer.

use axum::{
    Json,
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use tokenhub_domain::{ChatSpec, PlanSpec, RunId, RunKind};
use tokenhub_telemetry::RequestKind;

use super::{
    Answers, entry,
    open_stream::{self, StreamForm},
    program::{self, ProgramChat},
    protocol::headers_of,
    run_request::{self, Naming},
    template_chat::{self, TemplateChat},
};
use crate::{
    dispatch::Readback,
    durability::{self, Delivery},
    error::{Problem, Shape},
    idempotency,
    parse::{chat, plan::HINT, protocol::UsageChunk},
    protocol, render,
    state::{Gate, Models, Runner},
    trace, validation,
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
        Err(problem) => problem.into_response(Shape::Native),
    };
    if response.extensions().get::<Answers>().is_none() {
        response.extensions_mut().insert(Answers(RequestKind::Chat));
    }
    response
}

async fn answer(gate: &Gate, models: &Models, runner: &Runner, request: Request) -> Result<Response, Problem> {
    let entry = entry::enter(gate, request, tokenhub_domain::limits::PROTOCOL_BODY_BYTES).await?;
    let parsed = chat::parse(&entry.body, validation::wish(&entry.headers)?)?;
    if template_chat::is_meant(models, parsed.model.as_deref()) {
        return of_template(models, runner, &entry, parsed).await;
    }
    let wish = durability::wish(&entry.headers, parsed.delivery)?;
    if parsed.delivery == Delivery::Stream {
        idempotency::refuse_for_stream(&entry.headers)?;
    }
    let identity = entry.identity()?;
    if let Some(program) = parsed.program {
        let chat = ProgramChat {
            protocol: &protocol::NATIVE,
            program,
            model: parsed.model,
            model_param: HINT,
            stream_param: chat::STREAM,
            ask: parsed.ask,
            delivery: parsed.delivery,
            wish,
            identity,
        };
        return program::answer(models, runner, &entry, chat).await;
    }
    let demands = parsed.ask.demands.clone();
    let base = run_request::base(models, &entry, RunKind::Chat, RunId::generate_run(), parsed.ask, &protocol::NATIVE);
    let catalogue = models.world.catalogue.load_full();
    let naming = Naming::of(HINT, parsed.model.as_deref(), &demands, &base);
    let model = run_request::named_model(&catalogue, &entry, &base, naming)?;
    let alias = model.as_ref().and_then(|choice| choice.alias.clone());
    let spec = ChatSpec { base, model, background: false };
    if parsed.delivery == Delivery::Stream {
        // TokenHub clients read the provider's events as they are, usage included.
        let form = StreamForm { protocol: &protocol::NATIVE, usage_chunk: UsageChunk::Shown, wish };
        return open_stream::open(models, runner, &entry, spec, form).await;
    }
    let job = entry.job(PlanSpec::Chat(spec), wish, identity, Readback::Unpromised);
    let answered = runner.dispatcher.answer(job).await?;
    let mut headers = headers_of(&answered);
    render::write_alias(&mut headers, alias.as_ref());
    let mut response = match render::native_object(&answered.outcome) {
        Ok(object) => Json(object).into_response(),
        Err(problem) => problem.into_response(Shape::Native),
    };
    response.headers_mut().extend(headers);
    trace::write(&mut response, &entry.headers, || trace::of_steps(&answered.outcome.steps));
    Ok(response)
}

/// A chat whose model is a template.
async fn of_template(
    models: &Models,
    runner: &Runner,
    entry: &entry::Entry,
    parsed: chat::NativeRequest,
) -> Result<Response, Problem> {
    if parsed.program.is_some() {
        return Err(Problem::invalid(HINT, "is a template and cannot be combined with a directive that names a mode"));
    }
    let chat = TemplateChat {
        protocol: &protocol::NATIVE,
        model: parsed.model.unwrap_or_default(),
        model_param: HINT,
        ask: parsed.ask,
        delivery: parsed.delivery,
        // TokenHub clients read the events as they are, usage included.
        usage_chunk: UsageChunk::Shown,
        identity: entry.identity()?,
    };
    template_chat::answer(models, runner, entry, chat).await
}
