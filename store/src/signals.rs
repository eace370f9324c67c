//! What was asked of runs while they ran: kept once for each key, and only of a run that has not ended.
//!
//! The row is the request: a signal to a workflow only brings it there, and whoever cannot be told now is told later.
//! More room is given in the transaction that keeps the request, so it is given once. Must not know what a request makes
//! of a run.

use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseTransaction, EntityTrait, ExprTrait, IntoActiveModel, PaginatorTrait,
    QueryFilter, QueryOrder,
    sea_query::{Expr, OnConflict, Query},
};
use tokenhub_domain::{PrincipalId, RunId, Steering, SteeringRequest, TenantId, UnixMicros, WorkflowId, limits};

use crate::{
    NewEvent, Store, StoreError, budgets,
    columns::without_nul,
    entities::{
        runs,
        signals::{self as table, Column},
    },
    plan_events,
    runs::is_open,
};

const WHAT: &str = "the signals of plans";
/// Workflows that are told in one pass.
const UNTOLD_MAX: u64 = 100;

/// Something is asked of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewSignal {
    /// Whose run it is.
    pub tenant: TenantId,
    /// The run.
    pub run_id: RunId,
    /// What makes it the same as another request to this run.
    pub key: String,
    /// What.
    pub request: SteeringRequest,
    /// Who asks.
    pub principal: PrincipalId,
    /// When.
    pub at: UnixMicros,
}

/// What came of asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accepted {
    /// It counts.
    Now,
    /// It was asked before, and counts once.
    AsBefore,
    /// The key was used for another request.
    Otherwise,
    /// The run has ended.
    Ended,
    /// The run was asked too often.
    TooMany,
}

/// What was asked of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignalRow {
    /// What makes it the same as another.
    pub key: String,
    /// What.
    pub request: SteeringRequest,
    /// Who asked.
    pub principal: PrincipalId,
    /// When.
    pub at: UnixMicros,
}

/// What the workflow of a run may not know yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UntoldSignal {
    /// The run.
    pub run_id: RunId,
    /// Which request.
    pub key: String,
    /// What.
    pub request: SteeringRequest,
    /// Who is to be told.
    pub workflow_id: WorkflowId,
}

/// The table of signals.
#[derive(Clone, Debug)]
pub struct Signals {
    store: Store,
}

impl Signals {
    pub(crate) fn new(store: Store) -> Self {
        Self { store }
    }

    /// Keeps a request, gives the room that it asks for, and tells of it.
    pub async fn accept(&self, new: &NewSignal, event: &NewEvent) -> Result<Accepted, StoreError> {
        let transaction = self.store.begin(WHAT).await?;
        let accepted = keep(&transaction, new, event).await?;
        match accepted {
            Accepted::Now => transaction.commit().await.map_err(StoreError::writing(WHAT))?,
            Accepted::AsBefore | Accepted::Otherwise | Accepted::Ended | Accepted::TooMany => {
                transaction.rollback().await.map_err(StoreError::writing(WHAT))?;
            }
        }
        Ok(accepted)
    }

    /// Everything that was asked of a run, in order.
    pub async fn of_run(&self, tenant: &TenantId, run_id: &RunId) -> Result<Vec<SignalRow>, StoreError> {
        let rows = table::Entity::find()
            .filter(Column::RunId.eq(run_id.as_str()))
            .filter(Column::Tenant.eq(tenant.as_str()))
            .order_by_asc(Column::AskedAt)
            .order_by_asc(Column::SignalKey)
            .all(self.store.reader())
            .await
            .map_err(StoreError::reading(WHAT))?;
        // What a newer version has written cannot be obeyed here, and must hide nothing else.
        let readable = rows.into_iter().filter_map(|row| {
            let request = serde_json::from_str(&row.request_json).ok()?;
            let (principal, at) = (PrincipalId::new(row.principal), UnixMicros(row.asked_at));
            Some(SignalRow { key: row.signal_key, request, principal, at })
        });
        Ok(readable.collect())
    }

    /// The same as far as programs hear of it, all together.
    pub async fn steering(&self, tenant: &TenantId, run_id: &RunId) -> Result<Steering, StoreError> {
        let rows = self.of_run(tenant, run_id).await?;
        Ok(rows.iter().fold(Steering::default(), |sum, row| sum.and(row.request.steering())))
    }

