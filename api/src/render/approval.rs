//! A decision about an answer as the plan object shows it: the question while it is open, and afterwards who decided what.

use serde_json::{Value, json};
use tokenhub_domain::{ApprovalState, DecidedBy, Outcome, RunStatus};
use tokenhub_store::ApprovalRow;

use super::{plan::response, time};

/// What a run waits for; `outcome` is what is decided about, and `link` decides without a key.
pub(crate) fn waiting(question: &ApprovalRow, outcome: &Outcome, link: Option<&str>) -> Value {
    json!({
        "for": "approval",
        "since": time(question.requested_at),
        "expires_at": time(question.expires_at),
        "on_timeout": question.on_timeout.as_str(),
        "preview": outcome.answer.as_ref().map_or(Value::Null, response),
        "link": link,
    })
}

/// Who decided what, when and by which way. What a run that has ended never learned is withdrawn.
pub(crate) fn decision(question: &ApprovalRow, status: RunStatus) -> Value {
    let is_withdrawn = question.state == ApprovalState::Pending && status.is_final();
    let state = if is_withdrawn { "withdrawn" } else { question.state.as_str() };
    json!({
        "state": state,
        "requested_at": time(question.requested_at),
        "expires_at": time(question.expires_at),
        "on_timeout": question.on_timeout.as_str(),
        "decided_at": question.decided_at.and_then(time),
        "decided_by": question.decided_by.map(DecidedBy::as_str),
        "principal": question.principal,
        "comment": question.comment,
    })
}
