//! `POST /v1/plan` runs a program. What happens to it afterwards is in [`super::plan_later`].

use axum::{
    Json,
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use tokenhub_domain::{DurabilityMark, EventKeeping, Outcome, PlanSpec, RunStatus, Urgency, Webhook, limits};
use tokenhub_store::SignalRow;

use super::{
    Answers,
    entry::{self, Entry},
    plan_events,
    plan_later::{self, End},
    plan_spec::{counted_as, kind_of, spec_of},
    protocol::headers_of,
    template_use,
};
use crate::{
    dispatch::{self, Answered, Job, Readback},
    durability::{self, Delivery},
    error::{Problem, Shape, TemplateRefusal},
    parse::{
        self,
        plan::{Hearing, PlanRequest, hearing},
    },
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
    let wish = durability::wish(&entry.headers, Delivery::Whole)?;
    let identity = entry.identity()?;
    let Asked { spec, hearing, webhook } =
        match template_use::plan_of(&models.world, &entry, validation::wish(&entry.headers)?).await {
            Ok(parsed) => new_plan(models, &entry, parsed)?,
            // What was made of it before has all that it needs.
            Err(gone @ Problem::Template(TemplateRefusal::NotFound { .. })) => {
                let spec = template_use::made_before(&models.world, &entry, identity.as_ref()).await?;
                Asked { spec: spec.ok_or(gone)?, hearing: hearing(&parse::object(&entry.body)?)?, webhook: None }
            }
            Err(problem) => return Err(problem),
        };
    let counted = counted_as(spec.kind());
    let job = Job { webhook, ..entry.job(spec, wish, identity, Readback::Promised) };
    let mut response = answer_job(runner, job, hearing).await;
    response.extensions_mut().insert(Answers(counted));
    Ok(response)
}

/// A plan, and how its caller wants to hear of it.
struct Asked {
    spec: PlanSpec,
    hearing: Hearing,
    webhook: Option<Webhook>,
}

fn new_plan(models: &Models, entry: &Entry, mut parsed: PlanRequest) -> Result<Asked, Problem> {
    let webhook = webhooks::accept(&models.live.settings().webhooks, parsed.webhook.take())?;
    let (kind, hearing) = (kind_of(&parsed.program), parsed.hearing);
    let mut spec = spec_of(models, entry, kind, parsed)?;
    spec.base_mut().run.events = EventKeeping::Kept;
    Ok(Asked { spec, hearing, webhook })
}

/// Carries out a plan and answers when and how its caller wants to hear of it.
pub(super) async fn answer_job(runner: &Runner, mut job: Job, hearing: Hearing) -> Response {
    let share = &mut job.spec.base_mut().run.share;
    *share = match hearing {
        Hearing::AtTheEnd | Hearing::Streaming => *share,
        Hearing::Within(_) => share.at_most(Urgency::Background),
    };
    let alias = job.spec.alias().cloned();
    let answered = match hearing {
        // A person may take days: whoever waits hears of the question.
        Hearing::AtTheEnd if job.spec.base().approval.is_some() => {
            let deadline_ms = job.spec.base().deadline_ms;
            plan_later::begin(runner, job, deadline_ms, End::Awaited).await
        }
        Hearing::AtTheEnd => answer_at_the_end(runner, job).await,
        Hearing::Within(wait_ms) => plan_later::begin(runner, job, wait_ms, End::Read).await,
        Hearing::Streaming => plan_events::begin(runner, job).await,
    };
    match answered {
        Ok(mut response) => {
            render::write_alias(response.headers_mut(), alias.as_ref());
            response
        }
        Err(problem) => problem.into_response(Shape::Problem),
    }
}

async fn answer_at_the_end(runner: &Runner, job: Job) -> Result<Response, Problem> {
    let tenant = job.spec.base().run.tenant.clone();
    let answered = runner.dispatcher.answer(job).await?;
    // The answer is there, and worth more than what was asked on the way to it.
    let signals = dispatch::read_signals(&runner.world, &tenant, &answered.run_id).await.unwrap_or_default();
    Ok(respond(runner, &answered, &signals))
}

fn respond(runner: &Runner, answered: &Answered, signals: &[SignalRow]) -> Response {
    let mut object = render::plan_object(
        Identity {
            run_id: &answered.run_id,
            workflow_id: answered.workflow_id.as_ref(),
            is_durable: answered.mark == DurabilityMark::Durable,
            temporal_ui: temporal_ui(runner),
            labels: &answered.labels,
        },
        &answered.outcome,
    );
    render::write_signals(&mut object, signals);
    let mut response = if has_no_answer(&answered.outcome) {
        render::failed(&answered.outcome, object).into_response(Shape::Problem)
    } else {
        Json(object).into_response()
    };
    response.headers_mut().extend(headers_of(answered));
    response
}

/// What a run has that was stopped, or whose answer somebody refused, is shown.
pub(super) fn has_no_answer(outcome: &Outcome) -> bool {
    !outcome.status.is_answered() && (outcome.status != RunStatus::Cancelled || outcome.answer.is_none())
}

/// Root and namespace of the Temporal UI.
pub(super) fn temporal_ui(runner: &Runner) -> Option<(&str, &str)> {
    runner.temporal_ui.as_deref().map(|(root, namespace)| (root.as_str(), namespace.as_str()))
}
