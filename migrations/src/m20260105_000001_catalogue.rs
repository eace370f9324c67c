//! Migration 5: what administrators wrote about providers, models and aliases.
//!
//! One row for each entry, and one of kind `catalogue` that counts the changes. A model's row has its provider, every
//! other an empty text, so that the key has no NULL in it.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
#[expect(elided_lifetimes_in_paths, reason = "the trait elides it, and its methods must match")]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.create_table(records()).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_table(Table::drop().table("catalogue_records").to_owned()).await
    }
}

fn records() -> TableCreateStatement {
    const KEY: [&str; 4] = ["tenant", "kind", "provider", "id"];
    let mut statement = Table::create();
    statement.table("catalogue_records");
    for name in KEY.into_iter().chain(["body"]) {
        statement.col(ColumnDef::new(name).text().not_null());
    }
    statement.col(ColumnDef::new("secret").binary().null());
    for name in ["version", "updated_at"] {
        statement.col(ColumnDef::new(name).big_integer().not_null());
    }
    let mut key = Index::create();
    for name in KEY {
        key.col(name);
    }
    statement.primary_key(&mut key).to_owned()
}
