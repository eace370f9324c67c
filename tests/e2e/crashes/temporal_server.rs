//! The Temporal server dies while a provider call runs; its worker lives.

use std::time::{Duration, Instant};

use crate::{
    harness::Disturbance,
    scripted::{Case, REFINE, STEP_MS, installation},
};

/// The call outlasts the outage.
const CALL: Duration = Duration::from_secs(8);
const INTO_THE_CALL: Duration = Duration::from_secs(1);
const OUTAGE: Duration = Duration::from_secs(4);
const LIMIT: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_outlives_its_temporal_server_is_made_once() {
    let mut hub = installation().start().await;
    let undisturbed = Case::new(&REFINE, 0).undisturbed(&hub).await;
    let case = Case::new(&REFINE, 1);
    let call_ms = u64::try_from(CALL.as_millis()).unwrap();
    case.script(&hub, |step| if step == "improvement/1" { vec![call_ms, STEP_MS] } else { vec![STEP_MS] });
    let asked = case.ask(&hub);
    case.wait_until_in_flight(&hub, &["improvement/1"]).await;
    let called_at = Instant::now();
    tokio::time::sleep(INTO_THE_CALL).await;
    hub.temporal.kill();
    tokio::time::sleep(OUTAGE).await;
    hub.temporal.start().await;
    let ended = asked.await.unwrap().unwrap();
    let recovery = ended.at.duration_since(called_at).saturating_sub(CALL + Duration::from_millis(STEP_MS));
    eprintln!("recovery: refine, Temporal killed for {OUTAGE:?}: {} ms beyond the call", recovery.as_millis());
    let answer = ended.answer.expect(200);
    assert_eq!(case.comparable(&answer), undisturbed);
    case.assert_calls(&hub, &answer, &[]);
    assert!(recovery < LIMIT, "{recovery:?}");
    hub.finish(Disturbance::Kills).await;
}
