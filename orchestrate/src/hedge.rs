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
}

/// Asks the lanes of `ask`, each `after_ms` after the one before, or at once when that one has failed.
pub(crate) async fn ask_hedged<S: Steps>(run: &Run<'_, S>, ask: Ask, after_ms: u64) -> Asked {
    let plans = lanes_of(&ask.candidates);
    let lanes: Vec<Lane<S>> = plans
        .iter()
        .map(|_| Lane { calls: run.steps.group(), wait: run.steps.group(), begun: AtomicBool::new(false) })
        .collect();
    let decided = AtomicBool::new(false);
    let asks = plans.into_iter().zip(&lanes).enumerate().map(|(index, (candidates, lane))| {
        let ask = Ask { candidates, ..ask.clone() };
        let decided = &decided;
        async move {
            if index > 0 {
                // Cancelled is as good as over: the lane before has failed, or nobody is needed any more.
                let _over = lane.wait.sleep(after_ms.saturating_mul(index as u64)).await;
            }
            if decided.load(Ordering::Relaxed) {
                return None;
            }
            lane.begun.store(true, Ordering::Relaxed);
            Some(ask_in_turn(&run.through(&lane.calls), ask).await)
        }
    });
    let mut completions = Completions::new(asks);
    let (mut winner, mut others): (Option<Asked>, Vec<Asked>) = (None, Vec::new());
    while let Some((_, asked)) = completions.next().await {
        match asked {
            None => {}
            Some(asked) if asked.result.is_ok() && winner.is_none() => {
                decided.store(true, Ordering::Relaxed);
                for lane in &lanes {
                    lane.wait.cancel("another deployment has answered");
                    lane.calls.cancel("another deployment has answered");
                }
                winner = Some(asked);
            }
            Some(asked) => {
                others.push(asked);
                if let Some(next) = lanes.iter().find(|lane| !lane.begun.load(Ordering::Relaxed)) {
                    next.wait.cancel("the deployment before has failed");
                }
            }
        }
    }
    settle(winner, others, &ask)
}

/// Who begins each lane: the best, and then the best of those at other providers before the others. Whoever begins none
/// stays behind the best, in order.
pub fn lanes_of(candidates: &[Candidate]) -> Vec<Vec<Candidate>> {
    let mut rest = candidates.to_vec();
    let mut leads: Vec<Candidate> = Vec::with_capacity(LANES_MAX);
    while leads.len() < LANES_MAX && !rest.is_empty() {
        let is_elsewhere =
            |one: &Candidate| leads.iter().all(|lead| lead.deployment.provider != one.deployment.provider);
        let place = rest.iter().position(is_elsewhere).unwrap_or(0);
        leads.push(rest.remove(place));
    }
    let mut lanes: Vec<Vec<Candidate>> = leads.into_iter().map(|lead| vec![lead]).collect();
    if let Some(first) = lanes.first_mut() {
        first.extend(rest);
    }
    lanes
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
        let names = |lanes: Vec<Vec<Candidate>>| -> Vec<String> {
            let of =
                |lane: &Vec<Candidate>| lane.iter().map(|one| one.deployment.model.to_string()).collect::<String>();
            lanes.iter().map(of).collect()
        };
        assert_eq!(names(lanes_of(&all)), ["ad", "c", "b"]);
        assert_eq!(names(lanes_of(&all[..2])), ["a", "b"]);
        assert_eq!(names(lanes_of(&all[..1])), ["a"]);
    }
}
