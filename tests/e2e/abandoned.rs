//! Runs whose process died, and that nobody asks for again.

use std::time::{Duration, Instant};

use tokenhub_domain::RunId;

use crate::{
    evidence::Evidence,
    harness::{Answer, Disturbance, TestHub, eventually},
    relay::Relay,
    scripted::{ADVERSARIAL, Case, installation},
};

/// Lease, grace, the interval of the sweep and what is left of the run.
const LIMIT: Duration = Duration::from_secs(30);

/// Waits until the run can be read with its answer, which is all that anybody asks.
async fn completed(hub: &TestHub, run_id: &RunId) -> Answer {
    let path = format!("/v1/plan/{run_id}");
    let since = Instant::now();
    let answer = eventually("the run completes", LIMIT, || async {
        let answer = hub.get(&path).await.unwrap().expect(200);
        (answer.body["status"] == "completed").then_some(answer)
    })
    .await;
    eprintln!("recovery: adversarial that nobody asks for: {} ms", since.elapsed().as_millis());
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_in_process_is_carried_on_by_the_next_api_though_nobody_asks() {
    let mut hub = installation().temporal_off().start().await;
    let case = Case::new(&ADVERSARIAL, 1);
    case.script_stuck(&hub, &["critique/1"]);
    let asked = case.ask_at(&hub, 0, &[]);
    case.wait_until_in_flight(&hub, &["critique/1"]).await;
    let evidence = Evidence::of(&hub).await;
    evidence.wait_until_answers_are_journaled(&hub).await;
    let run_id = evidence.run_of(&case.calls(&hub)[0].1).await;
    hub.apis.remove(0).0.kill();
    assert!(asked.await.unwrap().is_err(), "the client lost its connection");

    hub.start_api().await;
    let answer = completed(&hub, &run_id).await;
    assert_eq!(answer.header("x-tokenhub-durability"), "none");
    case.assert_calls(&hub, &answer, &["critique/1"]);
    hub.finish(Disturbance::Kills).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_was_accepted_and_never_started_is_given_to_temporal_though_nobody_asks() {
    let mut hub = installation().workers(0).apis(0).start().await;
    let relay = Relay::to(hub.temporal.address()).await;
    hub.start_api_with(&[("TEMPORAL_ADDRESS", relay.address())]).await;
    hub.start_worker(&[]);
    hub.wait_until_durable().await;
    let case = Case::new(&ADVERSARIAL, 1);
    case.script_stuck(&hub, &[]);
    relay.hold();
    let asked = case.ask_at(&hub, 0, &[]);
    // The run is accepted at once; its start waits in the relay.
    tokio::time::sleep(Duration::from_secs(1)).await;
    hub.apis.remove(0).0.kill();
    assert!(asked.await.unwrap().is_err(), "the client lost its connection");
    drop(relay);
    assert!(case.calls(&hub).is_empty(), "nothing has reached Temporal");

    hub.start_api_with(&[("TOKENHUB_START_DEADLINE_MS", "1000")]).await;
    assert!(hub.provider.wait_until(LIMIT, |_| !case.calls(&hub).is_empty()).await, "the run was not started");
    let run_id = Evidence::of(&hub).await.run_of(&case.calls(&hub)[0].1).await;
    let answer = completed(&hub, &run_id).await;
    assert_eq!(answer.header("x-tokenhub-durability"), "durable");
    case.assert_calls(&hub, &answer, &[]);
    hub.finish(Disturbance::None).await;
}
