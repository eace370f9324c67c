//! The journal: who is making a provider call, and what came of it, so that an answer is never bought twice.
//!
//! An entry is a lease until it is done. A live lease is waited for; an expired one may be taken over with the next
//! epoch. Completing is not fenced: an answer that was received is kept, whoever holds the lease by then, and the first
//! one stays.

mod background;

use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, ConnectionTrait, DbErr, EntityTrait, ExprTrait, QueryFilter, QueryOrder,
    sea_query::{Expr, OnConflict, Query},
};
use tokenhub_domain::{AttemptId, Owner, RunId, StepId, StepKey, TenantId, UnixMicros};

pub use background::{BackgroundCall, LeaseHeld};

use crate::{
    NewEvent, Store, StoreError,
    columns::counted_small,
    entities::journal::{self, Column},
    plan_events,
};

const WHAT: &str = "the journal";
pub(crate) const LEASED: &str = "leased";
const DONE: &str = "done";
/// The end of a lease whose holder is known to be dead.
const ENDED: i64 = 0;
/// How often a lease is tried again when the entry changes between two statements.
const LEASE_TRIES: usize = 5;

/// Asks for the right to make one try of a step.
#[derive(Clone, Copy, Debug)]
pub struct LeaseRequest<'a> {
    /// Whose run it is.
    pub tenant: &'a TenantId,
    /// The try.
    pub key: &'a StepKey,
    /// Its run.
    pub run_id: &'a RunId,
    /// Its step.
    pub step: &'a StepId,
    /// The process that will send.
    pub owner: &'a Owner,
    /// The time.
    pub now: UnixMicros,
    /// The lease ends after this unless it is renewed.
    pub ttl_ms: u64,
}

/// What came of asking for a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lease {
    /// Send.
    Acquired {
        /// Fences the renewals of earlier holders.
        epoch: i64,
        /// Holders before, each of which may have sent.
        earlier_epochs: u32,
        /// The end of the lease that the last of them let expire; nothing where it was ended for a dead one.
        lost_lease_until: Option<UnixMicros>,
    },
    /// Somebody has the answer already.
    Done(JournalEntry),
    /// Somebody is sending: wait for the answer or for the lease to end. The same process may be that somebody.
    Busy {
        /// Who.
        owner: Owner,
        /// Until when, unless renewed.
        lease_until: UnixMicros,
    },
}

/// What came of handing in an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Completed {
    /// It is the answer of the step.
    First,
    /// It is, and was handed in before: by a try to write it, or by somebody else who waited for the same response.
    Again(JournalEntry),
    /// Another answer came before; this one is wasted.
    AlreadyDone(JournalEntry),
}

/// The outcome of a try, as its sender hands it in.
#[derive(Clone, Copy, Debug)]
pub struct HandedIn<'a> {
    /// Whose run it is.
    pub tenant: &'a TenantId,
    /// The try.
    pub key: &'a StepKey,
    /// Who hands it in.
    pub owner: &'a Owner,
    /// A serialised `SendOutcome`.
    pub outcome_json: &'a str,
    /// The ledger row that paid for it.
    pub attempt: &'a AttemptId,
    /// The time.
    pub now: UnixMicros,
}

/// The stored outcome of a try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalEntry {
    /// The try.
    pub key: StepKey,
    /// Who handed it in.
    pub owner: Owner,
    /// Counts the holders of the lease from 1; each may have sent.
    pub epoch: i64,
    /// The ledger row that paid for it.
    pub attempt: AttemptId,
    /// A serialised `SendOutcome`.
    pub outcome_json: String,
    /// When it was stored.
    pub completed_at: UnixMicros,
}

/// One try of one step, with or without an outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalRow {
    /// Whose run it is.
    pub tenant: TenantId,
    /// The try.
    pub key: StepKey,
    /// Its run.
    pub run_id: RunId,
    /// Its step.
    pub step: StepId,
    /// The last holder of the lease, or who handed in the outcome.
    pub owner: Owner,
    /// Counts the holders from 1.
    pub epoch: i64,
    /// The end of the lease.
    pub lease_until: UnixMicros,
    /// When it was first leased.
    pub created_at: UnixMicros,
    /// The outcome, once there is one.
    pub entry: Option<JournalEntry>,
}

/// The table of the journal.
#[derive(Clone, Debug)]
pub struct Journal {
    store: Store,
}

impl Journal {
    pub(crate) fn new(store: Store) -> Self {
        Self { store }
    }

