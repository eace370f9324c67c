//! What somebody asks of a run while it runs.
//!
//! Owns what can be asked and how requests add up. Must not know where they are kept or how a run hears of them.

use serde::{Deserialize, Serialize};

use crate::Use;

/// One request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum SteeringRequest {
    /// Ask nobody any more and answer with what there is, or with the first answer that comes.
    AnswerNow,
    /// Begin nothing any more, finish what is under way, and end.
    StopAfterStep,
    /// More room below those limits that the run has.
    AddBudget(Use),
    /// More time.
    ExtendDeadline {
        /// The whole run must end within this, counted from its first step.
        deadline_ms: u64,
    },
}

impl SteeringRequest {
    /// What a program has to hear of it. More room is heard of by the steps alone.
    pub fn steering(self) -> Steering {
        match self {
            Self::AnswerNow => Steering { answers_now: true, ..Steering::default() },
            Self::StopAfterStep => Steering { stops_after_step: true, ..Steering::default() },
            Self::AddBudget(_) => Steering::default(),
            Self::ExtendDeadline { deadline_ms } => Steering { deadline_ms: Some(deadline_ms), ..Steering::default() },
        }
    }
}

/// All requests together, as far as programs hear of them. It only grows, so it does not matter in which order requests
/// are heard, or how often.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Steering {
    /// See [`SteeringRequest::AnswerNow`].
    pub answers_now: bool,
    /// See [`SteeringRequest::StopAfterStep`].
    pub stops_after_step: bool,
    /// See [`SteeringRequest::ExtendDeadline`].
    pub deadline_ms: Option<u64>,
}

impl Steering {
    /// Both together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            answers_now: self.answers_now || other.answers_now,
            stops_after_step: self.stops_after_step || other.stops_after_step,
            deadline_ms: self.deadline_ms.max(other.deadline_ms),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NanoDollars;

    #[test]
    fn requests_add_up_in_any_order_and_any_number() {
        let requests = [
            SteeringRequest::ExtendDeadline { deadline_ms: 9_000 },
            SteeringRequest::AnswerNow,
            SteeringRequest::ExtendDeadline { deadline_ms: 5_000 },
            SteeringRequest::AddBudget(Use { calls: 1, tokens: 2, cost: NanoDollars(3) }),
        ];
        let all = Steering { answers_now: true, stops_after_step: false, deadline_ms: Some(9_000) };
        let sum = |requests: &[SteeringRequest]| {
            requests.iter().fold(Steering::default(), |sum, request| sum.and(request.steering()))
        };
        assert_eq!(sum(&requests), all);
        let mut turned = requests;
        turned.reverse();
        assert_eq!((sum(&turned), all.and(all)), (all, all));
    }

    #[test]
    fn a_request_is_read_as_it_was_written() {
        for request in [
            SteeringRequest::AnswerNow,
            SteeringRequest::StopAfterStep,
            SteeringRequest::AddBudget(Use { calls: 1, tokens: 2, cost: NanoDollars(3) }),
            SteeringRequest::ExtendDeadline { deadline_ms: 7 },
        ] {
            let text = serde_json::to_string(&request).unwrap();
            assert_eq!(serde_json::from_str::<SteeringRequest>(&text).unwrap(), request, "{text}");
        }
    }
}
