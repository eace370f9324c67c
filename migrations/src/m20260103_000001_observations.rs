//! Migration 3: what each process has seen of the deployments it called, so that the others rank by it, too.
//!
//! One row for each process. The body is `routing`'s own and fades: an old row is worth nothing and is removed.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
#[expect(elided_lifetimes_in_paths, reason = "the trait elides it, and its methods must match")]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.create_table(observations()).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_table(Table::drop().table("observations").to_owned()).await
    }
}

fn observations() -> TableCreateStatement {
    let mut statement = Table::create();
    statement.table("observations");
    for name in ["tenant", "instance", "body"] {
        statement.col(ColumnDef::new(name).text().not_null());
    }
    statement.col(ColumnDef::new("updated_at").big_integer().not_null());
    statement.primary_key(Index::create().col("tenant").col("instance")).to_owned()
}
