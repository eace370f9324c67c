//! Counts what this process records, for its metrics. Nothing is decided by it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokenhub_domain::{Answer, Match, MatchResult, NanoDollars, Outcome, RunFigures};

/// The figures of this process.
#[derive(Debug, Default)]
pub struct Counts(Mutex<RunFigures>);

/// Part of a budget that a call has taken; given back when the call ends, however it does.
pub(crate) struct Taken<'a> {
    counts: &'a Counts,
    cost: NanoDollars,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.counts.figures().budget_reserved.0 -= self.cost.0;
    }
}

impl Counts {
    /// As they are now.
    pub fn snapshot(&self) -> RunFigures {
        self.figures().clone()
    }

    /// A run has ended.
    pub(crate) fn ended(&self, outcome: &Outcome) {
        let mut figures = self.figures();
        for step in &outcome.steps {
            let of_role = figures.steps.entry(step.role).or_default();
            of_role.steps += 1;
            of_role.attempts += u64::from(step.attempts);
        }
        match &outcome.answer {
            Some(Answer::Vote(vote)) => {
                figures.calls_avoided += u64::from(vote.calls_avoided);
                figures.calls_withdrawn += u64::from(vote.calls_withdrawn);
            }
            Some(Answer::BestOfN(best)) => {
                let of_result = |result| count(&best.matches, result);
                figures.judge_pairs += of_result(MatchResult::Agreed) + of_result(MatchResult::Flipped);
                figures.judge_order_flips += of_result(MatchResult::Flipped);
            }
            Some(
                Answer::Chat { .. } | Answer::Adversarial(_) | Answer::Refine(_) | Answer::Cascade(_) | Answer::Fuse(_),
            )
            | None => {}
        }
    }

    /// An answer came when another one was in use already, or broke off.
    pub(crate) fn wasted(&self, tokens: u64) {
        self.figures().wasted_tokens += tokens;
    }

    /// A step was answered from the journal.
    pub(crate) fn journal_hit(&self) {
        self.figures().journal_hits += 1;
    }

    /// A step is carried on whose process has died, so long after that was last seen alive.
    pub(crate) fn taken_over(&self, recovered_after_ms: Option<u64>) {
        let mut figures = self.figures();
        figures.steps_taken_over += 1;
        if let Some(millis) = recovered_after_ms {
            figures.recovery.observe(millis);
        }
    }

    /// A call has taken so much of its run's budget.
    pub(crate) fn reserve(&self, cost: NanoDollars) -> Taken<'_> {
        self.figures().budget_reserved.0 += cost.0;
        Taken { counts: self, cost }
    }

    fn figures(&self) -> MutexGuard<'_, RunFigures> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn count(matches: &[Match], result: MatchResult) -> u64 {
    matches.iter().filter(|one| one.result == result).count() as u64
}

#[cfg(test)]
mod tests {
    use tokenhub_domain::Role;

    use super::*;

    #[test]
    fn an_outcome_is_counted_by_role_and_by_what_its_judge_and_its_voters_did() {
        let step = |role: &str, attempts: u32| serde_json::json!({"id": "s", "role": role, "attempts": attempts});
        let pair = |result: &str| serde_json::json!({"left": 0, "right": 1, "winner": 0, "result": result});
        let best = serde_json::json!({"candidates": [], "selected": 0, "decision": "judge",
            "matches": [pair("agreed"), pair("flipped"), pair("one_order")]});
        let vote = serde_json::json!({"ballots": [], "selected": 0, "decision": "majority",
            "calls_avoided": 2, "calls_withdrawn": 1});
        let counts = Counts::default();
        for answer in [serde_json::json!({"best_of_n": best}), serde_json::json!({"vote": vote})] {
            let outcome = serde_json::json!({"status": "completed", "stop_reason": "decided", "answer": answer,
                "steps": [step("voter", 2), step("voter", 1), step("judge", 1)]});
            counts.ended(&serde_json::from_value(outcome).unwrap());
        }
        let seen = counts.snapshot();
        assert_eq!((seen.steps[&Role::Voter].steps, seen.steps[&Role::Voter].attempts), (4, 6));
        assert_eq!((seen.calls_avoided, seen.calls_withdrawn), (2, 1));
        assert_eq!((seen.judge_pairs, seen.judge_order_flips), (2, 1));
    }

    #[test]
    fn what_a_call_has_taken_is_given_back_when_it_ends() {
        let counts = Counts::default();
        let (first, second) = (counts.reserve(NanoDollars(5)), counts.reserve(NanoDollars(7)));
        assert_eq!(counts.snapshot().budget_reserved, NanoDollars(12));
        drop(first);
        assert_eq!(counts.snapshot().budget_reserved, NanoDollars(7));
        drop(second);
        assert_eq!(counts.snapshot(), RunFigures::default());
    }
}
