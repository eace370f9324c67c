//! The worker dies while a provider works on a step in the background: the next one attaches to that response.

mod ends;

use std::time::Duration;

use serde_json::{Value, json};
use tokenhub_demo::{Finished, SeenCall};

use super::{assert_recovered, replace_worker};
use crate::{
    evidence::{Evidence, assert_same_usage},
    harness::{Answer, Disturbance, TestHub, eventually, exchange},
    scripted::{
        ADVERSARIAL, BEST_OF_THREE, Case, FIVE_VOTERS, Program, REFINE, STUCK_MS, VOTE, installation_in_background,
    },
};

const PATIENCE: Duration = Duration::from_secs(30);

fn is_about(look: &SeenCall, call: &SeenCall) -> bool {
    look.method == "GET" && look.attempt_id == call.attempt_id
}

/// Looks at the response that `call` has begun.
fn looks_at(hub: &TestHub, call: &SeenCall) -> usize {
    hub.provider.looks().iter().filter(|look| is_about(look, call)).count()
}

/// Waits until each of these responses was looked at more often than `before`: its name is in the journal.
async fn wait_until_looked_at(hub: &TestHub, calls: &[(SeenCall, usize)]) {
    eventually("every response is looked at", PATIENCE, || async {
        calls.iter().all(|(call, before)| looks_at(hub, call) > *before).then_some(())
    })
    .await;
}

/// The calls of `case` that the provider works on, none of them looked at.
fn at_work(hub: &TestHub, case: Case) -> Vec<(SeenCall, usize)> {
    let calls = case.calls(hub).into_iter().map(|(_, call)| call);
    calls.filter(|call| call.finished == Finished::Pending).map(|call| (call, 0)).collect()
}

fn with_looks(hub: &TestHub, calls: Vec<(SeenCall, usize)>) -> Vec<(SeenCall, usize)> {
    calls.into_iter().map(|(call, _)| (looks_at(hub, &call), call)).map(|(looks, call)| (call, looks)).collect()
}

/// The list of a plan's attempts, once it has so many and all have ended.
async fn steps_of(hub: &TestHub, answer: &Answer, count: usize) -> Value {
    let path = format!("/v1/plan/{}/steps", answer.body["id"].as_str().unwrap());
    eventually("every attempt is listed", PATIENCE, || async {
        let listed = hub.get(&path).await.unwrap().expect(200).body;
        let steps = listed["data"].as_array().unwrap();
        let have_ended = steps.iter().all(|step| step["ended_at"].is_string() || step["state"] == "orphaned");
        (steps.len() == count && have_ended).then_some(listed)
    })
    .await
}

fn fields<'a>(steps: &'a Value, name: &str) -> Vec<&'a Value> {
    steps["data"].as_array().unwrap().iter().map(|step| &step[name]).collect()
}

/// Every attempt of the plan is used and paid once, and so many were attached to.
async fn assert_reattached(hub: &TestHub, case: Case, answer: &Answer, count: usize) {
    case.assert_calls(hub, answer, &[]);
    let calls = usize::try_from(case.program.calls()).unwrap();
    let steps = steps_of(hub, answer, calls).await;
    let reattached = fields(&steps, "reattached").into_iter().filter(|times| times.as_u64().unwrap() > 0).count();
    assert_eq!(reattached, count, "{steps:#}");
    for (name, expected) in [("state", json!("settled")), ("waste", json!("used")), ("duplicate", json!(false))] {
        assert!(fields(&steps, name).iter().all(|value| **value == expected), "{name}: {steps:#}");
    }
    assert_same_usage(&steps, &answer.body);
}

