//! Migration: templates of plans, and what runs are found by: the template that they were made from, and tags.
//!
//! Versions of a template are only added: the key keeps two authors from writing the same one.

use sea_orm_migration::prelude::*;

const TEMPLATES: &str = "plan_templates";
const TAGS: &str = "run_tags";
const RUNS: &str = "runs";
const RUNS_INDEX: &str = "runs_template";

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
#[expect(elided_lifetimes_in_paths, reason = "the trait elides it, and its methods must match")]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.create_table(templates()).await?;
        manager.create_table(tags()).await?;
        // SQLite takes one change of a table at a time.
        for column in columns() {
            manager.alter_table(Table::alter().table(RUNS).add_column(column).to_owned()).await?;
        }
        let index = Index::create()
            .name(RUNS_INDEX)
            .table(RUNS)
            .col("tenant")
            .col("template")
            .col("created_at")
            .col("run_id")
            .to_owned();
        manager.create_index(index).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_index(Index::drop().name(RUNS_INDEX).table(RUNS).to_owned()).await?;
        for name in ["template", "template_version", "template_hash"] {
            manager.alter_table(Table::alter().table(RUNS).drop_column(name).to_owned()).await?;
        }
        for table in [TAGS, TEMPLATES] {
            manager.drop_table(Table::drop().table(table).to_owned()).await?;
        }
        Ok(())
    }
}

fn columns() -> [ColumnDef; 3] {
    [
        ColumnDef::new("template").text().null().to_owned(),
        ColumnDef::new("template_version").big_integer().null().to_owned(),
        ColumnDef::new("template_hash").text().null().to_owned(),
    ]
}

fn templates() -> TableCreateStatement {
    let mut statement = Table::create();
    statement.table(TEMPLATES);
    statement.col(ColumnDef::new("tenant").text().not_null().default("default"));
    statement.col(ColumnDef::new("name").text().not_null());
    statement.col(ColumnDef::new("version").big_integer().not_null());
    statement.col(ColumnDef::new("hash").text().null());
    for name in ["description", "strategy", "principal"] {
        statement.col(ColumnDef::new(name).text().not_null());
    }
    statement.col(ColumnDef::new("body").blob().not_null());
    statement.col(ColumnDef::new("created_at").big_integer().not_null());
    statement.primary_key(Index::create().col("tenant").col("name").col("version"));
    statement
}

fn tags() -> TableCreateStatement {
    let mut statement = Table::create();
    statement.table(TAGS);
    statement.col(ColumnDef::new("tenant").text().not_null().default("default"));
    for name in ["tag", "run_id"] {
        statement.col(ColumnDef::new(name).text().not_null());
    }
    statement.primary_key(Index::create().col("tenant").col("tag").col("run_id"));
    statement
}
