//! Plans that are steered while they run: they answer at once, stop after a step, get more room or more time, whoever
//! carries them and whatever dies between the request and its effect.

mod killed;
mod refusals;

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tokenhub_demo::{Finished, Reply, Rule, SeenCall};

use crate::harness::{Answer, Disturbance, TestHub, TestHubBuilder, eventually, exchange, model};

const PATIENCE: Duration = Duration::from_mins(1);
/// Nobody waits for a reply that takes this long.
const SLOW_MS: u64 = 45_000;
/// There is time for a signal before such a reply.
const PAUSE_MS: u64 = 4_000;

fn installation() -> TestHubBuilder {
    let models = ["m1", "m2", "m3", "judge"].iter().zip([9, 8, 7, 5]).map(|(id, weight)| model(id, weight)).collect();
    TestHub::builder()
        .models(models)
        .environment("TOKENHUB_START_DEADLINE_MS", "15000")
        .environment("TOKENHUB_PENALTIES", "false")
        .environment("TOKENHUB_LIVE_SIGNALS", "false")
}

/// With a workflow, and without Temporal.
async fn both_ways() -> [TestHub; 2] {
    [installation().start().await, installation().temporal_off().start().await]
}

fn vote() -> Value {
    json!({"type": "vote", "voters": 3, "judge_model": "judge"})
}

fn refine(rounds: u32) -> Value {
    json!({"type": "refine", "rounds": rounds, "model": "m1"})
}

async fn begin(hub: &TestHub, strategy: &Value, more: &Value) -> String {
    let mut body = json!({
        "request": {"messages": [{"role": "user", "content": "which colour?"}]},
        "strategy": strategy, "background": true,
    });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    hub.post("/v1/plan", &body).await.expect(202).body["id"].as_str().unwrap().to_owned()
}

async fn signal(hub: &TestHub, id: &str, body: &Value) -> Answer {
    hub.post(&format!("/v1/plan/{id}/signal"), body).await
}

async fn stop(hub: &TestHub, id: &str, mode: &str) -> Answer {
    hub.post(&format!("/v1/plan/{id}/cancel"), &json!({ "mode": mode })).await.expect(200)
}

/// The plan once it has ended, at one of the APIs.
async fn ended(hub: &TestHub, api: usize, id: &str) -> Answer {
    eventually("the plan ends", PATIENCE, || async {
        let plan = exchange(hub.request_to(api, Method::GET, &format!("/v1/plan/{id}"))).await.ok()?.expect(200);
        (!["pending", "running"].contains(&plan.body["status"].as_str().unwrap())).then_some(plan)
    })
    .await
}

fn ending(plan: &Answer) -> (&str, &str) {
    (plan.body["status"].as_str().unwrap(), plan.body["stop_reason"].as_str().unwrap())
}

async fn seen(hub: &TestHub, what: &str, condition: impl Fn(&[SeenCall]) -> bool) {
    assert!(hub.provider.wait_until(PATIENCE, condition).await, "{what}: {:?}", hub.provider.calls());
}

fn answered(calls: &[SeenCall]) -> usize {
    calls.iter().filter(|call| call.finished == Finished::Answered).count()
}

