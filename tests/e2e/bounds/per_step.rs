//! Each step keeps to limits of its own: tries, other models, hedges and repetitions after a death are counted together,
//! and what one step may not have is there for the others.

use serde_json::{Value, json};
use tokenhub_demo::{Reply, Rule};

use super::{PATIENCE, SLOW_MS};
use crate::harness::{Disturbance, Process, TestHub, TestHubBuilder, eventually};

/// Who fails is asked again, so that its calls can be counted.
fn installation() -> TestHubBuilder {
    super::installation().environment("TOKENHUB_PENALTIES", "false")
}

fn plan(strategy: &Value, per_step: &Value) -> Value {
    json!({
        "request": {"messages": [{"role": "user", "content": "which colour?"}], "parameters": {"max_tokens": 100}},
        "strategy": strategy,
        "bounds": {"per_step": per_step},
    })
}

fn vote() -> Value {
    json!({"type": "vote", "voters": 3, "method": "majority"})
}

fn single() -> Value {
    json!({"type": "single"})
}

fn calls_to(hub: &TestHub, model: &str) -> usize {
    hub.provider.calls().iter().filter(|call| call.body["model"] == model).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ballot_that_may_not_be_tried_again_fails_and_the_others_have_their_own() {
    for hub in [installation().start().await, installation().temporal_off().start().await] {
        hub.provider.script(Rule::any([Reply::text("red")]));
        hub.provider.script(Rule::model("m1", [Reply::failure(500, "out of order")]));
        for calls in [1, 2] {
            let before = hub.provider.count();
            let answer = hub.post("/v1/plan", &plan(&vote(), &json!({"max_calls": calls}))).await.expect(200);
            let state = (&answer.body["status"], &answer.body["stop_reason"]);
            assert_eq!(state, (&json!("completed_partial"), &json!("budget_exhausted")), "{}", answer.text);
            assert_eq!(answer.body["response"]["responses"].as_array().unwrap().len(), 2, "{}", answer.text);
            assert_eq!(answer.body["usage"]["calls"], calls + 2, "{}", answer.text);
            assert_eq!(hub.provider.count() - before, calls + 2, "{}", answer.text);
        }
        hub.finish(Disturbance::None).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tries_and_other_models_of_one_step_are_counted_together_and_the_bound_is_named() {
    let hub = installation().start().await;
    hub.provider.script(Rule::any([Reply::text("red")]));
    for model in ["m1", "m2"] {
        hub.provider.script(Rule::model(model, [Reply::failure(500, "out of order")]));
    }
    let refused = hub.post("/v1/plan", &plan(&single(), &json!({"max_calls": 4}))).await.expect(402);
    let named = (&refused.body["code"], &refused.body["param"], &refused.body["run_status"]);
    assert_eq!(named, (&json!("budget_exhausted"), &json!("bounds.per_step.max_calls"), &json!("budget_exhausted")));
    let calls = ["m1", "m2", "m3"].map(|model| calls_to(&hub, model));
    assert_eq!(calls, [3, 1, 0], "{}", refused.text);
    let kept = hub.get(&format!("/v1/plan/{}", refused.body["id"].as_str().unwrap())).await.unwrap().expect(200);
    let state = (&kept.body["status"], &kept.body["stop_reason"]);
    assert_eq!(state, (&json!("budget_exhausted"), &json!("budget_exhausted")), "{}", kept.text);
    for (per_step, param) in
        [(json!({"max_tokens": 50}), "max_tokens"), (json!({"max_cost_usd": 1e-9}), "max_cost_usd")]
    {
        let refused = hub.post("/v1/plan", &plan(&single(), &per_step)).await.expect(402);
        assert_eq!(refused.body["param"], format!("bounds.per_step.{param}"), "{}", refused.text);
    }
    for (per_step, param) in [
        (json!({"max_calls": 0}), "bounds.per_step.max_calls"),
        (json!({"deadline_ms": 5}), "bounds.per_step.deadline_ms"),
        (json!(3), "bounds.per_step"),
    ] {
        let refused = hub.post("/v1/plan", &plan(&single(), &per_step)).await.expect(400);
        assert_eq!(refused.body["param"], param, "{}", refused.text);
    }
    assert_eq!(hub.provider.count(), 4, "what does not fit is not sent");
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_gets_back_what_its_calls_did_not_use_and_no_other_steps_part_counts() {
    let hub = installation().temporal_off().start().await;
    let tokens = |most: u64| json!({ "max_tokens": most });
    hub.provider.script(Rule::any([Reply::text("better").usage(20, 30)]));
    let refine = json!({"type": "refine", "rounds": 5});
    let whole = hub.post("/v1/plan", &plan(&refine, &tokens(1_000))).await.expect(200);
    assert_eq!((&whole.body["status"], hub.provider.count()), (&json!("completed"), 6), "{}", whole.text);

    // The worst case of one call is between half of the limit and all of it.
    hub.provider.script(Rule::any([Reply::error(500, "server_error", "out of order"), Reply::text("red")]));
    let again = hub.post("/v1/plan", &plan(&single(), &tokens(300))).await.expect(200);
    assert_eq!((&again.body["status"], hub.provider.count()), (&json!("completed"), 8), "{}", again.text);

    hub.provider.script(Rule::any([Reply::text("late").delay_ms(SLOW_MS)]));
    let mut late = plan(&single(), &tokens(300));
    late["bounds"]["step_timeout_ms"] = json!(400);
    let refused = hub.post("/v1/plan", &late).await.expect(402);
    assert_eq!(refused.body["param"], "bounds.per_step.max_tokens", "{}", refused.text);
    assert_eq!(hub.provider.count(), 9, "who was too late may have been paid");
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hedge_without_room_is_not_made_and_the_first_answer_is_waited_for() {
    let hub = installation().start().await;
    hub.provider.script(Rule::any([Reply::text("red").delay_ms(1_500)]));
    let hedge = json!({"type": "hedge", "after_ms": 200});
    let answer = hub.post("/v1/plan", &plan(&hedge, &json!({"max_calls": 1}))).await.expect(200);
    assert_eq!((&answer.body["negotiated_model"], hub.provider.count()), (&json!("m1"), 1), "{}", answer.text);
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn repetitions_after_deaths_are_calls_of_the_step_and_none_goes_beyond_its_limit() {
    let mut hub = installation().start().await;
    hub.provider.script(Rule::any([Reply::text("draft"), Reply::text("never read").delay_ms(SLOW_MS)]));
    let mut body = plan(&json!({"type": "refine", "rounds": 1}), &json!({"max_calls": 2}));
    body["background"] = json!(true);
    let accepted = hub.post("/v1/plan", &body).await.expect(202);
    for calls in [2, 3] {
        eventually("the call is in flight", PATIENCE, || async { (hub.provider.count() == calls).then_some(()) }).await;
        hub.workers.iter_mut().for_each(Process::kill);
        hub.workers.clear();
        hub.start_worker(&[]);
    }
    let path = format!("/v1/plan/{}?wait=60s", accepted.body["id"].as_str().unwrap());
    let ended = hub.get(&path).await.unwrap().expect(200);
    let state = (&ended.body["status"], &ended.body["stop_reason"]);
    assert_eq!(state, (&json!("completed_partial"), &json!("budget_exhausted")), "{}", ended.text);
    assert_eq!(ended.body["response"]["refined_response"], "draft", "{}", ended.text);
    assert_eq!(hub.provider.count(), 3, "one for the draft, and two for its improvement");
    let usage = &ended.body["usage"];
    assert_eq!(usage["calls"].as_u64().unwrap() + usage["duplicate_calls"].as_u64().unwrap(), 3, "{}", ended.text);
    hub.finish(Disturbance::Kills).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_estimate_says_which_limit_of_a_step_does_not_hold_its_worst_case() {
    let hub = installation().start().await;
    for (per_step, exceeded) in [
        (json!({"max_calls": 3}), json!("per_step.max_calls")),
        // Three tries, and one more for a crash.
        (json!({"max_calls": 4}), Value::Null),
        (json!({"max_tokens": 300}), json!("per_step.max_tokens")),
    ] {
        let estimate = hub.post("/v1/plan/estimate", &plan(&vote(), &per_step)).await.expect(200).body;
        assert_eq!(estimate["first_exceeded"], exceeded, "{per_step}: {estimate}");
        assert_eq!(estimate["within_bounds"], exceeded.is_null());
    }
    assert_eq!(hub.provider.count(), 0);
    hub.finish(Disturbance::None).await;
}
