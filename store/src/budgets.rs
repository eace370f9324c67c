//! The limits of runs: room for a call is taken before it leaves, at its worst case, and what it did not use is given back.
//!
//! Keeps sums, of each run and, where its steps have limits of their own, of each step; must not know how a worst case
//! comes about. One conditional update takes a part, so calls of any number of processes never take more than there is. A
//! call whose process died keeps its part: the provider may have been paid.

use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, ConnectionTrait, DatabaseTransaction, EntityTrait, ExprTrait, QueryFilter,
    sea_query::{Condition, Expr, OnConflict},
};
use tokenhub_domain::{Bound, Bounds, Extent, NanoDollars, RunId, StepId, TenantId, UnixMicros, Use};

mod of_step;

use crate::{
    Store, StoreError,
    columns::{counted, counted_small, stored},
    entities::budgets::{self, Column},
};

const WHAT: &str = "the budget of a run";

/// Whether a call may leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// Its worst case is taken.
    Taken,
    /// It does not fit.
    Refused {
        /// Whether the run or the step has no room.
        extent: Extent,
        /// Which limit is in the way.
        bound: Bound,
        /// What is used or taken already.
        used: Use,
        /// The limits as they stand, with what the run was given; of a step, its own.
        bounds: Bounds,
    },
}

/// The table of budgets.
#[derive(Clone, Debug)]
pub struct Budgets {
    store: Store,
}

impl Budgets {
    pub(crate) fn new(store: Store) -> Self {
        Self { store }
    }

    /// Takes the room that a call of `step` needs at most, of its run and of its step.
    pub async fn take(
        &self,
        run: (&TenantId, &RunId),
        step: &StepId,
        bounds: Bounds,
        most: Use,
        now: UnixMicros,
    ) -> Result<Room, StoreError> {
        let per_step = bounds.per_step.limits();
        if per_step.is_empty() {
            begin(self.store.writer(), run, now).await?;
            while !add(self.store.writer(), run, bounds, most, now).await? {
                if let Some(refused) = self.refused(run, bounds, most).await? {
                    return Ok(refused);
                }
            }
            return Ok(Room::Taken);
        }
        loop {
            // Both or neither: a step without room must not use up what other steps may have.
            let transaction = self.store.begin(WHAT).await?;
            begin(&transaction, run, now).await?;
            of_step::begin(&transaction, (run, step), now).await?;
            let is_taken = add(&transaction, run, bounds, most, now).await?
                && of_step::add(&transaction, (run, step), per_step, most, now).await?;
            end(transaction, is_taken).await?;
            if is_taken {
                return Ok(Room::Taken);
            }
            if let Some(refused) = self.refused(run, bounds, most).await? {
                return Ok(refused);
            }
            let used = of_step::used(self.store.writer(), (run, step)).await?;
            if let Some(bound) = per_step.exceeded_by(used, most) {
                return Ok(Room::Refused { extent: Extent::Step, bound, used, bounds: per_step });
            }
        }
    }

    /// Which limit of the run is in the way. None: room was given, or given back, since it was tried.
    async fn refused(&self, run: (&TenantId, &RunId), bounds: Bounds, most: Use) -> Result<Option<Room>, StoreError> {
        let (used, more) = self.standing(run).await?;
        let bounds = bounds.raised_by(more);
        let bound = bounds.exceeded_by(used, most);
        Ok(bound.map(|bound| Room::Refused { extent: Extent::Run, bound, used, bounds }))
    }

    /// Gives back what a call that has ended took and did not use, to its run and to its step, if that has limits. The
    /// call itself stays counted.
    pub async fn settle(
        &self,
        run: (&TenantId, &RunId),
        limited_step: Option<&StepId>,
        taken: Use,
        used: Use,
        now: UnixMicros,
    ) -> Result<(), StoreError> {
        budgets::Entity::update_many()
            .filter(is_of(run))
            .col_expr(Column::Tokens, Expr::col(Column::Tokens).add(stored(used.tokens) - stored(taken.tokens)))
            .col_expr(Column::Cost, Expr::col(Column::Cost).add(used.cost.0.saturating_sub(taken.cost.0)))
            .col_expr(Column::UpdatedAt, Expr::value(now.0))
            .exec(self.store.writer())
            .await
            .map_err(StoreError::writing(WHAT))?;
        match limited_step {
            Some(step) => of_step::settle(self.store.writer(), (run, step), (taken, used), now).await,
            None => Ok(()),
        }
    }

