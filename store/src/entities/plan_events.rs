//! Table `plan_events`: what happened to each plan, numbered.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "plan_events")]
pub(crate) struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) run_id: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) seq: i64,
    pub(crate) tenant: String,
    pub(crate) request_id: String,
    pub(crate) principal: String,
    pub(crate) api_key_id: String,
    pub(crate) config_version: i64,
    pub(crate) kind: String,
    pub(crate) event_json: String,
    pub(crate) created_at: i64,
    pub(crate) dedup_key: Option<String>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub(crate) enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
