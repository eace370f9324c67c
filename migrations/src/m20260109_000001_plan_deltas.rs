//! Migration: the pieces of answers that are being written, for those who watch their plans.
//!
//! Texts are bytes, as contents are. The rows last minutes: whoever removes them finds them by their age.

use sea_orm_migration::prelude::*;

const TABLE: &str = "plan_deltas";

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
#[expect(elided_lifetimes_in_paths, reason = "the trait elides it, and its methods must match")]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.create_table(deltas()).await?;
        let by_age = Index::create().name("plan_deltas_age").table(TABLE).col("created_at").to_owned();
        manager.create_index(by_age).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_table(Table::drop().table(TABLE).to_owned()).await
    }
}

fn deltas() -> TableCreateStatement {
    let mut statement = Table::create();
    statement.table(TABLE);
    for name in ["run_id", "step"] {
        statement.col(ColumnDef::new(name).text().not_null());
    }
    for name in ["call", "seq"] {
        statement.col(ColumnDef::new(name).big_integer().not_null());
    }
    statement.col(ColumnDef::new("tenant").text().not_null());
    statement.col(ColumnDef::new("body").blob().not_null());
    statement.col(ColumnDef::new("created_at").big_integer().not_null());
    statement.primary_key(Index::create().col("run_id").col("step").col("call").col("seq")).to_owned()
}
