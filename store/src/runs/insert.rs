//! How a run comes to be, at most once for each idempotency scope and generation.
//!
//! The unique index is on the scope of the *current* run. When that one failed or was cancelled, the same request may
//! try again: the old row's scope moves to `superseded_scope`, and the new row is the next generation.

use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, IntoActiveModel, QueryFilter,
    sea_query::{Expr, OnConflict},
};
use tokenhub_domain::{
    ApiKeyId, Labels, PrincipalId, RequestId, RunId, RunKind, RunStatus, Tags, TenantId, UnixMicros, Webhook,
    WorkflowId,
};

use super::{RunRow, WHAT, find, read};
use crate::{
    NewEvent, Store, StoreError,
    columns::{stored, tags_column},
    entities::{
        run_tags,
        runs::{self, Column},
    },
    plan_events,
    webhook_deliveries::insert_waiting,
};

/// How often an insert is tried again when others change the scope's current run meanwhile.
const INSERT_TRIES: usize = 5;

/// What makes two requests the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotencyScope {
    /// SHA-256 of principal, method, path and key.
    pub scope_hash: String,
    /// SHA-256 of the body.
    pub body_hash: String,
}

/// A run to add.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewRun {
    /// Its id.
    pub run_id: RunId,
    /// Its program.
    pub kind: RunKind,
    /// Whose data it is.
    pub tenant: TenantId,
    /// Who asks.
    pub principal: PrincipalId,
    /// With which key.
    pub api_key_id: ApiKeyId,
    /// By which HTTP request.
    pub request_id: RequestId,
    /// What makes it the same as another, when the client gave a key.
    pub idempotency: Option<IdempotencyScope>,
    /// The serialised `PlanSpec`.
    pub spec_json: String,
    /// The workflow that is to carry it. With an idempotency scope, `:<generation>` is appended when it is stored.
    pub workflow_id: Option<WorkflowId>,
    /// The catalogue version.
    pub config_version: u64,
    /// What its caller finds it by.
    pub labels: Labels,
    /// Who is told when it has ended.
    pub webhook: Option<Webhook>,
    /// The time.
    pub created_at: UnixMicros,
    /// The first event, for a run that keeps events.
    pub first_event: Option<NewEvent>,
}

/// What came of adding a run. The row is the one in the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Inserted {
    /// It was added.
    New(RunRow),
    /// The same request made this run before: attach to it or replay its result.
    Existing(RunRow),
    /// The same idempotency scope was used for this run with another body.
    Conflict(RunRow),
}

pub(super) async fn insert(store: &Store, run: &NewRun) -> Result<Inserted, StoreError> {
    let mut candidate = to_model(run, 1);
    for _ in 0..INSERT_TRIES {
        if add(store, &candidate, run).await? {
            return RunRow::from_model(candidate).map(Inserted::New);
        }
        let Some(current) = current_run(store, run).await? else { continue };
        let body_hash = run.idempotency.as_ref().map(|scope| &scope.body_hash);
        if current.body_hash.as_ref() != body_hash {
            return Ok(Inserted::Conflict(current));
        }
        let may_repeat = run.idempotency.is_some() && current.run_id != run.run_id && current.may_be_repeated();
        if !may_repeat {
            return Ok(Inserted::Existing(current));
        }
        candidate = to_model(run, current.generation + 1);
        if supersede(store, &current, &candidate, run).await? {
            return RunRow::from_model(candidate).map(Inserted::New);
        }
    }
    Err(StoreError::Contended(WHAT))
}

/// Adds the row, with what belongs to it or not at all. False: another row is in the way.
async fn add(store: &Store, row: &runs::Model, run: &NewRun) -> Result<bool, StoreError> {
    if run.first_event.is_none() && run.webhook.is_none() && run.labels.tags.is_empty() {
        return insert_unless_taken(store.writer(), row).await;
    }
    let transaction = store.begin(WHAT).await?;
    let added = insert_whole(&transaction, row, run).await?;
    transaction.commit().await.map_err(StoreError::writing(WHAT))?;
    Ok(added)
}

/// The row, its tags, its first event and its webhook, as far as it has them.
async fn insert_whole<C: ConnectionTrait>(connection: &C, row: &runs::Model, run: &NewRun) -> Result<bool, StoreError> {
    if !insert_unless_taken(connection, row).await? {
        return Ok(false);
    }
    insert_tags(connection, row, &run.labels.tags).await?;
    if let Some(event) = &run.first_event {
        plan_events::write_first(connection, row, event).await?;
    }
    if let Some(webhook) = &run.webhook {
        insert_waiting(connection, row, webhook).await?;
    }
    Ok(true)
}

