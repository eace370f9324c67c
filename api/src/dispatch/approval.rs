//! Deciding about an answer: the row first, then whoever carries the run is told.
//!
//! The row is the decision, so nothing that happens to the telling can lose it. A process looks at the row by itself; a
//! workflow is told by a signal, here at once, and by every sweep until Temporal has taken it. Must not know HTTP.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use tokenhub_activities::approval;
use tokenhub_domain::{
    Answer, ApprovalState, DecidedBy, Dialect, EventKeeping, Outcome, Owner, PlanSpec, PrincipalId, RunId, TenantId,
    Text, WorkflowId,
};
use tokenhub_formats::Schema;
use tokenhub_store::{ApprovalRow, NewDecision, RunRow};
use tokio::sync::Semaphore;

use super::{Shared, durable, launch, load_text, now};
use crate::{error::Problem, parse::approval::Verdict};

/// A schema may refer to itself in too many ways to be checked in any time.
const EDIT_CHECK_LIMIT: Duration = Duration::from_secs(5);
/// A check cannot be stopped: so many of those that do not end may burn a processor, and no more.
static EDIT_CHECKS: Semaphore = Semaphore::const_new(4);

/// Who decides.
#[derive(Clone, Debug)]
pub(crate) enum Decider {
    /// Somebody with a key.
    Key(PrincipalId),
    /// Whoever has the link.
    Link,
}

/// What came of deciding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decided {
    /// It counts.
    Now,
    /// The same was decided before.
    AsBefore,
    /// Something else was, or the time is over.
    Otherwise(ApprovalState),
    /// The run asks nobody: not yet, or not any more.
    NotAsked,
}

/// Decides, if nobody has.
pub(super) async fn decide(
    shared: &Arc<Shared>,
    row: &RunRow,
    verdict: Verdict,
    decider: Decider,
) -> Result<Decided, Problem> {
    let Some(question) = find(shared, row).await? else { return Ok(Decided::NotAsked) };
    if let (Some(text), ApprovalState::Pending) = (&verdict.text, question.state) {
        check_edit(shared, row, text).await?;
    }
    let edited = match verdict.text {
        Some(text) => Some(replacement(shared, &question, text).await?),
        None => None,
    };
    let (by, principal) = match decider {
        Decider::Key(principal) => (DecidedBy::Key, Some(principal)),
        Decider::Link => (DecidedBy::Link, None),
    };
    let decision = NewDecision { state: verdict.state, by, principal, comment: verdict.comment, edited, at: now() };
    // Kept only where the run keeps events, which its row knows.
    let event = approval::resolved(EventKeeping::Kept, &decision);
    let approvals = shared.world.store.approvals();
    let is_first = approvals.decide((&row.tenant, &row.run_id), &decision, event.as_ref()).await;
    if is_first.map_err(|error| launch::away(&error))? {
        tracing::info!(run = %row.run_id, decision = decision.state.as_str(), by = by.as_str(), "an answer was decided about");
        tell_owner(shared, row);
        return Ok(Decided::Now);
    }
    let Some(first) = find(shared, row).await? else { return Ok(Decided::NotAsked) };
    if first.state == ApprovalState::Pending {
        // In time and not decided, although it was tried: its run has ended.
        let is_late = first.expires_at <= decision.at;
        return Ok(if is_late { Decided::Otherwise(ApprovalState::Expired) } else { Decided::NotAsked });
    }
    let is_same = first.state == decision.state && first.edited == decision.edited;
    Ok(if is_same { Decided::AsBefore } else { Decided::Otherwise(first.state) })
}

async fn find(shared: &Shared, row: &RunRow) -> Result<Option<ApprovalRow>, Problem> {
    let found = shared.world.store.approvals().get(&row.tenant, &row.run_id).await;
    found.map_err(|error| launch::away(&error))
}

