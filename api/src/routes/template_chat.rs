//! A chat whose model is a template, `plan/<name>` or `plan/<name>@<version>`: the plan is asked for as by
//! `POST /v1/plan`, and its answer goes out as a chat's would, whole or streamed.
//!
//! A model or an alias of the same name goes first, so a template hides nothing that was there before.

use axum::response::Response;
use serde_json::{Map, Value, json};
use tokenhub_domain::{Capability, EventKeeping, PlanSpec, Webhook};
use tokenhub_routing::Resolved;

use super::{
    Answers,
    entry::Entry,
    plan_spec::{counted_as, kind_of, spec_of},
    program_answer::{self, ShownModel},
    program_stream::{self, PlanStream},
    protocol::headers_of,
    template_use::{self, Found},
};
use crate::{
    dispatch::{Job, Readback},
    durability::{self, Delivery},
    error::Problem,
    idempotency::Identity,
    parse::{
        Ask,
        plan::{self, PlanRequest},
        protocol::UsageChunk,
        template,
    },
    protocol::Protocol,
    render,
    state::{Models, Runner},
    trace,
    validation::{self, Validation},
    webhooks,
};

/// A chat that asks for a template.
pub(super) struct TemplateChat {
    pub(super) protocol: &'static Protocol,
    /// The name that was asked for, and where.
    pub(super) model: String,
    pub(super) model_param: &'static str,
    pub(super) ask: Ask,
    pub(super) delivery: Delivery,
    pub(super) usage_chunk: UsageChunk,
    pub(super) identity: Option<Identity>,
}

/// Whether this is the name of a template and of nothing in the catalogue.
pub(super) fn is_meant(models: &Models, name: Option<&str>) -> bool {
    name.is_some_and(|name| {
        name.starts_with(template::MODEL_PREFIX)
            && tokenhub_routing::resolve_model(&models.world.catalogue.load(), name) == Resolved::Unknown
    })
}

/// Runs the template and answers in the form of the chat's protocol.
pub(super) async fn answer(
    models: &Models,
    runner: &Runner,
    entry: &Entry,
    chat: TemplateChat,
) -> Result<Response, Problem> {
    if chat.delivery == Delivery::Background {
        return Err(Problem::invalid("background", "a template runs in the background by POST /v1/plan only"));
    }
    if chat.ask.demands.needs.contains(&Capability::Tools) {
        return Err(Problem::invalid("tools", "cannot be combined with a template: one model is to call them"));
    }
    // The plan itself is no stream, and as durable as any other.
    let wish = durability::wish(&entry.headers, Delivery::Whole)?;
    let (spec, webhook) = match find(models, entry, &chat).await? {
        Some(found) => new_plan(models, entry, &chat, found)?,
        None => match template_use::made_before(&models.world, entry, chat.identity.as_ref()).await? {
            Some(spec) => (spec, None),
            None => return Err(Problem::UnknownModel { param: chat.model_param, model: chat.model }),
        },
    };
    let pin = spec.base().run.labels.template.as_ref();
    let shown = pin.map_or(chat.model, |pin| format!("{}{}@{}", template::MODEL_PREFIX, pin.name, pin.version));
    let counted = counted_as(spec.kind());
    let job = Job { webhook, ..entry.job(spec, wish, chat.identity, Readback::Promised) };
    let mut response = match chat.delivery {
        Delivery::Stream => {
            let form = PlanStream { protocol: chat.protocol, usage_chunk: chat.usage_chunk, model: shown };
            program_stream::open(runner, job, form).await?
        }
        Delivery::Whole | Delivery::Background => whole(runner, entry, chat.protocol, job, &shown).await?,
    };
    response.extensions_mut().insert(Answers(counted));
    Ok(response)
}

async fn find(models: &Models, entry: &Entry, chat: &TemplateChat) -> Result<Option<Found>, Problem> {
    match chat.model.strip_prefix(template::MODEL_PREFIX).and_then(template::reference) {
        Some(reference) => template_use::find(&models.world, &entry.caller.tenant, &reference).await,
        None => Ok(None),
    }
}