    /// Requests of which the workflow that carries an open run may not know yet.
    pub async fn untold(&self) -> Result<Vec<UntoldSignal>, StoreError> {
        let of_run = |column| Expr::col((runs::Entity, column));
        let of_signal = |column| Expr::col((table::Entity, column));
        let untold = Query::select()
            .column((table::Entity, Column::RunId))
            .column((table::Entity, Column::SignalKey))
            .column((table::Entity, Column::RequestJson))
            .column((runs::Entity, runs::Column::WorkflowId))
            .from(table::Entity)
            .inner_join(runs::Entity, of_run(runs::Column::RunId).equals((table::Entity, Column::RunId)))
            .and_where(of_signal(Column::ToldAt).is_null())
            .and_where(is_open())
            .and_where(of_run(runs::Column::WorkflowId).is_not_null())
            .and_where(of_run(runs::Column::Owner).is_not_null())
            // A process looks by itself; only a workflow's claim has no end.
            .and_where(of_run(runs::Column::LeaseUntil).is_null())
            .limit(UNTOLD_MAX)
            .to_owned();
        let rows = self.store.reader().query_all(&untold).await.map_err(StoreError::reading(WHAT))?;
        let mut found = Vec::with_capacity(rows.len());
        for row in &rows {
            let column = |index| row.try_get_by_index::<String>(index).map_err(StoreError::reading(WHAT));
            let (run_id, key, workflow_id) = (RunId::new(column(0)?), column(1)?, WorkflowId::new(column(3)?));
            if let Ok(request) = serde_json::from_str(&column(2)?) {
                found.push(UntoldSignal { run_id, key, request, workflow_id });
            }
        }
        Ok(found)
    }

    /// Whoever carries the run knows of the request.
    pub async fn told(&self, run_id: &RunId, key: &str, now: UnixMicros) -> Result<(), StoreError> {
        let update = table::Entity::update_many()
            .col_expr(Column::ToldAt, Expr::value(now.0))
            .filter(Column::RunId.eq(run_id.as_str()))
            .filter(Column::SignalKey.eq(key));
        update.exec(self.store.writer()).await.map(|_| ()).map_err(StoreError::writing(WHAT))
    }
}

async fn keep(transaction: &DatabaseTransaction, new: &NewSignal, event: &NewEvent) -> Result<Accepted, StoreError> {
    if let Some(before) = standing(transaction, new).await? {
        return Ok(before);
    }
    if !hold(transaction, new).await? {
        return Ok(Accepted::Ended);
    }
    let of_run = table::Entity::find().filter(Column::RunId.eq(new.run_id.as_str()));
    if of_run.count(transaction).await.map_err(StoreError::reading(WHAT))? >= limits::PLAN_SIGNALS_MAX {
        return Ok(Accepted::TooMany);
    }
    let told_at = match new.request {
        // Whoever takes room looks at what there is.
        SteeringRequest::AddBudget(_) => Some(new.at.0),
        SteeringRequest::AnswerNow | SteeringRequest::StopAfterStep | SteeringRequest::ExtendDeadline { .. } => None,
    };
    let row = table::Model {
        run_id: new.run_id.to_string(),
        signal_key: without_nul(new.key.clone()),
        tenant: new.tenant.to_string(),
        request_json: request_json(new),
        principal: new.principal.to_string(),
        asked_at: new.at.0,
        told_at,
    };
    let inserted = table::Entity::insert(row.into_active_model())
        .on_conflict(OnConflict::columns([Column::RunId, Column::SignalKey]).do_nothing().to_owned())
        .exec_without_returning(transaction)
        .await
        .map_err(StoreError::writing(WHAT))?;
    if inserted == 0 {
        return Ok(standing(transaction, new).await?.unwrap_or(Accepted::AsBefore));
    }
    if let SteeringRequest::AddBudget(more) = new.request {
        budgets::give(transaction, (&new.tenant, &new.run_id), more, new.at).await?;
    }
    plan_events::write_next(transaction, (&new.tenant, &new.run_id), event).await?;
    Ok(Accepted::Now)
}

/// How a request with the same key compares, if there was one.
async fn standing(transaction: &DatabaseTransaction, new: &NewSignal) -> Result<Option<Accepted>, StoreError> {
    let key = (new.run_id.to_string(), without_nul(new.key.clone()));
    let row = table::Entity::find_by_id(key).one(transaction).await.map_err(StoreError::reading(WHAT))?;
    let is_same = |row: table::Model| row.request_json == request_json(new);
    Ok(row.map(|row| if is_same(row) { Accepted::AsBefore } else { Accepted::Otherwise }))
}

/// Keeps the run from ending before the transaction does. False: it has ended.
async fn hold(transaction: &DatabaseTransaction, new: &NewSignal) -> Result<bool, StoreError> {
    let held = runs::Entity::update_many()
        .col_expr(runs::Column::UpdatedAt, Expr::col(runs::Column::UpdatedAt))
        .filter(runs::Column::Tenant.eq(new.tenant.as_str()))
        .filter(runs::Column::RunId.eq(new.run_id.as_str()))
        .filter(is_open())
        .exec(transaction)
        .await
        .map_err(StoreError::writing(WHAT))?;
    Ok(held.rows_affected > 0)
}

fn request_json(new: &NewSignal) -> String {
    serde_json::to_string(&new.request).unwrap_or_default()
}
