//! Table `approvals`: one row for each run whose answer somebody decides about.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "approvals")]
pub(crate) struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) run_id: String,
    pub(crate) tenant: String,
    pub(crate) on_timeout: String,
    pub(crate) state: String,
    pub(crate) outcome_json: String,
    pub(crate) decided_by: Option<String>,
    pub(crate) principal: Option<String>,
    pub(crate) comment: Option<String>,
    pub(crate) edited_json: Option<String>,
    pub(crate) requested_at: i64,
    pub(crate) expires_at: i64,
    pub(crate) decided_at: Option<i64>,
    pub(crate) told_at: Option<i64>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub(crate) enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
