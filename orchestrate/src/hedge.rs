//! One step asked of several deployments, one after the other while nobody has answered: the first good answer wins.
//!
//! Owns when the next one is asked and what becomes of those who lose. Within a lane everything is as without hedging:
//! tries, classes, waits. The clock that lets a lane go is a durable timer, so a replay asks the same ones in the same
//! order. (J. Dean and L. A. Barroso, "The Tail at Scale", 2013: hedged requests.)

use std::sync::atomic::{AtomicBool, Ordering};

use tokenhub_domain::{Candidate, ErrorClass, StepRecord};

use crate::{
    Completions, Steps,
    ask::{Ask, Asked, ask_in_turn},
    program::Run,
};

/// Deployments that work on one step at the same time, at most.
const LANES_MAX: usize = 3;

/// A lane in its state of this moment.
struct Lane<S> {
    /// Its calls.
    calls: S,
    /// What it waits for before it begins.
    wait: S,
    begun: AtomicBool,
    /// The one before has failed, so this one does not wait any longer.
    is_called: AtomicBool,
}

impl<S: Steps> Lane<S> {
    fn of(steps: &S) -> Self {
        let (begun, is_called) = (AtomicBool::new(false), AtomicBool::new(false));
        Self { calls: steps.group(), wait: steps.group(), begun, is_called }
    }

    /// Whether it may begin after `wait_ms`: not when nobody is needed any more, nor when the whole step is cancelled.
    async fn may_begin(&self, wait_ms: u64, decided: &AtomicBool) -> bool {
        let waited = if wait_ms > 0 { self.wait.sleep(wait_ms).await } else { Ok(()) };
        // A wait that ends for no reason of ours was cancelled with the whole step.
        let is_due = waited.is_ok() || self.is_called.load(Ordering::Relaxed);
        let begins = is_due && !decided.load(Ordering::Relaxed);
        self.begun.store(begins, Ordering::Relaxed);
        begins
    }

    fn call(&self) {
        self.is_called.store(true, Ordering::Relaxed);
        self.wait.cancel("the deployment before has failed, or nobody else is asked");
    }

    fn withdraw(&self) {
        self.wait.cancel("another deployment has answered");
        self.calls.cancel("another deployment has answered");
    }
}

/// Asks the lanes of `ask`, each `after_ms` after the one before, or at once when that one has failed; and those behind the
/// lanes when all of them have.
pub(crate) async fn ask_hedged<S: Steps>(run: &Run<'_, S>, ask: Ask, after_ms: u64) -> Asked {
    let Lanes { leads, rest } = lanes_of(&ask.candidates);
    let lanes: Vec<Lane<S>> = leads.iter().map(|_| Lane::of(run.steps)).collect();
    let decided = AtomicBool::new(false);
    let asks = leads.into_iter().zip(&lanes).enumerate().map(|(index, (lead, lane))| {
        let ask = Ask { candidates: vec![lead], ..ask.clone() };
        let decided = &decided;
        async move {
            if lane.may_begin(after_ms.saturating_mul(index as u64), decided).await {
                Some(ask_in_turn(&run.through(&lane.calls), ask).await)
            } else {
                None
            }
        }
    });
    let mut completions = Completions::new(asks);
    let (mut winner, mut others): (Option<Asked>, Vec<Asked>) = (None, Vec::new());
    while let Some((_, asked)) = completions.next().await {
        let Some(asked) = asked else { continue };
        if asked.result.is_ok() && winner.is_none() {
            decided.store(true, Ordering::Relaxed);
            lanes.iter().for_each(Lane::withdraw);
            winner = Some(asked);
            continue;
        }
        let is_final = asked.result.as_ref().is_err_and(|failure| is_the_requests_own(failure.class));
        others.push(asked);
        let mut waiting = lanes.iter().filter(|lane| !lane.begun.load(Ordering::Relaxed));
        if is_final {
            // Of a request that is wrong itself nobody else would say otherwise. Who was asked already may still answer.
            decided.store(true, Ordering::Relaxed);
            waiting.for_each(Lane::call);
        } else if let Some(next) = waiting.next() {
            next.call();
        }
    }
    drop(completions);
    let is_over = decided.into_inner() || others.iter().any(|asked| asked.is_cut || is_cancelled(asked));
    if !is_over && !rest.is_empty() {
        let asked = ask_in_turn(run, Ask { candidates: rest, ..ask.clone() }).await;
        match asked.result {
            Ok(_) => winner = Some(asked),
            Err(_) => others.push(asked),
        }
    }
    settle(winner, others, &ask)
}

