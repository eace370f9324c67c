//! Whatever dies between a request and its effect: the request takes effect.

use reqwest::Method;
use serde_json::json;
use tokenhub_demo::{Reply, Rule};

use super::{SLOW_MS, answered, begin, ended, ending, installation, refine, seen, signal, vote};
use crate::harness::{Disturbance, exchange};

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_killed_before_it_hears_leaves_the_request_to_the_next() {
    let mut hub = installation().start().await;
    hub.provider.script(Rule::any([Reply::text("late").delay_ms(SLOW_MS)]));
    hub.provider.script(Rule::model("m2", [Reply::text("red")]));
    let id = begin(&hub, &vote(), &json!({})).await;
    seen(&hub, "one has voted", |calls| calls.len() == 3 && answered(calls) == 1).await;
    hub.workers.remove(0).kill();
    signal(&hub, &id, &json!({"type": "answer_now"})).await.expect(200);
    hub.start_worker(&[]);
    let plan = ended(&hub, 0, &id).await;
    assert_eq!(ending(&plan), ("completed_partial", "answered_now"), "{}", plan.text);
    assert_eq!((&plan.body["negotiated_model"], &plan.body["durable"]), (&json!("m2"), &json!(true)), "{}", plan.text);
    assert!(hub.provider.calls().iter().all(|call| call.model != "judge"), "{:?}", hub.provider.calls());
    hub.finish(Disturbance::Kills).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_was_taken_while_temporal_is_away_outlives_the_death_of_everything() {
    let mut hub = installation().start().await;
    hub.provider.script(Rule::any([Reply::text("red"), Reply::text("late").delay_ms(SLOW_MS)]));
    let id = begin(&hub, &refine(3), &json!({})).await;
    seen(&hub, "it is improved", |calls| calls.len() == 2).await;
    hub.temporal.kill();
    signal(&hub, &id, &json!({"type": "answer_now"})).await.expect(200);
    hub.workers.remove(0).kill();
    hub.apis.remove(0).0.kill();
    hub.temporal.start().await;
    hub.start_worker(&[]);
    hub.start_api().await;
    let plan = ended(&hub, 0, &id).await;
    assert_eq!(ending(&plan), ("completed_partial", "answered_now"), "{}", plan.text);
    assert_eq!(plan.body["response"]["refined_response"], "red", "{}", plan.text);
    hub.finish(Disturbance::Kills).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_temporal_a_request_at_another_api_is_heard_by_whoever_carries_the_plan_on() {
    let mut hub = installation().temporal_off().apis(2).start().await;
    hub.provider.script(Rule::any([Reply::text("red"), Reply::text("late").delay_ms(SLOW_MS)]));
    let id = begin(&hub, &refine(3), &json!({})).await;
    seen(&hub, "it is improved", |calls| calls.len() == 2).await;
    let path = format!("/v1/plan/{id}/signal");
    let asked = hub.request_to(1, Method::POST, &path).json(&json!({"type": "answer_now"}));
    exchange(asked).await.unwrap().expect(200);
    hub.apis.remove(0).0.kill();
    let plan = ended(&hub, 0, &id).await;
    assert_eq!(ending(&plan), ("completed_partial", "answered_now"), "{}", plan.text);
    assert_eq!((&plan.body["response"]["refined_response"], hub.provider.count()), (&json!("red"), 2), "{}", plan.text);
    hub.finish(Disturbance::Kills).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_api_than_the_one_that_carries_a_plan_steers_it() {
    let hub = installation().temporal_off().apis(2).start().await;
    hub.provider.script(Rule::any([Reply::text("red"), Reply::text("late").delay_ms(SLOW_MS)]));
    let id = begin(&hub, &refine(3), &json!({})).await;
    seen(&hub, "it is improved", |calls| calls.len() == 2).await;
    let path = format!("/v1/plan/{id}/signal");
    let asked = hub.request_to(1, Method::POST, &path).json(&json!({"type": "answer_now"}));
    exchange(asked).await.unwrap().expect(200);
    let plan = ended(&hub, 1, &id).await;
    assert_eq!(ending(&plan), ("completed_partial", "answered_now"), "{}", plan.text);
    hub.finish(Disturbance::None).await;
}
