//! The body of a webhook: which plan ended and how. It holds no word of a prompt or of an answer, because it leaves the
//! house without the client's key; whoever has that reads the rest. The same over all tries, to the byte.

use serde_json::{Value, json};
use tokenhub_domain::{DurabilityMark, PlanEvent};
use tokenhub_store::RunRow;

use crate::{
    dispatch,
    render::{time, usage},
};

/// The body that tells of `event`, which ended `run`.
pub(super) fn of(event: PlanEvent, run: &RunRow) -> Value {
    json!({
        "type": event.as_str(),
        "timestamp": time(run.finished_at.unwrap_or(run.updated_at)),
        "data": {
            "id": run.run_id,
            "kind": run.kind.as_str(),
            "status": run.status.as_str(),
            "stop_reason": run.stop_reason,
            "durable": dispatch::mark_of(run) == DurabilityMark::Durable,
            "negotiated_model": run.negotiated_model,
            "usage": usage(run.usage),
            "created_at": time(run.created_at),
            "finished_at": run.finished_at.and_then(time),
            "links": {"plan": format!("/v1/plan/{}", run.run_id)},
        },
    })
}