fn is_cancelled(asked: &Asked) -> bool {
    asked.result.as_ref().is_err_and(|failure| failure.class == ErrorClass::Cancelled)
}

/// Failures that the class table answers with a stop, because the request is at fault and not who was asked.
pub fn is_the_requests_own(class: ErrorClass) -> bool {
    match class {
        ErrorClass::BadRequest
        | ErrorClass::ContentFiltered
        | ErrorClass::BadOutput
        | ErrorClass::ResultTooLarge
        | ErrorClass::BudgetExhausted => true,
        ErrorClass::RateLimited
        | ErrorClass::QuotaExhausted
        | ErrorClass::Overloaded
        | ErrorClass::ServerError
        | ErrorClass::Transport
        | ErrorClass::StreamBroken
        | ErrorClass::FirstTokenTimeout
        | ErrorClass::StepDeadline
        | ErrorClass::AuthFailed
        | ErrorClass::ContextTooLong
        | ErrorClass::Cancelled => false,
    }
}

/// The candidates of a hedged step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lanes {
    /// Who begins each lane.
    pub leads: Vec<Candidate>,
    /// Who is asked when all of them have failed, in order.
    pub rest: Vec<Candidate>,
}

/// The best, and then the best of those at other providers before the others.
pub fn lanes_of(candidates: &[Candidate]) -> Lanes {
    let mut rest = candidates.to_vec();
    let mut leads: Vec<Candidate> = Vec::with_capacity(LANES_MAX);
    while leads.len() < LANES_MAX && !rest.is_empty() {
        let is_elsewhere =
            |one: &Candidate| leads.iter().all(|lead| lead.deployment.provider != one.deployment.provider);
        let place = rest.iter().position(is_elsewhere).unwrap_or(0);
        leads.push(rest.remove(place));
    }
    Lanes { leads, rest }
}

/// The winner, or the first failure that is the provider's own, with the calls of everybody in its record.
fn settle(winner: Option<Asked>, mut others: Vec<Asked>, ask: &Ask) -> Asked {
    let is_own =
        |asked: &Asked| asked.result.as_ref().err().is_none_or(|failure| failure.class != ErrorClass::Cancelled);
    let mut kept = match winner {
        Some(winner) => winner,
        None if others.is_empty() => return Asked::nobody(ask),
        None => {
            let place = others.iter().position(is_own).unwrap_or(0);
            others.remove(place)
        }
    };
    for other in &others {
        add_calls(&mut kept.record, other);
        if let (Ok(answered), Err(failure)) = (&mut kept.result, &other.result) {
            answered.failed_over |= failure.class != ErrorClass::Cancelled;
        }
    }
    kept
}

fn add_calls(record: &mut StepRecord, other: &Asked) {
    let theirs = &other.record;
    let calls = theirs.attempts + u32::from(other.is_cut);
    record.attempts += calls;
    record.duplicate_calls += theirs.duplicate_calls;
    record.input_tokens += theirs.input_tokens;
    record.output_tokens += theirs.output_tokens;
    record.cost += theirs.cost;
    record.wasted_tokens += theirs.wasted_tokens;
    record.hedged += calls;
}

#[cfg(test)]
mod tests {
    use tokenhub_domain::Deployment;

    use super::*;

    fn candidate(model: &str, provider: &str) -> Candidate {
        Candidate {
            deployment: Deployment::new(model, provider),
            max_context_tokens: None,
            estimated_cost: tokenhub_domain::NanoDollars::default(),
            weight: 5,
        }
    }

    #[test]
    fn lanes_begin_at_different_providers_where_there_are_some() {
        let all = [candidate("a", "p"), candidate("b", "p"), candidate("c", "q"), candidate("d", "q")];
        let names = |lanes: &[Candidate]| lanes.iter().map(|one| one.deployment.model.to_string()).collect::<String>();
        let Lanes { leads, rest } = lanes_of(&all);
        assert_eq!((names(&leads), names(&rest)), ("acb".to_owned(), "d".to_owned()));
        assert_eq!(names(&lanes_of(&all[..2]).leads), "ab");
        assert_eq!(names(&lanes_of(&all[..1]).leads), "a");
    }
}
