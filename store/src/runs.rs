//! Runs: the claim that lets one owner work on a job, and the result that outlives it.
//!
//! A claim is a lease with fencing: every change of owner raises the epoch. A process must renew its lease; a workflow's
//! claim never expires, because Temporal brings the workflow back. How runs come to be is in `insert`.

use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, ExprTrait, QueryFilter,
    sea_query::{CaseStatement, Condition, Expr, Query, Value},
};
use tokenhub_domain::{
    DurabilityMark, ModelId, NanoDollars, Owner, PrincipalId, RunId, RunKind, RunStatus, StopReason, TemplateName,
    TenantId, UnixMicros, Usage, limits,
};

mod find;
mod insert;
mod row;

pub use find::Unfinished;
pub use insert::{IdempotencyScope, Inserted, NewRun};
pub use row::RunRow;

use crate::{
    NewEvent, Store, StoreError,
    columns::{name_of, stored},
    entities::runs::{self, Column},
    plan_events,
};

const WHAT: &str = "runs";
/// How often a claim is tried again when the row changes between two statements.
const CLAIM_TRIES: usize = 5;

/// What came of claiming a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// It is ours.
    Won {
        /// Fences the renewals and the result of earlier owners.
        epoch: i64,
    },
    /// Another owner works on it.
    Held {
        /// Who.
        owner: Owner,
        /// Until when, unless renewed; a workflow's claim has no end.
        lease_until: Option<UnixMicros>,
    },
    /// It has a result.
    Finished,
}

/// The result of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FinishRow {
    /// The epoch of the claim. A workflow needs none: its steps run on many workers, and its claim has one owner.
    pub epoch: Option<i64>,
    /// A final status.
    pub status: RunStatus,
    /// Why it ended.
    pub stop_reason: StopReason,
    /// The serialised `Outcome`.
    pub outcome_json: String,
    /// Who carried it.
    pub durability: DurabilityMark,
    /// Whose answer it is.
    pub negotiated_model: Option<ModelId>,
    /// The sums over its steps.
    pub usage: Usage,
    /// When it ended.
    pub finished_at: UnixMicros,
    /// The last event, for a run that keeps events.
    pub event: Option<NewEvent>,
}

/// Which runs to list; what is not said does not count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WantedRuns<'a> {
    /// Of this status.
    pub status: Option<RunStatus>,
    /// Of this program.
    pub kind: Option<RunKind>,
    /// With this tag, as `key:value`.
    pub tag: Option<&'a str>,
    /// From any version of this template.
    pub template: Option<&'a TemplateName>,
}

/// The table of runs.
#[derive(Clone, Debug)]
pub struct Runs {
    store: Store,
}

impl Runs {
    pub(crate) fn new(store: Store) -> Self {
        Self { store }
    }

    /// Adds a run, or finds the one that the same idempotency scope made before.
    pub async fn insert(&self, run: &NewRun) -> Result<Inserted, StoreError> {
        insert::insert(&self.store, run).await
    }

    /// One run.
    pub async fn get(&self, tenant: &TenantId, run_id: &RunId) -> Result<Option<RunRow>, StoreError> {
        read(self.store.reader(), tenant, run_id).await
    }

    /// One run whoever it belongs to: for whom something else than a key lets in.
    pub async fn of_any_tenant(&self, run_id: &RunId) -> Result<Option<RunRow>, StoreError> {
        find::of_any_tenant(self.store.reader(), run_id).await
    }

    /// How many runs of a tenant have not ended.
    pub async fn unfinished_of(&self, tenant: &TenantId) -> Result<u64, StoreError> {
        find::unfinished_of(self.store.reader(), tenant).await
    }

    /// The current run of an idempotency scope.
    pub async fn of_scope(&self, tenant: &TenantId, scope_hash: &str) -> Result<Option<RunRow>, StoreError> {
        find::of_scope(self.store.reader(), tenant, scope_hash).await
    }

