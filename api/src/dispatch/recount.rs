//! The finished steps of a run whose program could not say them, because it was terminated or is gone.
//!
//! The journal has what each try came to, and the ledger whom it asked. A try that is under way is no finished step: what
//! becomes of it is in the ledger alone, and in `GET /v1/plan/{id}/steps`. Answers that a fork keeps are its source's.

use std::{collections::HashMap, time::Duration};

use tokenhub_domain::{AttemptId, Deployment, Outcome, Role, RunId, SendOutcome, StepId, TenantId, Usage};
use tokenhub_orchestrate::recount;
use tokenhub_store::{JournalEntry, LedgerRow, StoreError};

use super::Shared;

/// A row of another process is in the ledger this much later than its outcome in the journal, unless the database is away.
const LEDGER_LAG: Duration = Duration::from_millis(400);

/// The tries of one step.
struct Tries {
    step: StepId,
    role: Role,
    ended: Vec<(Deployment, SendOutcome)>,
}

/// The outcome with the steps that have ended, if it has none of its own.
pub(super) async fn with_steps(
    shared: &Shared,
    (tenant, run_id): (&TenantId, &RunId),
    outcome: Outcome,
) -> Result<Outcome, StoreError> {
    if !outcome.steps.is_empty() {
        return Ok(outcome);
    }
    let journal = shared.world.store.journal().of_run(tenant, run_id).await?;
    let entries: Vec<(StepId, JournalEntry)> =
        journal.into_iter().filter_map(|row| Some((row.step, row.entry?))).collect();
    if entries.is_empty() {
        return Ok(outcome);
    }
    let asked = asked(shared, (tenant, run_id), &entries).await?;
    let steps: Vec<_> =
        in_order(&entries, &asked).iter().map(|Tries { step, role, ended }| recount(step, *role, ended)).collect();
    Ok(Outcome { usage: Usage::of(&steps), steps, ..outcome })
}

/// Whom the tries asked.
async fn asked(
    shared: &Shared,
    (tenant, run_id): (&TenantId, &RunId),
    entries: &[(StepId, JournalEntry)],
) -> Result<HashMap<AttemptId, LedgerRow>, StoreError> {
    shared.world.ledger.flush().await?;
    let rows = async || {
        let rows = shared.world.store.ledger_rows().of_run(tenant, run_id).await?;
        Ok(rows.into_iter().map(|row| (row.attempt.clone(), row)).collect::<HashMap<_, _>>())
    };
    let asked = rows().await?;
    if entries.iter().all(|(_, entry)| asked.contains_key(&entry.attempt)) {
        return Ok(asked);
    }
    tokio::time::sleep(LEDGER_LAG).await;
    rows().await
}

/// The steps in the order of their first tries.
fn in_order(entries: &[(StepId, JournalEntry)], asked: &HashMap<AttemptId, LedgerRow>) -> Vec<Tries> {
    let mut steps: Vec<Tries> = Vec::new();
    for (step, entry) in entries {
        let Some(row) = asked.get(&entry.attempt) else { continue };
        let Ok(outcome) = serde_json::from_str::<SendOutcome>(&entry.outcome_json) else { continue };
        let ended = (Deployment::new(row.model.clone(), row.provider.clone()), outcome);
        match steps.iter_mut().find(|tries| tries.step == *step) {
            Some(tries) => tries.ended.push(ended),
            None => steps.push(Tries { step: step.clone(), role: row.role, ended: vec![ended] }),
        }
    }
    steps
}
