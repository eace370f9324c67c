//! A decision about an answer: asked for once, then looked up. The row decides, also about the end of its time.

use serde_json::{Value, json};
use tokenhub_domain::{
    ApprovalRequest, ApprovalStanding, ApprovalState, DecidedBy, EventKeeping, Outcome, PlanEvent, PrincipalId,
    Resolution, RunContext, UnixMicros, expiry,
};
use tokenhub_store::{ApprovalRow, NewApproval, NewDecision, NewEvent};

use crate::{ActivityFault, World, clock};

/// A clock that is a little behind another one must not make anybody look again and again.
const LEFT_MS_MIN: u64 = 100;

/// Asks for a decision unless the run has before, and tells how it stands. Idempotent.
pub(crate) async fn run(
    world: &World,
    run: &RunContext,
    request: &ApprovalRequest,
) -> Result<ApprovalStanding, ActivityFault> {
    let now = clock::now();
    let row = if let Some(row) = find(world, run).await? {
        row
    } else {
        ask(world, run, request, now).await?;
        find(world, run).await?.ok_or(ActivityFault::UnknownRun)?
    };
    let row = if row.state == ApprovalState::Pending && row.expires_at <= now {
        expire(world, run, now).await?;
        // What can neither be decided nor expire belongs to a run that somebody has ended.
        let row = find(world, run).await?.filter(|row| row.state != ApprovalState::Pending);
        row.ok_or(ActivityFault::UnknownRun)?
    } else {
        row
    };
    let standing = standing(&row, now);
    if let ApprovalStanding::Resolved(resolution) = &standing {
        let shown: Outcome = serde_json::from_str(&row.outcome_json)?;
        if shown != request.outcome {
            return Ok(ApprovalStanding::ResolvedOther { resolution: resolution.clone(), outcome: Box::new(shown) });
        }
    }
    Ok(standing)
}

async fn find(world: &World, run: &RunContext) -> Result<Option<ApprovalRow>, ActivityFault> {
    Ok(world.store.approvals().get(&run.tenant, &run.run_id).await?)
}

async fn ask(world: &World, run: &RunContext, request: &ApprovalRequest, now: UnixMicros) -> Result<(), ActivityFault> {
    let new = NewApproval {
        tenant: run.tenant.clone(),
        run_id: run.run_id.clone(),
        on_timeout: request.wish.on_timeout,
        outcome_json: serde_json::to_string(&request.outcome)?,
        requested_at: now,
        expires_at: expiry(request.wish, now),
    };
    let data = json!({"timeout_ms": request.wish.timeout_ms, "on_timeout": request.wish.on_timeout.as_str()});
    let event = event(run.events, PlanEvent::ApprovalRequested, &data, now);
    Ok(world.store.approvals().request(&new, event.as_ref()).await?)
}

async fn expire(world: &World, run: &RunContext, now: UnixMicros) -> Result<(), ActivityFault> {
    let decision = NewDecision {
        state: ApprovalState::Expired,
        by: DecidedBy::Timeout,
        principal: None,
        comment: None,
        edited: None,
        at: now,
    };
    let event = resolved(run.events, &decision);
    let approvals = world.store.approvals();
    // Whoever was faster is read next.
    if approvals.decide((&run.tenant, &run.run_id), &decision, event.as_ref()).await? {
        approvals.told(&run.tenant, &run.run_id, now).await?;
    }
    Ok(())
}

/// The event of a decision: who and what, and no text.
pub fn resolved(keeping: EventKeeping, decision: &NewDecision) -> Option<NewEvent> {
    let data = json!({
        "decision": decision.state.as_str(),
        "decided_by": decision.by.as_str(),
        "principal": decision.principal.as_ref().map(PrincipalId::as_str),
    });
    event(keeping, PlanEvent::ApprovalResolved, &data, decision.at)
}

fn event(keeping: EventKeeping, name: PlanEvent, data: &Value, at: UnixMicros) -> Option<NewEvent> {
    match keeping {
        EventKeeping::None => None,
        // One of each for a run.
        EventKeeping::Kept => Some(NewEvent { name, key: name.as_str().to_owned(), data: data.to_string(), at }),
    }
}

fn standing(row: &ApprovalRow, now: UnixMicros) -> ApprovalStanding {
    ApprovalStanding::Resolved(match row.state {
        ApprovalState::Pending => {
            let left_ms = row.expires_at.millis_since(now).max(LEFT_MS_MIN);
            return ApprovalStanding::Waiting { left_ms };
        }
        ApprovalState::Approved => Resolution::Approved,
        ApprovalState::Edited => match row.edited.clone() {
            Some(text) => Resolution::Edited { text },
            None => Resolution::Approved,
        },
        ApprovalState::Rejected => Resolution::Rejected,
        ApprovalState::Expired => Resolution::Expired,
    })
}
