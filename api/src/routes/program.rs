//! A chat whose directive asks for a program: the plan runs, and its answer goes out as a chat's would.
//!
//! Programs work on conversations in the form of Chat Completions, so the other protocols are converted on the way in and
//! the answer on the way out. Ballots, rounds and costs are read with `GET /v1/plan/{id}`, under the id of the run.

use axum::response::Response;
use tokenhub_domain::{Capability, Deltas, DurabilityWish, Labels, StopRule, limits};
use tokenhub_formats::Program as Asked;

use super::{
    Answers,
    entry::Entry,
    plan_spec::{counted_as, kind_of, spec_of},
    program_answer::{self, ShownModel},
    protocol::headers_of,
};
use crate::{
    dispatch::Readback,
    durability::Delivery,
    error::Problem,
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
    chat.ask.original = program_answer::in_chat(chat.protocol.dialect, chat.ask.original)?;
    let program = program_of(chat.program);
    let kind = kind_of(&program);
    let counted = counted_as(kind);
    let (named, param) = (chat.model.clone(), chat.model_param);
    let request = PlanRequest {
        hearing: Hearing::AtTheEnd,
        deltas: Deltas::None,
        program,
        ask: chat.ask,
        primary: chat.model.map(|model| Named { param, model }),
        review: None,
        models: Vec::new(),
        check: None,
        primary_min_weight: 0,
        review_min_weight: 0,
        bounds: RunBounds::default(),
        webhook: None,
        approval: None,
        labels: Labels::default(),
    };
    let spec = spec_of(models, entry, kind, request)?;
    let alias = spec.alias().cloned();
    let job = entry.job(spec, chat.wish, chat.identity, Readback::Promised);
    let answered = runner.dispatcher.answer(job).await?;
    let mut headers = headers_of(&answered);
    render::write_alias(&mut headers, alias.as_ref());
    let body = program_answer::whole(chat.protocol, &answered, ShownModel::Author { named: named.as_deref() });
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
            min_success: None,
            grace_ms: None,
        },
        Asked::Refine => Program::Refine { rounds: limits::REFINE_ROUNDS_DEFAULT },
        Asked::BestOfN => Program::BestOfN {
            candidates: limits::VOTERS_DEFAULT,
            method: tokenhub_domain::RankMethod::default(),
            parallelism: None,
        },
    }
}
