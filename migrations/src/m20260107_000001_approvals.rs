//! Migration: decisions about answers before they go out.
//!
//! One row for each run that asks for one. That its key is the run's is what keeps a run from asking twice.

use sea_orm_migration::prelude::*;

const TABLE: &str = "approvals";

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
#[expect(elided_lifetimes_in_paths, reason = "the trait elides it, and its methods must match")]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.create_table(approvals()).await?;
        let untold = Index::create().name("approvals_untold").table(TABLE).col("told_at").col("state").to_owned();
        manager.create_index(untold).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_table(Table::drop().table(TABLE).to_owned()).await
    }
}

fn approvals() -> TableCreateStatement {
    let mut statement = Table::create();
    statement.table(TABLE);
    statement.col(ColumnDef::new("run_id").text().not_null().primary_key());
    statement.col(ColumnDef::new("tenant").text().not_null().default("default"));
    for name in ["on_timeout", "state", "outcome_json"] {
        statement.col(ColumnDef::new(name).text().not_null());
    }
    for name in ["decided_by", "principal", "comment", "edited_json"] {
        statement.col(ColumnDef::new(name).text().null());
    }
    for name in ["requested_at", "expires_at"] {
        statement.col(ColumnDef::new(name).big_integer().not_null());
    }
    for name in ["decided_at", "told_at"] {
        statement.col(ColumnDef::new(name).big_integer().null());
    }
    statement
}
