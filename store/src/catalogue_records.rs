//! What administrators wrote about providers, models and aliases, and the count of their changes.
//!
//! Owns that changes come one after the other: each is made against the count that its author has seen, or not at all.
//! Keeps texts and sealed bytes, and reads nothing into them.

use sea_orm::{
    ColumnTrait, Condition, DatabaseTransaction, EntityTrait, IntoActiveModel, QueryFilter,
    sea_query::{Expr, OnConflict},
};
use tokenhub_domain::{TenantId, UnixMicros};

use crate::{
    Store, StoreError,
    columns::{counted, stored},
    entities::catalogue_records::{self as table, Column},
};

const WHAT: &str = "the catalogue";
/// The kind of the row that counts.
const COUNTER: &str = "catalogue";

/// One entry. Kind, provider and id are its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordRow {
    /// What it is about; not `catalogue`.
    pub kind: String,
    /// Whose model it is; empty where it is none.
    pub provider: String,
    /// Its name.
    pub id: String,
    /// What was written.
    pub body: String,
    /// Sealed keys.
    pub secret: Option<Vec<u8>>,
    /// Counts its changes, from 1.
    pub version: u64,
    /// When it was written.
    pub updated_at: UnixMicros,
}

/// One change of the catalogue: it happens as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CatalogueChange {
    /// Rows that take the place of those with their keys.
    pub put: Vec<RecordRow>,
    /// Rows that go, by their keys.
    pub remove: Vec<RecordRow>,
}

/// Whether a change was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Changed {
    /// It was, and this is the count now.
    To(u64),
    /// Somebody else was first: read again.
    Outrun,
}

/// The table of the catalogue.
#[derive(Clone, Debug)]
pub struct CatalogueRecords {
    store: Store,
}

impl CatalogueRecords {
    pub(crate) fn new(store: Store) -> Self {
        Self { store }
    }

    /// How many changes there were.
    pub async fn count(&self, tenant: &TenantId) -> Result<u64, StoreError> {
        let row = table::Entity::find()
            .filter(counter(tenant))
            .one(self.store.reader())
            .await
            .map_err(StoreError::reading(WHAT))?;
        Ok(row.map_or(0, |row| counted(row.version)))
    }

    /// Every row, in the order of kind, provider and id, and the count they belong to.
    pub async fn all(&self, tenant: &TenantId) -> Result<(u64, Vec<RecordRow>), StoreError> {
        let rows = table::Entity::find()
            .filter(Column::Tenant.eq(tenant.as_str()))
            .all(self.store.reader())
            .await
            .map_err(StoreError::reading(WHAT))?;
        let (counters, rows): (Vec<_>, Vec<_>) = rows.into_iter().partition(|row| row.kind == COUNTER);
        let mut rows: Vec<RecordRow> = rows.into_iter().map(from_model).collect();
        rows.sort_by(|left, right| key(left).cmp(&key(right)));
        Ok((counters.first().map_or(0, |row| counted(row.version)), rows))
    }

    /// Makes `change` if there were `seen` changes so far.
    pub async fn change(
        &self,
        tenant: &TenantId,
        seen: u64,
        change: CatalogueChange,
        at: UnixMicros,
    ) -> Result<Changed, StoreError> {
        let transaction = self.store.begin(WHAT).await?;
        if !count_up(&transaction, tenant, seen, at).await? {
            return Ok(Changed::Outrun);
        }
        for row in &change.remove {
            table::Entity::delete_many()
                .filter(Column::Tenant.eq(tenant.as_str()))
                .filter(Column::Kind.eq(&row.kind))
                .filter(Column::Provider.eq(&row.provider))
                .filter(Column::Id.eq(&row.id))
                .exec(&transaction)
                .await
                .map_err(StoreError::writing(WHAT))?;
        }
        for row in change.put {
            let replaced = OnConflict::columns([Column::Tenant, Column::Kind, Column::Provider, Column::Id])
                .update_columns([Column::Body, Column::Secret, Column::Version, Column::UpdatedAt])
                .to_owned();
            table::Entity::insert(to_model(tenant, row).into_active_model())
                .on_conflict(replaced)
                .exec_without_returning(&transaction)
                .await
                .map_err(StoreError::writing(WHAT))?;
        }
        transaction.commit().await.map_err(StoreError::writing(WHAT))?;
        Ok(Changed::To(seen + 1))
    }
}

/// Takes the turn after `seen` changes; false when it is taken.
async fn count_up(
    transaction: &DatabaseTransaction,
    tenant: &TenantId,
    seen: u64,
    at: UnixMicros,
) -> Result<bool, StoreError> {
    let counted = if seen == 0 {
        let first = RecordRow {
            kind: COUNTER.to_owned(),
            provider: String::new(),
            id: String::new(),
            body: String::new(),
            secret: None,
            version: 1,
            updated_at: at,
        };
        let there =
            OnConflict::columns([Column::Tenant, Column::Kind, Column::Provider, Column::Id]).do_nothing().to_owned();
        table::Entity::insert(to_model(tenant, first).into_active_model())
            .on_conflict(there)
            .exec_without_returning(transaction)
            .await
            .map_err(StoreError::writing(WHAT))?
    } else {
        table::Entity::update_many()
            .col_expr(Column::Version, Expr::value(stored(seen + 1)))
            .col_expr(Column::UpdatedAt, Expr::value(at.0))
            .filter(counter(tenant))
            .filter(Column::Version.eq(stored(seen)))
            .exec(transaction)
            .await
            .map_err(StoreError::writing(WHAT))?
            .rows_affected
    };
    Ok(counted == 1)
}

fn counter(tenant: &TenantId) -> Condition {
    Condition::all().add(Column::Tenant.eq(tenant.as_str())).add(Column::Kind.eq(COUNTER))
}

fn key(row: &RecordRow) -> (&str, &str, &str) {
    (&row.kind, &row.provider, &row.id)
}

fn to_model(tenant: &TenantId, row: RecordRow) -> table::Model {
    table::Model {
        tenant: tenant.to_string(),
        kind: row.kind,
        provider: row.provider,
        id: row.id,
        body: row.body,
        secret: row.secret,
        version: stored(row.version),
        updated_at: row.updated_at.0,
    }
}

fn from_model(model: table::Model) -> RecordRow {
    RecordRow {
        kind: model.kind,
        provider: model.provider,
        id: model.id,
        body: model.body,
        secret: model.secret,
        version: counted(model.version),
        updated_at: UnixMicros(model.updated_at),
    }
}
