//! A plan goes on from a step of an earlier one: what came before is kept, under its author's name, and costs nothing.

use std::time::Duration;

use serde_json::{Value, json};
use tokenhub_demo::{Reply, Rule};

use crate::harness::{Answer, Disturbance, TestHub, TestHubBuilder, eventually, model};

const PATIENCE: Duration = Duration::from_secs(30);

fn installation() -> TestHubBuilder {
    let models = ["m1", "m2", "m3", "m4"].iter().zip([9, 8, 7, 6]);
    TestHub::builder()
        .models(models.map(|(id, weight)| model(id, weight)).collect())
        .environment("TOKENHUB_START_DEADLINE_MS", "15000")
        .environment("TOKENHUB_LIVE_SIGNALS", "false")
}

fn plan(strategy: &Value) -> Value {
    json!({"request": {"messages": [{"role": "user", "content": "Plan a picnic."}]}, "strategy": strategy})
}

async fn fork(hub: &TestHub, of: &Value, body: &Value) -> Answer {
    hub.post(&format!("/v1/plan/{}/fork", of["id"].as_str().unwrap()), body).await
}

fn step_ids(plan: &Value) -> Vec<&str> {
    plan["steps"].as_array().unwrap().iter().map(|step| step["id"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_before_is_kept_and_only_the_rest_is_bought() {
    for hub in [installation().start().await, installation().temporal_off().start().await] {
        let says = |text: &str| Rule::any([Reply::text(text)]);
        hub.provider.script(says("first"));
        let two_rounds = json!({"type": "adversarial", "rounds": 2, "model": "m1", "critic_model": "m2"});
        let first = hub.post("/v1/plan", &plan(&two_rounds)).await.expect(200).body;
        let ids = ["plan", "critique/1", "revision/1", "critique/2", "revision/2"];
        assert_eq!((step_ids(&first), hub.provider.count()), (ids.to_vec(), 5));

        hub.provider.script(says("second"));
        let body = json!({"from_step": "revision/1", "model": "m3"});
        let forked = fork(&hub, &first, &body).await.expect(200).body;
        assert_eq!(hub.provider.count(), 5 + 3, "plan and critique/1 are kept: {forked}");
        assert_eq!((step_ids(&forked), &forked["usage"]["calls"]), (ids.to_vec(), &json!(3)));
        assert_ne!(forked["id"], first["id"]);
        assert_eq!(forked["response"]["initial_plan"], "first");
        assert_eq!(forked["response"]["refined_plan"], "second");
        for (place, (model, kept)) in [("m1", true), ("m2", true), ("m3", false)].iter().enumerate() {
            let step = &forked["steps"][place];
            assert_eq!((&step["model"], step.get("kept").is_some()), (&json!(model), *kept), "{step}");
            assert_eq!(step["cost_usd"] == 0.0, *kept, "{step}");
        }
        // The critic of the second round reads the new revision.
        assert!(hub.provider.calls().last().unwrap().last_text().contains("second"));

        // A fork of a fork keeps what both have paid for.
        hub.provider.script(says("third"));
        let again = fork(&hub, &forked, &json!({"from_step": "revision/2"})).await.expect(200).body;
        assert_eq!(hub.provider.count(), 9);
        let rounds = &again["response"]["rounds"];
        assert_eq!((&rounds[0]["refined_plan"], &rounds[1]["refined_plan"]), (&json!("second"), &json!("third")));
        assert_eq!(again["response"]["initial_plan"], "first");
        hub.finish(Disturbance::None).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_judge_reads_the_same_ballots_and_another_conversation_changes_only_what_follows() {
    let hub = installation().start().await;
    for (model, text) in [("m1", "one"), ("m2", "two"), ("m3", "three")] {
        hub.provider.script(Rule::model(model, [Reply::text(text)]).containing("picnic"));
    }
    hub.provider.script(Rule::any([Reply::judge_by("one")]).containing("impartial judge"));
    let vote = json!({"type": "vote", "voters": 3, "judge_model": "m4"});
    let first = hub.post("/v1/plan", &plan(&vote)).await.expect(200).body;
    assert_eq!(first["negotiated_model"], "m1");
    let before = hub.provider.count();
    hub.provider.script(Rule::any([Reply::judge_by("three")]).containing("impartial judge"));
    let body = json!({"from_step": "judge", "judge_model": "m2",
        "messages": [{"role": "user", "content": "Plan a picnic in the rain."}]});
    let forked = fork(&hub, &first, &body).await.expect(200).body;
    assert_eq!(hub.provider.count() - before, 1, "{forked}");
    assert_eq!((&forked["negotiated_model"], &forked["response"]["judge"]), (&json!("m3"), &json!("m2")));
    assert!(hub.provider.calls().last().unwrap().last_text().contains("in the rain"));
    let read = hub.get(&format!("/v1/plan/{}", forked["id"].as_str().unwrap())).await.unwrap().expect(200);
    assert_eq!(read.body, forked);
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_verdict_stays_about_the_pair_that_it_was_given_for_and_bounds_stay_too() {
    let hub = installation().temporal_off().start().await;
    for (model, text) in [("m1", "one"), ("m2", "two"), ("m3", "three")] {
        hub.provider.script(Rule::model(model, [Reply::text(text)]).containing("picnic"));
    }
    let judge = |best: &str| Rule::any([Reply::judge_by(best)]).containing("impartial judge");
    hub.provider.script(judge("three"));
    let pairs = json!({"type": "best_of_n", "candidates": 3, "method": "pairwise", "judge_model": "m4"});
    let mut body = plan(&pairs);
    body["bounds"] = json!({"max_calls": 7});
    let first = hub.post("/v1/plan", &body).await.expect(200).body;
    assert_eq!((&first["negotiated_model"], &first["usage"]["calls"]), (&json!("m3"), &json!(7)), "{first}");
    let matches = |plan: &Value| plan["response"]["matches"].clone();
    for _ in 0..4 {
        let forked = fork(&hub, &first, &json!({"from_step": "judge/2/ab"})).await.expect(200).body;
        assert_eq!((matches(&forked), &forked["usage"]["calls"]), (matches(&first), &json!(2)), "{forked}");
        assert_eq!(forked["negotiated_model"], "m3");
    }
    // What is said about an answer that is written anew is not kept.
    let again = fork(&hub, &first, &json!({"from_step": "candidate/3", "bounds": {"max_calls": 3}})).await;
    let again = again.expect(200).body;
    assert_eq!((&again["stop_reason"], &again["usage"]["calls"]), (&json!("budget_exhausted"), &json!(3)), "{again}");
    let mut single = plan(&json!({"type": "single", "model": "m1"}));
    single["bounds"] = json!({"max_calls": 1});
    let single = hub.post("/v1/plan", &single).await.expect(200).body;
    hub.provider.script(Rule::any([Reply::failure(500, "out of order")]).containing("picnic"));
    let before = hub.provider.count();
    fork(&hub, &single, &json!({"from_step": "answer"})).await.expect(402);
    assert_eq!(hub.provider.count() - before, 1, "the first plan's limit holds for its fork");
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fork_that_cannot_be_made_says_why() {
    let hub = installation().temporal_off().start().await;
    let first = hub.post("/v1/plan", &plan(&json!({"type": "vote", "voters": 2, "method": "majority"}))).await;
    let first = first.expect(200).body;
    for (body, param) in [
        (json!({}), "from_step"),
        (json!({"from_step": 3}), "from_step"),
        (json!({"from_step": "judge"}), "from_step"),
        (json!({"from_step": "ballot/2", "model": "m1"}), "model"),
        (json!({"from_step": "ballot/2", "judge_model": "m1"}), "judge_model"),
        (json!({"from_step": "ballot/2", "step": 1}), "step"),
        (json!({"from_step": "ballot/2", "messages": []}), "messages"),
        (json!({"from_step": "ballot/2", "bounds": {"max_calls": 0}}), "bounds.max_calls"),
    ] {
        let refused = fork(&hub, &first, &body).await.expect(400);
        assert_eq!(refused.body["param"], param, "{}", refused.text);
    }
    let schema = json!({"type": "object"});
    hub.provider.script(Rule::any([Reply::text("{}")]));
    for (strategy, step, param) in [
        (json!({"type": "cascade", "check": "schema", "output_schema": schema}), "stage/1", "judge_model"),
        (json!({"type": "adversarial", "plan_only": true}), "plan", "judge_model"),
        (json!({"type": "refine", "rounds": 1}), "answer", "judge_model"),
        (json!({"type": "best_of_n", "models": ["m1", "m2"]}), "candidate/1", "model"),
    ] {
        let first = hub.post("/v1/plan", &plan(&strategy)).await.expect(200).body;
        let calls = hub.provider.count();
        let refused = fork(&hub, &first, &json!({"from_step": step, param: "m3"})).await.expect(400);
        assert_eq!((&refused.body["param"], hub.provider.count()), (&json!(param), calls), "{}", refused.text);
    }
    hub.post("/v1/plan/plan_unknown/fork", &json!({"from_step": "judge"})).await.expect(404);
    hub.provider.script(Rule::any([Reply::hang()]));
    let before = hub.provider.count();
    let mut running = plan(&json!({"type": "single"}));
    running["background"] = json!(true);
    let running = hub.post("/v1/plan", &running).await.expect(202).body;
    eventually("the running one calls", PATIENCE, || async { (hub.provider.count() > before).then_some(()) }).await;
    let early = fork(&hub, &running, &json!({"from_step": "answer"})).await.expect(409);
    assert_eq!(early.body["code"], "run_not_finished", "{}", early.text);
    hub.post(&format!("/v1/plan/{}/cancel", running["id"].as_str().unwrap()), &json!({})).await.expect(200);
    hub.finish(Disturbance::None).await;
}
