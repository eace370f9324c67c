//! The API dies while a run is under way, and the client comes back with its key.

use std::time::{Duration, Instant};

use super::{KEY, REPLAYED, ask, assert_other_body_is_refused, assert_readable, assert_replayed, path_of};
use crate::{
    draw::Draw,
    evidence::Evidence,
    harness::{Disturbance, TestHub, eventually, exchange},
    relay::Relay,
    scripted::{ADVERSARIAL, Case, REFINE, STEP_MS, installation},
};

const REQUIRED: (&str, &str) = ("X-TokenHub-Durability", "required");
const PATIENCE: Duration = Duration::from_secs(30);
/// The lease of the dead runs out, then the call in flight is repeated.
const TAKEOVER_LIMIT: Duration = Duration::from_secs(20);

/// Kills the API that `case` was asked at while it waits for `step`; the client sees its connection break.
async fn kill_api_during(hub: &mut TestHub, case: Case, step: &str) {
    let asked = case.ask_at(hub, 0, &[KEY]);
    case.wait_until_in_flight(hub, &[step]).await;
    Evidence::of(hub).await.wait_until_answers_are_journaled(hub).await;
    hub.apis.remove(0).0.kill();
    assert!(asked.await.unwrap().is_err(), "the client lost its connection");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workflow_outlives_its_api_and_is_found_by_id_and_by_key() {
    let mut hub = installation().start().await;
    let undisturbed = Case::new(&ADVERSARIAL, 0).undisturbed(&hub).await;
    let case = Case::new(&ADVERSARIAL, 1);
    case.script(&hub, |step| if step == "critique/1" { vec![1_500, STEP_MS] } else { vec![STEP_MS] });
    kill_api_during(&mut hub, case, "critique/1").await;
    let run_id = Evidence::of(&hub).await.run_of(&case.calls(&hub)[0].1).await;

    hub.start_api().await;
    let first = eventually("the workflow completes", PATIENCE, || async {
        let answer = hub.get(&path_of(run_id.as_str())).await.unwrap().expect(200);
        (answer.body["status"] == "completed").then_some(answer)
    })
    .await;
    assert_eq!(case.comparable(&first), undisturbed);
    case.assert_calls(&hub, &first, &[]);
    assert_replayed(&ask(&hub, case).await, &first.body);
    assert_other_body_is_refused(&hub, 0).await;

    hub.temporal.kill();
    assert_readable(&hub, &first.body).await;
    assert_replayed(&ask(&hub, case).await, &first.body);

    hub.apis.remove(0).0.kill();
    hub.start_api().await;
    assert_readable(&hub, &first.body).await;
    assert_replayed(&ask(&hub, case).await, &first.body);
    let required = case.ask_at(&hub, 0, &[KEY, REQUIRED]).await.unwrap().unwrap().answer;
    assert_replayed(&required, &first.body);
    assert_other_body_is_refused(&hub, 0).await;
    case.assert_calls(&hub, &first, &[]);
    hub.finish(Disturbance::Kills).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repetition_attaches_to_the_workflow_of_a_dead_api() {
    let mut hub = installation().start().await;
    let undisturbed = Case::new(&ADVERSARIAL, 0).undisturbed(&hub).await;
    let case = Case::new(&ADVERSARIAL, 1);
    case.script(&hub, |step| if step == "critique/1" { vec![4_000, STEP_MS] } else { vec![STEP_MS] });
    kill_api_during(&mut hub, case, "critique/1").await;
    hub.start_api().await;
    assert_other_body_is_refused(&hub, 0).await;
    let first = ask(&hub, case).await.expect(200);
    assert_eq!(first.header(REPLAYED), "", "it was still running when it was asked for again");
    assert_eq!(first.header("x-tokenhub-durability"), "durable");
    assert_eq!(case.comparable(&first), undisturbed);
    assert_replayed(&ask(&hub, case).await, &first.body);
    case.assert_calls(&hub, &first, &[]);
    hub.finish(Disturbance::Kills).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_of_a_dead_api_is_taken_over_by_another_and_its_finished_steps_are_not_bought_again() {
    let mut hub = installation().temporal_off().start().await;
    let calm = Case::new(&ADVERSARIAL, 0);
    calm.script_stuck(&hub, &[]);
    let undisturbed = calm.comparable(&calm.ask(&hub).await.unwrap().unwrap().answer.expect(200));
    let case = Case::new(&ADVERSARIAL, 1);
    case.script_stuck(&hub, &["revision/1"]);
    kill_api_during(&mut hub, case, "revision/1").await;
    let killed_at = Instant::now();
    hub.start_api().await;
    let first = ask(&hub, case).await.expect(200);
    let recovery = killed_at.elapsed().saturating_sub(Duration::from_millis(3 * STEP_MS));
    eprintln!("recovery: adversarial in process, API killed in revision/1: {} ms", recovery.as_millis());
    assert!(recovery < TAKEOVER_LIMIT, "{recovery:?}");
    assert_eq!(first.header("x-tokenhub-durability"), "none");
    assert_eq!(case.comparable(&first), undisturbed);
    case.assert_calls(&hub, &first, &["revision/1"]);
    assert_replayed(&ask(&hub, case).await, &first.body);
    assert_readable(&hub, &first.body).await;
    case.assert_calls(&hub, &first, &["revision/1"]);
    hub.finish(Disturbance::Kills).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_waits_at_another_api_gets_the_run_of_the_dead_one() {
    let mut hub = installation().temporal_off().apis(2).start().await;
    let case = Case::new(&ADVERSARIAL, 1);
    case.script_stuck(&hub, &["critique/1"]);
    let asked = case.ask_at(&hub, 0, &[KEY]);
    case.wait_until_in_flight(&hub, &["critique/1"]).await;
    let attached = case.ask_at(&hub, 1, &[KEY]);
    Evidence::of(&hub).await.wait_until_answers_are_journaled(&hub).await;
    hub.apis.remove(0).0.kill();
    let killed_at = Instant::now();
    assert!(asked.await.unwrap().is_err(), "the client lost its connection");
    let ended = attached.await.unwrap().unwrap();
    let recovery = ended.at.duration_since(killed_at).saturating_sub(Duration::from_millis(4 * STEP_MS));
    eprintln!("recovery: adversarial in process, one of two APIs killed: {} ms", recovery.as_millis());
    assert!(recovery < TAKEOVER_LIMIT, "{recovery:?}");
    let first = ended.answer.expect(200);
    case.assert_calls(&hub, &first, &["critique/1"]);
    assert_replayed(&ask(&hub, case).await, &first.body);
    hub.finish(Disturbance::Kills).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_dies_at_once_and_the_plan_completes() {
    let mut hub = installation().start().await;
    let undisturbed = Case::new(&ADVERSARIAL, 0).undisturbed(&hub).await;
    let case = Case::new(&ADVERSARIAL, 1);
    case.script_stuck(&hub, &["revision/1"]);
    kill_api_during(&mut hub, case, "revision/1").await;
    hub.temporal.kill();
    hub.workers.remove(0).kill();
    let killed_at = Instant::now();
    hub.start_worker(&[]);
    hub.start_api().await;
    hub.temporal.start().await;
    let first = ask(&hub, case).await.expect(200);
    eprintln!("recovery: adversarial, all three processes killed: {} ms", killed_at.elapsed().as_millis());
    assert!(killed_at.elapsed() < TAKEOVER_LIMIT, "{:?}", killed_at.elapsed());
    assert_eq!(first.header("x-tokenhub-durability"), "durable", "the claim of a workflow stays with it");
    assert_eq!(case.comparable(&first), undisturbed);
    case.assert_calls(&hub, &first, &["revision/1"]);
    hub.finish(Disturbance::Kills).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_whose_workflow_was_never_started_is_started_by_the_repetition() {
    let mut hub = installation().workers(0).apis(0).start().await;
    let relay = Relay::to(hub.temporal.address()).await;
    hub.start_api_with(&[("TEMPORAL_ADDRESS", relay.address())]).await;
    hub.start_worker(&[]);
    hub.wait_until_durable().await;
    let case = Case::new(&ADVERSARIAL, 1);
    case.script_stuck(&hub, &[]);
    relay.hold();
    let asked = case.ask_at(&hub, 0, &[KEY, REQUIRED]);
    // The run is accepted at once; its start waits in the relay.
    tokio::time::sleep(Duration::from_secs(1)).await;
    hub.apis.remove(0).0.kill();
    assert!(asked.await.unwrap().is_err(), "the client lost its connection");
    drop(relay);
    assert!(case.calls(&hub).is_empty(), "nothing has reached Temporal");

    hub.start_api_with(&[("TOKENHUB_START_DEADLINE_MS", "1000")]).await;
    hub.wait_until_durable().await;
    let first = case.ask_at(&hub, 0, &[KEY, REQUIRED]).await.unwrap().unwrap().answer.expect(200);
    assert_eq!(first.header("x-tokenhub-durability"), "durable");
    case.assert_calls(&hub, &first, &[]);
    assert_replayed(&ask(&hub, case).await, &first.body);
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whether_or_not_its_202_was_read_a_key_is_one_plan() {
    const PLANS: usize = 8;
    let mut hub = installation().apis(2).start().await;
    let (mut draw, mut read) = (Draw::of(7), 0);
    for number in 1..=PLANS {
        let case = Case::new(&REFINE, number);
        case.script_stuck(&hub, &[]);
        let mut body = case.body();
        body["background"] = true.into();
        let key = format!("order-{number}");
        let ask = |hub: &TestHub| {
            let request = hub.request_to(0, reqwest::Method::POST, "/v1/plan").header(KEY.0, &key).json(&body);
            exchange(request)
        };
        let asked = tokio::spawn(ask(&hub));
        tokio::time::sleep(Duration::from_millis(draw.within(&(0..=60)))).await;
        hub.apis.remove(0).0.kill();
        hub.start_api().await;
        let again = ask(&hub).await.unwrap();
        assert!([200, 202].contains(&again.status.as_u16()), "{}", again.text);
        if let Ok(first) = asked.await.unwrap() {
            assert_eq!(again.body["id"], first.expect(202).body["id"]);
            read += 1;
        }
        let path = format!("{}?wait=30s", path_of(again.body["id"].as_str().unwrap()));
        case.assert_calls(&hub, &hub.get(&path).await.unwrap().expect(200), &[]);
    }
    eprintln!("{read} of {PLANS} clients read their 202");
    hub.finish(Disturbance::Kills).await;
}
