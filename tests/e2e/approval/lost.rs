//! Decisions that nobody could tell: the row is the decision, and a sweep tells the workflow.

use serde_json::json;

use super::{LONG_MS, begin, ended, ending, installation, read, refine, script, signal, wait_until_at_rest, waiting};
use crate::harness::Disturbance;

#[tokio::test(flavor = "multi_thread")]
async fn a_decision_while_temporal_is_away_is_found_when_it_is_back() {
    let mut hub = installation().start().await;
    script(&hub);
    let id = begin(&hub, &refine(LONG_MS, "fail")).await;
    waiting(&hub, 0, &id).await;
    wait_until_at_rest(&hub, &id).await;
    hub.temporal.kill();
    let decided = signal(&hub, 0, &id, &json!({"type": "edit", "text": "by hand"})).await.expect(200);
    assert_eq!((&decided.body["status"], &decided.body["approval"]["state"]), (&json!("running"), &json!("edited")));
    hub.temporal.start().await;
    let plan = ended(&hub, 0, &id).await;
    assert_eq!((ending(&plan), &plan.body["durable"]), (("completed", "max_rounds"), &json!(true)), "{}", plan.text);
    assert_eq!((&plan.body["response"]["refined_response"], hub.provider.count()), (&json!("by hand"), 2));
    hub.finish(Disturbance::Kills).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decision_whose_api_died_before_it_could_tell_anybody_counts() {
    let mut hub = installation().start().await;
    script(&hub);
    let id = begin(&hub, &refine(LONG_MS, "fail")).await;
    waiting(&hub, 0, &id).await;
    wait_until_at_rest(&hub, &id).await;
    hub.temporal.kill();
    signal(&hub, 0, &id, &json!({"type": "approve"})).await.expect(200);
    hub.apis.remove(0).0.kill();
    hub.temporal.start().await;
    hub.start_api().await;
    assert_eq!(read(&hub, 0, &id).await.body["approval"]["state"], "approved");
    let plan = ended(&hub, 0, &id).await;
    assert_eq!((ending(&plan), &plan.body["durable"]), (("completed", "max_rounds"), &json!(true)), "{}", plan.text);
    assert_eq!(hub.provider.count(), 2);
    hub.finish(Disturbance::Kills).await;
}
