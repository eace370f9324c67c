//! What strategies promise where it is hard to keep: judges that prefer places or say nothing, panels with a dead member,
//! a cancel at any moment, and the largest plan that is allowed.

use std::time::Duration;

use futures_util::future::join_all;
use prost::Message;
use serde_json::{Value, json};
use tokenhub_demo::{Finished, Reply, Rule};
use tokenhub_domain::limits::INLINE_TEXT_BYTES;

use crate::{
    draw::Draw,
    evidence::Evidence,
    harness::{Answer, Disturbance, Operator, TestHub, TestHubBuilder, model},
    scripted::{self, Case, STRATEGIES},
};

const PATIENCE: Duration = Duration::from_secs(30);
/// What a history may grow to.
const EVENTS_MAX: usize = 2_000;
const HISTORY_BYTES_MAX: usize = 2_000_000;

fn installation() -> TestHubBuilder {
    scripted::installation().environment("TOKENHUB_PENALTIES", "false")
}

async fn both_executors() -> [TestHub; 2] {
    [installation().start().await, installation().temporal_off().start().await]
}

/// Runs a plan, and counts its calls.
async fn ran(hub: &TestHub, strategy: &Value) -> (Answer, u64) {
    let before = hub.provider.count();
    let request = json!({"messages": [{"role": "user", "content": "which colour?"}]});
    let answer = hub.post("/v1/plan", &json!({"request": request, "strategy": strategy})).await;
    (answer, hub.provider.count() - before)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_judge_that_always_takes_the_first_place_decides_nothing() {
    let best = json!({"type": "best_of_n", "candidates": 2, "method": "pairwise", "judge_model": "delta"});
    for hub in both_executors().await {
        hub.provider.script(Rule::any([Reply::text("red")]));
        hub.provider.script(Rule::model("delta", [Reply::text(r#"{"winner": 1}"#)]));
        // The order of the candidates is drawn for each plan.
        for _ in 0..3 {
            let (answer, calls) = ran(&hub, &best).await;
            let result = &answer.expect(200).body["response"];
            assert_eq!((&result["order_flips"], &result["selected"], calls), (&json!(1), &json!(0), 4), "{result}");
            assert_eq!(result["matches"][0]["result"], "flipped", "{result}");
        }
        hub.finish(Disturbance::None).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_judge_that_says_nothing_is_asked_once_more_and_then_done_without() {
    for hub in both_executors().await {
        hub.provider.script(Rule::any([Reply::text("red")]));
        hub.provider.script(Rule::model("delta", [Reply::text("I like the second one, or perhaps the third")]));
        for (method, expected) in [("scored", 3 + 2), ("pairwise", 3 + 4 * 2)] {
            let best = json!({"type": "best_of_n", "candidates": 3, "method": method, "judge_model": "delta"});
            for _ in 0..3 {
                let (answer, calls) = ran(&hub, &best).await;
                let answer = answer.expect(200);
                let result = &answer.body["response"];
                let state = (&answer.body["status"], &result["decision"], &result["selected"]);
                assert_eq!(state, (&json!("completed_partial"), &json!("judge_failed"), &json!(0)), "{}", answer.text);
                assert_eq!(calls, expected, "{method}: {}", answer.text);
            }
        }
        hub.finish(Disturbance::None).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_of_three_panelists_are_enough_when_two_are_asked_for() {
    for hub in both_executors().await {
        hub.provider.script(Rule::any([Reply::text("red")]));
        hub.provider.script(Rule::model("beta", [Reply::failure(400, "no")]));
        hub.provider.script(Rule::model("alpha", [Reply::text("it is red")]).containing("several answers"));
        let analysis = r#"{"consensus": [], "contradictions": [], "gaps": []}"#;
        hub.provider.script(Rule::model("delta", [Reply::text(analysis)]));
        let fuse = |least: u32| json!({"type": "fuse", "panel": 3, "min_success": least, "writer_model": "alpha", "judge_model": "delta"});
        let (answer, calls) = ran(&hub, &fuse(2)).await;
        let answer = answer.expect(200);
        assert_eq!((&answer.body["status"], calls), (&json!("completed_partial"), 5), "{}", answer.text);
        assert_eq!(answer.body["response"]["content"], "it is red");
        let panel = answer.body["response"]["panel"].as_array().unwrap();
        assert_eq!(panel.iter().map(|one| &one["model"]).collect::<Vec<_>>(), ["alpha", "gamma"]);
        let (refused, calls) = ran(&hub, &fuse(3)).await;
        assert!(refused.status.as_u16() >= 400 && calls == 3, "{calls}: {}", refused.text);
        hub.finish(Disturbance::None).await;
    }
}

/// Begins a plan, and cancels it twice after a while.
async fn cancel_one(hub: &TestHub, case: Case, pause_ms: u64) -> bool {
    let mut body = case.body();
    body["background"] = json!(true);
    let begun = hub.post("/v1/plan", &body).await.expect(202);
    let path = format!("/v1/plan/{}", begun.body["id"].as_str().unwrap());
    tokio::time::sleep(Duration::from_millis(pause_ms)).await;
    let first = hub.post(&format!("{path}/cancel"), &json!({})).await.expect(200);
    let second = hub.post(&format!("{path}/cancel"), &json!({})).await.expect(200);
    assert_eq!(second.body, first.body, "once is enough");
    assert_eq!(hub.get(&path).await.unwrap().expect(200).body, first.body);
    let status = first.body["status"].as_str().unwrap();
    assert!(["cancelled", "completed"].contains(&status), "{}", first.text);
    let answered = case.calls(hub).iter().filter(|(_, call)| call.finished == Finished::Answered).count();
    let steps = first.body["steps"].as_array().unwrap_or_else(|| panic!("no steps: {}", first.text));
    let kept = steps.iter().filter(|step| step["error_class"].is_null()).count();
    assert!(kept <= answered && (status == "cancelled" || kept == answered), "{answered} answered: {}", first.text);
    status == "cancelled"
}

async fn cancel_at_drawn_moments(plans: usize) {
    const AT_ONCE: usize = 12;
    let hub = installation().start().await;
    let mut draw = Draw::of(12);
    let mut cancelled = 0;
    let numbers: Vec<usize> = (1..=plans).collect();
    for some in numbers.chunks(AT_ONCE) {
        let each = some.iter().map(|number| {
            let case = Case::new(STRATEGIES[number % STRATEGIES.len()], *number);
            case.script(&hub, |_| vec![draw.within(&(100..=700))]);
            (case, draw.within(&(0..=2_500)))
        });
        let each: Vec<_> = each.collect();
        let ended = join_all(each.into_iter().map(|(case, pause_ms)| cancel_one(&hub, case, pause_ms))).await;
        cancelled += ended.into_iter().filter(|is_cancelled| *is_cancelled).count();
    }
    eprintln!("{cancelled} of {plans} plans were cancelled, the others had ended before");
    assert!(cancelled > plans / 4, "{cancelled} of {plans}");
    let closed = hub.provider.wait_until(PATIENCE, |calls| calls.iter().all(|call| call.finished != Finished::Pending));
    assert!(closed.await, "a socket is still open");
    Evidence::of(&hub).await.at_rest().await;
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_is_cancelled_at_any_moment_and_keeps_what_it_has() {
    cancel_at_drawn_moments(24).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "two minutes: make chaos"]
async fn five_hundred_plans_are_cancelled_at_any_moment_and_keep_what_they_have() {
    cancel_at_drawn_moments(500).await;
}

/// Events and bytes of a plan's history.
async fn history_of(operator: &Operator, answer: &Answer) -> (usize, usize) {
    let workflow = answer.header("x-tokenhub-workflow-id").to_owned();
    operator.ended(&workflow, PATIENCE).await;
    let events = operator.history(&workflow).await;
    let bytes = events.iter().map(Message::encoded_len).sum();
    (events.len(), bytes)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_largest_plans_have_histories_of_moderate_size() {
    let models = (1..=17).map(|number| model(&format!("m{number:02}"), 5)).collect();
    let hub = installation().models(models).start().await;
    let operator = Operator::connect(&hub.temporal).await;
    // As long as texts may be without travelling by reference; around that of the request are some words more.
    let question = "x".repeat(INLINE_TEXT_BYTES - 200);
    let request = json!({"messages": [{"role": "user", "content": question}]});
    for (strategy, steps) in [
        (json!({"type": "vote", "voters": 16, "judge_model": "m17"}), 17),
        (json!({"type": "best_of_n", "candidates": 16, "method": "pairwise", "judge_model": "m17"}), 16 + 30),
        (json!({"type": "adversarial", "rounds": 10}), 21),
        (json!({"type": "refine", "rounds": 10}), 11),
        (json!({"type": "fuse", "panel": 16, "judge_model": "m17"}), 18),
    ] {
        hub.provider.clear_script();
        hub.provider.script(Rule::any([Reply::big(INLINE_TEXT_BYTES)]));
        let verdict = r#"{"winner": 1, "consensus": [], "contradictions": [], "gaps": []}"#;
        hub.provider.script(Rule::model("m17", [Reply::text(verdict)]));
        let answer = hub.post("/v1/plan", &json!({"request": request, "strategy": strategy})).await.expect(200);
        assert_eq!(answer.body["usage"]["calls"], steps, "{strategy}");
        let (events, bytes) = history_of(&operator, &answer).await;
        eprintln!("history: {strategy}: {steps} steps, {events} events, {bytes} bytes");
        assert!(events < EVENTS_MAX && bytes < HISTORY_BYTES_MAX, "{strategy}: {events} events, {bytes} bytes");
    }
    // A call may have been announced and withdrawn before it left.
    hub.finish(Disturbance::Kills).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn capabilities_beside_a_strategy_choose_who_answers_and_one_that_does_not_exist_is_refused() {
    let can_see = |id: &str, weight: u32, sees: bool| {
        let mut entry = crate::harness::model(id, weight);
        entry["capabilities"] = json!({"vision": sees});
        entry
    };
    let models = vec![can_see("blind", 9, false), can_see("seeing", 5, true), can_see("watching", 3, true)];
    let hub = installation().temporal_off().models(models).start().await;
    let plan = |strategy: &Value, capabilities: &Value| {
        json!({"request": {"messages": [{"role": "user", "content": "which colour?"}]},
            "strategy": strategy, "capabilities": capabilities})
    };
    let author = async |strategy: &Value, capabilities: &Value| {
        let answer = hub.post("/v1/plan", &plan(strategy, capabilities)).await.expect(200);
        answer.body["negotiated_model"].as_str().unwrap().to_owned()
    };
    let single = json!({"type": "single"});
    assert_eq!(author(&single, &Value::Null).await, "blind");
    assert_eq!(author(&single, &json!(["vision"])).await, "seeing");
    assert_eq!(author(&single, &json!({"vision": true})).await, "seeing");
    assert_eq!(author(&single, &json!({"vision": false})).await, "blind");
    assert_eq!(author(&json!({"type": "refine", "rounds": 1}), &json!(["vision"])).await, "seeing");
    let vote = plan(&json!({"type": "vote", "voters": 2, "method": "majority"}), &json!(["vision"]));
    let voted = hub.post("/v1/plan", &vote).await.expect(200);
    assert!(!voted.text.contains("blind"), "{}", voted.text);
    let named = plan(&json!({"type": "single", "model": "blind"}), &json!(["vision"]));
    hub.post("/v1/plan", &named).await.expect(400);
    for (capabilities, param) in [
        (json!(["sight"]), "capabilities.sight"),
        (json!({"vision": "yes"}), "capabilities.vision"),
        (json!("vision"), "capabilities"),
    ] {
        let refused = hub.post("/v1/plan", &plan(&single, &capabilities)).await.expect(400);
        assert_eq!(refused.body["param"], param, "{}", refused.text);
    }
    hub.finish(Disturbance::None).await;
}
