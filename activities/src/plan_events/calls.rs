//! Which call of its step a call is: counted in the events that have told of the step, so that whoever reads them agrees.
//!
//! Pure. Owns the keys of what is told of a call. A try is a call, and so is each repetition of it by somebody else after
//! a death; deployments that are asked at the same time are calls of one step, too.

use tokenhub_domain::{CallNumber, PlanEvent, RunId, StepId, StepKey};

/// The events whose keys say what was called.
pub(super) const KINDS: [PlanEvent; 4] =
    [PlanEvent::StepStarted, PlanEvent::StepRestarted, PlanEvent::StepCompleted, PlanEvent::StepFailed];

const STARTED: &str = "started|";
const RESTARTED: &str = "restarted|";
const ENDED: &str = "ended|";

/// The key of the event that a try begins.
pub(super) fn started(key: &StepKey) -> String {
    format!("{STARTED}{key}")
}

/// The key of the event that the holder number `epoch` of its lease makes the call.
pub(super) fn restarted(key: &StepKey, epoch: i64) -> String {
    format!("{RESTARTED}{key}|{epoch}")
}

/// The key of the event that a try has ended.
pub(super) fn ended(key: &StepKey) -> String {
    format!("{ENDED}{key}")
}

/// The calls of one step.
#[derive(Debug, Default)]
pub(super) struct StepCalls<'a> {
    /// Each once: its try and the holder of the lease.
    begun: Vec<(&'a str, i64)>,
    ended: Vec<&'a str>,
}

impl<'a> StepCalls<'a> {
    /// Those that the keys of a run's events tell of, in their order.
    pub(super) fn of(run: &RunId, step: &StepId, keys: &'a [String]) -> Self {
        let prefix = StepKey::step_prefix(run, step);
        let mut calls = Self::default();
        for key in keys {
            let call = if let Some(key) = key.strip_prefix(STARTED) {
                Some((key, 1))
            } else if let Some(key) = key.strip_prefix(RESTARTED) {
                key.rsplit_once('|').and_then(|(key, epoch)| Some((key, epoch.parse().ok()?)))
            } else {
                let ended = key.strip_prefix(ENDED).filter(|key| key.starts_with(&prefix));
                calls.ended.extend(ended);
                None
            };
            calls.begun.extend(call.filter(|call| call.0.starts_with(&prefix) && !calls.begun.contains(call)));
        }
        calls
    }

    /// The number of a call, if it was told of.
    pub(super) fn number_of(&self, key: &StepKey, epoch: i64) -> Option<CallNumber> {
        let place = self.begun.iter().position(|call| *call == (key.as_str(), epoch))?;
        u32::try_from(place + 1).ok().map(CallNumber)
    }

    /// The number that the next call gets.
    pub(super) fn next(&self) -> CallNumber {
        CallNumber(u32::try_from(self.begun.len() + 1).unwrap_or(u32::MAX))
    }

    /// Whether a try goes on where earlier calls have ended without an answer, and not beside others.
    pub(super) fn follows(&self, key: &StepKey) -> bool {
        let mut others = self.begun.iter().map(|call| call.0).filter(|other| *other != key.as_str()).peekable();
        others.peek().is_some() && others.all(|other| self.ended.contains(&other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN: &str = "plan_1";

    fn key(model: &str, try_number: u32) -> StepKey {
        StepKey::from(format!("plan_1|answer|p|{model}|{try_number}").as_str())
    }

    fn calls(keys: &[String]) -> StepCalls<'_> {
        StepCalls::of(&RUN.into(), &"answer".into(), keys)
    }

    #[test]
    fn tries_and_take_overs_are_counted_and_each_is_counted_once() {
        let (first, second, piped) = (key("m", 1), key("m", 2), key("a|b", 1));
        let of_another = StepKey::from("plan_1|answer/repair|p|m|1");
        let keys = [
            started(&first),
            started(&of_another),
            restarted(&first, 2),
            ended(&first),
            started(&second),
            restarted(&second, 1),
            started(&piped),
            restarted(&piped, 3),
        ];
        let calls = calls(&keys);
        let numbers = [(&first, 1), (&first, 2), (&second, 1), (&piped, 1), (&piped, 3), (&of_another, 1), (&piped, 2)]
            .map(|(key, epoch)| calls.number_of(key, epoch).map(|number| number.0));
        assert_eq!(numbers, [Some(1), Some(2), Some(3), Some(4), Some(5), None, None]);
        assert_eq!(calls.next(), CallNumber(6));
    }

    #[test]
    fn a_try_follows_others_when_all_of_them_have_ended_and_stands_beside_them_otherwise() {
        let (first, second) = (key("m", 1), key("n", 1));
        assert!(!calls(&[]).follows(&first));
        assert!(!calls(&[started(&first), ended(&first)]).follows(&first), "the same one");
        assert!(!calls(&[started(&first)]).follows(&second), "a hedge");
        assert!(calls(&[started(&first), restarted(&first, 2), ended(&first)]).follows(&second));
    }
}
