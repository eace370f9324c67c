//! A plan never uses more than its bounds: what a call can use at most is taken before it leaves, whoever makes it and
//! whatever is killed.

mod per_step;

use std::time::Duration;

use serde_json::{Value, json};
use tokenhub_demo::{Finished, Reply, Rule};

use crate::harness::{Disturbance, TestHub, TestHubBuilder, eventually, model};

const PATIENCE: Duration = Duration::from_secs(30);
/// Nobody waits for a reply that takes this long.
const SLOW_MS: u64 = 20_000;

fn installation() -> TestHubBuilder {
    let models = ["m1", "m2", "m3", "m4", "m5"].iter().zip([9, 8, 7, 6, 5]);
    TestHub::builder()
        .models(models.map(|(id, weight)| model(id, weight)).collect())
        .environment("TOKENHUB_START_DEADLINE_MS", "15000")
        .environment("TOKENHUB_LIVE_SIGNALS", "false")
}

fn plan(orchestration: &Value, bounds: &Value) -> Value {
    let request = json!({"messages": [{"role": "user", "content": "which colour?"}]});
    json!({"request": request, "orchestration": orchestration, "bounds": bounds})
}

fn vote() -> Value {
    json!({"mode": "vote", "voters": 5, "method": "majority"})
}

#[tokio::test(flavor = "multi_thread")]
async fn three_calls_for_five_voters_are_three_calls_and_a_tally_of_three() {
    for hub in [installation().start().await, installation().temporal_off().start().await] {
        hub.provider.script(Rule::any([Reply::text("red").delay_ms(50)]));
        for calls in [3, 1, 4] {
            let before = hub.provider.count();
            let answer = hub.post("/v1/plan", &plan(&vote(), &json!({"max_calls": calls}))).await.expect(200);
            assert_eq!(hub.provider.count() - before, calls, "{}", answer.text);
            let state = (&answer.body["status"], &answer.body["stop_reason"]);
            assert_eq!(state, (&json!("completed_partial"), &json!("budget_exhausted")), "{}", answer.text);
            assert_eq!(answer.body["response"]["responses"].as_array().unwrap().len() as u64, calls);
            assert_eq!(answer.body["usage"]["calls"], calls);
            let refused = answer.body["steps"].as_array().unwrap().iter();
            let refused = refused.filter(|step| step["error_class"] == "budget_exhausted" && step["attempts"] == 0);
            assert_eq!(refused.count() as u64, 5 - calls, "{}", answer.text);
        }
        hub.finish(Disturbance::None).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_step_that_does_not_fit_is_refused_before_any_call() {
    let hub = installation().start().await;
    for (bounds, param) in
        [(json!({"max_cost_usd": 0.000_001}), "bounds.max_cost_usd"), (json!({"max_tokens": 100}), "bounds.max_tokens")]
    {
        let refused = hub.post("/v1/plan", &plan(&json!({"mode": "refine"}), &bounds)).await.expect(402);
        assert_eq!((&refused.body["code"], &refused.body["param"]), (&json!("budget_exhausted"), &json!(param)));
        assert_eq!(refused.body["status"], 402, "the problem document's own member: {}", refused.text);
        let id = refused.body["id"].as_str().unwrap();
        let kept = hub.get(&format!("/v1/plan/{id}")).await.unwrap().expect(200);
        let state = (&kept.body["status"], &kept.body["stop_reason"]);
        assert_eq!(state, (&json!("budget_exhausted"), &json!("budget_exhausted")), "{}", kept.text);
    }
    for (bounds, param) in [(json!({"max_calls": 0}), "bounds.max_calls"), (json!({"calls": 1}), "bounds.calls")] {
        let refused = hub.post("/v1/plan", &plan(&vote(), &bounds)).await.expect(400);
        assert_eq!(refused.body["param"], param, "{}", refused.text);
    }
    assert_eq!(hub.provider.count(), 0);
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_call_did_not_use_is_there_for_the_next_and_the_sum_stays_below() {
    let hub = installation().start().await;
    hub.provider.script(Rule::any([Reply::text("better").usage(20, 30)]));
    // One call may take some 300 tokens and takes 50: without giving back there would be room for two of six.
    let limited = |max_tokens: u64| {
        let mut body = plan(&json!({"mode": "refine", "iterations": 5}), &json!({ "max_tokens": max_tokens }));
        body["request"]["parameters"] = json!({"max_tokens": 40});
        body
    };
    let whole = hub.post("/v1/plan", &limited(1_200)).await.expect(200);
    assert_eq!(
        (&whole.body["status"], &whole.body["usage"]["calls"]),
        (&json!("completed"), &json!(6)),
        "{}",
        whole.text
    );
    for max_tokens in [350, 420, 500] {
        let answer = hub.post("/v1/plan", &limited(max_tokens)).await.expect(200);
        let usage = &answer.body["usage"];
        let used = usage["input_tokens"].as_u64().unwrap() + usage["output_tokens"].as_u64().unwrap();
        assert!(used <= max_tokens && used >= 50, "{used} of {max_tokens}: {}", answer.text);
        assert_eq!(answer.body["stop_reason"], "budget_exhausted", "{max_tokens}: {}", answer.text);
    }
    let limits: Vec<_> = hub.provider.calls().iter().map(|call| call.body["max_tokens"].clone()).collect();
    assert!(limits.iter().all(|limit| *limit == 40), "the caller's own limit goes out: {limits:?}");
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bounded_call_goes_out_with_an_output_limit_and_an_unbounded_one_as_it_came() {
    let hub = installation().start().await;
    hub.post("/v1/plan", &plan(&json!({}), &json!({"max_cost_usd": 1}))).await.expect(200);
    hub.post("/v1/plan", &plan(&json!({}), &json!({}))).await.expect(200);
    let limits: Vec<_> = hub.provider.calls().iter().map(|call| call.body.get("max_tokens").cloned()).collect();
    assert_eq!(limits, [Some(json!(4096)), None]);
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_knows_the_cost_of_stays_taken_and_a_refusal_is_given_back() {
    let hub = installation().temporal_off().start().await;
    let limited = |mode: &Value| {
        let mut body = plan(mode, &json!({"max_tokens": 300, "step_timeout_ms": 400}));
        body["request"]["parameters"] = json!({"max_tokens": 100});
        body
    };
    // The worst case of one call is between half of the limit and all of it.
    hub.provider.script(Rule::any([Reply::text("late").delay_ms(SLOW_MS)]));
    hub.post("/v1/plan", &limited(&json!({}))).await.expect(402);
    assert_eq!(hub.provider.count(), 1, "who was too late may have been paid");

    let uncounted = r#"{"id":"c","object":"chat.completion","choices":[{"index":0,"finish_reason":"stop",
        "message":{"role":"assistant","content":"not counted"}}]}"#;
    hub.provider.script(Rule::any([Reply::raw("application/json", uncounted)]));
    let one_by_one = json!({"mode": "vote", "voters": 2, "method": "majority", "parallelism": 1});
    let answer = hub.post("/v1/plan", &limited(&one_by_one)).await.expect(200);
    assert_eq!((&answer.body["stop_reason"], hub.provider.count()), (&json!("budget_exhausted"), 2), "{}", answer.text);

    hub.provider.script(Rule::any([Reply::error(500, "server_error", "out of order"), Reply::text("red")]));
    let answer = hub.post("/v1/plan", &limited(&json!({}))).await.expect(200);
    assert_eq!((&answer.body["status"], hub.provider.count()), (&json!("completed"), 4), "{}", answer.text);
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_whose_worker_was_killed_keeps_its_part() {
    let mut hub = installation().start().await;
    hub.provider.script(Rule::any([Reply::text("red").delay_ms(3_000)]));
    let mut body = plan(&json!({}), &json!({"max_calls": 1}));
    body["background"] = json!(true);
    let accepted = hub.post("/v1/plan", &body).await.expect(202);
    eventually("the call is in flight", PATIENCE, || async { (hub.provider.count() == 1).then_some(()) }).await;
    hub.workers.iter_mut().for_each(crate::harness::Process::kill);
    hub.workers.clear();
    hub.start_worker(&[]);
    let path = format!("/v1/plan/{}?wait=30s", accepted.body["id"].as_str().unwrap());
    let ended = hub.get(&path).await.unwrap().expect(200);
    assert_eq!(ended.body["status"], "budget_exhausted", "{}", ended.text);
    assert_eq!(hub.provider.count(), 1, "the only call that there may be is not made again");
    let usage = &ended.body["usage"];
    assert_eq!(usage["calls"].as_u64().unwrap() + usage["duplicate_calls"].as_u64().unwrap(), 1, "{}", ended.text);
    hub.finish(Disturbance::Kills).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_ends_the_plan_and_a_steps_own_moves_it_on() {
    let hub = installation().start().await;
    hub.provider.script(Rule::model("m1", [Reply::text("late").delay_ms(SLOW_MS)]));
    hub.provider.script(Rule::model("m2", [Reply::text("in time")]));
    let answer = hub.post("/v1/plan", &plan(&json!({}), &json!({"step_timeout_ms": 400}))).await.expect(200);
    assert_eq!(answer.body["negotiated_model"], "m2", "{}", answer.text);
    hub.provider.script(Rule::any([Reply::text("late").delay_ms(SLOW_MS)]));
    let late = hub.post("/v1/plan", &plan(&json!({"mode": "refine"}), &json!({"deadline_ms": 600}))).await.expect(504);
    assert!(late.took < Duration::from_secs(8), "{:?}", late.took);
    let kept = hub.get(&format!("/v1/plan/{}", late.body["id"].as_str().unwrap())).await.unwrap().expect(200);
    let state = (&kept.body["status"], &kept.body["stop_reason"]);
    assert_eq!(state, (&json!("deadline_exceeded"), &json!("deadline_exceeded")), "{}", kept.text);
    eventually("the late calls are cut off", PATIENCE, || async {
        (hub.provider.count_where(|call| call.finished == Finished::Aborted) >= 2).then_some(())
    })
    .await;
    hub.finish(Disturbance::None).await;
}
