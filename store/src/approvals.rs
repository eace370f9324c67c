//! Decisions about answers before they go out: asked for once by a run, decided once by whoever is first.
//!
//! The row is the truth: a signal only tells a workflow to look at it. A decision is one conditional statement, together
//! with its event, and needs a run that has not ended. Must not know how anybody is asked or told.

use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, ExprTrait, IntoActiveModel, QueryFilter,
    sea_query::{Condition, Expr, OnConflict, Query},
};
use tokenhub_domain::{
    ApprovalState, DecidedBy, OnTimeout, PrincipalId, RunId, RunStatus, TenantId, Text, UnixMicros, WorkflowId,
};

use crate::{
    NewEvent, Store, StoreError,
    columns::without_nul,
    entities::{
        approvals::{self as table, Column},
        runs,
    },
    plan_events,
    runs::is_open,
};

const WHAT: &str = "the approvals";
/// Workflows that are told in one pass.
const UNTOLD_MAX: u64 = 100;

/// A run asks for a decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewApproval {
    /// Whose run it is.
    pub tenant: TenantId,
    /// The run.
    pub run_id: RunId,
    /// What follows when nobody decides.
    pub on_timeout: OnTimeout,
    /// The serialised `Outcome` that is decided about.
    pub outcome_json: String,
    /// When.
    pub requested_at: UnixMicros,
    /// Until when.
    pub expires_at: UnixMicros,
}

/// A decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewDecision {
    /// What it is; never [`ApprovalState::Pending`].
    pub state: ApprovalState,
    /// By which way.
    pub by: DecidedBy,
    /// Who, where that is known.
    pub principal: Option<PrincipalId>,
    /// Why.
    pub comment: Option<String>,
    /// What takes the place of the answer's text.
    pub edited: Option<Text>,
    /// When.
    pub at: UnixMicros,
}

/// How a decision stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApprovalRow {
    /// Whose run it is.
    pub tenant: TenantId,
    /// The run.
    pub run_id: RunId,
    /// What follows when nobody decides.
    pub on_timeout: OnTimeout,
    /// What was decided.
    pub state: ApprovalState,
    /// The serialised `Outcome` that is decided about.
    pub outcome_json: String,
    /// By which way.
    pub decided_by: Option<DecidedBy>,
    /// Who, where that is known.
    pub principal: Option<PrincipalId>,
    /// Why.
    pub comment: Option<String>,
    /// What takes the place of the answer's text.
    pub edited: Option<Text>,
    /// When it was asked for.
    pub requested_at: UnixMicros,
    /// Until when.
    pub expires_at: UnixMicros,
    /// When it was decided.
    pub decided_at: Option<UnixMicros>,
}

/// The table of decisions.
#[derive(Clone, Debug)]
pub struct Approvals {
    store: Store,
}

impl Approvals {
    pub(crate) fn new(store: Store) -> Self {
        Self { store }
    }

    /// Asks for a decision, unless the run has done so before, and tells so.
    pub async fn request(&self, new: &NewApproval, event: Option<&NewEvent>) -> Result<(), StoreError> {
        let row = table::Model {
            run_id: new.run_id.to_string(),
            tenant: new.tenant.to_string(),
            on_timeout: new.on_timeout.as_str().to_owned(),
            state: ApprovalState::Pending.as_str().to_owned(),
            outcome_json: new.outcome_json.clone(),
            decided_by: None,
            principal: None,
            comment: None,
            edited_json: None,
            requested_at: new.requested_at.0,
            expires_at: new.expires_at.0,
            decided_at: None,
            told_at: None,
        };
        let transaction = self.store.begin(WHAT).await?;
        let inserted = table::Entity::insert(row.into_active_model())
            .on_conflict(OnConflict::column(Column::RunId).do_nothing().to_owned())
            .exec_without_returning(&transaction)
            .await
            .map_err(StoreError::writing(WHAT))?;
        if let Some(event) = event.filter(|_| inserted > 0) {
            plan_events::write_next(&transaction, (&new.tenant, &new.run_id), event).await?;
        }
        transaction.commit().await.map_err(StoreError::writing(WHAT))
    }

    /// How the decision about a run stands.
    pub async fn get(&self, tenant: &TenantId, run_id: &RunId) -> Result<Option<ApprovalRow>, StoreError> {
        let row = table::Entity::find_by_id(run_id.to_string())
            .filter(Column::Tenant.eq(tenant.as_str()))
            .one(self.store.reader())
            .await
            .map_err(StoreError::reading(WHAT))?;
        row.map(row_of).transpose()
    }

