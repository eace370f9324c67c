//! What the calls of one step have taken; kept only where steps have limits of their own.

use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, ConnectionTrait, EntityTrait, ExprTrait, QueryFilter,
    sea_query::{Condition, Expr, OnConflict},
};
use tokenhub_domain::{Bounds, NanoDollars, RunId, StepId, TenantId, UnixMicros, Use};

use crate::{
    StoreError,
    columns::{counted, counted_small, stored},
    entities::step_budgets::{self, Column},
};

const WHAT: &str = "the budget of a step";

/// A step, by its run and its name.
type OfStep<'a> = ((&'a TenantId, &'a RunId), &'a StepId);

pub(super) async fn begin<C: ConnectionTrait>(
    connection: &C,
    ((tenant, run_id), step): OfStep<'_>,
    now: UnixMicros,
) -> Result<(), StoreError> {
    let row = step_budgets::ActiveModel {
        run_id: Set(run_id.to_string()),
        step: Set(step.to_string()),
        tenant: Set(tenant.to_string()),
        calls: Set(0),
        tokens: Set(0),
        cost: Set(0),
        updated_at: Set(now.0),
    };
    step_budgets::Entity::insert(row)
        .on_conflict(OnConflict::columns([Column::RunId, Column::Step]).do_nothing().to_owned())
        .exec_without_returning(connection)
        .await
        .map(|_| ())
        .map_err(StoreError::writing(WHAT))
}

/// False: there is no room.
pub(super) async fn add<C: ConnectionTrait>(
    connection: &C,
    of_step: OfStep<'_>,
    bounds: Bounds,
    most: Use,
    now: UnixMicros,
) -> Result<bool, StoreError> {
    let mut update =
        step_budgets::Entity::update_many().filter(is_of(of_step)).col_expr(Column::UpdatedAt, Expr::value(now.0));
    let parts = [
        (Column::Calls, i64::from(most.calls), bounds.max_calls.map(i64::from)),
        (Column::Tokens, stored(most.tokens), bounds.max_tokens.map(stored)),
        (Column::Cost, most.cost.0, bounds.max_cost.map(|cost| cost.0)),
    ];
    for (column, part, limit) in parts {
        update = update.col_expr(column, Expr::col(column).add(part));
        if let Some(limit) = limit {
            update = update.filter(Expr::col(column).lte(limit.saturating_sub(part)));
        }
    }
    let taken = update.exec(connection).await.map_err(StoreError::writing(WHAT))?;
    Ok(taken.rows_affected > 0)
}

pub(super) async fn settle<C: ConnectionTrait>(
    connection: &C,
    of_step: OfStep<'_>,
    (taken, used): (Use, Use),
    now: UnixMicros,
) -> Result<(), StoreError> {
    step_budgets::Entity::update_many()
        .filter(is_of(of_step))
        .col_expr(Column::Tokens, Expr::col(Column::Tokens).add(stored(used.tokens) - stored(taken.tokens)))
        .col_expr(Column::Cost, Expr::col(Column::Cost).add(used.cost.0.saturating_sub(taken.cost.0)))
        .col_expr(Column::UpdatedAt, Expr::value(now.0))
        .exec(connection)
        .await
        .map(|_| ())
        .map_err(StoreError::writing(WHAT))
}

pub(super) async fn used<C: ConnectionTrait>(connection: &C, of_step: OfStep<'_>) -> Result<Use, StoreError> {
    let row = step_budgets::Entity::find().filter(is_of(of_step)).one(connection).await;
    let row = row.map_err(StoreError::reading(WHAT))?;
    Ok(row.map_or_else(Use::default, |row| Use {
        calls: counted_small(row.calls),
        tokens: counted(row.tokens),
        cost: NanoDollars(row.cost),
    }))
}

fn is_of(((tenant, run_id), step): OfStep<'_>) -> Condition {
    Condition::all()
        .add(Column::Tenant.eq(tenant.as_str()))
        .add(Column::RunId.eq(run_id.as_str()))
        .add(Column::Step.eq(step.as_str()))
}
