//! Which response in the background a try of a step waits for.
//!
//! Kept from the moment when its provider has named it, so that whoever takes the lease over attaches to it. Only the
//! holder of the lease writes it: one who has lost it must not hide the response that the next one has begun.

use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QuerySelect, sea_query::Expr};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokenhub_domain::{AttemptId, Owner, ProviderResponseId, RunId, StepKey, TenantId, UnixMicros, Use};

use super::{Journal, WHAT, update_open};
use crate::{
    StoreError,
    entities::journal::{self, Column},
};

/// A call that its provider carries out in the background.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackgroundCall {
    /// The provider's name of it.
    pub response: ProviderResponseId,
    /// Its ledger row.
    pub attempt: AttemptId,
    /// When it was announced.
    pub sent_at: UnixMicros,
    /// What it was given of the limits of its run; nothing where the run is not bounded.
    pub taken: Option<Use>,
    /// Holders of the lease who have attached to it after the one who began it.
    pub reattached: u32,
}

/// A lease, and who holds it.
#[derive(Clone, Copy, Debug)]
pub struct LeaseHeld<'a> {
    /// Whose run it is.
    pub tenant: &'a TenantId,
    /// The try.
    pub key: &'a StepKey,
    /// The holder.
    pub owner: &'a Owner,
    /// Which of the holders it is.
    pub epoch: i64,
}

impl Journal {
    /// The response that the try waits for, if one has been begun.
    pub async fn background_of(&self, tenant: &TenantId, key: &StepKey) -> Result<Option<BackgroundCall>, StoreError> {
        let id = (tenant.to_string(), key.to_string());
        let row = journal::Entity::find_by_id(id).one(self.store.writer()).await.map_err(StoreError::reading(WHAT))?;
        row.and_then(|row| row.background_json).map(|json| decoded(&json)).transpose()
    }

    /// Keeps the response that the try waits for. False: the lease is not held any more.
    pub async fn keep_background(&self, held: LeaseHeld<'_>, call: &BackgroundCall) -> Result<bool, StoreError> {
        let kept = update_open(held.tenant, held.key)
            .col_expr(Column::BackgroundJson, Expr::value(json!(call).to_string()))
            .filter(Column::Owner.eq(held.owner.0.as_str()))
            .filter(Column::Epoch.eq(held.epoch))
            .exec(self.store.writer())
            .await
            .map_err(StoreError::writing(WHAT))?;
        Ok(kept.rows_affected > 0)
    }

    /// The calls of a run that were carried out in the background, the last one of each try.
    pub async fn background_calls_of(
        &self,
        tenant: &TenantId,
        run_id: &RunId,
    ) -> Result<Vec<BackgroundCall>, StoreError> {
        let rows: Vec<Option<String>> = journal::Entity::find()
            .select_only()
            .column(Column::BackgroundJson)
            .filter(Column::Tenant.eq(tenant.as_str()))
            .filter(Column::RunId.eq(run_id.as_str()))
            .filter(Column::BackgroundJson.is_not_null())
            .into_tuple()
            .all(self.store.reader())
            .await
            .map_err(StoreError::reading(WHAT))?;
        rows.iter().flatten().map(|json| decoded(json)).collect()
    }
}

fn decoded(json: &str) -> Result<BackgroundCall, StoreError> {
    let undecoded = |_| StoreError::Decode { column: "journal.background_json", value: json.to_owned() };
    serde_json::from_str(json).map_err(undecoded)
}
