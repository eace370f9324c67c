//! The place of a run in Temporal's queues.
//!
//! Owns how an urgency is a number there: 1 is the first and 5 the last, 3 is that of whoever says nothing. 1 is left for
//! what an operator starts by hand.

use temporalio_workflow::common::Priority;
use tokenhub_domain::{RunContext, Urgency};

const MILLI: f32 = 1_000.0;

/// Priority and fairness of everything that a run queues: its tenant is the key by which turns are taken. Tenants are no
/// longer than such a key may be (`limits::TENANT_BYTES`).
pub fn priority(run: &RunContext) -> Priority {
    #[expect(clippy::cast_precision_loss, reason = "weights are far below what a float holds exactly")]
    let weight = run.share.weight_milli as f32 / MILLI;
    Priority::builder()
        .priority_key(rank(run.share.urgency))
        .fairness_key(run.tenant.as_str())
        .fairness_weight(weight)
        .build()
}

fn rank(urgency: Urgency) -> u32 {
    match urgency {
        Urgency::Interactive => 2,
        Urgency::Background => 3,
        Urgency::Batch => 5,
    }
}
