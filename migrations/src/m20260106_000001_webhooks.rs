//! Migration: the webhooks of plans on their way.
//!
//! A row is written with its run and waits for the run's end. One for each run: that the index says so is what keeps a
//! webhook from being made twice.

use sea_orm_migration::prelude::*;

const TABLE: &str = "webhook_deliveries";

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
#[expect(elided_lifetimes_in_paths, reason = "the trait elides it, and its methods must match")]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.create_table(deliveries()).await?;
        let of_run = Index::create().name("webhook_deliveries_run").table(TABLE).col("run_id").unique().to_owned();
        let due = Index::create().name("webhook_deliveries_due").table(TABLE).col("state").col("next_at").to_owned();
        manager.create_index(of_run).await?;
        manager.create_index(due).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_table(Table::drop().table(TABLE).to_owned()).await
    }
}

fn deliveries() -> TableCreateStatement {
    let mut statement = Table::create();
    statement.table(TABLE);
    statement.col(ColumnDef::new("id").text().not_null().primary_key());
    statement.col(ColumnDef::new("tenant").text().not_null().default("default"));
    for name in ["run_id", "url", "events", "state"] {
        statement.col(ColumnDef::new(name).text().not_null());
    }
    for name in ["event", "last_error", "leased_by"] {
        statement.col(ColumnDef::new(name).text().null());
    }
    statement.col(ColumnDef::new("tries").big_integer().not_null().default(0));
    for name in ["next_at", "due_since", "last_status", "lease_until", "delivered_at"] {
        statement.col(ColumnDef::new(name).big_integer().null());
    }
    for name in ["created_at", "updated_at"] {
        statement.col(ColumnDef::new(name).big_integer().not_null());
    }
    statement
}