    /// Decides, and tells so. False: somebody has decided before, the time is over, the run has ended or asks nobody. An
    /// expiry is a decision too, which only the end of the time allows.
    pub async fn decide(
        &self,
        (tenant, run_id): (&TenantId, &RunId),
        decision: &NewDecision,
        event: Option<&NewEvent>,
    ) -> Result<bool, StoreError> {
        let is_in_time = match decision.state {
            ApprovalState::Expired => Column::ExpiresAt.lte(decision.at.0),
            ApprovalState::Pending | ApprovalState::Approved | ApprovalState::Edited | ApprovalState::Rejected => {
                Column::ExpiresAt.gt(decision.at.0)
            }
        };
        let open = Query::select()
            .column(runs::Column::RunId)
            .from(runs::Entity)
            .and_where(runs::Column::RunId.eq(run_id.as_str()))
            .and_where(is_open())
            .to_owned();
        let edited_json = decision.edited.as_ref().map(|text| serde_json::to_string(text).unwrap_or_default());
        let update = table::Entity::update_many()
            .col_expr(Column::State, Expr::value(decision.state.as_str()))
            .col_expr(Column::DecidedBy, Expr::value(decision.by.as_str()))
            .col_expr(Column::Principal, Expr::value(decision.principal.as_ref().map(ToString::to_string)))
            .col_expr(Column::Comment, Expr::value(decision.comment.clone().map(without_nul)))
            .col_expr(Column::EditedJson, Expr::value(edited_json))
            .col_expr(Column::DecidedAt, Expr::value(decision.at.0))
            .filter(Column::Tenant.eq(tenant.as_str()))
            .filter(Column::RunId.eq(run_id.as_str()))
            .filter(Column::State.eq(ApprovalState::Pending.as_str()))
            .filter(is_in_time)
            .filter(Column::RunId.in_subquery(open));
        let transaction = self.store.begin(WHAT).await?;
        let decided = update.exec(&transaction).await.map_err(StoreError::writing(WHAT))?.rows_affected > 0;
        if let Some(event) = event.filter(|_| decided) {
            plan_events::write_next(&transaction, (tenant, run_id), event).await?;
        }
        transaction.commit().await.map_err(StoreError::writing(WHAT))?;
        Ok(decided)
    }

    /// Decisions of somebody that the workflow of a run which has not ended may not know yet.
    pub async fn untold(&self) -> Result<Vec<(TenantId, RunId, WorkflowId)>, StoreError> {
        let of_run = |column| Expr::col((runs::Entity, column));
        let of_approval = |column| Expr::col((table::Entity, column));
        let untold = Query::select()
            .column((runs::Entity, runs::Column::Tenant))
            .column((runs::Entity, runs::Column::RunId))
            .column((runs::Entity, runs::Column::WorkflowId))
            .from(table::Entity)
            .inner_join(runs::Entity, of_run(runs::Column::RunId).equals((table::Entity, Column::RunId)))
            .and_where(of_approval(Column::ToldAt).is_null())
            .and_where(of_approval(Column::State).ne(ApprovalState::Pending.as_str()))
            .and_where(of_run(runs::Column::Status).eq(RunStatus::Running.as_str()))
            .and_where(of_run(runs::Column::WorkflowId).is_not_null())
            .limit(UNTOLD_MAX)
            .to_owned();
        let rows = self.store.reader().query_all(&untold).await.map_err(StoreError::reading(WHAT))?;
        let mut found = Vec::with_capacity(rows.len());
        for row in &rows {
            let column = |index| row.try_get_by_index::<String>(index).map_err(StoreError::reading(WHAT));
            found.push((TenantId::new(column(0)?), RunId::new(column(1)?), WorkflowId::new(column(2)?)));
        }
        Ok(found)
    }

    /// Whoever carries the run knows of the decision.
    pub async fn told(&self, tenant: &TenantId, run_id: &RunId, now: UnixMicros) -> Result<(), StoreError> {
        let is_decided = Condition::all()
            .add(Column::Tenant.eq(tenant.as_str()))
            .add(Column::RunId.eq(run_id.as_str()))
            .add(Column::State.ne(ApprovalState::Pending.as_str()));
        let update = table::Entity::update_many().col_expr(Column::ToldAt, Expr::value(now.0)).filter(is_decided);
        update.exec(self.store.writer()).await.map(|_| ()).map_err(StoreError::writing(WHAT))
    }
}

fn row_of(model: table::Model) -> Result<ApprovalRow, StoreError> {
    let decode = |column: &'static str, value: &str| StoreError::Decode { column, value: value.to_owned() };
    let decided_by = match model.decided_by.as_deref() {
        None => None,
        Some(name) => Some(DecidedBy::parse(name).ok_or_else(|| decode("approvals.decided_by", name))?),
    };
    let edited = match model.edited_json.as_deref() {
        None => None,
        Some(json) => Some(serde_json::from_str(json).map_err(|_| decode("approvals.edited_json", "not a text"))?),
    };
    Ok(ApprovalRow {
        on_timeout: OnTimeout::parse(&model.on_timeout)
            .ok_or_else(|| decode("approvals.on_timeout", &model.on_timeout))?,
        state: ApprovalState::parse(&model.state).ok_or_else(|| decode("approvals.state", &model.state))?,
        tenant: TenantId::new(model.tenant),
        run_id: RunId::new(model.run_id),
        outcome_json: model.outcome_json,
        decided_by,
        principal: model.principal.map(PrincipalId::new),
        comment: model.comment,
        edited,
        requested_at: UnixMicros(model.requested_at),
        expires_at: UnixMicros(model.expires_at),
        decided_at: model.decided_at.map(UnixMicros),
    })
}
