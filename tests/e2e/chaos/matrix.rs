//! Every program of the crash matrix, killed at every step: before its call leaves, and behind its journal. Calls in
//! flight are in `crashes/in_flight.rs`.

use std::time::Duration;

use serde_json::Value;

use super::{MATRIX, installation};
use crate::{
    evidence::Evidence,
    harness::{Disturbance, TestHub, eventually},
    scripted::{Case, STEP_MS},
};

const PATIENCE: Duration = Duration::from_secs(30);

async fn all_undisturbed(hub: &TestHub) -> Vec<Value> {
    let mut answers = Vec::new();
    for (number, program) in MATRIX.iter().enumerate() {
        answers.push(Case::new(program, number).undisturbed(hub).await);
    }
    answers
}

/// The worker stops at `point` of the same step of each plan, is killed there, and another one carries on.
async fn kill_at(hub: &mut TestHub, evidence: &Evidence, undisturbed: &[Value], point: &str, round: usize) {
    let step_of = |answer: &Value| {
        let steps = answer["steps"].as_array().unwrap();
        steps[round.min(steps.len() - 1)]["id"].as_str().unwrap().to_owned()
    };
    let marker = |step: &str| hub.dir().join(format!("{point}-{round}-{}", step.replace('/', "-")));
    let places: Vec<String> = undisturbed.iter().map(step_of).collect();
    let list: Vec<String> = places.iter().map(|step| format!("{point}@{step}={}", marker(step).display())).collect();
    let markers: Vec<_> = places.iter().map(|step| marker(step)).collect();
    for mut worker in std::mem::take(&mut hub.workers) {
        worker.kill();
    }
    hub.start_worker(&[("TOKENHUB_FAULT_POINTS", &list.join(","))]);
    let mut running = Vec::new();
    for (place, program) in MATRIX.iter().enumerate() {
        let case = Case::new(program, (round + 1) * 10 + place);
        case.script(hub, |_| vec![STEP_MS]);
        running.push((case, case.ask(hub)));
    }
    for marker in &markers {
        eventually(&marker.display().to_string(), PATIENCE, || async { marker.exists().then_some(()) }).await;
    }
    let idle = |calls: &[tokenhub_demo::SeenCall]| calls.iter().all(|call| call.finished_at_micros.is_some());
    assert!(hub.provider.wait_until(PATIENCE, idle).await);
    evidence.wait_until_answers_are_journaled(hub).await;
    hub.workers.remove(0).kill();
    hub.start_worker(&[]);
    for ((case, asked), right) in running.into_iter().zip(undisturbed) {
        let answer = asked.await.unwrap().unwrap().answer.expect(200);
        assert_eq!(case.comparable(&answer), *right, "{point} of step {round}");
        case.assert_calls(hub, &answer, &[]);
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "two minutes: make chaos"]
async fn at_each_step_of_each_program_a_death_without_a_call_on_its_way_costs_none() {
    for point in ["send", "journaled"] {
        let mut hub = installation().start().await;
        let evidence = Evidence::of(&hub).await;
        let undisturbed = all_undisturbed(&hub).await;
        let rounds = undisturbed.iter().map(|answer| answer["steps"].as_array().unwrap().len()).max().unwrap();
        for round in 0..rounds {
            kill_at(&mut hub, &evidence, &undisturbed, point, round).await;
        }
        hub.finish(Disturbance::Kills).await;
    }
}

/// What is started again, in this order.
#[derive(Clone, Copy, Debug)]
enum Part {
    Api,
    Worker,
    Temporal,
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "two minutes: make chaos"]
async fn everything_dies_at_once_and_comes_back_in_any_order() {
    use Part::{Api, Temporal, Worker};
    let orders = [
        [Api, Worker, Temporal],
        [Api, Temporal, Worker],
        [Worker, Api, Temporal],
        [Worker, Temporal, Api],
        [Temporal, Api, Worker],
        [Temporal, Worker, Api],
    ];
    let mut hub = installation().start().await;
    let undisturbed = all_undisturbed(&hub).await;
    for (round, order) in orders.into_iter().enumerate() {
        let mut running = Vec::new();
        for (place, program) in MATRIX.iter().enumerate() {
            let case = Case::new(program, (round + 1) * 10 + place);
            case.script_stuck(&hub, &[program.steps[0].id]);
            let mut body = case.body();
            body["background"] = true.into();
            running.push((case, hub.post("/v1/plan", &body).await.expect(202)));
        }
        for (case, _) in &running {
            case.wait_until_in_flight(&hub, &[case.program.steps[0].id]).await;
        }
        hub.apis.remove(0).0.kill();
        hub.workers.remove(0).kill();
        hub.temporal.kill();
        for part in order {
            match part {
                Api => hub.start_api().await,
                Worker => hub.start_worker(&[]),
                Temporal => hub.temporal.start().await,
            }
        }
        for ((case, accepted), right) in running.into_iter().zip(&undisturbed) {
            let path = format!("/v1/plan/{}?wait=30s", accepted.body["id"].as_str().unwrap());
            let answer = hub.get(&path).await.unwrap().expect(200);
            assert_eq!(case.comparable(&answer), *right, "{order:?}");
            // Other calls may have been on their way as well.
            let (calls, expected) = (case.calls(&hub).len() as u64, case.program.calls());
            let told = answer.body["usage"]["duplicate_calls"].as_u64().unwrap();
            assert!(calls == expected + told && (1..=expected).contains(&told), "{order:?}: {}", answer.text);
        }
        hub.wait_until_durable().await;
    }
    hub.finish(Disturbance::Kills).await;
}
