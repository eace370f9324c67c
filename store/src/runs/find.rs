//! Runs that are looked for by something else than their id.

use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, ExprTrait, PaginatorTrait, QueryFilter, QueryOrder, QuerySelect,
    sea_query::{Condition, Expr, Query, SelectStatement},
};
use tokenhub_domain::{ApprovalState, PrincipalId, RunId, TenantId, UnixMicros};

use super::{RunRow, WHAT, WantedRuns, is_open};
use crate::{
    Store, StoreError,
    entities::{
        approvals, run_tags,
        runs::{self, Column},
    },
};

/// The current run of an idempotency scope.
pub(super) async fn of_scope<C: ConnectionTrait>(
    connection: &C,
    tenant: &TenantId,
    scope_hash: &str,
) -> Result<Option<RunRow>, StoreError> {
    let row = runs::Entity::find()
        .filter(Column::Tenant.eq(tenant.as_str()))
        .filter(Column::IdempotencyScope.eq(scope_hash))
        .one(connection)
        .await
        .map_err(StoreError::reading(WHAT))?;
    row.map(RunRow::from_model).transpose()
}

/// One run, whoever it belongs to.
pub(super) async fn of_any_tenant<C: ConnectionTrait>(
    connection: &C,
    run_id: &RunId,
) -> Result<Option<RunRow>, StoreError> {
    let row = runs::Entity::find_by_id(run_id.to_string()).one(connection).await.map_err(StoreError::reading(WHAT))?;
    row.map(RunRow::from_model).transpose()
}

/// How many runs of a tenant have not ended.
pub(super) async fn unfinished_of<C: ConnectionTrait>(connection: &C, tenant: &TenantId) -> Result<u64, StoreError> {
    runs::Entity::find()
        .filter(is_open())
        .filter(Column::Tenant.eq(tenant.as_str()))
        .count(connection)
        .await
        .map_err(StoreError::reading(WHAT))
}

/// Which unfinished runs are looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfinished {
    /// Those that somebody works on, or should.
    AtWork,
    /// Those that a workflow holds and that wait for a decision. They may be many, and for days.
    Waiting,
}

fn is_waiting() -> Expr {
    let pending = Query::select()
        .column(approvals::Column::RunId)
        .from(approvals::Entity)
        .and_where(approvals::Column::ToldAt.is_null())
        .and_where(approvals::Column::State.eq(ApprovalState::Pending.as_str()))
        .to_owned();
    // A process's claim has an end, and must be looked after while it waits, too.
    Column::Owner.is_not_null().and(Column::LeaseUntil.is_null()).and(Column::RunId.in_subquery(pending))
}

pub(super) async fn unfinished(
    store: &Store,
    which: Unfinished,
    before: UnixMicros,
    after: Option<&RunRow>,
    limit: u64,
) -> Result<Vec<RunRow>, StoreError> {
    let is_sought = match which {
        Unfinished::AtWork => is_waiting().not(),
        Unfinished::Waiting => is_waiting(),
    };
    let mut query = runs::Entity::find().filter(is_open()).filter(Column::UpdatedAt.lte(before.0)).filter(is_sought);
    if let Some(after) = after {
        let same_moment = Column::CreatedAt.eq(after.created_at.0).and(Column::RunId.gt(after.run_id.as_str()));
        query = query.filter(Condition::any().add(Column::CreatedAt.gt(after.created_at.0)).add(same_moment));
    }
    let rows = query
        .order_by_asc(Column::CreatedAt)
        .order_by_asc(Column::RunId)
        .limit(limit)
        .all(store.reader())
        .await
        .map_err(StoreError::reading(WHAT))?;
    let readable = rows.into_iter().filter_map(|row| {
        let run_id = row.run_id.clone();
        // One row that another version wrote must not hide the others.
        RunRow::from_model(row)
            .inspect_err(|error| {
                tracing::warn!(error = error as &dyn std::error::Error, run_id, "a run cannot be read");
            })
            .ok()
    });
    Ok(readable.collect())
}

fn tagged(tenant: &TenantId, tag: &str) -> SelectStatement {
    Query::select()
        .column(run_tags::Column::RunId)
        .from(run_tags::Entity)
        .and_where(run_tags::Column::Tenant.eq(tenant.as_str()))
        .and_where(run_tags::Column::Tag.eq(tag))
        .to_owned()
}

/// At most `limit` runs of one asker, newest first, older than `after`.
pub(super) async fn page(
    store: &Store,
    (tenant, principal): (&TenantId, &PrincipalId),
    wanted: WantedRuns<'_>,
    after: Option<&RunRow>,
    limit: u64,
) -> Result<Vec<RunRow>, StoreError> {
    let mut query = runs::Entity::find()
        .filter(Column::Tenant.eq(tenant.as_str()))
        .filter(Column::Principal.eq(principal.as_str()));
    if let Some(kind) = wanted.kind {
        query = query.filter(Column::Kind.eq(kind.as_str()));
    }
    if let Some(status) = wanted.status {
        query = query.filter(Column::Status.eq(status.as_str()));
    }
    if let Some(template) = wanted.template {
        query = query.filter(Column::Template.eq(template.as_str()));
    }
    if let Some(tag) = wanted.tag {
        query = query.filter(Column::RunId.in_subquery(tagged(tenant, tag)));
    }
    if let Some(after) = after {
        let same_moment = Column::CreatedAt.eq(after.created_at.0).and(Column::RunId.lt(after.run_id.as_str()));
        query = query.filter(Condition::any().add(Column::CreatedAt.lt(after.created_at.0)).add(same_moment));
    }
    let rows = query
        .order_by_desc(Column::CreatedAt)
        .order_by_desc(Column::RunId)
        .limit(limit)
        .all(store.reader())
        .await
        .map_err(StoreError::reading(WHAT))?;
    rows.into_iter().map(RunRow::from_model).collect()
}
