//! Table `plan_deltas`: pieces of answers that are being written.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "plan_deltas")]
pub(crate) struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) run_id: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) step: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) call: i64,
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) seq: i64,
    pub(crate) tenant: String,
    pub(crate) body: Vec<u8>,
    pub(crate) created_at: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub(crate) enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
