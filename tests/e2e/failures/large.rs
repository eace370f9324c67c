//! Answers of 3 MB: paid once, returned whole, and nowhere near a workflow's history.

use serde_json::{Value, json};
use tokenhub_demo::{Reply, Rule};

use super::{EXECUTORS, called, chat, installation};
use crate::harness::{Answer, Disturbance, Operator, TestHub};

const BYTES: usize = 3_000_000;
/// Temporal's own warning for a single payload; here it bounds the whole history.
const HISTORY_BYTES_MAX: usize = 256 * 1024;

#[track_caller]
fn assert_whole(text: &Value) {
    let text = text.as_str().unwrap();
    assert_eq!(text.len(), BYTES);
    assert!(text.starts_with("A long answer, line after line of it"));
}

async fn assert_short_history(hub: &TestHub, answer: &Answer) {
    let operator = Operator::connect(&hub.temporal).await;
    let history = operator.history_json(answer.header("x-tokenhub-workflow-id")).await.len();
    assert!(history < HISTORY_BYTES_MAX, "the history has {history} bytes");
    println!("the history of an answer with {} bytes has {history}", answer.text.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chat_of_3_mb_is_one_call_and_stays_out_of_the_history() {
    let hub = installation().start().await;
    hub.provider.script(Rule::model("alpha", [Reply::big(BYTES)]));
    for executor in EXECUTORS {
        let headers = [("x-tokenhub-durability", executor)];
        let answer = hub.post_with("/v1/chat/completions", &headers, &chat(Some("alpha"), executor)).await.expect(200);
        assert_whole(&answer.body["choices"][0]["message"]["content"]);
        assert_eq!(called(&hub, executor), ["alpha"]);
        if executor == "preferred" {
            assert_short_history(&hub, &answer).await;
            let run = hub.get(&format!("/v1/plan/{}", answer.header("x-tokenhub-run-id"))).await.unwrap().expect(200);
            assert_whole(&run.body["response"]["choices"][0]["message"]["content"]);
        }
    }
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_voter_a_planner_and_a_request_of_3_mb_are_carried_by_reference() {
    let hub = installation().start().await;
    hub.provider.script(Rule::model("alpha", [Reply::big(BYTES), Reply::text("better")]).containing("(plan)"));
    hub.provider.script(Rule::model("alpha", [Reply::big(BYTES)]).containing("(vote)"));
    hub.provider.script(Rule::model("gamma", [Reply::judge_by("A long answer")]).containing("(vote)"));
    let request = |tag: &str| json!({"messages": [{"role": "user", "content": format!("a question ({tag})")}]});

    let vote = json!({"request": request("vote"), "orchestration": {"mode": "vote", "voters": 2}});
    let answer = hub.post("/v1/plan", &vote).await.expect(200);
    assert_eq!((&answer.body["status"], &answer.body["response"]["selected"]), (&json!("completed"), &json!(0)));
    assert_whole(&answer.body["response"]["responses"][0]["content"]);
    let mut voters = called(&hub, "vote");
    voters.sort();
    assert_eq!(voters, ["alpha", "beta", "gamma"]);
    assert_short_history(&hub, &answer).await;

    let plan = json!({"request": request("plan"), "orchestration": {"mode": "adversarial", "review_model_id": "beta"}});
    let answer = hub.post("/v1/plan", &plan).await.expect(200);
    assert_whole(&answer.body["response"]["initial_plan"]);
    assert_eq!(answer.body["response"]["refined_plan"], "better");
    assert_eq!(called(&hub, "plan"), ["alpha", "beta", "alpha"]);
    assert_short_history(&hub, &answer).await;

    let mut long = chat(Some("gamma"), "long");
    long["messages"][0]["content"] = format!("(long) {}", "x".repeat(200_000)).into();
    let answer = hub.post("/v1/chat/completions", &long).await.expect(200);
    assert_eq!(answer.body["choices"][0]["message"]["content"], long["messages"][0]["content"]);
    assert_short_history(&hub, &answer).await;
    hub.finish(Disturbance::None).await;
}
