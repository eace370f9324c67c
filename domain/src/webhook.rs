//! Who is to be told when a plan has ended, and the names of what can happen to it.
//!
//! Must not know how anybody is told. The names are part of the public contract and never change.

use crate::RunStatus;

/// What happened to a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WebhookEvent {
    /// It was answered.
    Completed,
    /// It was answered with less than was asked for.
    CompletedPartial,
    /// It has no answer.
    Failed,
    /// It was stopped.
    Cancelled,
}

impl WebhookEvent {
    /// Every event.
    pub const ALL: [Self; 4] = [Self::Completed, Self::CompletedPartial, Self::Failed, Self::Cancelled];

    /// The event that a run in this state makes; none before its end.
    pub fn of(status: RunStatus) -> Option<Self> {
        match status {
            RunStatus::Pending | RunStatus::Running => None,
            RunStatus::Completed => Some(Self::Completed),
            RunStatus::CompletedPartial => Some(Self::CompletedPartial),
            RunStatus::Failed => Some(Self::Failed),
            RunStatus::Cancelled => Some(Self::Cancelled),
        }
    }

    /// The stable name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "plan.completed",
            Self::CompletedPartial => "plan.completed_partial",
            Self::Failed => "plan.failed",
            Self::Cancelled => "plan.cancelled",
        }
    }

    /// The event named `name`.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|event| event.as_str() == name)
    }
}

/// Whom a caller wants to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Webhook {
    /// Where.
    pub url: String,
    /// Of what; everything when it is empty.
    pub events: Vec<WebhookEvent>,
}

impl Webhook {
    /// Whether somebody wants to hear of `event` who named `events`.
    pub fn wants(events: &[WebhookEvent], event: WebhookEvent) -> bool {
        events.is_empty() || events.contains(&event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_end_has_one_event_and_every_name_is_read_back() {
        let ends = [RunStatus::Completed, RunStatus::CompletedPartial, RunStatus::Failed, RunStatus::Cancelled];
        assert_eq!(ends.map(WebhookEvent::of), WebhookEvent::ALL.map(Some));
        assert_eq!([RunStatus::Pending, RunStatus::Running].map(WebhookEvent::of), [None, None]);
        assert_eq!(WebhookEvent::ALL.map(|event| WebhookEvent::parse(event.as_str())), WebhookEvent::ALL.map(Some));
        assert_eq!(WebhookEvent::parse("plan.started"), None);
    }

    #[test]
    fn whoever_names_nothing_hears_everything() {
        assert!(Webhook::wants(&[], WebhookEvent::Failed));
        assert!(Webhook::wants(&[WebhookEvent::Failed], WebhookEvent::Failed));
        assert!(!Webhook::wants(&[WebhookEvent::Failed], WebhookEvent::Completed));
    }
}
