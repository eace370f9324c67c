//! Pieces of answers that are being written, for those who watch their plans: lossy, and gone minutes later.
//!
//! A piece is named by its step, the call of that step and its number within the call, so pieces of two calls never mix.
//! Bodies are bytes, as those of contents are. Must not know what a step or an answer is: facts are in other tables.

use sea_orm::{
    ColumnTrait, Condition, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder, QuerySelect,
    sea_query::{Expr, ExprTrait, Query},
};
use tokenhub_domain::{CallNumber, RunId, StepId, TenantId, UnixMicros};

use crate::{
    Store, StoreError,
    columns::{counted, counted_small, stored},
    entities::{
        journal,
        plan_deltas::{self, Column},
        runs,
    },
    journal::LEASED,
    runs::is_open,
};

const WHAT: &str = "the deltas of a plan";
/// Pieces that one statement removes: on `SQLite` everybody who writes waits for it.
pub const PURGED_AT_ONCE: u64 = 1_000;

/// Where a piece belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeltaPlace {
    /// The step.
    pub step: StepId,
    /// Which of its calls.
    pub call: CallNumber,
    /// Counts the pieces of the call from 0.
    pub seq: u64,
}

/// A piece of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delta {
    /// Where it belongs.
    pub place: DeltaPlace,
    /// What it says.
    pub text: String,
}

/// The table of deltas.
#[derive(Clone, Debug)]
pub struct PlanDeltas {
    store: Store,
}

impl PlanDeltas {
    pub(crate) fn new(store: Store) -> Self {
        Self { store }
    }

    /// Adds a piece.
    pub async fn append(
        &self,
        (tenant, run_id): (&TenantId, &RunId),
        delta: Delta,
        at: UnixMicros,
    ) -> Result<(), StoreError> {
        let row = plan_deltas::Model {
            run_id: run_id.to_string(),
            step: delta.place.step.to_string(),
            call: i64::from(delta.place.call.0),
            seq: stored(delta.place.seq),
            tenant: tenant.to_string(),
            body: delta.text.into_bytes(),
            created_at: at.0,
        };
        plan_deltas::Entity::insert(row.into_active_model())
            .exec_without_returning(self.store.writer())
            .await
            .map(|_| ())
            .map_err(StoreError::writing(WHAT))
    }

    /// At most `limit` pieces from each of `places` on, those of a call in their order.
    pub async fn read_from(
        &self,
        (tenant, run_id): (&TenantId, &RunId),
        places: &[DeltaPlace],
        limit: u64,
    ) -> Result<Vec<Delta>, StoreError> {
        if places.is_empty() {
            return Ok(Vec::new());
        }
        let wanted = places.iter().fold(Condition::any(), |any, place| {
            let call = Condition::all()
                .add(Column::Step.eq(place.step.as_str()))
                .add(Column::Call.eq(i64::from(place.call.0)))
                .add(Column::Seq.gte(stored(place.seq)));
            any.add(call)
        });
        let rows = plan_deltas::Entity::find()
            .filter(Column::RunId.eq(run_id.as_str()))
            .filter(Column::Tenant.eq(tenant.as_str()))
            .filter(wanted)
            .order_by_asc(Column::Step)
            .order_by_asc(Column::Call)
            .order_by_asc(Column::Seq)
            .limit(limit)
            .all(self.store.reader())
            .await
            .map_err(StoreError::reading(WHAT))?;
        rows.into_iter().map(from_model).collect()
    }

    /// Removes at most [`PURGED_AT_ONCE`] pieces that were written before `before`, unless their step is still worked on. How
    /// many that were.
    pub async fn purge(&self, before: UnixMicros) -> Result<u64, StoreError> {
        let of_delta = |column: Column| Expr::col((plan_deltas::Entity, column));
        let of_run = |column: runs::Column| Expr::col((runs::Entity, column));
        let of_try = |column: journal::Column| Expr::col((journal::Entity, column));
        let mut worked_on = Query::select();
        worked_on
            .expr(Expr::value(1))
            .from(journal::Entity)
            .inner_join(runs::Entity, of_run(runs::Column::RunId).equals((journal::Entity, journal::Column::RunId)))
            .and_where(of_try(journal::Column::Tenant).eq(of_delta(Column::Tenant)))
            .and_where(of_try(journal::Column::RunId).eq(of_delta(Column::RunId)))
            .and_where(of_try(journal::Column::Step).eq(of_delta(Column::Step)))
            .and_where(of_try(journal::Column::State).eq(LEASED))
            .and_where(is_open());
        let key = [Column::RunId, Column::Step, Column::Call, Column::Seq];
        let mut old = Query::select();
        old.columns(key)
            .from(plan_deltas::Entity)
            .and_where(of_delta(Column::CreatedAt).lt(before.0))
            .and_where(Expr::exists(worked_on).not())
            .limit(PURGED_AT_ONCE);
        let purged = plan_deltas::Entity::delete_many()
            .filter(Expr::tuple(key.map(Expr::col)).in_subquery(old))
            .exec(self.store.writer())
            .await
            .map_err(StoreError::writing(WHAT))?;
        Ok(purged.rows_affected)
    }
}

fn from_model(model: plan_deltas::Model) -> Result<Delta, StoreError> {
    let undecodable = |_| StoreError::Decode { column: "plan_deltas.body", value: model.step.clone() };
    Ok(Delta {
        text: String::from_utf8(model.body).map_err(undecodable)?,
        place: DeltaPlace {
            step: StepId::new(model.step.clone()),
            call: CallNumber(counted_small(model.call)),
            seq: counted(model.seq),
        },
    })
}
