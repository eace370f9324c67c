//! Migration 6: what the calls of a bounded run have used and may use, one row for each run.
//!
//! Sums and no lines, so that taking a part is one conditional update, which both databases carry out one after the
//! other. The lines are the ledger's.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
#[expect(elided_lifetimes_in_paths, reason = "the trait elides it, and its methods must match")]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.create_table(budgets()).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_table(Table::drop().table("budgets").to_owned()).await
    }
}

fn budgets() -> TableCreateStatement {
    let mut statement = Table::create();
    statement.table("budgets");
    statement.col(ColumnDef::new("run_id").text().not_null().primary_key());
    for name in ["calls", "tokens", "cost", "updated_at"] {
        statement.col(ColumnDef::new(name).big_integer().not_null());
    }
    statement.col(ColumnDef::new("tenant").text().not_null()).to_owned()
}
