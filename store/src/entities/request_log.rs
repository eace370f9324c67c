//! Table `request_log`: one row for each run that a request made, written when it ends.

use sea_orm::entity::prelude::*;

use crate::bulk::bulk_row;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "request_log")]
pub(crate) struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) id: String,
    pub(crate) tenant: String,
    pub(crate) run_id: String,
    pub(crate) request_id: String,
    pub(crate) principal: String,
    pub(crate) api_key_id: String,
    pub(crate) config_version: i64,
    pub(crate) kind: String,
    pub(crate) model: Option<String>,
    pub(crate) provider: Option<String>,
    pub(crate) durability: String,
    pub(crate) status: String,
    pub(crate) stop_reason: Option<String>,
    pub(crate) error_class: Option<String>,
    pub(crate) calls: i64,
    pub(crate) duplicate_calls: i64,
    pub(crate) input_tokens: i64,
    pub(crate) output_tokens: i64,
    pub(crate) cost: i64,
    pub(crate) latency_ms: i64,
    pub(crate) created_at: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub(crate) enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

bulk_row!(
    Model,
    "request_log",
    id,
    [
        id,
        tenant,
        run_id,
        request_id,
        principal,
        api_key_id,
        config_version,
        kind,
        model,
        provider,
        durability,
        status,
        stop_reason,
        error_class,
        calls,
        duplicate_calls,
        input_tokens,
        output_tokens,
        cost,
        latency_ms,
        created_at
    ]
);
