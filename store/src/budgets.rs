//! The limits of runs: room for a call is taken before it leaves, at its worst case, and what it did not use is given back.
//!
//! Keeps sums, and must not know how a worst case comes about. One conditional update takes a part, so calls of any
//! number of processes never take more than there is. A call whose process died keeps its part: the provider may have
//! been paid.

use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, EntityTrait, ExprTrait, QueryFilter,
    sea_query::{Expr, OnConflict},
};
use tokenhub_domain::{Bound, Bounds, NanoDollars, RunId, TenantId, UnixMicros, Use};

use crate::{
    Store, StoreError,
    columns::{counted, stored},
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
        self.begin(tenant, run_id, now).await?;
        loop {
            if self.add(run_id, bounds, most, now).await? {
                return Ok(Room::Taken);
            }
            let used = self.used(run_id).await?;
            // Without a limit in the way, room was given back between the two statements.
            if let Some(bound) = bounds.exceeded_by(used, most) {
                return Ok(Room::Refused { bound, used });
            }
        }
    }

    /// Gives back what a call that has ended took and did not use. The call itself stays counted.
    pub async fn settle(&self, run_id: &RunId, taken: Use, used: Use, now: UnixMicros) -> Result<(), StoreError> {
        budgets::Entity::update_many()
            .filter(Column::RunId.eq(run_id.as_str()))
            .col_expr(Column::Tokens, Expr::col(Column::Tokens).add(stored(used.tokens) - stored(taken.tokens)))
            .col_expr(Column::Cost, Expr::col(Column::Cost).add(used.cost.0.saturating_sub(taken.cost.0)))
            .col_expr(Column::UpdatedAt, Expr::value(now.0))
            .exec(self.store.writer())
            .await
            .map(|_| ())
            .map_err(StoreError::writing(WHAT))
    }

    /// What a run has used or taken; nothing where it is not bounded.
    pub async fn used(&self, run_id: &RunId) -> Result<Use, StoreError> {
        let row = budgets::Entity::find_by_id(run_id.to_string()).one(self.store.writer()).await;
        let row = row.map_err(StoreError::reading(WHAT))?;
        Ok(row.map_or_else(Use::default, |row| Use {
            calls: crate::columns::counted_small(row.calls),
            tokens: counted(row.tokens),
            cost: NanoDollars(row.cost),
        }))
    }

    async fn begin(&self, tenant: &TenantId, run_id: &RunId, now: UnixMicros) -> Result<(), StoreError> {
        let row = budgets::ActiveModel {
            run_id: Set(run_id.to_string()),
            tenant: Set(tenant.to_string()),
            calls: Set(0),
            tokens: Set(0),
            cost: Set(0),
            updated_at: Set(now.0),
        };
        budgets::Entity::insert(row)
            .on_conflict(OnConflict::column(Column::RunId).do_nothing().to_owned())
            .exec_without_returning(self.store.writer())
            .await
            .map(|_| ())
            .map_err(StoreError::writing(WHAT))
    }

    async fn add(&self, run_id: &RunId, bounds: Bounds, most: Use, now: UnixMicros) -> Result<bool, StoreError> {
        let mut update = budgets::Entity::update_many()
            .filter(Column::RunId.eq(run_id.as_str()))
            .col_expr(Column::UpdatedAt, Expr::value(now.0));
        let parts = [
            (Column::Calls, i64::from(most.calls), bounds.max_calls.map(i64::from)),
            (Column::Tokens, stored(most.tokens), bounds.max_tokens.map(stored)),
            (Column::Cost, most.cost.0, bounds.max_cost.map(|cost| cost.0)),
        ];
        for (column, part, limit) in parts {
            update = update.col_expr(column, Expr::col(column).add(part));
            if let Some(limit) = limit {
                update = update.filter(column.lte(limit.saturating_sub(part)));
            }
        }
        let taken = update.exec(self.store.writer()).await.map_err(StoreError::writing(WHAT))?;
        Ok(taken.rows_affected > 0)
    }
}