/// Refuses a text that misses the schema of the plan, which is what its readers count on.
async fn check_edit(shared: &Shared, row: &RunRow, text: &str) -> Result<(), Problem> {
    let spec: PlanSpec = serde_json::from_str(&row.spec_json).map_err(|_| Problem::Internal)?;
    let Some(mut schema) = spec.base().output.schema.clone() else { return Ok(()) };
    load_text(&shared.world, &row.tenant, &mut schema).await?;
    let (schema, text) = (schema.as_inline().unwrap_or_default().to_owned(), text.to_owned());
    // Beside the runtime: a schema may be slow to check. One that cannot be read checked no answer either.
    let check = async {
        let permit = EDIT_CHECKS.acquire().await;
        let checking = tokio::task::spawn_blocking(move || {
            let _until_it_ends = permit;
            Schema::parse(&schema).map(|schema| schema.violations(&text))
        });
        checking.await
    };
    match tokio::time::timeout(EDIT_CHECK_LIMIT, check).await {
        Ok(Ok(Ok(violations))) if !violations.is_empty() => {
            Err(Problem::invalid("text", format!("does not match the plan's schema: {}", violations.join("; "))))
        }
        Ok(Ok(_)) => Ok(()),
        Ok(Err(_)) => Err(Problem::Internal),
        Err(_) => Err(Problem::invalid("text", "could not be checked against the plan's schema in time")),
    }
}

/// What takes the place of the answer's text: of a chat the provider's whole body, with the new text in it.
async fn replacement(shared: &Shared, question: &ApprovalRow, text: String) -> Result<Text, Problem> {
    let outcome: Outcome = serde_json::from_str(&question.outcome_json).map_err(|_| Problem::Internal)?;
    let text = match outcome.answer {
        Some(Answer::Chat { mut body }) => {
            load_text(&shared.world, &question.tenant, &mut body).await?;
            tokenhub_formats::with_text(Dialect::Chat, body.as_inline().unwrap_or_default(), &text)
                .ok_or_else(|| Problem::invalid("text", "cannot be put into an answer that has no text"))?
        }
        Some(
            Answer::Adversarial(_)
            | Answer::Vote(_)
            | Answer::Refine(_)
            | Answer::BestOfN(_)
            | Answer::Cascade(_)
            | Answer::Fuse(_),
        )
        | None => text,
    };
    let stored = shared.world.store.contents().inline_or_store(&question.tenant, text).await;
    stored.map_err(|error| launch::away(&error))
}

/// A task of the process, so that whoever decided need not wait for Temporal.
fn tell_owner(shared: &Arc<Shared>, row: &RunRow) {
    let (tenant, run_id) = (row.tenant.clone(), row.run_id.clone());
    let workflow_id = row.workflow_id.clone().filter(|id| row.owner == Some(Owner::workflow(id)));
    let telling = Arc::clone(shared);
    shared.tasks.spawn(async move {
        match workflow_id {
            Some(workflow_id) => tell(&telling, (&tenant, &run_id), &workflow_id).await,
            None => note_told(&telling, (&tenant, &run_id)).await,
        }
    });
}

/// Tells the workflows of decisions of which they may not know: whoever decided could not, or died before.
pub(super) async fn tell_untold(shared: &Shared) {
    match shared.world.store.approvals().untold().await {
        Ok(untold) => {
            let telling =
                untold.iter().map(|(tenant, run_id, workflow_id)| tell(shared, (tenant, run_id), workflow_id));
            join_all(telling).await;
        }
        Err(error) => {
            tracing::debug!(error = &error as &dyn std::error::Error, "decisions could not be looked for");
        }
    }
}

async fn tell(shared: &Shared, run: (&TenantId, &RunId), workflow_id: &WorkflowId) {
    let Some(connected) = shared.link.as_ref().and_then(|link| link.connected()) else { return };
    match durable::tell_decided(&connected, workflow_id).await {
        Ok(()) => note_told(shared, run).await,
        Err(reason) => tracing::warn!(reason, %workflow_id, "a workflow was not told of a decision; it will be"),
    }
}

/// Telling twice does no harm.
async fn note_told(shared: &Shared, (tenant, run_id): (&TenantId, &RunId)) {
    if let Err(error) = shared.world.store.approvals().told(tenant, run_id, now()).await {
        tracing::debug!(error = &error as &dyn std::error::Error, run = %run_id, "that a run was told is not noted");
    }
}
