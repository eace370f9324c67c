//! Migration 6: what makes two events of a plan the same, so that a step that is repeated tells each of its events once.
//!
//! The table itself is as old as the schema, and nothing has written it so far.

use sea_orm_migration::prelude::*;

const TABLE: &str = "plan_events";
const COLUMN: &str = "dedup_key";
const INDEX: &str = "plan_events_dedup";

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
#[expect(elided_lifetimes_in_paths, reason = "the trait elides it, and its methods must match")]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let key = ColumnDef::new(COLUMN).text().null().to_owned();
        manager.alter_table(Table::alter().table(TABLE).add_column(key).to_owned()).await?;
        let index = Index::create().name(INDEX).table(TABLE).col("run_id").col(COLUMN).unique().to_owned();
        manager.create_index(index).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_index(Index::drop().name(INDEX).table(TABLE).to_owned()).await?;
        manager.alter_table(Table::alter().table(TABLE).drop_column(COLUMN).to_owned()).await
    }
}