    /// Takes the lease on a try if it is free or expired.
    pub async fn lease(&self, request: LeaseRequest<'_>) -> Result<Lease, StoreError> {
        for _ in 0..LEASE_TRIES {
            if let Some((epoch, lost)) = self.take(&request).await? {
                let lost_lease_until = lost.filter(|until| *until > ENDED).map(UnixMicros);
                return Ok(Lease::Acquired { epoch, earlier_epochs: counted_small(epoch - 1), lost_lease_until });
            }
            let Some(row) = self.read(self.store.writer(), request.tenant, request.key).await? else { continue };
            if let Some(entry) = row.entry {
                return Ok(Lease::Done(entry));
            }
            // Neither done nor live by now: it ended in between.
            if row.lease_until > request.now {
                return Ok(Lease::Busy { owner: row.owner, lease_until: row.lease_until });
            }
        }
        Err(StoreError::Contended(WHAT))
    }

    /// The epoch, and the end of the lease before.
    async fn take(&self, request: &LeaseRequest<'_>) -> Result<Option<(i64, Option<i64>)>, StoreError> {
        let row = journal::ActiveModel {
            tenant: Set(request.tenant.to_string()),
            step_key: Set(request.key.to_string()),
            run_id: Set(request.run_id.to_string()),
            step: Set(request.step.to_string()),
            state: Set(LEASED.to_owned()),
            owner: Set(request.owner.to_string()),
            epoch: Set(1),
            lease_until: Set(request.now.plus_millis(request.ttl_ms).0),
            attempt_id: Set(None),
            outcome_json: Set(None),
            background_json: Set(None),
            lost_lease_until: Set(None),
            created_at: Set(request.now.0),
            completed_at: Set(None),
        };
        let takeover = OnConflict::columns([Column::Tenant, Column::StepKey])
            .update_columns([Column::Owner, Column::LeaseUntil])
            .value(Column::Epoch, Expr::col((journal::Entity, Column::Epoch)).add(1))
            .value(Column::LostLeaseUntil, Expr::col((journal::Entity, Column::LeaseUntil)))
            .action_and_where(Expr::col((journal::Entity, Column::State)).eq(LEASED))
            .action_and_where(Expr::col((journal::Entity, Column::LeaseUntil)).lte(request.now.0))
            .to_owned();
        let mut insert = sea_orm::QueryTrait::into_query(journal::Entity::insert(row).on_conflict(takeover));
        insert.returning(Query::returning().columns([Column::Epoch, Column::LostLeaseUntil]));
        let taken = self.store.writer().query_one(&insert).await.map_err(StoreError::writing(WHAT))?;
        let taken = taken.map(|row| Ok::<_, DbErr>((row.try_get_by_index(0)?, row.try_get_by_index(1)?))).transpose();
        taken.map_err(StoreError::writing(WHAT))
    }

    /// Prolongs a lease. False: it is no longer held, because another took over or the step is done.
    pub async fn renew(
        &self,
        tenant: &TenantId,
        key: &StepKey,
        owner: &Owner,
        epoch: i64,
        now: UnixMicros,
        ttl_ms: u64,
    ) -> Result<bool, StoreError> {
        let renewed = update_open(tenant, key)
            .col_expr(Column::LeaseUntil, Expr::value(now.plus_millis(ttl_ms).0))
            .filter(Column::Owner.eq(owner.0.as_str()))
            .filter(Column::Epoch.eq(epoch))
            .exec(self.store.writer())
            .await
            .map_err(StoreError::writing(WHAT))?;
        Ok(renewed.rows_affected > 0)
    }

    /// Hands in the outcome of a try. The first one stays, also when its sender lost the lease meanwhile; handing in
    /// the same attempt twice is not a second answer.
    pub async fn complete(
        &self,
        tenant: &TenantId,
        key: &StepKey,
        owner: &Owner,
        outcome_json: &str,
        attempt: &AttemptId,
        now: UnixMicros,
    ) -> Result<Completed, StoreError> {
        let outcome = HandedIn { tenant, key, owner, outcome_json, attempt, now };
        if hand_in(self.store.writer(), &outcome).await? {
            return Ok(Completed::First);
        }
        self.handed_in_before(&outcome).await
    }

    /// [`Self::complete`], and together with it what is told of it in the events of `run_id`.
    pub async fn complete_and_tell(
        &self,
        outcome: HandedIn<'_>,
        run_id: &RunId,
        event: &NewEvent,
    ) -> Result<Completed, StoreError> {
        let transaction = self.store.begin(WHAT).await?;
        let is_first = hand_in(&transaction, &outcome).await?;
        if is_first {
            plan_events::write_next(&transaction, (outcome.tenant, run_id), event).await?;
        }
        transaction.commit().await.map_err(StoreError::writing(WHAT))?;
        if is_first { Ok(Completed::First) } else { self.handed_in_before(&outcome).await }
    }

    async fn handed_in_before(&self, outcome: &HandedIn<'_>) -> Result<Completed, StoreError> {
        let HandedIn { tenant, key, attempt, .. } = *outcome;
        match self.read(self.store.writer(), tenant, key).await?.and_then(|row| row.entry) {
            Some(entry) if entry.attempt == *attempt => Ok(Completed::Again(entry)),
            Some(entry) => Ok(Completed::AlreadyDone(entry)),
            None => Err(StoreError::UnknownStep(key.clone())),
        }
    }

