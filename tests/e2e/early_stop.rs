//! A vote that is decided does not wait for the rest: their calls are withdrawn, settled and held against nobody.

use std::time::Duration;

use serde_json::{Value, json};
use tokenhub_demo::{Finished, Reply, Rule};
use tokenhub_domain::ErrorClass;
use tokenhub_store::LedgerState;

use crate::{
    evidence::Evidence,
    harness::{Disturbance, TestHub, TestHubBuilder, eventually, model},
};

const PATIENCE: Duration = Duration::from_secs(30);
/// Nobody waits for a reply that takes this long.
const SLOW_MS: u64 = 20_000;
const MODELS: [&str; 5] = ["m1", "m2", "m3", "m4", "m5"];

fn installation() -> TestHubBuilder {
    let models = MODELS.iter().zip([9, 8, 7, 6, 5]).map(|(id, weight)| model(id, weight)).collect();
    TestHub::builder()
        .models(models)
        .environment("TOKENHUB_START_DEADLINE_MS", "15000")
        .environment("TOKENHUB_LIVE_SIGNALS", "false")
}

fn vote(more: &Value) -> Value {
    let mut orchestration = json!({"mode": "vote", "voters": 5, "method": "majority", "stop": "decided"});
    orchestration.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({"request": {"messages": [{"role": "user", "content": "which colour?"}]}, "orchestration": orchestration})
}

#[tokio::test(flavor = "multi_thread")]
async fn three_of_five_who_agree_are_enough_and_the_slow_two_are_cut_off() {
    for hub in [installation().start().await, installation().temporal_off().start().await] {
        hub.provider.script(Rule::any([Reply::text("Red.").delay_ms(100)]));
        for slow in ["m2", "m4"] {
            hub.provider.script(Rule::model(slow, [Reply::text("blue").delay_ms(SLOW_MS)]));
        }
        let answer = hub.post("/v1/plan", &vote(&json!({}))).await.expect(200);
        assert!(answer.took < Duration::from_secs(8), "{:?}", answer.took);
        assert_eq!((&answer.body["status"], &answer.body["stop_reason"]), (&json!("completed"), &json!("decided")));
        let result = &answer.body["response"];
        assert_eq!((&result["calls_withdrawn"], &result["calls_avoided"]), (&json!(2), &json!(0)), "{}", answer.text);
        assert_eq!((&answer.body["usage"]["calls"], hub.provider.count()), (&json!(5), 5), "{}", answer.text);
        eventually("the slow ones are cut off", PATIENCE, || async {
            (hub.provider.count_where(|call| call.finished == Finished::Aborted) == 2).then_some(())
        })
        .await;
        let rows = Evidence::of(&hub).await.ended(5).await;
        let cut: Vec<_> = rows.iter().filter(|row| row.state == LedgerState::Void).collect();
        assert!(cut.len() == 2 && cut.iter().all(|row| row.error_class == Some(ErrorClass::Cancelled)), "{rows:?}");
        hub.finish(Disturbance::None).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_at_a_time_nobody_is_asked_who_is_not_needed() {
    let hub = installation().start().await;
    hub.provider.script(Rule::any([Reply::text("Red.")]));
    hub.provider.script(Rule::model("m2", [Reply::text("blue")]));
    for (parallelism, called) in [(1, 4), (2, 5), (5, 5)] {
        let before = hub.provider.count();
        let answer = hub.post("/v1/plan", &vote(&json!({"parallelism": parallelism}))).await.expect(200);
        let made = hub.provider.count() - before;
        let avoided = answer.body["response"]["calls_avoided"].as_u64().unwrap();
        assert!(made <= called && made + avoided == 5, "{parallelism} at a time: {made} calls, {}", answer.text);
        assert_eq!(answer.body["response"]["responses"][0]["content"], "Red.");
    }
    for (fields, param) in [
        (json!({"method": "judge"}), "orchestration.stop"),
        (json!({"stop": "soon"}), "orchestration.stop"),
        (json!({"parallelism": 17}), "orchestration.parallelism"),
    ] {
        let refused = hub.post("/v1/plan", &vote(&fields)).await.expect(400);
        assert_eq!(refused.body["param"], param, "{}", refused.text);
    }
    hub.finish(Disturbance::None).await;
}
