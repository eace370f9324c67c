//! `POST /v1/plan` runs a program. What happens to it afterwards is in [`super::plan_later`].

use axum::{
    Json,
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use tokenhub_domain::{
    AdversarialSpec, BestOfNSpec, ChatSpec, DurabilityMark, Outcome, PlanSpec, RefineSpec, RoutingProfile, RunId,
    RunKind, RunStatus, VoteSpec, limits,
};
use tokenhub_telemetry::RequestKind;

use super::{
    Answers, entry, plan_later,
    protocol::headers_of,
    run_request::{self, Naming},
};
use crate::{
    dispatch::{Answered, Job, Readback},
    durability::{self, Delivery},
    error::{Problem, Shape},
    parse::plan::{self, ChatProfile, Hearing, Named, PRIMARY, PlanRequest, Program},
    protocol,
    render::{self, Identity},
    state::{Gate, Models, Runner},
    validation, webhooks,
};

/// Runs a program.
pub(super) async fn create(
    State(gate): State<Gate>,
    State(models): State<Models>,
    State(runner): State<Runner>,
    request: Request,
) -> Response {
    match answer(&gate, &models, &runner, request).await {
        Ok(response) => response,
        Err(problem) => problem.into_response(Shape::Problem),
    }
}

async fn answer(gate: &Gate, models: &Models, runner: &Runner, request: Request) -> Result<Response, Problem> {
    let entry = entry::enter(gate, request, limits::PLAN_BODY_BYTES).await?;
    let mut parsed = plan::parse(&entry.body, validation::wish(&entry.headers)?)?;
    let webhook = webhooks::accept(&models.live.settings().webhooks, parsed.webhook.take())?;
    let wish = durability::wish(&entry.headers, Delivery::Whole)?;
    let identity = entry.identity()?;
    let kind = kind_of(&parsed.program);
    let counted = counted_as(&parsed.program);
    let hearing = parsed.hearing;
    let spec = spec_of(models, &entry, kind, parsed)?;
    let alias = spec.alias().cloned();
    let job = Job { spec, wish, identity, readback: Readback::Promised, webhook };
    if let Hearing::Within(wait_ms) = hearing {
        let mut response = plan_later::begin(runner, job, wait_ms).await?;
        render::write_alias(response.headers_mut(), alias.as_ref());
        response.extensions_mut().insert(Answers(counted));
        return Ok(response);
    }
    let answered = runner.dispatcher.answer(job).await;
    let mut response = match answered {
        Ok(answered) => {
            let mut response = respond(runner, &answered);
            render::write_alias(response.headers_mut(), alias.as_ref());
            response
        }
        Err(problem) => problem.into_response(Shape::Problem),
    };
    response.extensions_mut().insert(Answers(counted));
    Ok(response)
}

fn respond(runner: &Runner, answered: &Answered) -> Response {
    let object = render::plan_object(
        Identity {
            run_id: &answered.run_id,
            workflow_id: answered.workflow_id.as_ref(),
            is_durable: answered.mark == DurabilityMark::Durable,
            temporal_ui: temporal_ui(runner),
        },
        &answered.outcome,
    );
    let mut response = if has_no_answer(&answered.outcome) {
        render::failed(&answered.outcome, object).into_response(Shape::Problem)
    } else {
        Json(object).into_response()
    };
    response.headers_mut().extend(headers_of(answered));
    response
}

fn has_no_answer(outcome: &Outcome) -> bool {
    match outcome.status {
        RunStatus::Failed => true,
        RunStatus::Cancelled => outcome.answer.is_none(),
        RunStatus::Pending | RunStatus::Running | RunStatus::Completed | RunStatus::CompletedPartial => false,
    }
}

/// Root and namespace of the Temporal UI.
pub(super) fn temporal_ui(runner: &Runner) -> Option<(&str, &str)> {
    runner.temporal_ui.as_deref().map(|(root, namespace)| (root.as_str(), namespace.as_str()))
}

/// The kind of run that carries a program.
pub(super) fn kind_of(program: &Program) -> RunKind {
    match program {
        Program::Chat { .. } => RunKind::Chat,
        Program::Adversarial { .. } => RunKind::Adversarial,
        Program::Vote { .. } => RunKind::Vote,
        Program::Refine { .. } => RunKind::Refine,
        Program::BestOfN { .. } => RunKind::BestOfN,
    }
}

/// What a program is counted as.
pub(super) fn counted_as(program: &Program) -> RequestKind {
    match program {
        Program::Chat { .. } => RequestKind::Planning,
        Program::Adversarial { .. } => RequestKind::Adversarial,
        Program::Vote { .. } => RequestKind::Vote,
        Program::Refine { .. } => RequestKind::Refine,
        Program::BestOfN { .. } => RequestKind::BestOfN,
    }
}

/// The specification of a plan, its models looked up.
pub(super) fn spec_of(
    models: &Models,
    entry: &entry::Entry,
    kind: RunKind,
    mut request: PlanRequest,
) -> Result<PlanSpec, Problem> {
    if request.program == (Program::Chat { profile: ChatProfile::Planning }) {
        request.ask.policy.profile.get_or_insert(RoutingProfile::Planning);
    }
    let demands = request.ask.demands.clone();
    let base = run_request::base(models, entry, kind, RunId::generate_plan(), request.ask, &protocol::PLAN);
    let catalogue = models.world.catalogue.load_full();
    let find = |named: Option<&Named>, naming: Naming<'_>| {
        let param = named.map_or(PRIMARY, |named| named.param);
        let name = named.map(|named| named.model.as_str());
        run_request::named_model(&catalogue, entry, &base, Naming { param, name, ..naming })
    };
    let answering = Naming::of(PRIMARY, None, &demands, &base);
    let primary = Naming { min_weight: request.primary_min_weight, ..answering };
    let review = Naming { min_weight: request.review_min_weight, needs: &[], listed: &[], ..answering };
    let primary_model = find(request.primary.as_ref(), primary)?;
    let review_model = find(request.review.as_ref(), review)?;
    let (primary_min_weight, review_min_weight) = (request.primary_min_weight, request.review_min_weight);
    Ok(match request.program {
        Program::Chat { .. } => {
            let mut base = base;
            base.policy.min_weight = base.policy.min_weight.max(primary_min_weight);
            PlanSpec::Chat(ChatSpec { base, model: primary_model, background: false })
        }
        Program::Adversarial { rounds, return_plan_only } => PlanSpec::Adversarial(AdversarialSpec {
            base,
            rounds,
            primary_model,
            review_model,
            primary_min_weight,
            review_min_weight,
            return_plan_only,
        }),
        Program::Vote { voters, method, judge_votes, parallelism, stop } => PlanSpec::Vote(VoteSpec {
            parallelism,
            stop,
            base,
            voters,
            method,
            judge_model: review_model,
            voter_min_weight: primary_min_weight,
            judge_min_weight: review_min_weight,
            judge_votes,
        }),
        Program::Refine { rounds } => PlanSpec::Refine(RefineSpec { base, rounds, primary_model, primary_min_weight }),
        Program::BestOfN { candidates } => PlanSpec::BestOfN(BestOfNSpec {
            base,
            candidates,
            primary_model,
            judge_model: review_model,
            primary_min_weight,
            judge_min_weight: review_min_weight,
        }),
    })
}
