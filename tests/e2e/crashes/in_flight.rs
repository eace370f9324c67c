//! The worker dies while the provider works on a step.

use std::time::Duration;

use tokenhub_demo::{Finished, SeenCall};

use super::{RECOVERY_LIMIT, assert_recovered, replace_worker};
use crate::{
    evidence::Evidence,
    harness::Disturbance,
    scripted::{
        ADVERSARIAL, BEST_OF_THREE, CASCADE, Case, FIVE_VOTERS, FUSE, Program, REFINE, REPAIRED, STEP_MS, STUCK_MS,
        VOTE, installation,
    },
};

const PATIENCE: Duration = Duration::from_secs(30);

/// Runs one plan for each entry of `stuck`, each held at those steps, and kills their worker: the steps in flight are
/// called twice and say so, every other step once. The second number is how many steps are left, one after the other.
async fn kill_during(program: &'static Program, stuck: &[(&[&str], u64)]) {
    let mut hub = installation().start().await;
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
    // The calls beside them may still be on their way.
    let held: usize = stuck.iter().map(|(steps, _)| steps.len()).sum();
    let only_held = |calls: &[SeenCall]| calls.iter().filter(|call| call.finished == Finished::Pending).count() == held;
    assert!(hub.provider.wait_until(PATIENCE, only_held).await);
    evidence.wait_until_answers_are_journaled(&hub).await;
    let killed_at = replace_worker(&mut hub);
    for (case, steps, steps_left, asked) in running {
        let ended = asked.await.unwrap().unwrap();
        let what = format!("killed in {}", steps.join(" "));
        let ended = assert_recovered(case, &what, &undisturbed, ended, killed_at, steps_left);
        case.assert_calls(&hub, &ended.answer, steps);
    }
    hub.finish(Disturbance::Kills).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vote_survives_its_worker_in_every_step() {
    let ballots: &[&str] = &["ballot/1", "ballot/2", "ballot/3"];
    let each: [(&[&str], u64); 5] =
        [(&ballots[..1], 2), (&ballots[1..2], 2), (&ballots[2..], 2), (ballots, 2), (&["judge"], 1)];
    kill_during(&VOTE, &each).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vote_of_five_survives_its_worker_in_every_step() {
    let each: [(&[&str], u64); 7] = [
        (&["ballot/1"], 2),
        (&["ballot/2"], 2),
        (&["ballot/3"], 2),
        (&["ballot/4"], 2),
        (&["ballot/5"], 2),
        // Two of five have answered.
        (&["ballot/2", "ballot/3", "ballot/5"], 2),
        (&["judge"], 1),
    ];
    kill_during(&FIVE_VOTERS, &each).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_best_of_three_in_pairs_survives_its_worker_in_every_step() {
    // Of the judge's first two verdicts one is there.
    let each: [(&[&str], u64); 4] =
        [(&["candidate/1"], 3), (&["candidate/2"], 3), (&["candidate/3"], 3), (&["judge"], 2)];
    kill_during(&BEST_OF_THREE, &each).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cascade_survives_its_worker_in_every_step() {
    kill_during(&CASCADE, &[(&["stage/1"], 3), (&["check/1"], 2), (&["stage/2"], 1)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fusion_survives_its_worker_in_every_step() {
    let each: [(&[&str], u64); 4] =
        [(&["panel/1"], 3), (&["panel/2", "panel/3"], 3), (&["judge"], 2), (&["fusion"], 1)];
    kill_during(&FUSE, &each).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_adversarial_plan_survives_its_worker_in_every_step() {
    let each: [(&[&str], u64); 5] =
        [(&["plan"], 5), (&["critique/1"], 4), (&["revision/1"], 3), (&["critique/2"], 2), (&["revision/2"], 1)];
    kill_during(&ADVERSARIAL, &each).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refinement_survives_its_worker_in_every_step() {
    kill_during(&REFINE, &[(&["answer"], 3), (&["improvement/1"], 2), (&["improvement/2"], 1)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repair_survives_its_worker_in_every_step() {
    kill_during(&REPAIRED, &[(&["answer"], 2), (&["answer/repair"], 1)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_plan_survives_a_worker_in_each_of_its_steps() {
    let mut hub = installation().start().await;
    let undisturbed = Case::new(&ADVERSARIAL, 0).undisturbed(&hub).await;
    let evidence = Evidence::of(&hub).await;
    let steps: Vec<&str> = ADVERSARIAL.steps.iter().map(|step| step.id).collect();
    let case = Case::new(&ADVERSARIAL, 1);
    case.script_stuck(&hub, &steps);
    let asked = case.ask(&hub);
    let mut killed_at = None;
    for step in &steps {
        case.wait_until_in_flight(&hub, &[*step]).await;
        evidence.wait_until_answers_are_journaled(&hub).await;
        killed_at = Some(replace_worker(&mut hub));
    }
    let ended = asked.await.unwrap().unwrap();
    let ended = assert_recovered(case, "killed in each step in turn", &undisturbed, ended, killed_at.unwrap(), 1);
    case.assert_calls(&hub, &ended.answer, &steps);
    hub.finish(Disturbance::Kills).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_workers_the_living_one_carries_on() {
    let mut hub = installation().workers(2).start().await;
    let undisturbed = Case::new(&REFINE, 0).undisturbed(&hub).await;
    let evidence = Evidence::of(&hub).await;
    let case = Case::new(&REFINE, 1);
    case.script_stuck(&hub, &["improvement/1"]);
    let asked = case.ask(&hub);
    case.wait_until_in_flight(&hub, &["improvement/1"]).await;
    evidence.wait_until_answers_are_journaled(&hub).await;
    let calls = case.calls(&hub);
    let (_, in_flight) = calls.iter().find(|(step, _)| *step == "improvement/1").unwrap();
    let sender = evidence.sender_of(in_flight, &hub.workers).await;
    hub.workers.remove(sender).kill();
    let killed_at = std::time::Instant::now();
    let ended = asked.await.unwrap().unwrap();
    let ended = assert_recovered(case, "one of two workers killed", &undisturbed, ended, killed_at, 2);
    case.assert_calls(&hub, &ended.answer, &["improvement/1"]);
    hub.finish(Disturbance::Kills).await;
}

/// The limit of the assertion lies below the scripted wait: a plan that only sat it out would fail.
#[test]
fn a_stuck_reply_outlasts_every_deadline() {
    assert!(Duration::from_millis(STUCK_MS) > RECOVERY_LIMIT + Duration::from_millis(5 * STEP_MS));
}
