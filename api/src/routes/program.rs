//! A chat whose directive asks for a program: the plan runs, and its answer goes out as a chat's would.
//!
//! Programs work on conversations in the form of Chat Completions, so the other protocols are converted on the way in and
//! the answer on the way out. Ballots, rounds and costs are read with `GET /v1/plan/{id}`, under the id of the run.

use axum::{
    Json,
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use serde_json::{Map, Value, json};
use tokenhub_domain::{AttemptId, Capability, Dialect, DurabilityWish, ModelId, Outcome, StopRule, limits};
use tokenhub_formats::Program as Asked;
use tokenhub_providers::convert::{self, Abilities, ConvertError, Issuer, ReplyContext, Target};

use super::{
    Answers,
    entry::Entry,
    plan_spec::{counted_as, kind_of, spec_of},
    protocol::headers_of,
};
use crate::{
    dispatch::{Answered, Job, Readback},
    durability::Delivery,
    error::{Problem, Shape},
    idempotency::Identity,
    parse::{
        Ask, RunBounds,
        plan::{Hearing, Named, PlanRequest, Program},
    },
    protocol::Protocol,
    render,
    state::{Models, Runner},
    trace,
};

/// A chat that a program answers.
pub(super) struct ProgramChat {
    pub(super) protocol: &'static Protocol,
    pub(super) program: Asked,
    /// The model that was named, and where.
    pub(super) model: Option<String>,
    pub(super) model_param: &'static str,
    pub(super) stream_param: &'static str,
    pub(super) ask: Ask,
    pub(super) delivery: Delivery,
    pub(super) wish: DurabilityWish,
    pub(super) identity: Option<Identity>,
}

/// Runs the program and answers in the form of the chat's protocol.
pub(super) async fn answer(
    models: &Models,
    runner: &Runner,
    entry: &Entry,
    mut chat: ProgramChat,
) -> Result<Response, Problem> {
    let refused =
        |param: &str, how: &str| Problem::invalid(param, format!("`mode={}` cannot be {how}", chat.program.as_str()));
    match chat.delivery {
        Delivery::Whole => {}
        Delivery::Stream => return Err(refused(chat.stream_param, "streamed")),
        Delivery::Background => return Err(refused("background", "run in the background")),
    }
    if chat.ask.demands.needs.contains(&Capability::Tools) {
        return Err(refused("tools", "combined with tools, which one model is to call"));
    }
    chat.ask.original = in_chat(chat.protocol.dialect, chat.ask.original)?;
    let program = program_of(chat.program);
    let kind = kind_of(&program);
    let counted = counted_as(kind);
    let (named, param) = (chat.model.clone(), chat.model_param);
    let request = PlanRequest {
        hearing: Hearing::AtTheEnd,
        program,
        ask: chat.ask,
        primary: chat.model.map(|model| Named { param, model }),
        review: None,
        primary_min_weight: 0,
        review_min_weight: 0,
        bounds: RunBounds::default(),
        webhook: None,
        approval: None,
    };
    let spec = spec_of(models, entry, kind, request)?;
    let alias = spec.alias().cloned();
    let job = Job { spec, wish: chat.wish, identity: chat.identity, readback: Readback::Promised, webhook: None };
    let answered = runner.dispatcher.answer(job).await?;
    let mut headers = headers_of(&answered);
    render::write_alias(&mut headers, alias.as_ref());
    let body = body_of(chat.protocol, &answered, named.as_deref());
    let mut response = body.unwrap_or_else(|problem| problem.into_response(chat.protocol.shape));
    response.headers_mut().extend(headers);
    trace::write(&mut response, &entry.headers, || trace::of_steps(&answered.outcome.steps));
    response.extensions_mut().insert(Answers(counted));
    Ok(response)
}

/// The program in its default size.
fn program_of(asked: Asked) -> Program {
    match asked {
        Asked::Adversarial => {
            Program::Adversarial { rounds: limits::ADVERSARIAL_ROUNDS_DEFAULT, return_plan_only: false }
        }
        Asked::Vote => Program::Vote {
            parallelism: None,
            stop: StopRule::All,
            voters: limits::VOTERS_DEFAULT,
            method: tokenhub_domain::VoteMethod::default(),
            judge_votes: false,
        },
        Asked::Refine => Program::Refine { rounds: limits::REFINE_ROUNDS_DEFAULT },
        Asked::BestOfN => {
            Program::BestOfN { candidates: limits::VOTERS_DEFAULT, method: tokenhub_domain::RankMethod::default() }
        }
    }
}

/// The request in the form that programs work on.
fn in_chat(dialect: Dialect, body: String) -> Result<String, Problem> {
    if dialect == Dialect::Chat {
        return Ok(body);
    }
    let body: Map<String, Value> =
        serde_json::from_str(&body).map_err(|error| Problem::ParseBody(error.to_string()))?;
    let target = Target { issuer: nobody(), max_output_tokens: None, abilities: Abilities::default() };
    let converted = convert::request(dialect, Dialect::Chat, &body, &target).map_err(|error| match error {
        ConvertError::Invalid { param, reason } => Problem::invalid(param, reason),
        ConvertError::Reply(_) => Problem::Internal,
    })?;
    Ok(Value::Object(converted.body).to_string())
}

/// Reasoning of earlier turns is signed for one model, and several are going to read the conversation.
fn nobody() -> Issuer {
    Issuer { provider: "".into(), model: "".into() }
}

fn body_of(protocol: &Protocol, answered: &Answered, named: Option<&str>) -> Result<Response, Problem> {
    let outcome = &answered.outcome;
    let text = render::chosen_text(outcome).ok_or_else(|| render::failed(outcome, Map::new()))?;
    let completion = completion(answered, text);
    if protocol.shape == Shape::Native {
        return Ok(Json(render::native_around(outcome, completion)).into_response());
    }
    let model = outcome.negotiated_model.as_ref().map_or("", ModelId::as_str);
    let context = ReplyContext {
        attempt: AttemptId::from(answered.run_id.as_str()),
        model: named.unwrap_or(model).to_owned(),
        created_secs: created_secs(),
        issuer: nobody(),
        tool_names: convert::ToolNames::default(),
        free_form_tools: std::collections::BTreeSet::default(),
    };
    let reply = convert::reply(Dialect::Chat, protocol.dialect, &completion, &context);
    let body = reply.map_err(|_| Problem::Internal)?.body;
    let json = [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))];
    Ok((json, Value::Object(body).to_string()).into_response())
}

/// The answer of a program as one model's. The counts are the sum of everything that was bought for it.
fn completion(answered: &Answered, text: &str) -> Value {
    let Outcome { usage, negotiated_model, .. } = &answered.outcome;
    json!({
        "id": format!("chatcmpl-{}", answered.run_id),
        "object": "chat.completion",
        "created": created_secs(),
        "model": negotiated_model,
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": {
            "prompt_tokens": usage.input_tokens,
            "completion_tokens": usage.output_tokens,
            "total_tokens": usage.input_tokens + usage.output_tokens,
        },
    })
}

fn created_secs() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}