    /// Runs of every tenant without a result that nobody has touched since `before`, oldest first: the first `limit`
    /// that come after the run `after`.
    pub async fn unfinished(
        &self,
        which: Unfinished,
        before: UnixMicros,
        after: Option<&RunRow>,
        limit: u64,
    ) -> Result<Vec<RunRow>, StoreError> {
        find::unfinished(&self.store, which, before, after, limit).await
    }

    /// At most `limit` runs of one asker, newest first, older than the run `after`.
    pub async fn page(
        &self,
        tenant: &TenantId,
        principal: &PrincipalId,
        wanted: WantedRuns<'_>,
        after: Option<&RunRow>,
        limit: u64,
    ) -> Result<Vec<RunRow>, StoreError> {
        find::page(&self.store, (tenant, principal), wanted, after, limit).await
    }

    /// Takes a run that is free, ours already, or held by a process whose lease has expired.
    pub async fn claim(
        &self,
        tenant: &TenantId,
        run_id: &RunId,
        owner: &Owner,
        now: UnixMicros,
    ) -> Result<Claim, StoreError> {
        for _ in 0..CLAIM_TRIES {
            if let Some(epoch) = self.take(tenant, run_id, owner, now).await? {
                return Ok(Claim::Won { epoch });
            }
            let row = read(self.store.writer(), tenant, run_id).await?;
            let row = row.ok_or_else(|| StoreError::UnknownRun(run_id.clone()))?;
            if row.status.is_final() {
                return Ok(Claim::Finished);
            }
            // Without a holder by now, the row was freed in between.
            if let Some(holder) = row.owner {
                return Ok(Claim::Held { owner: holder, lease_until: row.lease_until });
            }
        }
        Err(StoreError::Contended(WHAT))
    }

    async fn take(
        &self,
        tenant: &TenantId,
        run_id: &RunId,
        owner: &Owner,
        now: UnixMicros,
    ) -> Result<Option<i64>, StoreError> {
        let ours = || Expr::col(Column::Owner).eq(owner.0.as_str());
        let free_or_ours = Condition::any()
            .add(Column::Owner.is_null())
            .add(ours())
            .add(Column::LeaseUntil.is_not_null().and(Column::LeaseUntil.lte(now.0)));
        let next_epoch =
            CaseStatement::new().case(ours(), Expr::col(Column::Epoch)).finally(Expr::col(Column::Epoch).add(1));
        let update = Query::update()
            .table(runs::Entity)
            .value(Column::Epoch, next_epoch)
            .value(Column::Owner, owner.0.as_str())
            .value(Column::LeaseUntil, lease_end(owner, now))
            .value(Column::Status, RunStatus::Running.as_str())
            .value(Column::StartedAt, Expr::col(Column::StartedAt).if_null(now.0))
            .value(Column::UpdatedAt, now.0)
            .and_where(Column::Tenant.eq(tenant.as_str()))
            .and_where(Column::RunId.eq(run_id.as_str()))
            .and_where(is_open())
            .cond_where(free_or_ours)
            .returning(Query::returning().column(Column::Epoch))
            .to_owned();
        let taken = self.store.writer().query_one(&update).await.map_err(StoreError::writing(WHAT))?;
        taken.map(|row| row.try_get_by_index(0)).transpose().map_err(StoreError::writing(WHAT))
    }

    /// Prolongs a claim. False: it is no longer held, because another took over or the run has a result.
    pub async fn renew(
        &self,
        tenant: &TenantId,
        run_id: &RunId,
        owner: &Owner,
        epoch: i64,
        now: UnixMicros,
    ) -> Result<bool, StoreError> {
        let renewed = runs::Entity::update_many()
            .col_expr(Column::LeaseUntil, Expr::value(lease_end(owner, now)))
            .col_expr(Column::UpdatedAt, Expr::value(now.0))
            .filter(Column::Tenant.eq(tenant.as_str()))
            .filter(Column::RunId.eq(run_id.as_str()))
            .filter(Column::Owner.eq(owner.0.as_str()))
            .filter(Column::Epoch.eq(epoch))
            .filter(is_open())
            .exec(self.store.writer())
            .await
            .map_err(StoreError::writing(WHAT))?;
        Ok(renewed.rows_affected > 0)
    }