/// Runs one plan for each entry of `stuck`, each held at those steps, and kills their worker. The provider ends its
/// responses when the next worker has looked at each of them.
async fn kill_during(program: &'static Program, stuck: &[(&[&str], u64)]) {
    let mut hub = installation_in_background().start().await;
    let undisturbed = Case::new(program, 0).undisturbed(&hub).await;
    let evidence = Evidence::of(&hub).await;
    let mut running = Vec::new();
    for (number, (steps, steps_left)) in stuck.iter().enumerate() {
        let case = Case::new(program, number + 1);
        case.script_stuck(&hub, steps);
        running.push((case, *steps, *steps_left, case.ask(&hub)));
    }
    for (case, steps, _, _) in &running {
        case.wait_until_in_flight(&hub, steps).await;
    }
    let held: usize = stuck.iter().map(|(steps, _)| steps.len()).sum();
    let only_held = |calls: &[SeenCall]| calls.iter().filter(|call| call.finished == Finished::Pending).count() == held;
    assert!(hub.provider.wait_until(PATIENCE, only_held).await);
    let calls: Vec<_> = running.iter().flat_map(|(case, ..)| at_work(&hub, *case)).collect();
    wait_until_looked_at(&hub, &calls).await;
    evidence.wait_until_answers_are_journaled(&hub).await;
    for worker in &mut hub.workers {
        worker.kill();
    }
    hub.workers.clear();
    let calls = with_looks(&hub, calls);
    let killed_at = std::time::Instant::now();
    hub.start_worker(&[]);
    wait_until_looked_at(&hub, &calls).await;
    hub.provider.end_responses();
    for (case, steps, steps_left, asked) in running {
        let ended = asked.await.unwrap().unwrap();
        let what = format!("attached to {}", steps.join(" "));
        let ended = assert_recovered(case, &what, &undisturbed, ended, killed_at, steps_left);
        assert_reattached(&hub, case, &ended.answer, steps.len()).await;
    }
    hub.finish(Disturbance::Kills).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vote_of_five_attaches_to_its_voters_and_its_judge() {
    let each: [(&[&str], u64); 3] = [(&["ballot/1"], 2), (&["ballot/2", "ballot/3", "ballot/5"], 2), (&["judge"], 1)];
    kill_during(&FIVE_VOTERS, &each).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_best_of_three_in_pairs_attaches_to_its_candidates_and_its_judge() {
    kill_during(&BEST_OF_THREE, &[(&["candidate/2"], 3), (&["judge"], 2)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_adversarial_plan_attaches_in_every_step() {
    let each: [(&[&str], u64); 5] =
        [(&["plan"], 5), (&["critique/1"], 4), (&["revision/1"], 3), (&["critique/2"], 2), (&["revision/2"], 1)];
    kill_during(&ADVERSARIAL, &each).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refinement_attaches_in_every_step() {
    kill_during(&REFINE, &[(&["answer"], 3), (&["improvement/1"], 2), (&["improvement/2"], 1)]).await;
}

/// A refinement that is held in its second step, with its worker dead: the call, and whoever waits for the plan.
async fn held_and_orphaned(
    hub: &mut TestHub,
    case: Case,
    body: Value,
) -> (SeenCall, tokio::task::JoinHandle<Result<Answer, reqwest::Error>>) {
    case.script_stuck(hub, &["improvement/1"]);
    let asked = tokio::spawn(exchange(hub.request(reqwest::Method::POST, "/v1/plan").json(&body)));
    case.wait_until_in_flight(hub, &["improvement/1"]).await;
    let calls = at_work(hub, case);
    wait_until_looked_at(hub, &calls).await;
    Evidence::of(hub).await.wait_until_answers_are_journaled(hub).await;
    hub.workers.remove(0).kill();
    (calls[0].0.clone(), asked)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_response_that_the_provider_has_forgotten_is_asked_for_again_and_told() {
    let mut hub = installation_in_background().start().await;
    let undisturbed = Case::new(&REFINE, 0).undisturbed(&hub).await;
    let case = Case::new(&REFINE, 1);
    let (_, asked) = held_and_orphaned(&mut hub, case, case.body()).await;
    hub.provider.forget_responses();
    hub.start_worker(&[]);
    let answer = asked.await.unwrap().unwrap().expect(200);
    assert_eq!(case.comparable(&answer), undisturbed);
    case.assert_calls(&hub, &answer, &["improvement/1"]);
    let steps = steps_of(&hub, &answer, 4).await;
    assert_eq!(fields(&steps, "state"), ["settled", "orphaned", "settled", "settled"], "{steps:#}");
    assert_eq!(fields(&steps, "duplicate"), [false, false, true, false], "{steps:#}");
    assert_same_usage(&steps, &answer.body);
    hub.finish(Disturbance::Kills).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_bounded_plan_has_taken_for_a_response_is_not_taken_again() {
    let mut hub = installation_in_background().start().await;
    let case = Case::new(&REFINE, 1);
    let mut body = case.body();
    body["bounds"] = json!({"max_calls": 3, "max_tokens": 100_000, "max_cost_usd": 1.0});
    let (call, asked) = held_and_orphaned(&mut hub, case, body).await;
    let looks = looks_at(&hub, &call);
    hub.start_worker(&[]);
    wait_until_looked_at(&hub, &[(call, looks)]).await;
    hub.provider.end_responses();
    let answer = asked.await.unwrap().unwrap().expect(200);
    assert_eq!((&answer.body["status"], &answer.body["stop_reason"]), (&json!("completed"), &json!("max_rounds")));
    assert_reattached(&hub, case, &answer, 1).await;
    // What every call was given at most and did not use is given back, once.
    let usage = &answer.body["usage"];
    let tokens = usage["input_tokens"].as_u64().unwrap() + usage["output_tokens"].as_u64().unwrap();
    let used = Evidence::of(&hub).await.used_of(answer.body["id"].as_str().unwrap()).await;
    assert_eq!((u64::from(used.calls), used.tokens), (3, tokens), "{}", answer.text);
    hub.finish(Disturbance::Kills).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_death_before_the_response_has_its_name_costs_one_call_more_and_says_so() {
    let mut hub = installation_in_background().workers(0).start().await;
    let marker = hub.dir().join("begun");
    hub.start_worker(&[("TOKENHUB_FAULT_POINTS", &format!("begun@improvement/1={}", marker.display()))]);
    hub.wait_until_durable().await;
    let undisturbed = Case::new(&REFINE, 0);
    let case = Case::new(&REFINE, 1);
    case.script_stuck(&hub, &["improvement/1"]);
    let asked = case.ask(&hub);
    eventually("the response has begun", PATIENCE, || async { marker.exists().then_some(()) }).await;
    Evidence::of(&hub).await.wait_until_answers_are_journaled(&hub).await;
    replace_worker(&mut hub);
    let ended = asked.await.unwrap().unwrap();
    let answer = ended.answer.expect(200);
    case.assert_calls(&hub, &answer, &["improvement/1"]);
    let steps = steps_of(&hub, &answer, 4).await;
    assert_eq!(fields(&steps, "state"), ["settled", "orphaned", "settled", "settled"], "{steps:#}");
    assert!(fields(&steps, "reattached").iter().all(|times| **times == 0), "{steps:#}");
    assert_eq!(case.comparable(&answer), undisturbed.undisturbed(&hub).await);
    hub.finish(Disturbance::Kills).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_in_process_is_carried_on_by_the_next_api_at_the_same_response() {
    let mut hub = installation_in_background().temporal_off().start().await;
    let case = Case::new(&ADVERSARIAL, 1);
    case.script_stuck(&hub, &["critique/1"]);
    let asked = case.ask_at(&hub, 0, &[]);
    case.wait_until_in_flight(&hub, &["critique/1"]).await;
    let calls = at_work(&hub, case);
    wait_until_looked_at(&hub, &calls).await;
    let evidence = Evidence::of(&hub).await;
    evidence.wait_until_answers_are_journaled(&hub).await;
    let run_id = evidence.run_of(&case.calls(&hub)[0].1).await;
    hub.apis.remove(0).0.kill();
    assert!(asked.await.unwrap().is_err(), "the client lost its connection");
    let calls = with_looks(&hub, calls);
    hub.start_api().await;
    wait_until_looked_at(&hub, &calls).await;
    hub.provider.end_responses();
    let path = format!("/v1/plan/{run_id}?wait=30s");
    let answer = hub.get(&path).await.unwrap().expect(200);
    assert_eq!((&answer.body["status"], &answer.body["durable"]), (&json!("completed"), &json!(false)));
    assert_reattached(&hub, case, &answer, 1).await;
    hub.finish(Disturbance::Kills).await;
}

/// The steps of a vote are also the plan in which a worker dies twice.
#[tokio::test(flavor = "multi_thread")]
async fn a_response_outlives_two_workers() {
    let mut hub = installation_in_background().start().await;
    let undisturbed = Case::new(&VOTE, 0).undisturbed(&hub).await;
    let case = Case::new(&VOTE, 1);
    case.script_stuck(&hub, &["ballot/2"]);
    let asked = case.ask(&hub);
    case.wait_until_in_flight(&hub, &["ballot/2"]).await;
    let idle = |calls: &[SeenCall]| calls.iter().filter(|call| call.finished == Finished::Pending).count() == 1;
    assert!(hub.provider.wait_until(PATIENCE, idle).await);
    let mut calls = at_work(&hub, case);
    let mut killed_at = std::time::Instant::now();
    for _ in 0..2 {
        wait_until_looked_at(&hub, &calls).await;
        Evidence::of(&hub).await.wait_until_answers_are_journaled(&hub).await;
        hub.workers.remove(0).kill();
        calls = with_looks(&hub, calls);
        killed_at = std::time::Instant::now();
        hub.start_worker(&[]);
    }
    wait_until_looked_at(&hub, &calls).await;
    hub.provider.end_responses();
    let ended = assert_recovered(case, "two deaths", &undisturbed, asked.await.unwrap().unwrap(), killed_at, 2);
    case.assert_calls(&hub, &ended.answer, &[]);
    let steps = steps_of(&hub, &ended.answer, 4).await;
    let times: u64 = fields(&steps, "reattached").into_iter().map(|times| times.as_u64().unwrap()).sum();
    assert_eq!(times, 2, "{steps:#}");
    hub.finish(Disturbance::Kills).await;
}

/// A plan that waited for a response to end by itself would fail its recovery limit.
#[test]
fn a_stuck_response_does_not_end_by_itself_in_time() {
    assert!(Duration::from_millis(STUCK_MS) > super::RECOVERY_LIMIT);
}
