//! Migration 10: what the calls of a step that has limits of its own have used and may use, one row for each such step;
//! and the end of the lease that a try was taken over from, which tells how long a recovery took.

use sea_orm_migration::prelude::*;

const TABLE: &str = "step_budgets";
const JOURNAL: &str = "journal";
const LOST_LEASE: &str = "lost_lease_until";

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
#[expect(elided_lifetimes_in_paths, reason = "the trait elides it, and its methods must match")]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.create_table(step_budgets()).await?;
        let column = ColumnDef::new(LOST_LEASE).big_integer().null().to_owned();
        manager.alter_table(Table::alter().table(JOURNAL).add_column(column).to_owned()).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.alter_table(Table::alter().table(JOURNAL).drop_column(LOST_LEASE).to_owned()).await?;
        manager.drop_table(Table::drop().table(TABLE).to_owned()).await
    }
}

fn step_budgets() -> TableCreateStatement {
    let mut statement = Table::create();
    statement.table(TABLE);
    for name in ["run_id", "step", "tenant"] {
        statement.col(ColumnDef::new(name).text().not_null());
    }
    for name in ["calls", "tokens", "cost", "updated_at"] {
        statement.col(ColumnDef::new(name).big_integer().not_null());
    }
    statement.primary_key(Index::create().col("run_id").col("step")).to_owned()
}
