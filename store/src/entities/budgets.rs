//! Table `budgets`: what the calls of a bounded run have used, or may still use at most, and what it was given beyond its
//! own limits.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "budgets")]
pub(crate) struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) run_id: String,
    pub(crate) tenant: String,
    pub(crate) calls: i64,
    pub(crate) tokens: i64,
    pub(crate) cost: i64,
    pub(crate) more_calls: i64,
    pub(crate) more_tokens: i64,
    pub(crate) more_cost: i64,
    pub(crate) updated_at: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub(crate) enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
