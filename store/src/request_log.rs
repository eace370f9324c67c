//! The request log: one row for each run, for the operator who asks which model said what and what it cost.

use sea_orm::{ColumnTrait, Condition, ConnectionTrait, EntityTrait, ExprTrait, QueryFilter, QueryOrder, QuerySelect};
use serde::{Deserialize, Serialize};
use tokenhub_domain::{
    ApiKeyId, Deltas, DurabilityMark, ErrorClass, EventKeeping, Labels, ModelId, NanoDollars, PrincipalId, ProviderId,
    RequestId, RunContext, RunId, RunStatus, Share, StopReason, TenantId, UnixMicros, Usage,
};

use crate::{
    Store, StoreError, bulk,
    columns::{counted, counted_small, name_of, named, named_if_set, stored, without_nul},
    entities::request_log,
};

const WHAT: &str = "the request log";
/// A repeated request has a line for each repetition; more than these say nothing new.
const ROWS_OF_ONE_MAX: u64 = 100;
/// Clocks of the processes differ by less.
const SKEW_MICROS: i64 = 60_000_000;
/// No run takes longer from its request to its line.
const LONGEST_MICROS: i64 = 7 * 24 * 3_600_000_000;

/// One line of the log. It travels through the spool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestLogRow {
    /// The run, and to whom it belongs.
    pub run: RunContext,
    /// Whose answer it is.
    pub model: Option<ModelId>,
    /// Who served the model.
    pub provider: Option<ProviderId>,
    /// Which durability the answer had.
    pub durability: DurabilityMark,
    /// How the run ended.
    pub status: RunStatus,
    /// Why it ended.
    pub stop_reason: Option<StopReason>,
    /// Why it failed.
    pub error_class: Option<ErrorClass>,
    /// The sums over its steps.
    pub usage: Usage,
    /// Milliseconds that the answer took.
    pub latency_ms: u64,
    /// When the run ended.
    pub created_at: UnixMicros,
}

impl RequestLogRow {
    /// Where a page that ends with this row continues.
    pub fn keyset(&self) -> Keyset {
        Keyset { created_at: self.created_at, id: row_id(&self.run) }
    }
}

/// A place between two rows of a listing, newest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keyset {
    /// The time of the last row seen.
    pub created_at: UnixMicros,
    /// The id of the last row seen.
    pub id: String,
}

/// The table of the log.
#[derive(Clone, Debug)]
pub struct RequestLog {
    store: Store,
}

impl RequestLog {
    pub(crate) fn new(store: Store) -> Self {
        Self { store }
    }

    /// At most `limit` lines older than `after`, newest first.
    pub async fn list(
        &self,
        tenant: &TenantId,
        after: Option<&Keyset>,
        limit: u64,
    ) -> Result<Vec<RequestLogRow>, StoreError> {
        use request_log::Column;
        let mut query = request_log::Entity::find().filter(Column::Tenant.eq(tenant.as_str()));
        if let Some(place) = after {
            let older = Column::CreatedAt.lt(place.created_at.0);
            let beside = Column::CreatedAt.eq(place.created_at.0).and(Column::Id.lt(place.id.as_str()));
            query = query.filter(Condition::any().add(older).add(beside));
        }
        let rows = query
            .order_by_desc(Column::CreatedAt)
            .order_by_desc(Column::Id)
            .limit(limit)
            .all(self.store.reader())
            .await
            .map_err(StoreError::reading(WHAT))?;
        rows.into_iter().map(from_model).collect()
    }

    /// The lines of a request or a run, by the id of either, oldest first.
    pub async fn about(&self, tenant: &TenantId, id: &str) -> Result<Vec<RequestLogRow>, StoreError> {
        use request_log::Column;
        let mut of_request = Column::RequestId.eq(id);
        // An id of ours says when its request came, and a run ends soon after; so the index by time serves.
        if let Some(at) = time_of(id) {
            let ends = (at - SKEW_MICROS, at + LONGEST_MICROS);
            of_request = of_request.and(Column::CreatedAt.gte(ends.0)).and(Column::CreatedAt.lte(ends.1));
        }
        let rows = request_log::Entity::find()
            .filter(Column::Tenant.eq(tenant.as_str()))
            .filter(Condition::any().add(of_request).add(Column::RunId.eq(id)))
            .order_by_asc(Column::CreatedAt)
            .limit(ROWS_OF_ONE_MAX)
            .all(self.store.reader())
            .await
            .map_err(StoreError::reading(WHAT))?;
        rows.into_iter().map(from_model).collect()
    }
}

