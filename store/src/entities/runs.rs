//! Table `runs`: one row for each job, which is also its claim and its result.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "runs")]
pub(crate) struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) run_id: String,
    pub(crate) tenant: String,
    pub(crate) request_id: String,
    pub(crate) principal: String,
    pub(crate) api_key_id: String,
    pub(crate) tags: Option<String>,
    pub(crate) template: Option<String>,
    pub(crate) template_version: Option<i64>,
    pub(crate) template_hash: Option<String>,
    pub(crate) config_version: i64,
    pub(crate) kind: String,
    pub(crate) spec_json: String,
    pub(crate) idempotency_scope: Option<String>,
    pub(crate) superseded_scope: Option<String>,
    pub(crate) body_hash: Option<String>,
    pub(crate) generation: i64,
    pub(crate) workflow_id: Option<String>,
    pub(crate) status: String,
    pub(crate) stop_reason: Option<String>,
    pub(crate) owner: Option<String>,
    pub(crate) epoch: i64,
    pub(crate) lease_until: Option<i64>,
    pub(crate) durability: Option<String>,
    pub(crate) negotiated_model: Option<String>,
    pub(crate) outcome_json: Option<String>,
    pub(crate) calls: i64,
    pub(crate) duplicate_calls: i64,
    pub(crate) input_tokens: i64,
    pub(crate) output_tokens: i64,
    pub(crate) cost: i64,
    pub(crate) last_seq: i64,
    pub(crate) created_at: i64,
    pub(crate) started_at: Option<i64>,
    pub(crate) finished_at: Option<i64>,
    pub(crate) updated_at: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub(crate) enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
