//! Migration 2: penalties of providers, which outlive a restart and are shared by every process.
//!
//! One row for each scope. A part that a scope does not have is empty text, so that the key has no NULL in it.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
#[expect(elided_lifetimes_in_paths, reason = "the trait elides it, and its methods must match")]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.create_table(cooldowns()).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_table(Table::drop().table("cooldowns").to_owned()).await
    }
}

fn cooldowns() -> TableCreateStatement {
    const KEY: [&str; 5] = ["tenant", "scope", "provider", "credential", "model"];
    let mut statement = Table::create();
    statement.table("cooldowns");
    for name in KEY.into_iter().chain(["reason", "credential_fingerprint"]) {
        statement.col(ColumnDef::new(name).text().not_null());
    }
    for name in ["ready_at", "failures", "updated_at"] {
        statement.col(ColumnDef::new(name).big_integer().not_null());
    }
    let mut key = Index::create();
    for name in KEY {
        key.col(name);
    }
    statement.primary_key(&mut key).to_owned()
}
