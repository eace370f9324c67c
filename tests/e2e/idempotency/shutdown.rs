//! A process that is asked to stop finishes what it is paying for.

use std::time::Duration;

use crate::{
    harness::Disturbance,
    scripted::{Case, REFINE, STEP_MS, installation},
};

const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_told_to_stop_finishes_its_call() {
    let mut hub = installation().start().await;
    let undisturbed = Case::new(&REFINE, 0).undisturbed(&hub).await;
    let case = Case::new(&REFINE, 1);
    case.script(&hub, |step| if step == "improvement/1" { vec![3_000, STEP_MS] } else { vec![STEP_MS] });
    let asked = case.ask(&hub);
    case.wait_until_in_flight(&hub, &["improvement/1"]).await;
    let stopping = hub.workers.remove(0);
    hub.start_worker(&[]);
    // Asserts the exit code.
    stopping.stop(PATIENCE).await;
    let answered: Vec<_> = case.calls(&hub).into_iter().filter(|(step, _)| *step == "improvement/1").collect();
    assert_eq!(answered.len(), 1);
    assert_eq!(answered[0].1.finished, tokenhub_demo::Finished::Answered, "the call was not cut off");
    let answer = asked.await.unwrap().unwrap().answer.expect(200);
    assert_eq!(case.comparable(&answer), undisturbed);
    case.assert_calls(&hub, &answer, &[]);
    hub.finish(Disturbance::None).await;
}
