//! What happened to each plan, numbered from 1 without a gap, whoever writes.
//!
//! The number comes from the run's row, which an event's transaction holds until it is committed: so events become
//! visible in their order, and whoever has read one has all before it. A run keeps events when its first one was written
//! with its row; of any other nothing is kept, whatever is told of it. The last event is written with the result, and
//! nothing after it. Keeps texts and reads nothing into them.

use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, ExprTrait, IntoActiveModel, QueryFilter, QueryOrder, QueryResult,
    QuerySelect,
    sea_query::{CaseStatement, Expr, OnConflict, Query, ReturningClause, UpdateStatement},
};
use tokenhub_domain::{PlanEvent, RunId, RunStatus, TenantId, UnixMicros, limits};

use crate::{
    Store, StoreError,
    columns::{counted, stored, without_nul},
    entities::{
        plan_events::{self, Column},
        runs,
    },
    runs::is_open,
};

const WHAT: &str = "the events of a plan";

/// An event to add.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewEvent {
    /// What happened.
    pub name: PlanEvent,
    /// What makes it the same as another of its run: the first one stays.
    pub key: String,
    /// A JSON object.
    pub data: String,
    /// When.
    pub at: UnixMicros,
}

/// A stored event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventRow {
    /// Counts the events of its run from 1.
    pub seq: u64,
    /// What happened, as whoever wrote it called it.
    pub name: String,
    /// A JSON object.
    pub data: String,
    /// When.
    pub at: UnixMicros,
}

/// How far a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The number of its last event; 0 when none are kept.
    pub last_seq: u64,
    /// Where it stands.
    pub status: RunStatus,
}

/// The table of events.
#[derive(Clone, Debug)]
pub struct PlanEvents {
    store: Store,
}

impl PlanEvents {
    pub(crate) fn new(store: Store) -> Self {
        Self { store }
    }

    /// Adds those of `events` that were not told before, in their order, unless the run has ended or keeps none.
    pub async fn append(&self, tenant: &TenantId, run_id: &RunId, events: &[NewEvent]) -> Result<(), StoreError> {
        let transaction = self.store.begin(WHAT).await?;
        for event in events {
            write_next(&transaction, (tenant, run_id), event).await?;
        }
        transaction.commit().await.map_err(StoreError::writing(WHAT))
    }

    /// Adds what `events` makes of the keys that the events of these kinds have so far, in their order; gives those keys as
    /// they are afterwards. Nobody else adds any in between, and nothing is added where [`Self::append`] adds nothing.
    pub async fn append_knowing(
        &self,
        (tenant, run_id): (&TenantId, &RunId),
        kinds: &[PlanEvent],
        events: impl Fn(&[String]) -> Vec<NewEvent>,
    ) -> Result<Vec<String>, StoreError> {
        let transaction = self.store.begin(WHAT).await?;
        // The row is held as by an event that is written.
        let hold = counting((tenant, run_id), Expr::col(runs::Column::LastSeq));
        transaction.execute(&hold).await.map_err(StoreError::writing(WHAT))?;
        let new = events(&keys_of(&transaction, (tenant, run_id), kinds).await?);
        for event in &new {
            write_next(&transaction, (tenant, run_id), event).await?;
        }
        let known = keys_of(&transaction, (tenant, run_id), kinds).await?;
        transaction.commit().await.map_err(StoreError::writing(WHAT))?;
        Ok(known)
    }

    /// At most `limit` events of a run behind the event `seq`, in order.
    pub async fn after(
        &self,
        tenant: &TenantId,
        run_id: &RunId,
        seq: u64,
        limit: u64,
    ) -> Result<Vec<EventRow>, StoreError> {
        let rows = plan_events::Entity::find()
            .filter(Column::RunId.eq(run_id.as_str()))
            .filter(Column::Tenant.eq(tenant.as_str()))
            .filter(Column::Seq.gt(stored(seq)))
            .order_by_asc(Column::Seq)
            .limit(limit)
            .all(self.store.reader())
            .await
            .map_err(StoreError::reading(WHAT))?;
        let of_model = |model: plan_events::Model| EventRow {
            seq: counted(model.seq),
            name: model.kind,
            data: model.event_json,
            at: UnixMicros(model.created_at),
        };
        Ok(rows.into_iter().map(of_model).collect())
    }

    /// How far the run is, without its texts: whoever waits for an event asks often.
    pub async fn progress(&self, tenant: &TenantId, run_id: &RunId) -> Result<Option<Progress>, StoreError> {
        let row: Option<(i64, String)> = runs::Entity::find_by_id(run_id.to_string())
            .filter(runs::Column::Tenant.eq(tenant.as_str()))
            .select_only()
            .columns([runs::Column::LastSeq, runs::Column::Status])
            .into_tuple()
            .one(self.store.reader())
            .await
            .map_err(StoreError::reading(WHAT))?;
        let progress = row.map(|(last_seq, status)| match RunStatus::parse(&status) {
            Some(status) => Ok(Progress { last_seq: counted(last_seq), status }),
            None => Err(StoreError::Decode { column: "runs.status", value: status }),
        });
        progress.transpose()
    }
}

/// The place of an event: its number, and whose run it is of.
struct Place {
    seq: i64,
    request_id: String,
    principal: String,
    api_key_id: String,
    config_version: i64,
}

impl Place {
    /// What an update of the run's row returns for it.
    fn columns() -> ReturningClause {
        use runs::Column::{ApiKeyId, ConfigVersion, LastSeq, Principal, RequestId};
        Query::returning().columns([LastSeq, RequestId, Principal, ApiKeyId, ConfigVersion])
    }

