//! Webhooks on their way, from the moment that their run is accepted until somebody has taken them.
//!
//! A row is written in the transaction that accepts its run, and what makes it due is the row of the run having ended,
//! whoever wrote that: so no end can be stored without its webhook, and ending a run costs nothing more. A process takes
//! a row by a lease, so one that dies holds nothing up. Must not know how a webhook is sent, nor when it is tried again.

use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, ExprTrait, IntoActiveModel, QueryFilter, QueryOrder, QuerySelect,
    UpdateMany,
    sea_query::{Condition, Expr, Query},
};
use tokenhub_domain::{DeliveryId, InstanceId, PlanEvent, RunStatus, UnixMicros, Webhook, limits};

mod row;

pub use row::{DeliveryRow, DeliveryState};

use crate::{
    Store, StoreError,
    columns::without_nul,
    entities::{
        runs,
        webhook_deliveries::{self as table, Column},
    },
};

const WHAT: &str = "the webhooks";
/// Runs with a webhook that are found ended in one pass.
const ENDED_MAX: u64 = 100;

/// What came of a try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TryEnd {
    /// What is next.
    pub next: AfterTry,
    /// The receiver's status, if it answered.
    pub status: Option<u16>,
    /// Why it was none.
    pub error: Option<String>,
    /// When it ended.
    pub at: UnixMicros,
}

/// What follows a try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterTry {
    /// Nothing: it was taken.
    Delivered,
    /// Another try, then.
    Again(UnixMicros),
    /// Nothing: it is given up.
    Dead,
}

/// What came of asking for a webhook once more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Redelivery {
    /// It is to be sent now.
    Due,
    /// Its run has not ended.
    TooEarly,
    /// There is none.
    Unknown,
}

/// The table of webhooks.
#[derive(Clone, Debug)]
pub struct WebhookDeliveries {
    store: Store,
}

impl WebhookDeliveries {
    pub(crate) fn new(store: Store) -> Self {
        Self { store }
    }

    /// Makes the webhooks due whose runs have ended. How many were found; those that nobody wants are taken away.
    pub async fn release_ended(&self, now: UnixMicros) -> Result<usize, StoreError> {
        let of_delivery = |column| Expr::col((table::Entity, column));
        let of_run = |column| Expr::col((runs::Entity, column));
        let ended = Query::select()
            .column((table::Entity, Column::Id))
            .column((table::Entity, Column::Events))
            .column((runs::Entity, runs::Column::Status))
            .from(table::Entity)
            .inner_join(runs::Entity, of_run(runs::Column::RunId).equals((table::Entity, Column::RunId)))
            .and_where(of_delivery(Column::State).eq(DeliveryState::Waiting.as_str()))
            .and_where(
                of_run(runs::Column::Status).is_not_in([RunStatus::Pending, RunStatus::Running].map(RunStatus::as_str)),
            )
            .limit(ENDED_MAX)
            .to_owned();
        let rows = self.store.reader().query_all(&ended).await.map_err(StoreError::reading(WHAT))?;
        for row in &rows {
            let column = |index| row.try_get_by_index::<String>(index).map_err(StoreError::reading(WHAT));
            let (id, events, status) = (column(0)?, column(1)?, column(2)?);
            // One row that another version wrote must not hold up the others.
            let event = RunStatus::parse(&status).and_then(PlanEvent::end_of);
            let (Some(event), Ok(events)) = (event, row::events_of(&events)) else {
                tracing::warn!(id, status, "a webhook cannot be read");
                continue;
            };
            if Webhook::wants(&events, event) {
                self.release(&id, event, now).await?;
            } else {
                self.discard(&id).await?;
            }
        }
        Ok(rows.len())
    }

    async fn release(&self, id: &str, event: PlanEvent, now: UnixMicros) -> Result<(), StoreError> {
        let update = change(now)
            .col_expr(Column::State, Expr::value(DeliveryState::Pending.as_str()))
            .col_expr(Column::Event, Expr::value(event.as_str()))
            .col_expr(Column::NextAt, Expr::value(now.0))
            .col_expr(Column::DueSince, Expr::value(now.0))
            .filter(is_waiting(id));
        self.write(update).await.map(|_| ())
    }

    async fn discard(&self, id: &str) -> Result<(), StoreError> {
        let deleted = table::Entity::delete_many().filter(is_waiting(id)).exec(self.store.writer()).await;
        deleted.map(|_| ()).map_err(StoreError::writing(WHAT))
    }

    /// Takes at most `limit` webhooks that are due and that nobody holds, those first that have waited longest. Each
    /// counts as a try that was begun.
    pub async fn claim_due(
        &self,
        owner: &InstanceId,
        now: UnixMicros,
        limit: u64,
    ) -> Result<Vec<DeliveryRow>, StoreError> {
        let due = table::Entity::find()
            .filter(Column::State.eq(DeliveryState::Pending.as_str()))
            .filter(Column::NextAt.lte(now.0))
            .filter(is_free(now))
            .order_by_asc(Column::NextAt)
            .limit(limit)
            .all(self.store.reader())
            .await
            .map_err(StoreError::reading(WHAT))?;
        let mut claimed = Vec::with_capacity(due.len());
        for model in due {
            let tries = model.tries;
            let id = model.id.clone();
            let Ok(row) = DeliveryRow::from_model(table::Model { tries: tries + 1, ..model }) else {
                tracing::warn!(id, "a webhook cannot be read");
                continue;
            };
            let update = change(now)
                .col_expr(Column::LeasedBy, Expr::value(owner.as_str()))
                .col_expr(Column::LeaseUntil, Expr::value(now.plus_millis(limits::LEASE_MS).0))
                .col_expr(Column::Tries, Expr::value(tries + 1))
                .filter(Column::Id.eq(id))
                .filter(Column::State.eq(DeliveryState::Pending.as_str()))
                .filter(Column::Tries.eq(tries))
                .filter(is_free(now));
            if self.write(update).await? {
                claimed.push(row);
            }
        }
        Ok(claimed)
    }

