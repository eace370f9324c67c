//! How spool records become ledger rows.
//!
//! Applying the same records again changes nothing: rows are inserted or ignored, and a state only moves on. So a batch
//! whose commit was not confirmed, or a spool that two processes adopt, does no harm.

use std::collections::HashMap;

use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter,
    sea_query::{Expr, Value},
};
use tokenhub_domain::{AttemptId, ErrorClass, InstanceId, PriceSource};

use super::record::{AttemptFailure, AttemptOpen, Ending, Settlement, SpoolRecord};
use crate::{
    LedgerState, Store, StoreError, bulk,
    columns::{name_of, stored, tags_column, without_nul},
    decisions,
    entities::ledger::{self, Column},
    request_log,
};

const WHAT: &str = "the ledger";
/// How a cost was made: both token prices times the token counts, rounded up, and whose prices; or by everything that is
/// published for what was used. Stored so that a later rule does not change old invoices.
fn price_rule(settlement: &Settlement) -> String {
    match settlement.price_source {
        PriceSource::PublishedUsage => "usage:published".to_owned(),
        source @ (PriceSource::Unknown | PriceSource::Manual | PriceSource::Published) => {
            format!("per_token:{}", source.as_str())
        }
    }
}

/// Writes a batch in one transaction.
pub(super) async fn apply(store: &Store, instance: &InstanceId, records: Vec<SpoolRecord>) -> Result<(), StoreError> {
    let (mut lines, mut decided, mut of_attempts) = (Vec::new(), Vec::new(), Vec::with_capacity(records.len()));
    for record in records {
        match record {
            SpoolRecord { log: Some(row), .. } => lines.push(*row),
            SpoolRecord { decision: Some(row), .. } => decided.push(*row),
            record => of_attempts.push(record),
        }
    }
    let folded = fold(of_attempts);
    if folded.is_empty() && lines.is_empty() && decided.is_empty() {
        return Ok(());
    }
    let rows: Vec<ledger::Model> = folded.iter().filter_map(|record| to_model(instance, record)).collect();
    let transaction = store.begin(WHAT).await?;
    let opened = rows.len() as u64;
    let inserted = bulk::insert_unless_there(&transaction, rows).await.map_err(StoreError::writing(WHAT))?;
    let all_were_new = inserted == opened;
    for record in &folded {
        if record.open.is_none() || !all_were_new {
            advance(&transaction, record).await?;
        }
    }
    request_log::insert_unless_there(&transaction, &lines).await?;
    decisions::insert_unless_there(&transaction, decided).await?;
    transaction.commit().await.map_err(StoreError::writing(WHAT))
}

/// Marks what a dead process left open.
pub(super) async fn orphan_open_attempts(store: &Store, instance: &InstanceId) -> Result<u64, StoreError> {
    let orphaned = ledger::Entity::update_many()
        .col_expr(Column::State, Expr::value(LedgerState::Orphaned.as_str()))
        .filter(Column::InstanceId.eq(instance.as_str()))
        .filter(Column::State.is_in(LedgerState::OPEN))
        .exec(store.writer())
        .await
        .map_err(StoreError::writing(WHAT))?;
    Ok(orphaned.rows_affected)
}

/// One record for each attempt, in the order of their first lines.
fn fold(records: Vec<SpoolRecord>) -> Vec<SpoolRecord> {
    let mut places: HashMap<AttemptId, usize> = HashMap::with_capacity(records.len());
    let mut folded: Vec<SpoolRecord> = Vec::with_capacity(records.len());
    for record in records {
        if let Some(place) = places.get(&record.attempt) {
            folded[*place].absorb(record);
        } else {
            places.insert(record.attempt.clone(), folded.len());
            folded.push(record);
        }
    }
    folded
}

/// Moves a row on to where the record says, unless it is further already.
async fn advance<C: ConnectionTrait>(connection: &C, record: &SpoolRecord) -> Result<(), StoreError> {
    let (changes, from): (Vec<(Column, Value)>, &[&str]) = match (&record.ending, record.sent_at) {
        (Some(ending), _) if ending.is_wasted() => (ending_columns(ending), &LedgerState::NOT_VOID),
        (Some(ending), _) => (ending_columns(ending), &LedgerState::UNDECIDED),
        (None, Some(at)) => (
            vec![(Column::State, LedgerState::Sent.as_str().into()), (Column::SentAt, at.0.into())],
            &[LedgerState::Reserved.as_str()],
        ),
        (None, None) => return Ok(()),
    };
    let mut update = ledger::Entity::update_many()
        .filter(Column::AttemptId.eq(record.attempt.as_str()))
        .filter(Column::State.is_in(from.iter().copied()));
    for (column, value) in changes {
        update = update.col_expr(column, Expr::value(value));
    }
    update.exec(connection).await.map(|_| ()).map_err(StoreError::writing(WHAT))
}

