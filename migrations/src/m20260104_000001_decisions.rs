//! Migration 4: what selections found, so that somebody can be told later why a request went where it went.
//!
//! One row for each run. The body is `routing`'s own.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
#[expect(elided_lifetimes_in_paths, reason = "the trait elides it, and its methods must match")]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.create_table(decisions()).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_table(Table::drop().table("decisions").to_owned()).await
    }
}

fn decisions() -> TableCreateStatement {
    let mut statement = Table::create();
    statement.table("decisions");
    statement.col(ColumnDef::new("run_id").text().not_null().primary_key());
    for name in ["tenant", "body"] {
        statement.col(ColumnDef::new(name).text().not_null());
    }
    statement.col(ColumnDef::new("created_at").big_integer().not_null()).to_owned()
}