    fn of(row: &QueryResult) -> Result<Self, sea_orm::DbErr> {
        Ok(Self {
            seq: row.try_get_by_index(0)?,
            request_id: row.try_get_by_index(1)?,
            principal: row.try_get_by_index(2)?,
            api_key_id: row.try_get_by_index(3)?,
            config_version: row.try_get_by_index(4)?,
        })
    }
}

/// The first event of a run, with the row that was just added in the same transaction.
pub(crate) async fn write_first<C: ConnectionTrait>(
    connection: &C,
    run: &runs::Model,
    event: &NewEvent,
) -> Result<(), StoreError> {
    let place = Place {
        seq: run.last_seq,
        request_id: run.request_id.clone(),
        principal: run.principal.clone(),
        api_key_id: run.api_key_id.clone(),
        config_version: run.config_version,
    };
    insert(connection, (&run.tenant, &run.run_id), place, event).await.map(|_| ())
}

/// The next event of a run, unless it was told before. The last event always has room.
pub(crate) async fn write_next<C: ConnectionTrait>(
    connection: &C,
    (tenant, run_id): (&TenantId, &RunId),
    event: &NewEvent,
) -> Result<(), StoreError> {
    let last_seq = || Expr::col(runs::Column::LastSeq);
    let mut count = counting((tenant, run_id), last_seq().add(1));
    count
        .and_where(is_open())
        .and_where(last_seq().gt(0))
        .and_where(last_seq().lt(stored(limits::PLAN_EVENTS_MAX) - 1))
        .returning(Place::columns());
    let counted = connection.query_one(&count).await.map_err(StoreError::writing(WHAT))?;
    let Some(counted) = counted else { return Ok(()) };
    let place = Place::of(&counted).map_err(StoreError::writing(WHAT))?;
    if !insert(connection, (tenant.as_str(), run_id.as_str()), place, event).await? {
        let taken_back = counting((tenant, run_id), last_seq().sub(1));
        connection.execute(&taken_back).await.map_err(StoreError::writing(WHAT))?;
    }
    Ok(())
}

fn counting((tenant, run_id): (&TenantId, &RunId), last_seq: Expr) -> UpdateStatement {
    let mut update = Query::update();
    update
        .table(runs::Entity)
        .value(runs::Column::LastSeq, last_seq)
        .and_where(runs::Column::Tenant.eq(tenant.as_str()))
        .and_where(runs::Column::RunId.eq(run_id.as_str()));
    update
}

/// The keys of the events of these kinds, in their order.
async fn keys_of<C: ConnectionTrait>(
    connection: &C,
    (tenant, run_id): (&TenantId, &RunId),
    kinds: &[PlanEvent],
) -> Result<Vec<String>, StoreError> {
    let keys: Vec<Option<String>> = plan_events::Entity::find()
        .filter(Column::RunId.eq(run_id.as_str()))
        .filter(Column::Tenant.eq(tenant.as_str()))
        .filter(Column::Kind.is_in(kinds.iter().map(|kind| kind.as_str())))
        .order_by_asc(Column::Seq)
        .select_only()
        .column(Column::DedupKey)
        .into_tuple()
        .all(connection)
        .await
        .map_err(StoreError::reading(WHAT))?;
    Ok(keys.into_iter().flatten().collect())
}

/// Carries out `update`, which ends a run, together with its last event. False: it changed nothing.
pub(crate) async fn end_run(
    store: &Store,
    (tenant, run_id): (&TenantId, &RunId),
    mut update: UpdateStatement,
    event: &NewEvent,
) -> Result<bool, StoreError> {
    let last_seq = || Expr::col(runs::Column::LastSeq);
    let next = CaseStatement::new().case(last_seq().gt(0), last_seq().add(1)).finally(last_seq());
    update.value(runs::Column::LastSeq, next).returning(Place::columns());
    let transaction = store.begin(WHAT).await?;
    let Some(ended) = transaction.query_one(&update).await.map_err(StoreError::writing(WHAT))? else {
        transaction.rollback().await.map_err(StoreError::writing(WHAT))?;
        return Ok(false);
    };
    let place = Place::of(&ended).map_err(StoreError::writing(WHAT))?;
    if place.seq > 0 {
        insert(&transaction, (tenant.as_str(), run_id.as_str()), place, event).await?;
    }
    transaction.commit().await.map_err(StoreError::writing(WHAT))?;
    Ok(true)
}

/// False: the same event is there already.
async fn insert<C: ConnectionTrait>(
    connection: &C,
    (tenant, run_id): (&str, &str),
    place: Place,
    event: &NewEvent,
) -> Result<bool, StoreError> {
    let row = plan_events::Model {
        run_id: run_id.to_owned(),
        seq: place.seq,
        tenant: tenant.to_owned(),
        request_id: place.request_id,
        principal: place.principal,
        api_key_id: place.api_key_id,
        config_version: place.config_version,
        kind: event.name.as_str().to_owned(),
        event_json: without_nul(event.data.clone()),
        created_at: event.at.0,
        dedup_key: Some(without_nul(event.key.clone())),
    };
    let told_before = OnConflict::columns([Column::RunId, Column::DedupKey]).do_nothing().to_owned();
    let inserted = plan_events::Entity::insert(row.into_active_model())
        .on_conflict(told_before)
        .exec_without_returning(connection)
        .await
        .map_err(StoreError::writing(WHAT))?;
    Ok(inserted > 0)
}
