//! Table `ledger`: one row for each provider call.

use sea_orm::entity::prelude::*;

use crate::bulk::bulk_row;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "ledger")]
pub(crate) struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) attempt_id: String,
    pub(crate) tenant: String,
    pub(crate) run_id: String,
    pub(crate) request_id: String,
    pub(crate) principal: String,
    pub(crate) api_key_id: String,
    pub(crate) tags: Option<String>,
    pub(crate) config_version: i64,
    pub(crate) instance_id: String,
    pub(crate) step: String,
    pub(crate) step_key: String,
    pub(crate) role: String,
    pub(crate) provider: String,
    pub(crate) model: String,
    pub(crate) state: String,
    pub(crate) estimated_cost: i64,
    pub(crate) cost: i64,
    pub(crate) input_tokens: i64,
    pub(crate) output_tokens: i64,
    pub(crate) input_price: i64,
    pub(crate) output_price: i64,
    pub(crate) price_rule: Option<String>,
    pub(crate) usage_json: Option<String>,
    pub(crate) finish_reason: Option<String>,
    pub(crate) status_code: Option<i64>,
    pub(crate) error_class: Option<String>,
    pub(crate) waste: Option<String>,
    pub(crate) latency_ms: Option<i64>,
    pub(crate) created_at: i64,
    pub(crate) sent_at: Option<i64>,
    pub(crate) finished_at: Option<i64>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub(crate) enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

bulk_row!(
    Model,
    "ledger",
    attempt_id,
    [
        attempt_id,
        tenant,
        run_id,
        request_id,
        principal,
        api_key_id,
        tags,
        config_version,
        instance_id,
        step,
        step_key,
        role,
        provider,
        model,
        state,
        estimated_cost,
        cost,
        input_tokens,
        output_tokens,
        input_price,
        output_price,
        price_rule,
        usage_json,
        finish_reason,
        status_code,
        error_class,
        waste,
        latency_ms,
        created_at,
        sent_at,
        finished_at
    ]
);
