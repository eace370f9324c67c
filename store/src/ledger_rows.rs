//! The ledger as it can be read: typed rows, for statistics, budgets and the proof that nothing was paid twice.

use sea_orm::{ColumnTrait, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder, Select, sea_query::Expr};
use serde::{Deserialize, Serialize};
use tokenhub_domain::{
    ApiKeyId, AttemptId, ErrorClass, InstanceId, ModelId, NanoDollars, PricePerMillion, PrincipalId, ProviderId,
    RequestId, Role, RunId, StepId, StepKey, TenantId, UnixMicros,
};

use crate::{
    Store, StoreError, Waste,
    columns::{counted, name_of, named, named_if_set},
    entities::ledger::{self, Column},
};

const WHAT: &str = "the ledger";

/// The state of an attempt. It only ever moves on: reserved, sent, orphaned, and then settled or void.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LedgerState {
    /// Nothing has left yet.
    Reserved,
    /// The bytes may have left.
    Sent,
    /// Its process died before the end was known.
    Orphaned,
    /// Paid: answered, or broken off after its provider had counted.
    Settled,
    /// Not answered, and nothing was counted.
    Void,
}

impl LedgerState {
    /// The stable name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reserved => "reserved",
            Self::Sent => "sent",
            Self::Orphaned => "orphaned",
            Self::Settled => "settled",
            Self::Void => "void",
        }
    }

    /// The states that settling or voiding may still change.
    pub(crate) const UNDECIDED: [&'static str; 3] = ["reserved", "sent", "orphaned"];
    /// The states that learning of a wasted answer may still change.
    pub(crate) const NOT_VOID: [&'static str; 4] = ["reserved", "sent", "orphaned", "settled"];
    /// The states in which an attempt of a living process may be.
    pub(crate) const OPEN: [&'static str; 2] = ["reserved", "sent"];
}

/// One provider call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerRow {
    /// Its id, also sent upstream.
    pub attempt: AttemptId,
    /// Whose money it is.
    pub tenant: TenantId,
    /// Its run.
    pub run_id: RunId,
    /// The HTTP request.
    pub request_id: RequestId,
    /// Who asked.
    pub principal: PrincipalId,
    /// With which key.
    pub api_key_id: ApiKeyId,
    /// The catalogue version.
    pub config_version: u64,
    /// The process that sent it.
    pub instance: InstanceId,
    /// Its step.
    pub step: StepId,
    /// Its try of the step.
    pub step_key: StepKey,
    /// What it was for.
    pub role: Role,
    /// Who was called.
    pub provider: ProviderId,
    /// Which model.
    pub model: ModelId,
    /// Where it stands.
    pub state: LedgerState,
    /// What it was expected to cost.
    pub estimated_cost: NanoDollars,
    /// What it cost.
    pub cost: NanoDollars,
    /// Prompt tokens.
    pub input_tokens: u64,
    /// Answer tokens.
    pub output_tokens: u64,
    /// The price of prompt tokens at that time.
    pub input_price: PricePerMillion,
    /// The price of answer tokens at that time.
    pub output_price: PricePerMillion,
    /// How the cost was made of them, and whose prices they are.
    pub price_rule: Option<String>,
    /// The provider's own usage object.
    pub usage_json: Option<String>,
    /// The provider's finish reason.
    pub finish_reason: Option<String>,
    /// The HTTP status of a failure.
    pub status_code: Option<u16>,
    /// Why it failed.
    pub error_class: Option<ErrorClass>,
    /// Whether its answer was used.
    pub waste: Option<Waste>,
    /// Milliseconds from sending to the end.
    pub latency_ms: Option<u64>,
    /// When it was reserved.
    pub created_at: UnixMicros,
    /// When the bytes left; none when they never did.
    pub sent_at: Option<UnixMicros>,
    /// When its end became known.
    pub finished_at: Option<UnixMicros>,
}

/// The table of the ledger, for reading.
#[derive(Clone, Debug)]
pub struct LedgerRows {
    store: Store,
}

impl LedgerRows {
    pub(crate) fn new(store: Store) -> Self {
        Self { store }
    }

    /// Every row of every tenant, oldest first. For checks and small databases.
    pub async fn all(&self) -> Result<Vec<LedgerRow>, StoreError> {
        self.fetch(ledger::Entity::find()).await
    }

    /// The rows of a run, oldest first.
    pub async fn of_run(&self, tenant: &TenantId, run_id: &RunId) -> Result<Vec<LedgerRow>, StoreError> {
        let of_tenant = ledger::Entity::find().filter(Column::Tenant.eq(tenant.as_str()));
        self.fetch(of_tenant.filter(Column::RunId.eq(run_id.as_str()))).await
    }

    /// How many calls of that try have left, whatever became of them.
    pub async fn sends_of(&self, tenant: &TenantId, key: &StepKey) -> Result<u32, StoreError> {
        let sends = ledger::Entity::find()
            .filter(Column::Tenant.eq(tenant.as_str()))
            .filter(Column::StepKey.eq(key.as_str()))
            .filter(Column::SentAt.is_not_null())
            .count(self.store.reader())
            .await
            .map_err(StoreError::reading(WHAT))?;
        Ok(u32::try_from(sends).unwrap_or(u32::MAX))
    }

    /// Tokens of the answers to that try that nobody used.
    pub async fn wasted_tokens_of(&self, tenant: &TenantId, key: &StepKey) -> Result<u64, StoreError> {
        let of_try = ledger::Entity::find()
            .filter(Column::Tenant.eq(tenant.as_str()))
            .filter(Column::StepKey.eq(key.as_str()))
            .filter(Column::Waste.eq(name_of(&Waste::Wasted)));
        let rows = self.fetch(of_try).await?;
        Ok(rows.iter().fold(0, |sum, row| sum.saturating_add(row.input_tokens).saturating_add(row.output_tokens)))
    }

    /// Marks every answer to that try but one as wasted: whoever received it died before it could hand it in.
    pub(crate) async fn waste_all_but(
        &self,
        used: &AttemptId,
        tenant: &TenantId,
        key: &StepKey,
    ) -> Result<(), StoreError> {
        ledger::Entity::update_many()
            .col_expr(Column::Waste, Expr::value(name_of(&Waste::Wasted)))
            .filter(Column::Tenant.eq(tenant.as_str()))
            .filter(Column::StepKey.eq(key.as_str()))
            .filter(Column::AttemptId.ne(used.as_str()))
            .filter(Column::Waste.eq(name_of(&Waste::Used)))
            .exec(self.store.writer())
            .await
            .map(|_| ())
            .map_err(StoreError::writing(WHAT))
    }

    async fn fetch(&self, query: Select<ledger::Entity>) -> Result<Vec<LedgerRow>, StoreError> {
        let rows = query
            .order_by_asc(Column::CreatedAt)
            .order_by_asc(Column::AttemptId)
            .all(self.store.reader())
            .await
            .map_err(StoreError::reading(WHAT))?;
        rows.into_iter().map(from_model).collect()
    }
}

fn from_model(model: ledger::Model) -> Result<LedgerRow, StoreError> {
    Ok(LedgerRow {
        role: named("ledger.role", &model.role)?,
        state: named("ledger.state", &model.state)?,
        error_class: named_if_set("ledger.error_class", model.error_class.as_deref())?,
        waste: named_if_set("ledger.waste", model.waste.as_deref())?,
        attempt: AttemptId::new(model.attempt_id),
        tenant: TenantId::new(model.tenant),
        run_id: RunId::new(model.run_id),
        request_id: RequestId::new(model.request_id),
        principal: PrincipalId::new(model.principal),
        api_key_id: ApiKeyId::new(model.api_key_id),
        config_version: counted(model.config_version),
        instance: InstanceId::new(model.instance_id),
        step: StepId::new(model.step),
        step_key: StepKey::new(model.step_key),
        provider: ProviderId::new(model.provider),
        model: ModelId::new(model.model),
        estimated_cost: NanoDollars(model.estimated_cost),
        cost: NanoDollars(model.cost),
        input_tokens: counted(model.input_tokens),
        output_tokens: counted(model.output_tokens),
        input_price: PricePerMillion(model.input_price),
        output_price: PricePerMillion(model.output_price),
        price_rule: model.price_rule,
        usage_json: model.usage_json,
        finish_reason: model.finish_reason,
        status_code: model.status_code.and_then(|code| u16::try_from(code).ok()),
        latency_ms: model.latency_ms.map(counted),
        created_at: UnixMicros(model.created_at),
        sent_at: model.sent_at.map(UnixMicros),
        finished_at: model.finished_at.map(UnixMicros),
    })
}
