//! `POST /v1/embeddings`: OpenAI's form, answered in process unless durability is asked for.
//!
//! The same program as a chat carries it, so that tries, ledger and log are the same; only the call is another.

use axum::{
    extract::{Request, State},
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use tokenhub_domain::{
    Catalogue, ChatSpec, DurabilityWish, ModelChoice, Operation, PlanSpec, RunId, RunKind, SpecBase,
};
use tokenhub_telemetry::RequestKind;

use super::{
    Answers, entry, protocol,
    run_request::{self, Naming},
};
use crate::{
    dispatch::Readback,
    durability::{self, DURABILITY_HEADER, Delivery},
    error::{Problem, Shape},
    parse::embeddings as parse,
    protocol::CHAT,
    render,
    state::{Gate, Models, Runner},
};

/// The handler.
pub(super) async fn create(
    State(gate): State<Gate>,
    State(models): State<Models>,
    State(runner): State<Runner>,
    request: Request,
) -> Response {
    let answered = answer(&gate, &models, &runner, request).await;
    let mut response = answered.unwrap_or_else(|problem| problem.into_response(Shape::OpenAi));
    response.extensions_mut().insert(Answers(RequestKind::Chat));
    response
}

/// Vectors of two models cannot be compared, so nobody stands in and nothing is split.
fn alone(catalogue: &Catalogue, choice: ModelChoice) -> Result<ModelChoice, Problem> {
    let alias = catalogue.aliases.iter().find(|alias| choice.alias.as_ref() == Some(&alias.name));
    if alias.is_some_and(|alias| alias.variants.len() > 1) {
        return Err(Problem::invalid("model", "is an alias of several models, whose vectors cannot be compared"));
    }
    Ok(ModelChoice { fallbacks: Vec::new(), ..choice })
}

async fn answer(gate: &Gate, models: &Models, runner: &Runner, request: Request) -> Result<Response, Problem> {
    let mut entry = entry::enter(gate, request, tokenhub_domain::limits::PROTOCOL_BODY_BYTES).await?;
    let identity = entry.identity()?;
    let parsed = parse::parse(std::mem::take(&mut entry.body))?;
    let wish = if entry.headers.contains_key(DURABILITY_HEADER) {
        durability::wish(&entry.headers, Delivery::Whole)?
    } else {
        // Vectors cost little and are asked for by the thousand.
        DurabilityWish::None
    };
    let base = run_request::base(models, &entry, RunKind::Chat, RunId::generate_run(), parsed.ask, &CHAT);
    let base = SpecBase { operation: Operation::Embeddings, ..base };
    let catalogue = models.world.catalogue.load_full();
    let naming = Naming { param: "model", name: Some(&parsed.model), ..Naming::default() };
    let model = run_request::named_model(&catalogue, &entry, &base, naming)?.map(|choice| alone(&catalogue, choice));
    let model = model.transpose()?;
    let alias = model.as_ref().and_then(|choice| choice.alias.clone());
    let spec = PlanSpec::Chat(ChatSpec { base, model, background: false });
    let job = entry.job(spec, wish, identity, Readback::Unpromised);
    let answered = runner.dispatcher.answer(job).await?;
    let body = render::completion_body(&answered.outcome)?;
    let mut response = ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], body).into_response();
    response.headers_mut().extend(protocol::headers_of(&answered));
    render::write_alias(response.headers_mut(), alias.as_ref());
    Ok(response)
}