    /// Ends a lease at once because its holder is known to be dead. False: it holds none (any more).
    pub async fn take_over(&self, tenant: &TenantId, key: &StepKey, dead: &Owner) -> Result<bool, StoreError> {
        let ended = update_open(tenant, key)
            .col_expr(Column::LeaseUntil, Expr::value(ENDED))
            .filter(Column::Owner.eq(dead.0.as_str()))
            .exec(self.store.writer())
            .await
            .map_err(StoreError::writing(WHAT))?;
        Ok(ended.rows_affected > 0)
    }

    /// One try.
    pub async fn get(&self, tenant: &TenantId, key: &StepKey) -> Result<Option<JournalRow>, StoreError> {
        self.read(self.store.reader(), tenant, key).await
    }

    /// Every try of a run, oldest first.
    pub async fn of_run(&self, tenant: &TenantId, run_id: &RunId) -> Result<Vec<JournalRow>, StoreError> {
        let rows = journal::Entity::find()
            .filter(Column::Tenant.eq(tenant.as_str()))
            .filter(Column::RunId.eq(run_id.as_str()))
            .order_by_asc(Column::CreatedAt)
            .order_by_asc(Column::StepKey)
            .all(self.store.reader())
            .await
            .map_err(StoreError::reading(WHAT))?;
        rows.into_iter().map(from_model).collect()
    }

    /// The outcomes of the tries of one step that have one.
    pub async fn outcomes_of(
        &self,
        tenant: &TenantId,
        run_id: &RunId,
        step: &StepId,
    ) -> Result<Vec<String>, StoreError> {
        let rows = journal::Entity::find()
            .filter(Column::Tenant.eq(tenant.as_str()))
            .filter(Column::RunId.eq(run_id.as_str()))
            .filter(Column::Step.eq(step.as_str()))
            .all(self.store.reader())
            .await
            .map_err(StoreError::reading(WHAT))?;
        Ok(rows.into_iter().filter_map(|row| row.outcome_json).collect())
    }

    async fn read(
        &self,
        connection: &sea_orm::DatabaseConnection,
        tenant: &TenantId,
        key: &StepKey,
    ) -> Result<Option<JournalRow>, StoreError> {
        let id = (tenant.to_string(), key.to_string());
        let row = journal::Entity::find_by_id(id).one(connection).await.map_err(StoreError::reading(WHAT))?;
        row.map(from_model).transpose()
    }
}

/// False: there is an outcome already.
async fn hand_in<C: ConnectionTrait>(connection: &C, outcome: &HandedIn<'_>) -> Result<bool, StoreError> {
    let completed = update_open(outcome.tenant, outcome.key)
        .col_expr(Column::State, Expr::value(DONE))
        .col_expr(Column::OutcomeJson, Expr::value(outcome.outcome_json))
        .col_expr(Column::AttemptId, Expr::value(outcome.attempt.as_str()))
        .col_expr(Column::Owner, Expr::value(outcome.owner.0.as_str()))
        .col_expr(Column::CompletedAt, Expr::value(outcome.now.0))
        .exec(connection)
        .await
        .map_err(StoreError::writing(WHAT))?;
    Ok(completed.rows_affected > 0)
}

/// A change of an entry that has no outcome yet.
fn update_open(tenant: &TenantId, key: &StepKey) -> sea_orm::UpdateMany<journal::Entity> {
    journal::Entity::update_many()
        .filter(Column::Tenant.eq(tenant.as_str()))
        .filter(Column::StepKey.eq(key.as_str()))
        .filter(Column::State.eq(LEASED))
}

fn from_model(model: journal::Model) -> Result<JournalRow, StoreError> {
    let key = StepKey::new(model.step_key);
    let owner = Owner(model.owner);
    let entry = match (model.state.as_str(), model.attempt_id, model.outcome_json, model.completed_at) {
        (LEASED, _, _, _) => None,
        (DONE, Some(attempt), Some(outcome_json), Some(completed_at)) => Some(JournalEntry {
            key: key.clone(),
            owner: owner.clone(),
            epoch: model.epoch,
            attempt: AttemptId::new(attempt),
            outcome_json,
            completed_at: UnixMicros(completed_at),
        }),
        (state, _, _, _) => {
            return Err(StoreError::Decode { column: "journal.state", value: state.to_owned() });
        }
    };
    Ok(JournalRow {
        tenant: TenantId::new(model.tenant),
        key,
        run_id: RunId::new(model.run_id),
        step: StepId::new(model.step),
        owner,
        epoch: model.epoch,
        lease_until: UnixMicros(model.lease_until),
        created_at: UnixMicros(model.created_at),
        entry,
    })
}
