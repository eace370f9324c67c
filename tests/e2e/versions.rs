//! Workers of two builds beside each other: a run is carried to its end by the build that began it, and new runs go to the
//! build that is current.

use std::time::Duration;

use temporalio_common::protos::temporal::api::history::v1::history_event::Attributes;

use crate::{
    harness::{Disturbance, Operator, TestHub, eventually},
    scripted::{ADVERSARIAL, Case, installation},
};

const PATIENCE: Duration = Duration::from_mins(1);

async fn start_build(hub: &mut TestHub, build: &str) {
    let environment =
        [("TOKENHUB_WORKER_DEPLOYMENT", "tokenhub"), ("TOKENHUB_BUILD_ID", build), ("TOKENHUB_WORKER_PROMOTE", "true")];
    hub.start_worker(&environment);
    let worker = hub.workers.last().unwrap();
    eventually("the build is current", PATIENCE, || async {
        worker.output().contains("new runs go to this build").then_some(())
    })
    .await;
}

/// The builds that carried a workflow.
async fn builds_of(operator: &Operator, workflow_id: &str) -> Vec<String> {
    let completed = operator.history(workflow_id).await.into_iter().filter_map(|event| match event.attributes {
        Some(Attributes::WorkflowTaskCompletedEventAttributes(completed)) => completed.deployment_version,
        _ => None,
    });
    let mut builds: Vec<String> = completed.map(|version| version.build_id).collect();
    builds.dedup();
    builds
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_ends_where_it_began_and_new_runs_go_to_the_current_build() {
    let mut hub = installation().workers(0).start().await;
    start_build(&mut hub, "old").await;
    hub.wait_until_durable().await;
    let operator = Operator::connect(&hub.temporal).await;
    let (begun, later) = (Case::new(&ADVERSARIAL, 1), Case::new(&ADVERSARIAL, 2));
    begun.script(&hub, |step| if step == "critique/1" { vec![6_000] } else { vec![20] });
    later.script(&hub, |_| vec![20]);
    let asked = begun.ask(&hub);
    begun.wait_until_in_flight(&hub, &["critique/1"]).await;
    start_build(&mut hub, "new").await;

    let new = later.ask(&hub).await.unwrap().unwrap().answer.expect(200);
    later.assert_calls(&hub, &new, &[]);
    assert_eq!(builds_of(&operator, new.header("x-tokenhub-workflow-id")).await, ["new"]);
    let old = asked.await.unwrap().unwrap().answer.expect(200);
    begun.assert_calls(&hub, &old, &[]);
    assert_eq!(builds_of(&operator, old.header("x-tokenhub-workflow-id")).await, ["old"]);
    hub.finish(Disturbance::None).await;
}
