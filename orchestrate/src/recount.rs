//! What a step comes to by the outcomes of its tries, for a run whose program cannot say it any more.
//!
//! The same sums as in [`crate::ask`], from what the journal holds. Which tries ran at the same time is not known here, so
//! a call counts as lost to a faster one when it was withdrawn and somebody else has answered.

use tokenhub_domain::{Deployment, ErrorClass, Role, SendOutcome, StepId, StepRecord};

use crate::ask::{blank, note_failure, note_reply};

/// The record of a step from its tries in the order of their beginnings. An answer decides, whoever else was asked; without
/// one the last failure does.
pub fn recount(step: &StepId, role: Role, tries: &[(Deployment, SendOutcome)]) -> StepRecord {
    let mut record = blank(step, role);
    let is_answered = tries.iter().any(|(_, outcome)| matches!(outcome, SendOutcome::Answered(_)));
    for (deployment, outcome) in tries {
        let error_class = match outcome {
            SendOutcome::Answered(reply) => {
                note_reply(&mut record, reply);
                None
            }
            SendOutcome::Failed { failure, duplicate_calls, latency_ms, wasted_tokens } => {
                let is_lost = is_answered && failure.class == ErrorClass::Cancelled;
                record.hedged += u32::from(is_lost);
                record.wasted_tokens += wasted_tokens;
                note_failure(&mut record, failure.class, *duplicate_calls, if is_lost { 0 } else { *latency_ms });
                if is_answered {
                    continue;
                }
                Some(failure.class)
            }
        };
        record.model = Some(deployment.model.clone());
        record.provider = Some(deployment.provider.clone());
        record.error_class = error_class;
    }
    record
}

#[cfg(test)]
mod tests {
    use tokenhub_domain::{NanoDollars, ProviderFailure, Reply, Text, TokenUsage};

    use super::*;

    fn answered(duplicate_calls: u32) -> SendOutcome {
        SendOutcome::Answered(Reply {
            attempt: "att_1".into(),
            content: Text::Inline("x".to_owned()),
            finish_reason: None,
            usage: TokenUsage { input_tokens: 5, output_tokens: 3 },
            cost: NanoDollars(7),
            latency_ms: 40,
            duplicate_calls,
            losses: Vec::new(),
            mismatch: None,
            lacks_pattern: false,
            wasted_tokens: 2,
            is_kept: false,
        })
    }

    fn failed(class: ErrorClass, wasted_tokens: u64) -> SendOutcome {
        let failure = ProviderFailure::of(class, "x");
        SendOutcome::Failed { failure, duplicate_calls: 0, latency_ms: 10, wasted_tokens }
    }

    fn of(tries: &[(&str, SendOutcome)]) -> StepRecord {
        let tries: Vec<_> =
            tries.iter().map(|(model, outcome)| (Deployment::new(*model, "p"), outcome.clone())).collect();
        recount(&"answer".into(), Role::Answer, &tries)
    }

    #[test]
    fn a_failover_counts_every_call_and_shows_who_answered() {
        let record = of(&[
            ("a", failed(ErrorClass::ServerError, 0)),
            ("a", failed(ErrorClass::StreamBroken, 9)),
            ("b", answered(1)),
        ]);
        assert_eq!((record.attempts, record.duplicate_calls, record.latency_ms), (3, 1, 60));
        assert_eq!((record.input_tokens, record.output_tokens, record.cost), (5, 3, NanoDollars(7)));
        assert_eq!((record.wasted_tokens, record.hedged, record.error_class), (11, 0, None));
        assert_eq!(record.model, Some("b".into()));
    }

    #[test]
    fn a_hedge_is_its_winners_also_when_the_loser_was_asked_last() {
        let record = of(&[("a", answered(0)), ("b", failed(ErrorClass::Cancelled, 0))]);
        assert_eq!((record.attempts, record.hedged, record.latency_ms), (2, 1, 40));
        assert_eq!((record.model, record.error_class), (Some("a".into()), None));
    }

    #[test]
    fn without_an_answer_the_last_failure_decides_and_what_made_no_call_counts_as_none() {
        let record = of(&[("a", failed(ErrorClass::RateLimited, 0)), ("b", failed(ErrorClass::BudgetExhausted, 0))]);
        assert_eq!((record.attempts, record.hedged), (1, 0));
        assert_eq!((record.model, record.error_class), (Some("b".into()), Some(ErrorClass::BudgetExhausted)));
    }
}
