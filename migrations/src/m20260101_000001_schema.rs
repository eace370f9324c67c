//! Migration 1: runs, journal, ledger, contents, request log and plan events.
//!
//! Columns that are costly to add to a large table later (session, tags) exist from the start, and stay empty until
//! something writes them. There are no foreign keys: ledger and log rows are written behind the requests, in any order.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
#[expect(elided_lifetimes_in_paths, reason = "the trait elides it, and its methods must match")]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in [runs(), journal(), ledger(), contents(), request_log(), plan_events()] {
            manager.create_table(table).await?;
        }
        for index in indexes() {
            manager.create_index(index).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in ["plan_events", "request_log", "contents", "ledger", "journal", "runs"] {
            manager.drop_table(Table::drop().table(table).to_owned()).await?;
        }
        Ok(())
    }
}

fn text(name: &'static str) -> ColumnDef {
    ColumnDef::new(name).text().not_null().to_owned()
}

fn optional_text(name: &'static str) -> ColumnDef {
    ColumnDef::new(name).text().null().to_owned()
}

fn integer(name: &'static str) -> ColumnDef {
    ColumnDef::new(name).big_integer().not_null().to_owned()
}

fn counter(name: &'static str) -> ColumnDef {
    ColumnDef::new(name).big_integer().not_null().default(0).to_owned()
}

fn optional_integer(name: &'static str) -> ColumnDef {
    ColumnDef::new(name).big_integer().null().to_owned()
}

fn tenant() -> ColumnDef {
    ColumnDef::new("tenant").text().not_null().default("default").to_owned()
}

fn table(name: &'static str, columns: Vec<ColumnDef>, primary_key: &[&'static str]) -> TableCreateStatement {
    let mut statement = Table::create();
    statement.table(name);
    for column in columns {
        statement.col(column);
    }
    let mut key = Index::create();
    for column in primary_key {
        key.col(*column);
    }
    statement.primary_key(&mut key);
    statement
}

/// Who and what a row belongs to.
fn attribution() -> Vec<ColumnDef> {
    vec![
        tenant(),
        text("run_id"),
        text("request_id"),
        text("principal"),
        text("api_key_id"),
        optional_text("session_id"),
        optional_text("tags"),
        counter("config_version"),
    ]
}

fn runs() -> TableCreateStatement {
    let mut columns = attribution();
    columns.extend(vec![
        text("kind"),
        text("spec_json"),
        optional_text("idempotency_scope"),
        optional_text("superseded_scope"),
        optional_text("body_hash"),
        integer("generation"),
        optional_text("workflow_id"),
        text("status"),
        optional_text("stop_reason"),
        optional_text("owner"),
        counter("epoch"),
        optional_integer("lease_until"),
        optional_text("durability"),
        optional_text("negotiated_model"),
        optional_text("outcome_json"),
        counter("calls"),
        counter("duplicate_calls"),
        counter("input_tokens"),
        counter("output_tokens"),
        counter("cost"),
        counter("last_seq"),
        integer("created_at"),
        optional_integer("started_at"),
        optional_integer("finished_at"),
        integer("updated_at"),
    ]);
    table("runs", columns, &["run_id"])
}

fn journal() -> TableCreateStatement {
    let columns = vec![
        tenant(),
        text("step_key"),
        text("run_id"),
        text("step"),
        text("state"),
        text("owner"),
        integer("epoch"),
        integer("lease_until"),
        optional_text("attempt_id"),
        optional_text("outcome_json"),
        integer("created_at"),
        optional_integer("completed_at"),
    ];
    table("journal", columns, &["tenant", "step_key"])
}

fn ledger() -> TableCreateStatement {
    let mut columns = attribution();
    columns.extend(vec![
        text("attempt_id"),
        text("instance_id"),
        text("step"),
        text("step_key"),
        text("role"),
        text("provider"),
        text("model"),
        text("state"),
        integer("estimated_cost"),
        counter("cost"),
        counter("input_tokens"),
        counter("output_tokens"),
        counter("input_price"),
        counter("output_price"),
        optional_text("price_rule"),
        optional_text("usage_json"),
        optional_text("finish_reason"),
        optional_integer("status_code"),
        optional_text("error_class"),
        optional_text("waste"),
        optional_integer("latency_ms"),
        integer("created_at"),
        optional_integer("sent_at"),
        optional_integer("finished_at"),
    ]);
    table("ledger", columns, &["attempt_id"])
}

fn contents() -> TableCreateStatement {
    let columns = vec![
        tenant(),
        text("hash"),
        integer("bytes"),
        ColumnDef::new("body").blob().not_null().to_owned(),
        optional_integer("expires_at"),
        integer("created_at"),
    ];
    table("contents", columns, &["tenant", "hash"])
}

fn request_log() -> TableCreateStatement {
    let mut columns = attribution();
    columns.extend(vec![
        text("id"),
        text("kind"),
        optional_text("model"),
        optional_text("provider"),
        text("durability"),
        text("status"),
        optional_text("stop_reason"),
        optional_text("error_class"),
        counter("calls"),
        counter("duplicate_calls"),
        counter("input_tokens"),
        counter("output_tokens"),
        counter("cost"),
        counter("latency_ms"),
        integer("created_at"),
    ]);
    table("request_log", columns, &["id"])
}

fn plan_events() -> TableCreateStatement {
    let mut columns = attribution();
    columns.extend(vec![integer("seq"), text("kind"), text("event_json"), integer("created_at")]);
    table("plan_events", columns, &["run_id", "seq"])
}

fn index(name: &'static str, on: &'static str, columns: &[&'static str]) -> IndexCreateStatement {
    let mut statement = Index::create();
    statement.name(name).table(on);
    for column in columns {
        statement.col(*column);
    }
    statement
}

fn indexes() -> Vec<IndexCreateStatement> {
    vec![
        // Rows without a scope do not collide: both databases hold NULLs to be distinct.
        index("runs_idempotency_scope", "runs", &["tenant", "idempotency_scope"]).unique().to_owned(),
        index("runs_page", "runs", &["tenant", "created_at", "run_id"]),
        // The sweep looks for runs that nobody works on. Nothing in it changes when a lease is renewed.
        index("runs_unfinished", "runs", &["status", "created_at", "run_id"]),
        index("journal_run", "journal", &["tenant", "run_id"]),
        index("ledger_step", "ledger", &["tenant", "step_key"]),
        index("ledger_run", "ledger", &["tenant", "run_id"]),
        index("ledger_page", "ledger", &["tenant", "created_at", "attempt_id"]),
        // Adoption looks for the open attempts of one dead process.
        index("ledger_open", "ledger", &["instance_id", "state"]),
        index("contents_expiry", "contents", &["expires_at"]),
        index("request_log_page", "request_log", &["tenant", "created_at", "id"]),
        index("request_log_run", "request_log", &["tenant", "run_id"]),
        index("plan_events_page", "plan_events", &["tenant", "created_at", "run_id", "seq"]),
    ]
}
