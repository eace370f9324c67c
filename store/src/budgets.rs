//! The limits of runs: room for a call is taken before it leaves, at its worst case, and what it did not use is given back.
//!
//! Keeps sums, and must not know how a worst case comes about. One conditional update takes a part, so calls of any
//! number of processes never take more than there is. A call whose process died keeps its part: the provider may have
//! been paid.

use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, ConnectionTrait, EntityTrait, ExprTrait, QueryFilter,
    sea_query::{Condition, Expr, OnConflict},
};
use tokenhub_domain::{Bound, Bounds, NanoDollars, RunId, TenantId, UnixMicros, Use};

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
        /// Which limit is in the way.
        bound: Bound,
        /// What is used or taken already.
        used: Use,
        /// The limits as they stand, with what the run was given.
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

    /// Takes the room that a call needs at most.
    pub async fn take(
        &self,
        (tenant, run_id): (&TenantId, &RunId),
        bounds: Bounds,
        most: Use,
        now: UnixMicros,
    ) -> Result<Room, StoreError> {
        begin(self.store.writer(), (tenant, run_id), now).await?;
        loop {
            if self.add((tenant, run_id), bounds, most, now).await? {
                return Ok(Room::Taken);
            }
            let (used, more) = self.standing((tenant, run_id)).await?;
            let bounds = bounds.raised_by(more);
            // Without a limit in the way, room was given, or given back, between the two statements.
            if let Some(bound) = bounds.exceeded_by(used, most) {
                return Ok(Room::Refused { bound, used, bounds });
            }
        }
    }

    /// Gives back what a call that has ended took and did not use. The call itself stays counted.
    pub async fn settle(
        &self,
        run: (&TenantId, &RunId),
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
            .map(|_| ())
            .map_err(StoreError::writing(WHAT))
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

    async fn add(
        &self,
        run: (&TenantId, &RunId),
        bounds: Bounds,
        most: Use,
        now: UnixMicros,
    ) -> Result<bool, StoreError> {
        let mut update =
            budgets::Entity::update_many().filter(is_of(run)).col_expr(Column::UpdatedAt, Expr::value(now.0));
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
        let taken = update.exec(self.store.writer()).await.map_err(StoreError::writing(WHAT))?;
        Ok(taken.rows_affected > 0)
    }
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