/// The run that is asked for, and who is told of its end.
fn new_plan(
    models: &Models,
    entry: &Entry,
    chat: &TemplateChat,
    found: Found,
) -> Result<(PlanSpec, Option<Webhook>), Problem> {
    let mut plan = plan_of(chat, found, validation::wish(&entry.headers)?)?;
    if plan.approval.is_some() {
        return Err(Problem::invalid(chat.model_param, "the template waits for an approval: use POST /v1/plan"));
    }
    let webhook = webhooks::accept(&models.live.settings().webhooks, plan.webhook.take())?;
    let kind = kind_of(&plan.program);
    let mut spec = spec_of(models, entry, kind, plan)?;
    spec.base_mut().run.events = EventKeeping::Kept;
    Ok((spec, webhook))
}

async fn whole(
    runner: &Runner,
    entry: &Entry,
    protocol: &'static Protocol,
    job: Job,
    shown: &str,
) -> Result<Response, Problem> {
    let answered = runner.dispatcher.answer(job).await?;
    let body = program_answer::whole(protocol, &answered, ShownModel::Template(shown));
    let mut response = body.unwrap_or_else(|problem| problem.into_response(protocol.shape));
    response.headers_mut().extend(headers_of(&answered));
    render::write_plan_status(response.headers_mut(), &answered.outcome);
    trace::write(&mut response, &entry.headers, || trace::of_steps(&answered.outcome.steps));
    Ok(response)
}

/// The plan that the template makes of the chat.
fn plan_of(chat: &TemplateChat, found: Found, validation: Validation) -> Result<PlanRequest, Problem> {
    let original = program_answer::in_chat(chat.protocol.dialect, chat.ask.original.clone())?;
    let mut parameters: Map<String, Value> =
        serde_json::from_str(&original).map_err(|error| Problem::ParseBody(error.to_string()))?;
    let messages = parameters.shift_remove("messages");
    let template = without_replaced_schema(found.body, &parameters)?;
    let own = Map::from_iter([("request".to_owned(), json!({"messages": messages, "parameters": parameters}))]);
    let mut plan = plan::parse(&template::overlay(&template, own)?, validation)?;
    plan.labels.template = Some(found.pin);
    follow(&mut plan.ask, &chat.ask);
    Ok(plan)
}

/// A chat says its schema in a parameter, which takes the place of the template's as that of a plan does.
fn without_replaced_schema(
    mut template: Map<String, Value>,
    parameters: &Map<String, Value>,
) -> Result<Map<String, Value>, Problem> {
    const FORMAT: &str = "response_format";
    let has_schema = parameters.get(FORMAT).is_some_and(|format| format.get("json_schema").is_some());
    if !has_schema {
        return Ok(template);
    }
    if template.get("strategy").and_then(|strategy| strategy.get("output_schema")).is_some_and(|it| !it.is_null()) {
        return Err(Problem::invalid(FORMAT, "cannot replace the schema of the template's strategy"));
    }
    for (outer, inner) in [("request", "output_schema"), ("output_format", "schema")] {
        if let Some(fields) = template.get_mut(outer).and_then(Value::as_object_mut) {
            fields.shift_remove(inner);
        }
    }
    Ok(template)
}

/// What directives of the chat and its own fields say beside its body.
fn follow(ask: &mut Ask, said: &Ask) {
    let (policy, own) = (&mut ask.policy, &said.policy);
    policy.profile = own.profile.or(policy.profile);
    policy.max_budget = own.max_budget.into_iter().chain(policy.max_budget).min();
    policy.max_latency_ms = own.max_latency_ms.into_iter().chain(policy.max_latency_ms).min();
    policy.min_weight = own.min_weight.max(policy.min_weight);
    ask.output.format = said.output.format.or(ask.output.format);
    ask.output.strip_think |= said.output.strip_think;
    if said.output.schema.is_some() {
        ask.output.schema.clone_from(&said.output.schema);
        ask.output.on_mismatch = said.output.on_mismatch;
    }
    ask.demands.models.clone_from(&said.demands.models);
    ask.demands.user.clone_from(&said.demands.user);
    // The calls of a plan need no stream, however its answer goes out.
    for need in said.demands.needs.iter().filter(|need| **need != Capability::Streaming) {
        if !ask.demands.needs.contains(need) {
            ask.demands.needs.push(*need);
        }
    }
}
