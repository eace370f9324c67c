//! What each process has seen of the deployments it called: one text for each, written by it and read by the others.
//!
//! Keeps what it is told and reads nothing into it.

use sea_orm::{ColumnTrait, EntityTrait, IntoActiveModel, QueryFilter, sea_query::OnConflict};
use tokenhub_domain::{InstanceId, TenantId, UnixMicros};

use crate::{Store, StoreError, entities::observations};

const WHAT: &str = "what processes have seen";

/// The table of observations.
#[derive(Clone, Debug)]
pub struct Observations {
    store: Store,
}

impl Observations {
    /// The table in `store`.
    pub(crate) fn new(store: Store) -> Self {
        Self { store }
    }

    /// Replaces what `instance` has seen.
    pub async fn put(
        &self,
        tenant: &TenantId,
        instance: &InstanceId,
        body: String,
        at: UnixMicros,
    ) -> Result<(), StoreError> {
        use observations::Column;
        let row = observations::Model {
            tenant: tenant.as_str().to_owned(),
            instance: instance.as_str().to_owned(),
            body,
            updated_at: at.0,
        };
        let replaced = OnConflict::columns([Column::Tenant, Column::Instance])
            .update_columns([Column::Body, Column::UpdatedAt])
            .to_owned();
        observations::Entity::insert(row.into_active_model())
            .on_conflict(replaced)
            .exec_without_returning(self.store.writer())
            .await
            .map(|_| ())
            .map_err(StoreError::writing(WHAT))
    }

    /// What everybody but `instance` has seen, as far as it was written after `since`.
    pub async fn of_others(
        &self,
        tenant: &TenantId,
        instance: &InstanceId,
        since: UnixMicros,
    ) -> Result<Vec<String>, StoreError> {
        use observations::Column;
        let rows = observations::Entity::find()
            .filter(Column::Tenant.eq(tenant.as_str()))
            .filter(Column::Instance.ne(instance.as_str()))
            .filter(Column::UpdatedAt.gt(since.0))
            .all(self.store.reader())
            .await
            .map_err(StoreError::reading(WHAT))?;
        Ok(rows.into_iter().map(|row| row.body).collect())
    }

    /// Removes what was last written before `at`.
    pub async fn forget(&self, tenant: &TenantId, at: UnixMicros) -> Result<(), StoreError> {
        use observations::Column;
        observations::Entity::delete_many()
            .filter(Column::Tenant.eq(tenant.as_str()))
            .filter(Column::UpdatedAt.lt(at.0))
            .exec(self.store.writer())
            .await
            .map(|_| ())
            .map_err(StoreError::writing(WHAT))
    }
}
