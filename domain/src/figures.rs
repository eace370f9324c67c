//! What the runs of one process came to since its start, for its metrics.

use std::collections::BTreeMap;

use crate::{NanoDollars, Role};

/// Steps of one role.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StepFigures {
    /// Steps that were begun.
    pub steps: u64,
    /// Provider calls made for them, duplicates not counted.
    pub attempts: u64,
}

/// Upper bounds of [`RecoveryFigures`], in milliseconds: a lease lasts three seconds, and a recovery is to take five.
pub const RECOVERY_MS_BUCKETS: [u64; 10] = [500, 1_000, 2_000, 3_000, 4_000, 5_000, 7_500, 10_000, 30_000, 60_000];

/// How long steps lay still whose process had died.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecoveryFigures {
    /// Recoveries within each of [`RECOVERY_MS_BUCKETS`] and none before.
    pub within: [u64; RECOVERY_MS_BUCKETS.len()],
    /// All of them.
    pub count: u64,
    /// Milliseconds, all together.
    pub sum_ms: u64,
}

impl RecoveryFigures {
    /// Counts one that took so long.
    pub fn observe(&mut self, millis: u64) {
        let within = RECOVERY_MS_BUCKETS.iter().zip(&mut self.within).find(|(bound, _)| millis <= **bound);
        if let Some((_, count)) = within {
            *count += 1;
        }
        self.count += 1;
        self.sum_ms = self.sum_ms.saturating_add(millis);
    }
}

/// The sums over everything that a process has recorded. Whoever records a run counts it, so that the sums of all
/// processes are those of all runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunFigures {
    /// By role.
    pub steps: BTreeMap<Role, StepFigures>,
    /// Voters that were not asked, because the vote was decided without them.
    pub calls_avoided: u64,
    /// Voters whose calls were withdrawn when the vote was decided.
    pub calls_withdrawn: u64,
    /// Tokens of answers that came too late to be used, or broke off.
    pub wasted_tokens: u64,
    /// Steps answered from the journal.
    pub journal_hits: u64,
    /// Steps carried on after whoever was at them had died.
    pub steps_taken_over: u64,
    /// How long they lay still until then.
    pub recovery: RecoveryFigures,
    /// Pairs that a judge has seen in both orders.
    pub judge_pairs: u64,
    /// Those of them in which it has named the place and not the answer.
    pub judge_order_flips: u64,
    /// What the calls under way have taken of the budgets of their runs.
    pub budget_reserved: NanoDollars,
}
