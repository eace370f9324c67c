//! The names of what is told of a plan while it runs.
//!
//! Clients know them, so they never change. Must not know how events are kept or sent.

use serde::{Deserialize, Serialize};

use crate::RunStatus;

/// A piece of an answer that is being written. It is no event: nobody numbers it, and it does not last.
pub const STEP_DELTA: &str = "step.delta";

/// Which of the calls of a step, from 1, whoever was called and whoever made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CallNumber(pub u32);

/// Something that happened to a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PlanEvent {
    /// It was accepted.
    PlanCreated,
    /// Somebody carries it, and its models are chosen.
    PlanStarted,
    /// A provider is called.
    StepStarted,
    /// It is called again, because the process that waited for the answer has died.
    StepRestarted,
    /// It has answered.
    StepCompleted,
    /// It has not.
    StepFailed,
    /// It has its answer and waits for a decision about it.
    ApprovalRequested,
    /// Somebody has decided, or the time was over.
    ApprovalResolved,
    /// Somebody has asked something of it.
    SignalReceived,
    /// The end: everything that was asked for.
    PlanCompleted,
    /// The end: an answer, but less than was asked for.
    PlanCompletedPartial,
    /// The end: stopped from outside.
    PlanCancelled,
    /// The end: no answer.
    PlanFailed,
    /// The end: no answer, because the limits of the run left no room for it.
    PlanBudgetExhausted,
    /// The end: no answer in time.
    PlanDeadlineExceeded,
}

impl PlanEvent {
    /// Every event, for tables and tests.
    pub const ALL: [Self; 15] = [
        Self::PlanCreated,
        Self::PlanStarted,
        Self::StepStarted,
        Self::StepRestarted,
        Self::StepCompleted,
        Self::StepFailed,
        Self::ApprovalRequested,
        Self::ApprovalResolved,
        Self::SignalReceived,
        Self::PlanCompleted,
        Self::PlanCompletedPartial,
        Self::PlanCancelled,
        Self::PlanFailed,
        Self::PlanBudgetExhausted,
        Self::PlanDeadlineExceeded,
    ];

    /// The stable name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PlanCreated => "plan.created",
            Self::PlanStarted => "plan.started",
            Self::StepStarted => "step.started",
            Self::StepRestarted => "step.restarted",
            Self::StepCompleted => "step.completed",
            Self::StepFailed => "step.failed",
            Self::ApprovalRequested => "approval.requested",
            Self::ApprovalResolved => "approval.resolved",
            Self::SignalReceived => "signal.received",
            Self::PlanCompleted => "plan.completed",
            Self::PlanCompletedPartial => "plan.completed_partial",
            Self::PlanCancelled => "plan.cancelled",
            Self::PlanFailed => "plan.failed",
            Self::PlanBudgetExhausted => "plan.budget_exhausted",
            Self::PlanDeadlineExceeded => "plan.deadline_exceeded",
        }
    }

    /// The event named `name`.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|event| event.as_str() == name)
    }

    /// The last event of a run with this status; nothing while it lasts.
    pub fn end_of(status: RunStatus) -> Option<Self> {
        match status {
            RunStatus::Pending | RunStatus::Running => None,
            RunStatus::Completed => Some(Self::PlanCompleted),
            RunStatus::CompletedPartial => Some(Self::PlanCompletedPartial),
            RunStatus::Cancelled => Some(Self::PlanCancelled),
            RunStatus::Failed => Some(Self::PlanFailed),
            RunStatus::BudgetExhausted => Some(Self::PlanBudgetExhausted),
            RunStatus::DeadlineExceeded => Some(Self::PlanDeadlineExceeded),
        }
    }

    /// The last event of that name.
    pub fn parse_end(name: &str) -> Option<Self> {
        Self::parse(name).filter(|event| event.is_last())
    }

    /// Whether no other follows.
    pub fn is_last(self) -> bool {
        match self {
            Self::PlanCompleted
            | Self::PlanCompletedPartial
            | Self::PlanCancelled
            | Self::PlanFailed
            | Self::PlanBudgetExhausted
            | Self::PlanDeadlineExceeded => true,
            Self::PlanCreated
            | Self::PlanStarted
            | Self::StepStarted
            | Self::StepRestarted
            | Self::StepCompleted
            | Self::StepFailed
            | Self::ApprovalRequested
            | Self::ApprovalResolved
            | Self::SignalReceived => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_end_of_a_run_has_an_event_of_its_own_that_is_the_last() {
        let last: Vec<PlanEvent> = PlanEvent::ALL.into_iter().filter(|event| event.is_last()).collect();
        let ends: Vec<RunStatus> = RunStatus::ALL.into_iter().filter(|status| status.is_final()).collect();
        let told: Vec<PlanEvent> = ends.iter().copied().filter_map(PlanEvent::end_of).collect();
        assert_eq!(told.len(), ends.len());
        assert!(last.iter().all(|event| told.contains(event)) && last.len() == told.len());
        for status in ends {
            let name = PlanEvent::end_of(status).unwrap().as_str();
            assert_eq!(name, format!("plan.{}", status.as_str()));
            assert_eq!(PlanEvent::parse(name), PlanEvent::end_of(status));
        }
        assert_eq!(PlanEvent::end_of(RunStatus::Running), None);
    }
}
