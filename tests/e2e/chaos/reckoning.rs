//! What plans say that they have cost, against the ledger and the provider's own count.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use serde_json::Value;
use tokenhub_demo::{Finished, SeenCall};
use tokenhub_domain::TenantId;

use super::clients::Ended;
use crate::{
    evidence::Evidence,
    harness::{TestHub, eventually},
    scripted::Case,
};

/// A worker hands its spool to the database within a fraction of a second.
const PATIENCE: Duration = Duration::from_secs(20);

/// The sums over all plans.
pub struct Reckoning {
    plans: usize,
    /// At the provider.
    calls: u64,
    /// Those of an undisturbed run.
    expected: u64,
    /// As the plans tell.
    duplicates: u64,
    /// Announced in the ledger by a process that was killed before the first byte left.
    unsent: u64,
    /// From a death to the repetition of a call that it cut off, in milliseconds, sorted.
    recoveries_ms: Vec<u64>,
    /// Of these, the calls whose answer had been given before the death.
    unjournaled: usize,
    /// Calls that were made again though nobody had died.
    without_a_death: usize,
}

impl Reckoning {
    /// Asserts that what was paid twice is told, to the last call.
    #[track_caller]
    pub fn assert_told(&self) {
        assert_eq!(self.duplicates, self.calls + self.unsent - self.expected, "{self}");
    }
}

impl fmt::Display for Reckoning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { plans, calls, expected, duplicates, unsent, recoveries_ms, unjournaled, without_a_death } = self;
        write!(f, "{plans} plans, {expected} calls expected, {calls} made, {duplicates} told as duplicates, ")?;
        write!(f, "{unsent} announced and not made; made again after a death: {}", recoveries_ms.len())?;
        if let (Some(first), Some(last)) = (recoveries_ms.first(), recoveries_ms.last()) {
            write!(f, " (after {first} to {last} ms, median {} ms)", recoveries_ms[recoveries_ms.len() / 2])?;
        }
        write!(f, ", {unjournaled} of them answered before it; without a death: {without_a_death}")
    }
}

/// Asserts of every plan that its list of steps is what the provider and the ledger have of it, that its usage is the sum
/// of the list, and that it is in the log once; gives the sums.
pub async fn reckon(hub: &TestHub, ended: &[Ended], deaths_micros: &[u64]) -> Reckoning {
    let evidence = Evidence::of(hub).await;
    let rows = evidence.at_rest().await;
    let calls = hub.provider.calls();
    let known: BTreeSet<String> = calls.iter().filter_map(|call| call.attempt_id.clone()).collect();
    let unsent: BTreeSet<(String, String)> = rows
        .iter()
        .map(|row| (row.run_id.to_string(), row.attempt.to_string()))
        .filter(|(_, attempt)| !known.contains(attempt))
        .collect();
    let mut of_case: BTreeMap<usize, Vec<&SeenCall>> = BTreeMap::new();
    for call in &calls {
        of_case.entry(Case::number_of(call).expect("a call of a case")).or_default().push(call);
    }
    assert_each_is_logged_once(&evidence, ended).await;

    let mut sums = Reckoning {
        plans: ended.len(),
        calls: 0,
        expected: 0,
        duplicates: 0,
        unsent: 0,
        recoveries_ms: Vec::new(),
        unjournaled: 0,
        without_a_death: 0,
    };
    for Ended { case, answer, .. } in ended {
        let calls = &of_case[&case.number()];
        let id = answer.body["id"].as_str().unwrap();
        let unsent: Vec<String> =
            unsent.iter().filter(|(run, _)| run == id).map(|(_, attempt)| attempt.clone()).collect();
        assert_listed(hub, answer, calls, &unsent).await;
        sums.calls += calls.len() as u64;
        sums.expected += case.program.calls();
        sums.unsent += unsent.len() as u64;
        sums.duplicates += answer.body["usage"]["duplicate_calls"].as_u64().unwrap();
        note_repetitions(&mut sums, *case, calls, deaths_micros);
    }
    sums.recoveries_ms.sort_unstable();
    sums
}

/// `GET /v1/plan/{id}/steps` has the attempts of the provider, and its sums are those of the plan.
async fn assert_listed(hub: &TestHub, plan: &crate::harness::Answer, calls: &[&SeenCall], unsent: &[String]) {
    let path = format!("/v1/plan/{}/steps", plan.body["id"].as_str().unwrap());
    let made = calls.iter().map(|call| call.attempt_id.clone().unwrap());
    let expected: BTreeSet<String> = made.chain(unsent.iter().cloned()).collect();
    let steps = eventually("every attempt is listed", PATIENCE, || async {
        let steps = hub.get(&path).await.unwrap().expect(200).body;
        (steps["data"].as_array().unwrap().len() >= expected.len()).then_some(steps)
    })
    .await;
    let listed: BTreeSet<String> =
        steps["data"].as_array().unwrap().iter().map(|step| text(&step["attempt_id"])).collect();
    assert_eq!(listed, expected, "{steps:#}");
    assert_eq!(steps["usage"], plan.body["usage"], "{steps:#}\n{}", plan.text);
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

/// Equal bodies to the same model are the same call: how often it was made, and how soon after whose death.
fn note_repetitions(sums: &mut Reckoning, case: Case, calls: &[&SeenCall], deaths_micros: &[u64]) {
    let mut made: BTreeMap<(&str, u64), Vec<&SeenCall>> = BTreeMap::new();
    for call in calls {
        made.entry((&call.model, call.body_hash)).or_default().push(call);
    }
    assert_eq!(made.len() as u64, case.program.calls(), "{case:?} has calls that an undisturbed run has not");
    for pair in made.values().flat_map(|calls| calls.windows(2)) {
        let (first, again) = (pair[0], pair[1]);
        let death = deaths_micros.iter().rev().find(|death| (first.at_micros..=again.at_micros).contains(death));
        let Some(death) = death else {
            sums.without_a_death += 1;
            continue;
        };
        sums.recoveries_ms.push((again.at_micros - death) / 1_000);
        let was_answered = first.finished == Finished::Answered && first.finished_at_micros < Some(*death);
        sums.unjournaled += usize::from(was_answered);
    }
}

async fn assert_each_is_logged_once(evidence: &Evidence, ended: &[Ended]) {
    let mut runs: Vec<String> = ended.iter().map(|ended| text(&ended.answer.body["id"])).collect();
    runs.sort();
    eventually("every plan is in the log, and once", PATIENCE, || async {
        let lines = evidence.newest_of_log(&TenantId::default_tenant(), 100_000).await;
        let mut logged: Vec<String> = lines.iter().map(|line| line.run.run_id.to_string()).collect();
        logged.retain(|run| runs.binary_search(run).is_ok());
        logged.sort();
        (logged == runs).then_some(())
    })
    .await;
}