async fn insert_unless_taken<C: ConnectionTrait>(connection: &C, row: &runs::Model) -> Result<bool, StoreError> {
    let inserted = runs::Entity::insert(row.clone().into_active_model())
        .on_conflict(OnConflict::new().do_nothing().to_owned())
        .exec_without_returning(connection)
        .await
        .map_err(StoreError::writing(WHAT))?;
    Ok(inserted > 0)
}

/// A row for each tag, by which a list finds the run.
async fn insert_tags<C: ConnectionTrait>(connection: &C, row: &runs::Model, tags: &Tags) -> Result<(), StoreError> {
    if tags.is_empty() {
        return Ok(());
    }
    let rows = tags.words().map(|tag| run_tags::Model { tenant: row.tenant.clone(), tag, run_id: row.run_id.clone() });
    run_tags::Entity::insert_many(rows.map(IntoActiveModel::into_active_model))
        .exec_without_returning(connection)
        .await
        .map_err(StoreError::writing(WHAT))?;
    Ok(())
}

/// The run that stands in the way of adding `run`.
async fn current_run(store: &Store, run: &NewRun) -> Result<Option<RunRow>, StoreError> {
    if let Some(scope) = &run.idempotency {
        let holder = find::of_scope(store.writer(), &run.tenant, &scope.scope_hash).await?;
        if holder.is_some() {
            return Ok(holder);
        }
    }
    read(store.writer(), &run.tenant, &run.run_id).await
}

/// Replaces the current run of a scope by its next generation. False: somebody else did.
async fn supersede(store: &Store, current: &RunRow, next: &runs::Model, run: &NewRun) -> Result<bool, StoreError> {
    let transaction = store.begin(WHAT).await?;
    let released = runs::Entity::update_many()
        .col_expr(Column::SupersededScope, Expr::col(Column::IdempotencyScope))
        .col_expr(Column::IdempotencyScope, Expr::value(None::<String>))
        .col_expr(Column::UpdatedAt, Expr::value(next.created_at))
        .filter(Column::RunId.eq(current.run_id.as_str()))
        .filter(Column::IdempotencyScope.eq(next.idempotency_scope.clone()))
        .exec(&transaction)
        .await
        .map_err(StoreError::writing(WHAT))?;
    let replaced = released.rows_affected > 0 && insert_whole(&transaction, next, run).await?;
    if replaced {
        transaction.commit().await.map_err(StoreError::writing(WHAT))?;
    } else {
        transaction.rollback().await.map_err(StoreError::writing(WHAT))?;
    }
    Ok(replaced)
}

fn to_model(run: &NewRun, generation: u32) -> runs::Model {
    let workflow_id = run.workflow_id.as_ref().map(|id| match run.idempotency {
        Some(_) => format!("{id}:{generation}"),
        None => id.to_string(),
    });
    let Labels { tags, template } = &run.labels;
    runs::Model {
        run_id: run.run_id.to_string(),
        tenant: run.tenant.to_string(),
        request_id: run.request_id.to_string(),
        principal: run.principal.to_string(),
        api_key_id: run.api_key_id.to_string(),
        tags: tags_column(tags),
        template: template.as_ref().map(|pin| pin.name.to_string()),
        template_version: template.as_ref().map(|pin| stored(pin.version)),
        template_hash: template.as_ref().map(|pin| pin.hash.0.clone()),
        config_version: stored(run.config_version),
        kind: run.kind.as_str().to_owned(),
        spec_json: run.spec_json.clone(),
        idempotency_scope: run.idempotency.as_ref().map(|scope| scope.scope_hash.clone()),
        superseded_scope: None,
        body_hash: run.idempotency.as_ref().map(|scope| scope.body_hash.clone()),
        generation: i64::from(generation),
        workflow_id,
        status: RunStatus::Pending.as_str().to_owned(),
        stop_reason: None,
        owner: None,
        epoch: 0,
        lease_until: None,
        durability: None,
        negotiated_model: None,
        outcome_json: None,
        calls: 0,
        duplicate_calls: 0,
        input_tokens: 0,
        output_tokens: 0,
        cost: 0,
        last_seq: i64::from(run.first_event.is_some()),
        created_at: run.created_at.0,
        started_at: None,
        finished_at: None,
        updated_at: run.created_at.0,
    }
}