fn ending_columns(ending: &Ending) -> Vec<(Column, Value)> {
    match ending {
        Ending::Settled(settlement) => vec![
            (Column::State, LedgerState::Settled.as_str().into()),
            (Column::Cost, settlement.cost.0.into()),
            (Column::InputTokens, stored(settlement.input_tokens).into()),
            (Column::OutputTokens, stored(settlement.output_tokens).into()),
            (Column::InputPrice, settlement.input_price.0.into()),
            (Column::OutputPrice, settlement.output_price.0.into()),
            (Column::PriceRule, price_rule(settlement).into()),
            (Column::UsageJson, settlement.usage_json.clone().map(without_nul).into()),
            (Column::FinishReason, settlement.finish_reason.clone().map(without_nul).into()),
            (Column::ErrorClass, settlement.error_class.map(ErrorClass::as_str).into()),
            (Column::StatusCode, settlement.status_code.map(i64::from).into()),
            (Column::Waste, name_of(&settlement.waste).into()),
            (Column::LatencyMs, stored(settlement.latency_ms).into()),
            (Column::FinishedAt, settlement.at.0.into()),
        ],
        Ending::Void(failure) => vec![
            (Column::State, LedgerState::Void.as_str().into()),
            (Column::StatusCode, failure.status_code.map(i64::from).into()),
            (Column::ErrorClass, failure.class.as_str().into()),
            (Column::LatencyMs, stored(failure.latency_ms).into()),
            (Column::FinishedAt, failure.at.0.into()),
        ],
    }
}

fn to_model(instance: &InstanceId, record: &SpoolRecord) -> Option<ledger::Model> {
    let mut row = open_row(instance, &record.attempt, record.open.as_ref()?);
    if let Some(at) = record.sent_at {
        LedgerState::Sent.as_str().clone_into(&mut row.state);
        row.sent_at = Some(at.0);
    }
    match &record.ending {
        Some(Ending::Settled(settlement)) => settle_row(&mut row, settlement),
        Some(Ending::Void(failure)) => void_row(&mut row, failure),
        None => {}
    }
    Some(row)
}

fn open_row(instance: &InstanceId, attempt: &AttemptId, open: &AttemptOpen) -> ledger::Model {
    ledger::Model {
        attempt_id: attempt.to_string(),
        tenant: open.tenant.to_string(),
        run_id: open.run_id.to_string(),
        request_id: open.request_id.to_string(),
        principal: open.principal.to_string(),
        api_key_id: open.api_key_id.to_string(),
        tags: tags_column(&open.tags),
        config_version: stored(open.config_version),
        instance_id: instance.to_string(),
        step: open.step.to_string(),
        step_key: without_nul(open.step_key.to_string()),
        role: open.role.as_str().to_owned(),
        provider: without_nul(open.provider.to_string()),
        model: without_nul(open.model.to_string()),
        state: LedgerState::Reserved.as_str().to_owned(),
        estimated_cost: open.estimated_cost.0,
        cost: 0,
        input_tokens: 0,
        output_tokens: 0,
        input_price: 0,
        output_price: 0,
        price_rule: None,
        usage_json: None,
        finish_reason: None,
        status_code: None,
        error_class: None,
        waste: None,
        latency_ms: None,
        created_at: open.at.0,
        sent_at: None,
        finished_at: None,
    }
}

fn settle_row(row: &mut ledger::Model, settlement: &Settlement) {
    LedgerState::Settled.as_str().clone_into(&mut row.state);
    row.cost = settlement.cost.0;
    row.input_tokens = stored(settlement.input_tokens);
    row.output_tokens = stored(settlement.output_tokens);
    row.input_price = settlement.input_price.0;
    row.output_price = settlement.output_price.0;
    row.price_rule = Some(price_rule(settlement));
    row.usage_json = settlement.usage_json.clone().map(without_nul);
    row.finish_reason = settlement.finish_reason.clone().map(without_nul);
    row.error_class = settlement.error_class.map(|class| class.as_str().to_owned());
    row.status_code = settlement.status_code.map(i64::from);
    row.waste = Some(name_of(&settlement.waste));
    row.latency_ms = Some(stored(settlement.latency_ms));
    row.finished_at = Some(settlement.at.0);
}

fn void_row(row: &mut ledger::Model, failure: &AttemptFailure) {
    LedgerState::Void.as_str().clone_into(&mut row.state);
    row.status_code = failure.status_code.map(i64::from);
    row.error_class = Some(failure.class.as_str().to_owned());
    row.latency_ms = Some(stored(failure.latency_ms));
    row.finished_at = Some(failure.at.0);
}
