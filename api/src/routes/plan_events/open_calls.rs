//! The calls of a plan that are open, as its events tell, and how far a client has read what they write.
//!
//! Pure. An event of a plan that shows what is written says by `attempt` which call of its step it is of; of any other plan
//! there is nothing here. A call is open from its beginning to its end, or until another one makes it again.

use axum::response::sse::Event;
use serde::Deserialize;
use serde_json::json;
use tokenhub_domain::{CallNumber, PlanEvent, STEP_DELTA, StepId};
use tokenhub_store::{Delta, DeltaPlace, EventRow, RunRow};

/// The open calls of one plan.
#[derive(Debug, Default)]
pub(super) struct OpenCalls(Vec<OpenCall>);

#[derive(Debug)]
struct OpenCall {
    told: ToldCall,
    /// The next piece of what it writes.
    next_seq: u64,
}

/// What an event says of its call.
#[derive(Debug, PartialEq, Eq, Deserialize)]
struct ToldCall {
    step: StepId,
    attempt: CallNumber,
    model: String,
    provider: String,
    #[serde(rename = "try")]
    try_number: u32,
}

impl ToldCall {
    fn of(event: &EventRow) -> Option<Self> {
        serde_json::from_str(&event.data).ok()
    }

    fn is_same_try(&self, other: &Self) -> bool {
        self.step == other.step
            && self.try_number == other.try_number
            && self.model == other.model
            && self.provider == other.provider
    }
}

impl OpenCalls {
    /// An event was told.
    pub(super) fn see(&mut self, event: &EventRow) {
        let Some(call) = ToldCall::of(event) else { return };
        match PlanEvent::parse(&event.name) {
            Some(PlanEvent::StepStarted | PlanEvent::StepRestarted) => {
                if self.0.iter().any(|open| open.told == call) {
                    return;
                }
                self.0.retain(|open| !open.told.is_same_try(&call));
                self.0.push(OpenCall { told: call, next_seq: 0 });
            }
            Some(PlanEvent::StepCompleted | PlanEvent::StepFailed) => {
                self.0.retain(|open| !open.told.is_same_try(&call));
            }
            Some(_) | None => {}
        }
    }

    /// Where every open call goes on.
    pub(super) fn places(&self) -> Vec<DeltaPlace> {
        self.0.iter().map(OpenCall::place).collect()
    }

    /// Where the call goes on that this event ends.
    pub(super) fn ended_by(&self, event: &EventRow) -> Option<DeltaPlace> {
        match PlanEvent::parse(&event.name) {
            Some(PlanEvent::StepCompleted | PlanEvent::StepFailed) => {
                let ended = ToldCall::of(event)?;
                self.0.iter().find(|open| open.told == ended).map(OpenCall::place)
            }
            Some(_) | None => None,
        }
    }

    /// Pieces were read, to be told.
    pub(super) fn took(&mut self, deltas: &[Delta]) {
        for Delta { place, .. } in deltas {
            let is_of = |open: &&mut OpenCall| open.told.step == place.step && open.told.attempt == place.call;
            if let Some(open) = self.0.iter_mut().find(is_of) {
                open.next_seq = open.next_seq.max(place.seq + 1);
            }
        }
    }
}

impl OpenCall {
    fn place(&self) -> DeltaPlace {
        DeltaPlace { step: self.told.step.clone(), call: self.told.attempt, seq: self.next_seq }
    }
}

/// Whether the answers of a run are shown while they are written.
pub(super) fn are_shown(row: &RunRow) -> bool {
    #[derive(Deserialize)]
    struct Spec {
        run: Run,
    }
    #[derive(Deserialize)]
    struct Run {
        #[serde(default)]
        deltas: tokenhub_domain::Deltas,
    }
    serde_json::from_str::<Spec>(&row.spec_json).is_ok_and(|spec| !spec.run.deltas.is_default())
}

/// A piece as a client gets it. It has no number that a client could go on behind.
pub(super) fn shown(Delta { place, text }: &Delta) -> Event {
    let data = json!({"step": place.step, "attempt": place.call, "seq": place.seq, "text": text});
    Event::default().event(STEP_DELTA).data(data.to_string())
}

#[cfg(test)]
mod tests {
    use tokenhub_domain::UnixMicros;

    use super::*;

    fn event(name: &str, step: &str, try_number: u32, attempt: Option<u32>) -> EventRow {
        let mut data = json!({"step": step, "model": "m", "provider": "p", "try": try_number, "more": 1});
        if let Some(attempt) = attempt {
            data["attempt"] = attempt.into();
        }
        EventRow { seq: 1, name: name.to_owned(), data: data.to_string(), at: UnixMicros(1) }
    }

    fn place(step: &str, call: u32, seq: u64) -> DeltaPlace {
        DeltaPlace { step: step.into(), call: CallNumber(call), seq }
    }

    fn after(events: &[EventRow]) -> OpenCalls {
        let mut open = OpenCalls::default();
        for event in events {
            open.see(event);
        }
        open
    }

    #[test]
    fn a_call_is_open_from_its_beginning_to_its_end_and_goes_on_behind_what_was_read() {
        let events = [event("step.started", "a", 1, Some(1)), event("step.started", "b", 1, Some(1))];
        let mut open = after(&events);
        open.took(&[
            Delta { place: place("a", 1, 4), text: String::new() },
            Delta { place: place("c", 1, 9), text: String::new() },
        ]);
        assert_eq!(open.places(), [place("a", 1, 5), place("b", 1, 0)]);
        let end = event("step.completed", "a", 1, Some(1));
        assert_eq!(open.ended_by(&end), Some(place("a", 1, 5)));
        assert_eq!(open.ended_by(&events[0]), None);
        open.see(&end);
        assert_eq!((open.places(), open.ended_by(&end)), (vec![place("b", 1, 0)], None));
    }

    #[test]
    fn who_makes_a_call_again_takes_its_place_and_who_stands_beside_it_does_not() {
        let started = event("step.started", "a", 1, Some(1));
        let again = event("step.restarted", "a", 1, Some(2));
        assert_eq!(after(&[started.clone(), again.clone(), again.clone()]).places(), [place("a", 2, 0)]);
        let beside = event("step.started", "a", 2, Some(3));
        assert_eq!(after(&[started, again, beside.clone()]).places(), [place("a", 2, 0), place("a", 3, 0)]);
        let mut open = after(std::slice::from_ref(&beside));
        open.took(&[Delta { place: place("a", 3, 0), text: String::new() }]);
        open.see(&event("step.restarted", "a", 2, Some(3)));
        assert_eq!(open.places(), [place("a", 3, 1)], "the same call, told by two events");
    }

    #[test]
    fn a_plan_that_shows_nothing_has_no_open_calls() {
        assert!(after(&[event("step.started", "a", 1, None)]).places().is_empty());
    }
}
