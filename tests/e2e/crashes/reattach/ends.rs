//! How responses in the background end while nobody dies: withdrawn, failed, looked at through an outage, and read by
//! clients of every protocol.

use serde_json::{Value, json};
use tokenhub_demo::{Finished, Reply, Rule, SeenCall};

use super::{PATIENCE, at_work, fields, steps_of, wait_until_looked_at};
use crate::{
    harness::{Disturbance, TestHub, eventually},
    scripted::{Case, REFINE, installation_in_background},
};

async fn both_ways() -> [TestHub; 2] {
    [installation_in_background().start().await, installation_in_background().temporal_off().start().await]
}

fn plan(strategy: &Value, more: &Value) -> Value {
    let mut body = json!({
        "request": {"messages": [{"role": "user", "content": "which colour?"}]}, "strategy": strategy,
    });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

/// Waits until the provider was told that nobody wants so many of its responses.
async fn wait_until_withdrawn(hub: &TestHub, count: usize) {
    eventually("the provider is told", PATIENCE, || async {
        (hub.provider.count_where(|call| call.finished == Finished::Aborted) == count).then_some(())
    })
    .await;
    let is_told = |look: &&SeenCall| look.method == "POST" && look.path.ends_with("/cancel");
    assert_eq!(hub.provider.looks().iter().filter(is_told).count(), count);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_that_is_cancelled_withdraws_its_response_at_the_provider() {
    for hub in both_ways().await {
        hub.provider.script(Rule::any([Reply::hang()]));
        let body = plan(&json!({"type": "refine", "rounds": 1, "model": "alpha"}), &json!({"background": true}));
        let begun = hub.post("/v1/plan", &body).await.expect(202);
        eventually("the response is looked at", PATIENCE, || async { hub.provider.looks().first().map(|_| ()) }).await;
        let path = format!("/v1/plan/{}/cancel", begun.body["id"].as_str().unwrap());
        let cancelled = hub.post(&path, &json!({})).await;
        wait_until_withdrawn(&hub, 1).await;
        let plan = hub.get(path.trim_end_matches("/cancel")).await.unwrap().expect(200);
        assert_eq!(plan.body["status"], "cancelled", "{}", cancelled.text);
        let steps = steps_of(&hub, &begun, 1).await;
        assert_eq!(
            (fields(&steps, "state"), fields(&steps, "error_class")),
            (vec![&json!("void")], vec![&json!("cancelled")])
        );
        hub.finish(Disturbance::None).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_voter_that_nobody_waits_for_is_withdrawn_at_the_provider() {
    for hub in both_ways().await {
        hub.provider.script(Rule::any([Reply::text("red")]));
        hub.provider.script(Rule::model("gamma", [Reply::hang()]));
        let strategy = json!({"type": "vote", "voters": 3, "method": "majority", "stop": "decided"});
        let answer = hub.post("/v1/plan", &plan(&strategy, &json!({}))).await.expect(200);
        assert_eq!(answer.body["response"]["calls_withdrawn"], 1, "{}", answer.text);
        wait_until_withdrawn(&hub, 1).await;
        hub.finish(Disturbance::None).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_is_out_of_time_withdraws_its_response_and_the_next_model_is_asked() {
    let hub = installation_in_background().start().await;
    hub.provider.script(Rule::any([Reply::text("red")]));
    hub.provider.script(Rule::model("alpha", [Reply::hang()]));
    let body = plan(&json!({"type": "single"}), &json!({"bounds": {"step_timeout_ms": 4_000}}));
    let answer = hub.post("/v1/plan", &body).await.expect(200);
    assert_ne!(answer.body["negotiated_model"], "alpha", "{}", answer.text);
    wait_until_withdrawn(&hub, 1).await;
    let steps = steps_of(&hub, &answer, 2).await;
    assert_eq!(fields(&steps, "error_class"), [&json!("step_deadline"), &Value::Null], "{steps:#}");
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn looks_that_fail_are_repeated_and_cost_no_call() {
    let hub = installation_in_background().start().await;
    let undisturbed = Case::new(&REFINE, 0).undisturbed(&hub).await;
    let case = Case::new(&REFINE, 1);
    case.script_stuck(&hub, &["improvement/1"]);
    let asked = case.ask(&hub);
    case.wait_until_in_flight(&hub, &["improvement/1"]).await;
    wait_until_looked_at(&hub, &at_work(&hub, case)).await;
    hub.provider.cut_looks(3);
    eventually("three looks were cut off", PATIENCE, || async {
        (hub.provider.looks().iter().filter(|look| look.finished == Finished::Cut).count() == 3).then_some(())
    })
    .await;
    hub.provider.end_responses();
    let answer = asked.await.unwrap().unwrap().answer.expect(200);
    assert_eq!(case.comparable(&answer), undisturbed);
    case.assert_calls(&hub, &answer, &[]);
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_response_that_fails_is_a_failed_try_like_any_other() {
    let hub = installation_in_background().environment("TOKENHUB_PENALTIES", "false").start().await;
    let error = json!({"code": "server_error", "message": "canary"});
    let failed = Reply::status(200, json!({"object": "response", "status": "failed", "error": error, "output": []}));
    hub.provider.script(Rule::model("alpha", [failed, Reply::text("red")]));
    let body = plan(&json!({"type": "refine", "rounds": 1, "model": "alpha"}), &json!({}));
    let answer = hub.post("/v1/plan", &body).await.expect(200);
    let first = &answer.body["steps"][0];
    assert_eq!((&first["attempts"], &first["duplicate_calls"]), (&json!(2), &json!(0)), "{}", answer.text);
    let steps = steps_of(&hub, &answer, 3).await;
    assert_eq!(fields(&steps, "state"), ["void", "settled", "settled"], "{steps:#}");
    assert_eq!(fields(&steps, "error_class")[0], "server_error");
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_every_protocol_read_an_ordinary_answer_and_its_usage() {
    for hub in both_ways().await {
        hub.provider.script(Rule::any([Reply::text("red").usage(7, 3).delay_ms(300)]));
        let turn = json!([{"role": "user", "content": "which colour?"}]);
        let chat = hub.post("/v1/chat/completions", &json!({"model": "alpha", "messages": turn})).await.expect(200);
        assert_eq!(chat.body["choices"][0]["message"]["content"], "red", "{}", chat.text);
        assert_eq!(chat.body["usage"]["prompt_tokens"], 7);
        let asked = json!({"model": "alpha", "max_tokens": 64, "messages": turn});
        let messages = hub.post("/v1/messages", &asked).await.expect(200);
        assert_eq!(messages.body["content"][0]["text"], "red", "{}", messages.text);
        let counted = |name: &str| messages.body["usage"][name].clone();
        assert_eq!((counted("input_tokens"), counted("output_tokens")), (json!(7), json!(3)), "{}", messages.text);
        let responses =
            hub.post("/v1/responses", &json!({"model": "alpha", "input": "which colour?"})).await.expect(200);
        assert_eq!(responses.body["output"][0]["content"][0]["text"], "red", "{}", responses.text);
        assert_eq!(responses.body["background"], false, "the caller waited: {}", responses.text);
        let begun = |call: &SeenCall| call.body["background"] == true && call.body["store"] == true;
        assert_eq!(hub.provider.count_where(begun), 3);
        hub.finish(Disturbance::None).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_not_be_stored_is_streamed_or_keeps_no_journal_is_answered_in_the_foreground() {
    let hub = installation_in_background().start().await;
    hub.provider.script(Rule::any([Reply::text("red")]));
    let stored_not = json!({"model": "alpha", "input": "which colour?", "store": false});
    hub.post("/v1/responses", &stored_not).await.expect(200);
    let chat = |more: Value| {
        let mut body = json!({"model": "alpha", "messages": [{"role": "user", "content": "which colour?"}]});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    hub.post("/v1/chat/completions", &chat(json!({"stream": true}))).await.expect(200);
    let none = [("x-tokenhub-durability", "none")];
    hub.post_with("/v1/chat/completions", &none, &chat(json!({}))).await.expect(200);
    assert_eq!((hub.provider.calls().len(), hub.provider.looks().len()), (3, 0));
    assert_eq!(hub.provider.count_where(|call| call.body["background"] == true), 0);
    hub.finish(Disturbance::None).await;
}
