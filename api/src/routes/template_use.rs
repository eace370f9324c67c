//! A plan that is made from a template: the stored version is looked up once, and what it says becomes part of the plan.
//!
//! From then on the run needs the template no more, and keeps its version and hash as labels.

use serde_json::{Map, Value};
use tokenhub_activities::World;
use tokenhub_domain::{PlanSpec, RunId, TemplatePin, TenantId};
use tokenhub_store::{StoreError, TemplateRow};

use super::entry::Entry;
use crate::{
    error::{Problem, TemplateRefusal},
    idempotency::Identity,
    parse::{
        self,
        plan::{self, PlanRequest},
        template::{self, Reference},
    },
    validation::Validation,
};

/// A template that was found.
pub(super) struct Found {
    pub(super) pin: TemplatePin,
    pub(super) body: Map<String, Value>,
}

/// The plan in the body of a request, completed by the template that it names.
pub(super) async fn plan_of(world: &World, entry: &Entry, validation: Validation) -> Result<PlanRequest, Problem> {
    let mut body = parse::object(&entry.body)?;
    let Some(reference) = template::named(&mut body)? else { return plan::parse(&body, validation) };
    let found = find(world, &entry.caller.tenant, &reference).await?;
    let found = found.ok_or_else(|| not_found(&reference, Some(template::TEMPLATE)))?;
    let mut plan = plan::parse(&template::overlay(&found.body, body)?, validation)?;
    plan.labels.template = Some(found.pin);
    Ok(plan)
}

/// The plan that the same request has brought about while its template was there. One that may be carried out once more
/// would be a new plan, and needs its template.
pub(super) async fn made_before(
    world: &World,
    entry: &Entry,
    identity: Option<&Identity>,
) -> Result<Option<PlanSpec>, Problem> {
    let Some(Identity { scope_hash, body_hash }) = identity else { return Ok(None) };
    let row = world.store.runs().of_scope(&entry.caller.tenant, scope_hash).await.map_err(|error| away(&error))?;
    let Some(row) = row.filter(|row| !row.may_be_repeated()) else { return Ok(None) };
    if row.body_hash.as_ref() != Some(body_hash) {
        return Err(Problem::IdempotencyMismatch);
    }
    let mut spec: PlanSpec = serde_json::from_str(&row.spec_json).map_err(|_| Problem::Internal)?;
    // Where the run is gone by the time it is looked for again, this is another one.
    let run = &mut spec.base_mut().run;
    run.run_id = RunId::generate_plan();
    // The same principal may come with another key.
    run.api_key_id = entry.caller.api_key_id.clone();
    Ok(Some(spec))
}

/// The version that is meant. A name that was taken away has none.
pub(super) async fn find(world: &World, tenant: &TenantId, reference: &Reference) -> Result<Option<Found>, Problem> {
    row(world, tenant, reference).await?.map(found).transpose()
}

/// The same as it is stored.
pub(super) async fn row(
    world: &World,
    tenant: &TenantId,
    Reference { name, version }: &Reference,
) -> Result<Option<TemplateRow>, Problem> {
    let templates = world.store.plan_templates();
    let current = templates.standing(tenant, name).await.map_err(|error| away(&error))?.current;
    let Some(current) = current else { return Ok(None) };
    match version {
        Some(version) if *version != current.line.version => {
            templates.version(tenant, name, *version).await.map_err(|error| away(&error))
        }
        Some(_) | None => Ok(Some(current)),
    }
}

fn found(row: TemplateRow) -> Result<Found, Problem> {
    let body = serde_json::from_str(&row.body).map_err(|error| {
        tracing::error!(error = &error as &dyn std::error::Error, name = %row.line.name, "a template cannot be read");
        Problem::Internal
    })?;
    let pin = TemplatePin { name: row.line.name, version: row.line.version, hash: row.line.hash };
    Ok(Found { pin, body })
}

/// That there is no such template, or no such version.
pub(super) fn not_found(Reference { name, version }: &Reference, param: Option<&'static str>) -> Problem {
    let id = version.map_or_else(|| name.to_string(), |version| format!("{name}@{version}"));
    TemplateRefusal::NotFound { id, param }.into()
}

/// A store error as the client may see it.
pub(super) fn away(error: &StoreError) -> Problem {
    tracing::error!(error = error as &dyn std::error::Error, "templates could not be read or written");
    if error.is_unavailable() { Problem::StoreAway } else { Problem::Internal }
}
