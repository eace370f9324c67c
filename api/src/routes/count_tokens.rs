//! `POST /v1/messages/count_tokens`: how many tokens a conversation has, estimated here. No provider is called and
//! nothing is spent.

use axum::{
    Json,
    extract::{Request, State},
    http::{HeaderName, HeaderValue},
    response::{IntoResponse, Response},
};
use serde_json::json;
use tokenhub_routing::Resolved;

use super::entry;
use crate::{
    error::{Problem, Shape},
    parse::count_tokens as parse,
    state::{Gate, Models},
};

/// Says that the number is not the provider's own.
const ESTIMATE: HeaderName = HeaderName::from_static("x-tokenhub-estimate");

/// The handler.
pub(super) async fn count(State(gate): State<Gate>, State(models): State<Models>, request: Request) -> Response {
    let counted = answer(&gate, &models, request).await;
    counted.unwrap_or_else(|problem| problem.into_response(Shape::Anthropic))
}

async fn answer(gate: &Gate, models: &Models, request: Request) -> Result<Response, Problem> {
    let entry = entry::enter(gate, request, tokenhub_domain::limits::PROTOCOL_BODY_BYTES).await?;
    let counted = parse::parse(entry.body)?;
    if let Some(model) = counted.model
        && tokenhub_routing::resolve_model(&models.world.catalogue.load(), &model) == Resolved::Unknown
    {
        return Err(Problem::UnknownModel { param: "model", model });
    }
    let body = Json(json!({"input_tokens": counted.input_tokens}));
    Ok(([(ESTIMATE, HeaderValue::from_static("true"))], body).into_response())
}