async fn event_names(hub: &TestHub, id: &str) -> Vec<String> {
    let listed = hub.get(&format!("/v1/plan/{id}/events?format=json")).await.unwrap().expect(200);
    let events = listed.body["data"].as_array().unwrap_or_else(|| panic!("{}", listed.text)).clone();
    events.iter().map(|event| event["event"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vote_that_is_to_answer_now_cuts_off_the_slow_and_calls_no_judge() {
    for hub in both_ways().await {
        hub.provider.script(Rule::any([Reply::text("late").delay_ms(SLOW_MS)]));
        hub.provider.script(Rule::model("m2", [Reply::text("red")]));
        let id = begin(&hub, &vote(), &json!({})).await;
        seen(&hub, "one has voted", |calls| calls.len() == 3 && answered(calls) == 1).await;
        let asked = signal(&hub, &id, &json!({"type": "answer_now"})).await.expect(200);
        let again = signal(&hub, &id, &json!({"type": "answer_now"})).await.expect(200);
        let plan = ended(&hub, 0, &id).await;
        assert_eq!(ending(&plan), ("completed_partial", "answered_now"), "{}", plan.text);
        let result = &plan.body["response"];
        assert_eq!((&result["responses"][0]["content"], &result["calls_withdrawn"]), (&json!("red"), &json!(2)));
        assert_eq!((&plan.body["negotiated_model"], hub.provider.count()), (&json!("m2"), 3), "{}", plan.text);
        for shown in [&asked, &again, &plan] {
            let signals = shown.body["signals"].as_array().unwrap();
            assert_eq!((signals.len(), &signals[0]["type"]), (1, &json!("answer_now")), "{}", shown.text);
            assert!(signals[0]["principal"].as_str().unwrap().starts_with("client_"), "{}", shown.text);
        }
        let told = event_names(&hub, &id).await;
        assert_eq!(told.iter().filter(|name| *name == "signal.received").count(), 1, "{told:?}");
        assert_eq!(told.last().unwrap(), "plan.completed_partial");
        seen(&hub, "the slow are cut off", |calls| {
            calls.iter().filter(|call| call.finished == Finished::Aborted).count() == 2
        })
        .await;
        hub.finish(Disturbance::None).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ballots_without_a_verdict_are_decided_among_themselves() {
    for hub in both_ways().await {
        hub.provider.script(Rule::any([Reply::text("red")]));
        hub.provider.script(Rule::model("m1", [Reply::text("blue")]));
        hub.provider.script(Rule::model("judge", [Reply::text("{\"winner\": 1}").delay_ms(SLOW_MS)]));
        let id = begin(&hub, &vote(), &json!({})).await;
        seen(&hub, "the judge is asked", |calls| calls.len() == 4).await;
        signal(&hub, &id, &json!({"type": "answer_now"})).await.expect(200);
        let plan = ended(&hub, 0, &id).await;
        assert_eq!(ending(&plan), ("completed_partial", "answered_now"), "{}", plan.text);
        assert_eq!(plan.body["response"]["decision"], "judge_failed", "{}", plan.text);
        let chosen = plan.body["response"]["responses"].as_array().unwrap();
        let chosen = chosen.iter().find(|ballot| ballot["selected"] == true).unwrap();
        assert_eq!((&chosen["content"], hub.provider.count()), (&json!("red"), 4), "two of three: {}", plan.text);
        hub.finish(Disturbance::None).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refinement_answers_with_its_latest_text_or_waits_for_the_first() {
    for hub in both_ways().await {
        hub.provider.script(Rule::any([Reply::text("red"), Reply::text("late").delay_ms(SLOW_MS)]));
        let id = begin(&hub, &refine(3), &json!({})).await;
        seen(&hub, "it is improved", |calls| calls.len() == 2).await;
        signal(&hub, &id, &json!({"type": "answer_now"})).await.expect(200);
        let plan = ended(&hub, 0, &id).await;
        assert_eq!(ending(&plan), ("completed_partial", "answered_now"), "{}", plan.text);
        let result = &plan.body["response"];
        assert_eq!((&result["refined_response"], &result["iterations"]), (&json!("red"), &json!(0)), "{}", plan.text);

        hub.provider.clear_script();
        hub.provider.script(Rule::any([Reply::text("first").delay_ms(PAUSE_MS)]));
        let before = hub.provider.count();
        let id = begin(&hub, &refine(3), &json!({})).await;
        signal(&hub, &id, &json!({"type": "answer_now"})).await.expect(200);
        let plan = ended(&hub, 0, &id).await;
        assert_eq!(ending(&plan), ("completed_partial", "answered_now"), "{}", plan.text);
        assert_eq!(plan.body["response"]["refined_response"], "first", "{}", plan.text);
        assert_eq!((hub.provider.count() - before, &plan.body["usage"]["calls"]), (1, &json!(1)), "{}", plan.text);
        hub.finish(Disturbance::None).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_that_stops_after_its_step_keeps_what_was_under_way() {
    for hub in both_ways().await {
        hub.provider.script(Rule::any([Reply::text("red"), Reply::text("blue").delay_ms(PAUSE_MS)]));
        let id = begin(&hub, &refine(3), &json!({})).await;
        seen(&hub, "it is improved", |calls| calls.len() == 2).await;
        let asked = stop(&hub, &id, "after_step").await;
        assert_eq!(asked.body["status"], "running", "{}", asked.text);
        assert_eq!(asked.body["signals"][0]["mode"], "after_step", "{}", asked.text);
        stop(&hub, &id, "after_step").await;
        let plan = ended(&hub, 0, &id).await;
        assert_eq!(ending(&plan), ("cancelled", "cancelled_after_step"), "{}", plan.text);
        assert_eq!(plan.body["response"]["refined_response"], "blue", "it was paid for: {}", plan.text);
        assert_eq!((hub.provider.count(), answered(&hub.provider.calls())), (2, 2));
        assert_eq!(plan.body["steps"].as_array().unwrap().len(), 2, "{}", plan.text);
        assert_eq!(stop(&hub, &id, "after_step").await.body, plan.body, "what has ended stays as it is");
        let told = event_names(&hub, &id).await;
        assert_eq!(told[told.len() - 3..], ["signal.received", "step.completed", "plan.cancelled"]);
        hub.finish(Disturbance::None).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn now_after_after_step_does_not_wait_any_longer() {
    for hub in both_ways().await {
        hub.provider.script(Rule::any([Reply::text("red"), Reply::text("late").delay_ms(SLOW_MS)]));
        let id = begin(&hub, &refine(3), &json!({})).await;
        seen(&hub, "it is improved", |calls| calls.len() == 2).await;
        stop(&hub, &id, "after_step").await;
        let plan = stop(&hub, &id, "now").await;
        assert_eq!(ending(&plan), ("cancelled", "cancelled"), "{}", plan.text);
        assert_eq!(plan.body["response"]["refined_response"], "red", "{}", plan.text);
        seen(&hub, "the call is cut off", |calls| {
            calls.len() == 2 && calls.iter().any(|call| call.finished == Finished::Aborted)
        })
        .await;
        hub.finish(Disturbance::None).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn more_room_rescues_a_plan_and_is_given_once_however_often_it_is_asked_for() {
    for hub in both_ways().await {
        for (calls, end) in [(2, ("completed", "max_rounds")), (1, ("completed_partial", "budget_exhausted"))] {
            hub.provider.clear_script();
            hub.provider.script(Rule::any([Reply::text("red").delay_ms(PAUSE_MS), Reply::text("red")]));
            let before = hub.provider.count();
            let id = begin(&hub, &refine(3), &json!({"bounds": {"max_calls": 2}})).await;
            seen(&hub, "it has begun", |seen| seen.len() as u64 > before).await;
            let more = json!({"type": "add_budget", "max_calls": calls, "id": "once"});
            for _ in 0..3 {
                signal(&hub, &id, &more).await.expect(200);
            }
            let path = format!("/v1/plan/{id}/signal");
            let by_header = json!({"type": "add_budget", "max_calls": calls});
            hub.post_with(&path, &[("idempotency-key", "once")], &by_header).await.expect(200);
            let other = json!({"type": "add_budget", "max_calls": 9, "id": "once"});
            assert_eq!(signal(&hub, &id, &other).await.expect(422).body["code"], "idempotency_mismatch");
            let plan = ended(&hub, 0, &id).await;
            assert_eq!(ending(&plan), end, "{}", plan.text);
            assert_eq!(hub.provider.count() - before, 2 + calls, "{}", plan.text);
            assert_eq!(plan.body["signals"].as_array().unwrap().len(), 1, "{}", plan.text);
            assert_eq!(plan.body["signals"][0]["max_calls"], calls);
        }
        hub.finish(Disturbance::None).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_that_is_moved_also_gives_more_time_to_the_call_that_is_under_way() {
    for hub in both_ways().await {
        hub.provider.script(Rule::any([Reply::text("red"), Reply::text("blue").delay_ms(12_000)]));
        let id = begin(&hub, &refine(2), &json!({"bounds": {"deadline_ms": 8_000}})).await;
        seen(&hub, "it is improved", |calls| calls.len() == 2).await;
        let more = json!({"type": "extend_deadline", "deadline_ms": 120_000});
        for _ in 0..2 {
            let asked = signal(&hub, &id, &more).await.expect(200);
            assert_eq!(asked.body["signals"][0]["deadline_ms"], 120_000, "{}", asked.text);
        }
        let plan = ended(&hub, 0, &id).await;
        assert_eq!(ending(&plan), ("completed", "max_rounds"), "{}", plan.text);
        assert_eq!((hub.provider.count(), answered(&hub.provider.calls())), (3, 3), "none was cut off: {}", plan.text);
        hub.finish(Disturbance::None).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_is_a_change_that_is_waited_for_and_who_waits_for_the_answer_is_shown_it_too() {
    for hub in both_ways().await {
        hub.provider.script(Rule::any([Reply::text("red").delay_ms(10_000)]));
        let body = json!({"request": {"messages": [{"role": "user", "content": "which colour?"}]},
            "strategy": {"type": "single"}, "bounds": {"max_calls": 3, "deadline_ms": 60_000}});
        let (answer, ()) = tokio::join!(hub.post("/v1/plan", &body), async {
            seen(&hub, "the call is made", |calls| calls.len() == 1).await;
            let listed = hub.get("/v1/plan?status=running").await.unwrap().expect(200);
            let id = listed.body["data"][0]["id"].as_str().unwrap().to_owned();
            let path = format!("/v1/plan/{id}?wait=20s");
            let read = hub.get(&format!("/v1/plan/{id}")).await.unwrap().expect(200);
            let mut tag = read.header("etag").to_owned();
            for request in [
                json!({"type": "extend_deadline", "deadline_ms": 90_000}),
                json!({"type": "add_budget", "max_calls": 2}),
                json!({"type": "add_budget", "max_calls": 2}),
            ] {
                let waiting = exchange(hub.request(Method::GET, &path).header("if-none-match", &tag));
                let (news, _) = tokio::join!(waiting, async {
                    tokio::time::sleep(Duration::from_millis(200)).await;
                    signal(&hub, &id, &request).await.expect(200)
                });
                let news = news.unwrap().expect(200);
                assert_eq!(news.body["status"], "running", "{}", news.text);
                assert!(news.took < Duration::from_secs(3), "{:?}", news.took);
                assert_ne!(news.header("etag"), tag);
                news.header("etag").clone_into(&mut tag);
            }
        });
        let answer = answer.expect(200);
        let id = answer.body["id"].as_str().unwrap();
        let kept = hub.get(&format!("/v1/plan/{id}")).await.unwrap().expect(200);
        assert_eq!(kept.body["signals"].as_array().unwrap().len(), 3, "{}", kept.text);
        assert_eq!(answer.body, kept.body, "both are the same object");
        hub.finish(Disturbance::None).await;
    }
}
