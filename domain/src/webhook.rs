//! Who is to be told when a plan has ended.
//!
//! Must not know how anybody is told.

use crate::PlanEvent;

/// Whom a caller wants to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Webhook {
    /// Where.
    pub url: String,
    /// Of what; everything when it is empty.
    pub events: Vec<PlanEvent>,
}

impl Webhook {
    /// Whether somebody wants to hear of `event` who named `events`.
    pub fn wants(events: &[PlanEvent], event: PlanEvent) -> bool {
        events.is_empty() || events.contains(&event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_names_nothing_hears_everything() {
        assert!(Webhook::wants(&[], PlanEvent::PlanFailed));
        assert!(Webhook::wants(&[PlanEvent::PlanFailed], PlanEvent::PlanFailed));
        assert!(!Webhook::wants(&[PlanEvent::PlanFailed], PlanEvent::PlanCompleted));
    }
}
