//! Table `journal`: one row for each try of a step, first a lease and then the answer.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "journal")]
pub(crate) struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) tenant: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) step_key: String,
    pub(crate) run_id: String,
    pub(crate) step: String,
    pub(crate) state: String,
    pub(crate) owner: String,
    pub(crate) epoch: i64,
    pub(crate) lease_until: i64,
    pub(crate) attempt_id: Option<String>,
    pub(crate) outcome_json: Option<String>,
    pub(crate) background_json: Option<String>,
    pub(crate) lost_lease_until: Option<i64>,
    pub(crate) created_at: i64,
    pub(crate) completed_at: Option<i64>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub(crate) enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
