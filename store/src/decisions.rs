//! What the selection of each run found: one text for each, for whoever asks later why a request went where it went.
//!
//! Keeps what it is told and reads nothing into it. Lines come through the spool and are evidence for people only, so
//! they are held until the next one that must not be lost.

use std::collections::HashMap;

use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter};
use serde::{Deserialize, Serialize};
use tokenhub_domain::{RunId, TenantId, UnixMicros};

use crate::{Store, StoreError, bulk, columns::without_nul, entities::decisions};

const WHAT: &str = "the decisions";
/// Keys of one query: the bound of `SQLite` is far above.
const KEYS_PER_QUERY: usize = 500;

/// What a selection found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DecisionRow {
    /// Whose run it is.
    pub tenant: TenantId,
    /// The run.
    pub run_id: RunId,
    /// What was found, in whatever form.
    pub body: String,
    /// When.
    pub created_at: UnixMicros,
}

/// The table of decisions.
#[derive(Clone, Debug)]
pub struct Decisions {
    store: Store,
}

impl Decisions {
    pub(crate) fn new(store: Store) -> Self {
        Self { store }
    }

    /// What was found for each of `runs`, of any tenant, as far as it is known.
    pub async fn of_runs(&self, runs: &[RunId]) -> Result<HashMap<RunId, String>, StoreError> {
        use decisions::Column;
        let mut found = HashMap::with_capacity(runs.len());
        for part in runs.chunks(KEYS_PER_QUERY) {
            let rows = decisions::Entity::find()
                .filter(Column::RunId.is_in(part.iter().map(RunId::as_str)))
                .all(self.store.reader())
                .await
                .map_err(StoreError::reading(WHAT))?;
            found.extend(rows.into_iter().map(|row| (RunId::new(row.run_id), row.body)));
        }
        Ok(found)
    }
}

/// Writes decisions; the first one of a run stays. When a worker dies right after it has selected, the run goes on with a
/// second one, which is not shown: the ledger tells whom it called.
pub(crate) async fn insert_unless_there<C: ConnectionTrait>(
    connection: &C,
    rows: Vec<DecisionRow>,
) -> Result<(), StoreError> {
    let to_model = |row: DecisionRow| decisions::Model {
        run_id: row.run_id.to_string(),
        tenant: row.tenant.to_string(),
        body: without_nul(row.body),
        created_at: row.created_at.0,
    };
    let rows = rows.into_iter().map(to_model).collect();
    bulk::insert_unless_there(connection, rows).await.map(|_| ()).map_err(StoreError::writing(WHAT))
}