/// Writes lines; the first one of a request and run stays.
pub(crate) async fn insert_unless_there<C: ConnectionTrait>(
    connection: &C,
    rows: &[RequestLogRow],
) -> Result<(), StoreError> {
    let rows: Vec<request_log::Model> = rows.iter().map(to_model).collect();
    bulk::insert_unless_there(connection, rows).await.map(|_| ()).map_err(StoreError::writing(WHAT))
}

/// The microseconds since 1970 at which an id of ours, a prefix and a UUIDv7 (RFC 9562), was made.
fn time_of(id: &str) -> Option<i64> {
    let (_, hex) = id.split_once('_')?;
    let millis = i64::from_str_radix(hex.get(..12)?, 16).ok()?;
    (hex.len() == 32).then(|| millis.saturating_mul(1_000))
}

fn row_id(run: &RunContext) -> String {
    format!("{}|{}", run.request_id, run.run_id)
}

fn to_model(row: &RequestLogRow) -> request_log::Model {
    request_log::Model {
        id: row_id(&row.run),
        tenant: row.run.tenant.to_string(),
        run_id: row.run.run_id.to_string(),
        request_id: row.run.request_id.to_string(),
        principal: row.run.principal.to_string(),
        api_key_id: row.run.api_key_id.to_string(),
        config_version: stored(row.run.config_version),
        kind: row.run.kind.as_str().to_owned(),
        model: row.model.as_ref().map(|model| without_nul(model.to_string())),
        provider: row.provider.as_ref().map(ToString::to_string),
        durability: row.durability.as_str().to_owned(),
        status: row.status.as_str().to_owned(),
        stop_reason: row.stop_reason.as_ref().map(name_of),
        error_class: row.error_class.map(|class| class.as_str().to_owned()),
        calls: i64::from(row.usage.calls),
        duplicate_calls: i64::from(row.usage.duplicate_calls),
        input_tokens: stored(row.usage.input_tokens),
        output_tokens: stored(row.usage.output_tokens),
        cost: row.usage.cost.0,
        latency_ms: stored(row.latency_ms),
        created_at: row.created_at.0,
    }
}

fn from_model(model: request_log::Model) -> Result<RequestLogRow, StoreError> {
    Ok(RequestLogRow {
        run: RunContext {
            run_id: RunId::new(model.run_id),
            kind: named("request_log.kind", &model.kind)?,
            tenant: TenantId::new(model.tenant),
            principal: PrincipalId::new(model.principal),
            api_key_id: ApiKeyId::new(model.api_key_id),
            request_id: RequestId::new(model.request_id),
            config_version: counted(model.config_version),
            // A line of the log says nothing of it.
            events: EventKeeping::None,
            labels: Labels::default(),
            share: Share::default(),
            deltas: Deltas::None,
        },
        model: model.model.map(ModelId::new),
        provider: model.provider.map(ProviderId::new),
        durability: named("request_log.durability", &model.durability)?,
        status: named("request_log.status", &model.status)?,
        stop_reason: named_if_set("request_log.stop_reason", model.stop_reason.as_deref())?,
        error_class: named_if_set("request_log.error_class", model.error_class.as_deref())?,
        usage: Usage {
            calls: counted_small(model.calls),
            duplicate_calls: counted_small(model.duplicate_calls),
            input_tokens: counted(model.input_tokens),
            output_tokens: counted(model.output_tokens),
            cost: NanoDollars(model.cost),
            ..Usage::default()
        },
        latency_ms: counted(model.latency_ms),
        created_at: UnixMicros(model.created_at),
    })
}