    /// Prolongs the hold on a row from [`Self::claim_due`]. False: somebody else has it by now.
    pub async fn renew(&self, row: &DeliveryRow, owner: &InstanceId, now: UnixMicros) -> Result<bool, StoreError> {
        let until = now.plus_millis(limits::LEASE_MS).0;
        let update = change(now).col_expr(Column::LeaseUntil, Expr::value(until)).filter(is_held(row, owner));
        self.write(update).await
    }

    /// Writes what came of a try. False: somebody else has the row by now, and what they say counts.
    pub async fn end_try(&self, row: &DeliveryRow, owner: &InstanceId, end: &TryEnd) -> Result<bool, StoreError> {
        let (state, next_at, delivered_at) = match end.next {
            AfterTry::Delivered => (DeliveryState::Delivered, None, Some(end.at.0)),
            AfterTry::Again(next_at) => (DeliveryState::Pending, Some(next_at.0), None),
            AfterTry::Dead => (DeliveryState::Dead, None, None),
        };
        let update = change(end.at)
            .col_expr(Column::State, Expr::value(state.as_str()))
            .col_expr(Column::NextAt, Expr::value(next_at))
            .col_expr(Column::DeliveredAt, Expr::value(delivered_at))
            .col_expr(Column::LastStatus, Expr::value(end.status.map(i64::from)))
            .col_expr(Column::LastError, Expr::value(end.error.clone().map(without_nul)))
            .col_expr(Column::LeasedBy, Expr::value(None::<String>))
            .col_expr(Column::LeaseUntil, Expr::value(None::<i64>))
            .filter(is_held(row, owner));
        self.write(update).await
    }

    /// One webhook of any tenant.
    pub async fn get(&self, id: &DeliveryId) -> Result<Option<DeliveryRow>, StoreError> {
        let row = table::Entity::find_by_id(id.to_string())
            .one(self.store.reader())
            .await
            .map_err(StoreError::reading(WHAT))?;
        row.map(DeliveryRow::from_model).transpose()
    }

    /// At most `limit` webhooks of all tenants, newest first, older than `after`; in one state where that is said.
    pub async fn page(
        &self,
        state: Option<DeliveryState>,
        after: Option<&DeliveryId>,
        limit: u64,
    ) -> Result<Vec<DeliveryRow>, StoreError> {
        let mut query = table::Entity::find();
        if let Some(state) = state {
            query = query.filter(Column::State.eq(state.as_str()));
        }
        // Ids sort by the time at which they were made.
        if let Some(after) = after {
            query = query.filter(Column::Id.lt(after.as_str()));
        }
        let rows = query.order_by_desc(Column::Id).limit(limit).all(self.store.reader()).await;
        rows.map_err(StoreError::reading(WHAT))?.into_iter().map(DeliveryRow::from_model).collect()
    }

    /// Makes a webhook due once more, under its old id and with all its tries before it.
    pub async fn redeliver(&self, id: &DeliveryId, now: UnixMicros) -> Result<Redelivery, StoreError> {
        let update = change(now)
            .col_expr(Column::State, Expr::value(DeliveryState::Pending.as_str()))
            .col_expr(Column::NextAt, Expr::value(now.0))
            .col_expr(Column::DueSince, Expr::value(now.0))
            .col_expr(Column::Tries, Expr::value(0_i64))
            .col_expr(Column::DeliveredAt, Expr::value(None::<i64>))
            .filter(Column::Id.eq(id.as_str()))
            .filter(Column::State.ne(DeliveryState::Waiting.as_str()));
        if self.write(update).await? {
            return Ok(Redelivery::Due);
        }
        let is_there = self.get(id).await?.is_some();
        Ok(if is_there { Redelivery::TooEarly } else { Redelivery::Unknown })
    }

    async fn write(&self, update: UpdateMany<table::Entity>) -> Result<bool, StoreError> {
        let written = update.exec(self.store.writer()).await.map_err(StoreError::writing(WHAT))?;
        Ok(written.rows_affected > 0)
    }
}

/// Writes the webhook of a run that is being accepted, in the same transaction.
pub(crate) async fn insert_waiting<C: ConnectionTrait>(
    connection: &C,
    run: &runs::Model,
    webhook: &Webhook,
) -> Result<(), StoreError> {
    let row = row::waiting(&run.tenant, &run.run_id, webhook, run.created_at);
    let inserted = table::Entity::insert(row.into_active_model()).exec_without_returning(connection).await;
    inserted.map(|_| ()).map_err(StoreError::writing(WHAT))
}

fn change(now: UnixMicros) -> UpdateMany<table::Entity> {
    table::Entity::update_many().col_expr(Column::UpdatedAt, Expr::value(now.0))
}

fn is_waiting(id: &str) -> Expr {
    Column::Id.eq(id).and(Column::State.eq(DeliveryState::Waiting.as_str()))
}

fn is_free(now: UnixMicros) -> Condition {
    Condition::any().add(Column::LeaseUntil.is_null()).add(Column::LeaseUntil.lte(now.0))
}

/// The number of the try is the fence: each claim raises it.
fn is_held(row: &DeliveryRow, owner: &InstanceId) -> Condition {
    Condition::all()
        .add(Column::Id.eq(row.id.as_str()))
        .add(Column::State.eq(DeliveryState::Pending.as_str()))
        .add(Column::LeasedBy.eq(owner.as_str()))
        .add(Column::Tries.eq(i64::from(row.tries)))
}
