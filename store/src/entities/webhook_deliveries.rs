//! Table `webhook_deliveries`: one row for each run whose end somebody wants to hear of.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "webhook_deliveries")]
pub(crate) struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) id: String,
    pub(crate) tenant: String,
    pub(crate) run_id: String,
    pub(crate) url: String,
    pub(crate) events: String,
    pub(crate) state: String,
    pub(crate) event: Option<String>,
    pub(crate) last_error: Option<String>,
    pub(crate) leased_by: Option<String>,
    pub(crate) tries: i64,
    pub(crate) next_at: Option<i64>,
    pub(crate) due_since: Option<i64>,
    pub(crate) last_status: Option<i64>,
    pub(crate) lease_until: Option<i64>,
    pub(crate) delivered_at: Option<i64>,
    pub(crate) created_at: i64,
    pub(crate) updated_at: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub(crate) enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
