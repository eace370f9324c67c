//! Penalties of providers: they survive a restart, and every process reads them.
//!
//! Keeps what it is told and computes nothing. Processes write without asking each other, so the newest evidence stays:
//! neither an older penalty nor an older pardon replaces a newer row.

use sea_orm::{
    ColumnTrait, Condition, EntityTrait, ExprTrait, IntoActiveModel, QueryFilter,
    sea_query::{Expr, OnConflict},
};
use serde::{Deserialize, Serialize};
use tokenhub_domain::{CredentialId, ErrorClass, ModelId, ProviderId, TenantId, UnixMicros};

use crate::{
    Store, StoreError,
    columns::{counted_small, name_of, named, without_nul},
    entities::cooldowns,
};

const WHAT: &str = "the penalties of providers";

/// How far a penalty reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CooldownScope {
    /// Everything at the provider; credential and model are empty.
    Provider,
    /// Everything with the credential; the model is empty.
    Credential,
    /// One model with the credential.
    CredentialModel,
    /// One model at the provider; the credential is empty.
    Deployment,
}

/// One penalty. Scope, provider, credential and model are its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CooldownRow {
    /// How far it reaches.
    pub scope: CooldownScope,
    /// Whose it is.
    pub provider: ProviderId,
    /// With which credential.
    pub credential: CredentialId,
    /// For which model.
    pub model: ModelId,
    /// The latest failure.
    pub reason: ErrorClass,
    /// When the provider may be called again.
    pub ready_at: UnixMicros,
    /// Failures in a row.
    pub failures: u32,
    /// Names the secret that failed; empty where that does not matter.
    pub credential_fingerprint: String,
    /// When the latest failure was seen.
    pub updated_at: UnixMicros,
}

/// The table of penalties.
#[derive(Clone, Debug)]
pub struct Cooldowns {
    store: Store,
}

impl Cooldowns {
    pub(crate) fn new(store: Store) -> Self {
        Self { store }
    }

    /// All of a tenant, in the order of their keys.
    pub async fn all(&self, tenant: &TenantId) -> Result<Vec<CooldownRow>, StoreError> {
        let rows = cooldowns::Entity::find()
            .filter(cooldowns::Column::Tenant.eq(tenant.as_str()))
            .all(self.store.reader())
            .await
            .map_err(StoreError::reading(WHAT))?;
        let mut rows = rows.into_iter().map(from_model).collect::<Result<Vec<_>, _>>()?;
        rows.sort_by(|left, right| key(left).cmp(&key(right)));
        Ok(rows)
    }

    /// Writes penalties; a row with newer evidence stays as it is.
    pub async fn upsert(&self, tenant: &TenantId, rows: &[CooldownRow]) -> Result<(), StoreError> {
        use cooldowns::Column;
        if rows.is_empty() {
            return Ok(());
        }
        let newest =
            OnConflict::columns([Column::Tenant, Column::Scope, Column::Provider, Column::Credential, Column::Model])
                .update_columns([
                    Column::Reason,
                    Column::ReadyAt,
                    Column::Failures,
                    Column::CredentialFingerprint,
                    Column::UpdatedAt,
                ])
                .action_and_where(
                    Expr::col((cooldowns::Entity, Column::UpdatedAt)).lte(Expr::col(("excluded", Column::UpdatedAt))),
                )
                .to_owned();
        cooldowns::Entity::insert_many(rows.iter().map(|row| to_model(tenant, row).into_active_model()))
            .on_conflict(newest)
            .exec_without_returning(self.store.writer())
            .await
            .map(|_| ())
            .map_err(StoreError::writing(WHAT))
    }

    /// Removes the penalty with the key of `row`, unless its evidence is newer than that of `row`.
    pub async fn clear(&self, tenant: &TenantId, row: &CooldownRow) -> Result<(), StoreError> {
        use cooldowns::Column;
        let model = to_model(tenant, row);
        let this = Condition::all()
            .add(Column::Tenant.eq(model.tenant))
            .add(Column::Scope.eq(model.scope))
            .add(Column::Provider.eq(model.provider))
            .add(Column::Credential.eq(model.credential))
            .add(Column::Model.eq(model.model))
            .add(Column::UpdatedAt.lte(model.updated_at));
        self.delete(this).await.map(|_| ())
    }

    /// Removes every penalty of `provider`; how many there were.
    pub async fn clear_provider(&self, tenant: &TenantId, provider: &ProviderId) -> Result<u64, StoreError> {
        use cooldowns::Column;
        let all = Condition::all()
            .add(Column::Tenant.eq(tenant.as_str()))
            .add(Column::Provider.eq(without_nul(provider.to_string())));
        self.delete(all).await
    }

    async fn delete(&self, which: Condition) -> Result<u64, StoreError> {
        let deleted = cooldowns::Entity::delete_many().filter(which).exec(self.store.writer()).await;
        deleted.map(|deleted| deleted.rows_affected).map_err(StoreError::writing(WHAT))
    }
}

fn key(row: &CooldownRow) -> (&ProviderId, &CredentialId, &ModelId, CooldownScope) {
    (&row.provider, &row.credential, &row.model, row.scope)
}

fn to_model(tenant: &TenantId, row: &CooldownRow) -> cooldowns::Model {
    cooldowns::Model {
        tenant: tenant.to_string(),
        scope: name_of(&row.scope),
        provider: without_nul(row.provider.to_string()),
        credential: without_nul(row.credential.to_string()),
        model: without_nul(row.model.to_string()),
        reason: row.reason.as_str().to_owned(),
        credential_fingerprint: row.credential_fingerprint.clone(),
        ready_at: row.ready_at.0,
        failures: i64::from(row.failures),
        updated_at: row.updated_at.0,
    }
}

fn from_model(model: cooldowns::Model) -> Result<CooldownRow, StoreError> {
    Ok(CooldownRow {
        scope: named("cooldowns.scope", &model.scope)?,
        provider: ProviderId::new(model.provider),
        credential: CredentialId::new(model.credential),
        model: ModelId::new(model.model),
        reason: named("cooldowns.reason", &model.reason)?,
        ready_at: UnixMicros(model.ready_at),
        failures: counted_small(model.failures),
        credential_fingerprint: model.credential_fingerprint,
        updated_at: UnixMicros(model.updated_at),
    })
}