    /// What a run has used or taken; nothing where it is not bounded.
    pub async fn used(&self, tenant: &TenantId, run_id: &RunId) -> Result<Use, StoreError> {
        self.standing((tenant, run_id)).await.map(|(used, _)| used)
    }

    /// The same, and what the run was given beyond its own limits.
    async fn standing(&self, run: (&TenantId, &RunId)) -> Result<(Use, Use), StoreError> {
        let row = budgets::Entity::find().filter(is_of(run)).one(self.store.writer()).await;
        let Some(row) = row.map_err(StoreError::reading(WHAT))? else { return Ok(Default::default()) };
        let sums =
            |calls, tokens, cost| Use { calls: counted_small(calls), tokens: counted(tokens), cost: NanoDollars(cost) };
        Ok((sums(row.calls, row.tokens, row.cost), sums(row.more_calls, row.more_tokens, row.more_cost)))
    }
}

async fn end(transaction: DatabaseTransaction, is_taken: bool) -> Result<(), StoreError> {
    let ended = if is_taken { transaction.commit().await } else { transaction.rollback().await };
    ended.map_err(StoreError::writing(WHAT))
}

/// False: there is no room.
async fn add<C: ConnectionTrait>(
    connection: &C,
    run: (&TenantId, &RunId),
    bounds: Bounds,
    most: Use,
    now: UnixMicros,
) -> Result<bool, StoreError> {
    let mut update = budgets::Entity::update_many().filter(is_of(run)).col_expr(Column::UpdatedAt, Expr::value(now.0));
    let parts = [
        (Column::Calls, Column::MoreCalls, i64::from(most.calls), bounds.max_calls.map(i64::from)),
        (Column::Tokens, Column::MoreTokens, stored(most.tokens), bounds.max_tokens.map(stored)),
        (Column::Cost, Column::MoreCost, most.cost.0, bounds.max_cost.map(|cost| cost.0)),
    ];
    for (column, more, part, limit) in parts {
        update = update.col_expr(column, Expr::col(column).add(part));
        if let Some(limit) = limit {
            let room = Expr::col(more).add(limit.saturating_sub(part));
            update = update.filter(Expr::col(column).lte(room));
        }
    }
    let taken = update.exec(connection).await.map_err(StoreError::writing(WHAT))?;
    Ok(taken.rows_affected > 0)
}

async fn begin<C: ConnectionTrait>(
    connection: &C,
    (tenant, run_id): (&TenantId, &RunId),
    now: UnixMicros,
) -> Result<(), StoreError> {
    let row = budgets::ActiveModel {
        run_id: Set(run_id.to_string()),
        tenant: Set(tenant.to_string()),
        calls: Set(0),
        tokens: Set(0),
        cost: Set(0),
        more_calls: Set(0),
        more_tokens: Set(0),
        more_cost: Set(0),
        updated_at: Set(now.0),
    };
    budgets::Entity::insert(row)
        .on_conflict(OnConflict::column(Column::RunId).do_nothing().to_owned())
        .exec_without_returning(connection)
        .await
        .map(|_| ())
        .map_err(StoreError::writing(WHAT))
}

/// Gives a run more room than its own limits leave.
pub(crate) async fn give<C: ConnectionTrait>(
    connection: &C,
    (tenant, run_id): (&TenantId, &RunId),
    more: Use,
    now: UnixMicros,
) -> Result<(), StoreError> {
    begin(connection, (tenant, run_id), now).await?;
    budgets::Entity::update_many()
        .filter(is_of((tenant, run_id)))
        .col_expr(Column::MoreCalls, Expr::col(Column::MoreCalls).add(i64::from(more.calls)))
        .col_expr(Column::MoreTokens, Expr::col(Column::MoreTokens).add(stored(more.tokens)))
        .col_expr(Column::MoreCost, Expr::col(Column::MoreCost).add(more.cost.0))
        .col_expr(Column::UpdatedAt, Expr::value(now.0))
        .exec(connection)
        .await
        .map(|_| ())
        .map_err(StoreError::writing(WHAT))
}

fn is_of((tenant, run_id): (&TenantId, &RunId)) -> Condition {
    Condition::all().add(Column::Tenant.eq(tenant.as_str())).add(Column::RunId.eq(run_id.as_str()))
}
