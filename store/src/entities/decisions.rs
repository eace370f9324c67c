//! Table `decisions`: what the selection of each run found.

use sea_orm::entity::prelude::*;

use crate::bulk::bulk_row;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "decisions")]
pub(crate) struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) run_id: String,
    pub(crate) tenant: String,
    pub(crate) body: String,
    pub(crate) created_at: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub(crate) enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

bulk_row!(Model, "decisions", run_id, [run_id, tenant, body, created_at]);
