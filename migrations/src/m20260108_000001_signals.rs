//! Migration: what is asked of runs while they run, and what it gives to a bounded one.
//!
//! The key of a row is its run's and the request's own, which is what keeps a repeated request from counting twice.

use sea_orm_migration::prelude::*;

const TABLE: &str = "plan_signals";
const MORE: [&str; 3] = ["more_calls", "more_tokens", "more_cost"];

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
#[expect(elided_lifetimes_in_paths, reason = "the trait elides it, and its methods must match")]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.create_table(signals()).await?;
        let untold = Index::create().name("plan_signals_untold").table(TABLE).col("told_at").to_owned();
        manager.create_index(untold).await?;
        for name in MORE {
            // SQLite adds one column at a time.
            let column = ColumnDef::new(name).big_integer().not_null().default(0).to_owned();
            manager.alter_table(Table::alter().table("budgets").add_column(column).to_owned()).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for name in MORE {
            manager.alter_table(Table::alter().table("budgets").drop_column(name).to_owned()).await?;
        }
        manager.drop_table(Table::drop().table(TABLE).to_owned()).await
    }
}

fn signals() -> TableCreateStatement {
    let mut statement = Table::create();
    statement.table(TABLE);
    for name in ["run_id", "signal_key", "tenant", "request_json", "principal"] {
        statement.col(ColumnDef::new(name).text().not_null());
    }
    statement.col(ColumnDef::new("asked_at").big_integer().not_null());
    statement.col(ColumnDef::new("told_at").big_integer().null());
    statement.primary_key(Index::create().col("run_id").col("signal_key")).to_owned()
}
