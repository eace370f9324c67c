//! Whose rows there are, for administrators: who has a key may have changed since.

use std::collections::BTreeSet;

use sea_orm::{
    ColumnTrait, EntityTrait, FromQueryResult, QueryFilter, QuerySelect,
    sea_query::{Expr, ExprTrait},
};
use tokenhub_domain::TenantId;

use crate::{
    Store, StoreError,
    entities::{ledger, request_log},
};

const WHAT: &str = "the tenants";

#[derive(FromQueryResult)]
struct Next {
    tenant: Option<String>,
}

/// Steps from one value of a column to the next by the index that begins with it: as many short look-ups as there are
/// tenants, however long the table is.
macro_rules! collect {
    ($store:expr, $table:ident, $into:expr) => {{
        let mut last = String::new();
        loop {
            let next = $table::Entity::find()
                .select_only()
                .column_as(Expr::col($table::Column::Tenant).min(), "tenant")
                .filter($table::Column::Tenant.gt(last.as_str()))
                .into_model::<Next>()
                .one($store.reader())
                .await
                .map_err(StoreError::reading(WHAT))?;
            let Some(tenant) = next.and_then(|next| next.tenant) else { break };
            $into.insert(TenantId::new(tenant.as_str()));
            last = tenant;
        }
    }};
}

impl Store {
    /// Every tenant that has called somebody or has a line in the log.
    pub async fn tenants(&self) -> Result<BTreeSet<TenantId>, StoreError> {
        let mut tenants = BTreeSet::new();
        collect!(self, request_log, tenants);
        collect!(self, ledger, tenants);
        Ok(tenants)
    }
}