    /// Stores the result if the run is still ours. True also when this owner has stored one before, which stays.
    pub async fn finish(
        &self,
        tenant: &TenantId,
        run_id: &RunId,
        owner: &Owner,
        result: &FinishRow,
    ) -> Result<bool, StoreError> {
        let epoch = result.epoch.filter(|_| owner.expires());
        let mut update = runs::Entity::update_many()
            .filter(Column::Tenant.eq(tenant.as_str()))
            .filter(Column::RunId.eq(run_id.as_str()))
            .filter(Column::Owner.eq(owner.0.as_str()))
            .filter(is_open());
        if let Some(epoch) = epoch {
            update = update.filter(Column::Epoch.eq(epoch));
        }
        for (column, value) in result_columns(result) {
            update = update.col_expr(column, Expr::value(value));
        }
        let has_ended = match &result.event {
            None => {
                let finished = update.exec(self.store.writer()).await.map_err(StoreError::writing(WHAT))?;
                finished.rows_affected > 0
            }
            Some(event) => {
                let update = sea_orm::QueryTrait::into_query(update);
                plan_events::end_run(&self.store, (tenant, run_id), update, event).await?
            }
        };
        if has_ended {
            return Ok(true);
        }
        let row = read(self.store.writer(), tenant, run_id).await?;
        let row = row.ok_or_else(|| StoreError::UnknownRun(run_id.clone()))?;
        let same_claim = row.owner.as_ref() == Some(owner) && epoch.is_none_or(|epoch| epoch == row.epoch);
        Ok(row.status.is_final() && same_claim)
    }
}

fn result_columns(result: &FinishRow) -> Vec<(Column, Value)> {
    let usage = result.usage;
    vec![
        (Column::Status, result.status.as_str().into()),
        (Column::StopReason, name_of(&result.stop_reason).into()),
        (Column::OutcomeJson, result.outcome_json.as_str().into()),
        (Column::Durability, result.durability.as_str().into()),
        (Column::NegotiatedModel, result.negotiated_model.as_ref().map(ToString::to_string).into()),
        (Column::Calls, i64::from(usage.calls).into()),
        (Column::DuplicateCalls, i64::from(usage.duplicate_calls).into()),
        (Column::InputTokens, stored(usage.input_tokens).into()),
        (Column::OutputTokens, stored(usage.output_tokens).into()),
        (Column::Cost, usage.cost.0.into()),
        (Column::FinishedAt, result.finished_at.0.into()),
        (Column::UpdatedAt, result.finished_at.0.into()),
        (Column::LeaseUntil, None::<i64>.into()),
    ]
}

fn lease_end(owner: &Owner, now: UnixMicros) -> Option<i64> {
    owner.expires().then(|| now.plus_millis(limits::LEASE_MS).0)
}

/// The run has no result.
pub(crate) fn is_open() -> Expr {
    Column::Status.is_in([RunStatus::Pending.as_str(), RunStatus::Running.as_str()])
}

async fn read<C: ConnectionTrait>(
    connection: &C,
    tenant: &TenantId,
    run_id: &RunId,
) -> Result<Option<RunRow>, StoreError> {
    let row = runs::Entity::find_by_id(run_id.to_string())
        .filter(Column::Tenant.eq(tenant.as_str()))
        .one(connection)
        .await
        .map_err(StoreError::reading(WHAT))?;
    row.map(RunRow::from_model).transpose()
}

/// The sums of a finished run, as its row holds them.
fn usage_of(model: &runs::Model) -> Usage {
    Usage {
        calls: crate::columns::counted_small(model.calls),
        duplicate_calls: crate::columns::counted_small(model.duplicate_calls),
        input_tokens: crate::columns::counted(model.input_tokens),
        output_tokens: crate::columns::counted(model.output_tokens),
        cost: NanoDollars(model.cost),
        ..Usage::default()
    }
}
