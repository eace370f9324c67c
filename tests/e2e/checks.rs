//! Answers that something outside the models accepts: what ends a plan, what becomes of a verifier that is away, and
//! which verifiers are not asked at all.

use std::time::Duration;

use serde_json::{Value, json};
use tokenhub_demo::{Reply, Rule};

use crate::{
    evidence::Evidence,
    harness::{Answer, Disturbance, TestHub, TestHubBuilder, eventually, exchange, model},
    verifier::{Says, Verifier},
};

const PATIENCE: Duration = Duration::from_secs(40);
const DRAFTS: [&str; 4] = ["first draft", "second draft", "a good draft", "a better draft"];

fn installation() -> TestHubBuilder {
    TestHub::builder()
        .environment("TOKENHUB_START_DEADLINE_MS", "15000")
        .environment("TOKENHUB_LIVE_SIGNALS", "false")
        .environment("TOKENHUB_VERIFIER_HOSTS", "127.0.0.1")
        .environment("TOKENHUB_VERIFIER_TIMEOUT_MS", "1000")
}

fn plan(strategy: &Value) -> Value {
    json!({"request": {"messages": [{"role": "user", "content": "Write a draft."}]}, "strategy": strategy})
}

fn refine(check: &Value, rounds: u64) -> Value {
    plan(&json!({"type": "refine", "rounds": rounds, "model": "alpha", "check": check}))
}

/// Every model writes the drafts in their order.
fn drafts(hub: &TestHub) {
    hub.provider.script(Rule::any(DRAFTS.map(Reply::text)));
}

async fn ask(hub: &TestHub, body: &Value) -> Answer {
    hub.post("/v1/plan", body).await.expect(200)
}

/// Steps that were checked, and whether they passed.
fn checks(answer: &Answer) -> Vec<(String, bool)> {
    let checks = answer.body["response"]["checks"].as_array().unwrap().iter();
    checks.map(|it| (it["step"].as_str().unwrap().to_owned(), it["passed"].as_bool().unwrap())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_answer_that_passes_ends_the_plan_and_the_feedback_goes_into_the_next_round() {
    for hub in [installation().start().await, installation().temporal_off().start().await] {
        let verifier = Verifier::start([]).await;
        drafts(&hub);
        let answer = ask(&hub, &refine(&verifier.check(), 5)).await;
        assert_eq!(
            (&answer.body["status"], &answer.body["stop_reason"]),
            (&json!("completed"), &json!("check_passed"))
        );
        assert_eq!(answer.body["response"]["refined_response"], "a good draft");
        let expected = [("answer", false), ("improvement/1", false), ("improvement/2", true)];
        assert_eq!(checks(&answer), expected.map(|(step, passed)| (step.to_owned(), passed)));
        assert_eq!((&answer.body["response"]["check"]["passed"], hub.provider.count()), (&json!(true), 3));
        let told = hub.provider.calls()[1].body.to_string();
        assert!(told.contains("say good"), "{told}");
        let heard = verifier.heard();
        assert_eq!(
            heard[0],
            json!({"plan_id": answer.body["id"], "step": "answer", "answer": "first draft"}),
            "that and no more"
        );
        // The rounds are used up.
        drafts(&hub);
        let answer = ask(&hub, &refine(&verifier.check(), 1)).await;
        assert_eq!(answer.body["stop_reason"], "max_rounds", "{}", answer.text);
        assert_eq!(answer.body["response"]["check"]["passed"], false);
        hub.finish(Disturbance::None).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pattern_and_a_schema_are_checked_with_the_answer() {
    let hub = installation().start().await;
    drafts(&hub);
    let answer = ask(&hub, &refine(&json!({"type": "regex", "pattern": "^a good .*t$"}), 5)).await;
    assert_eq!((&answer.body["stop_reason"], hub.provider.count()), (&json!("check_passed"), 3), "{}", answer.text);
    assert!(hub.provider.calls()[1].body.to_string().contains("regular expression"));
    let texts = ["none", "{\"colour\": 3}", "Here: ```json\n{\"colour\": \"blue\"}\n```"];
    hub.provider.script(Rule::any(texts.map(Reply::text)));
    let schema = json!({"type": "object", "properties": {"colour": {"type": "string"}}, "required": ["colour"]});
    let strategy = json!({"type": "adversarial", "rounds": 3, "model": "alpha", "critic_model": "beta",
        "check": {"type": "schema"}, "output_schema": schema});
    hub.provider.script(Rule::model("beta", [Reply::text("It is wrong.")]));
    let answer = ask(&hub, &plan(&strategy)).await;
    assert_eq!(answer.body["stop_reason"], "check_passed", "{}", answer.text);
    assert_eq!(answer.body["response"]["refined_plan"], "{\"colour\": \"blue\"}");
    assert_eq!((&answer.body["response"]["iterations"], &answer.body["usage"]["calls"]), (&json!(2), &json!(5)));
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_passes_first_is_the_answer_and_else_a_judge_decides() {
    let hub = installation().start().await;
    let verifier = Verifier::start([]).await;
    drafts(&hub);
    let best = |more: &Value| {
        let mut strategy = json!({"type": "best_of_n", "candidates": 4, "model": "alpha", "judge_model": "beta",
            "parallelism": 1, "stop": "first_pass", "check": verifier.check()});
        strategy.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        plan(&strategy)
    };
    let answer = ask(&hub, &best(&json!({}))).await;
    let response = &answer.body["response"];
    assert_eq!((&answer.body["stop_reason"], &response["decision"]), (&json!("check_passed"), &json!("check")));
    assert_eq!((&response["selected"], &response["calls_avoided"]), (&json!(2), &json!(1)), "{}", answer.text);
    assert_eq!((&response["check"]["passed"], hub.provider.count()), (&json!(true), 3));
    drafts(&hub);
    hub.provider.script(Rule::model("beta", [Reply::text("{\"scores\": [10, 90]}")]));
    let answer = ask(&hub, &best(&json!({"candidates": 2}))).await;
    let response = &answer.body["response"];
    assert_eq!((&answer.body["stop_reason"], &response["decision"]), (&json!("decided"), &json!("judge")));
    assert_eq!(
        (&response["check"]["passed"], &response["responses"][0]["check"]["passed"]),
        (&json!(false), &json!(false))
    );
    let report = &answer.body["judge_report"];
    assert_eq!((&report["judge"], &report["same_family"], &report["ties"]), (&json!("beta"), &json!([]), &json!(0)));
    // All at once: whoever is slow is withdrawn.
    hub.provider.script(Rule::model("alpha", [Reply::text("too late").delay_ms(20_000)]));
    hub.provider.script(Rule::model("beta", [Reply::text("a good one")]));
    let vote = json!({"type": "vote", "models": ["alpha", "beta"], "method": "majority", "stop": "first_pass",
        "check": verifier.check()});
    let answer = ask(&hub, &plan(&vote)).await;
    assert!(answer.took < Duration::from_secs(10), "{:?}", answer.took);
    let response = &answer.body["response"];
    assert_eq!((&response["calls_withdrawn"], &response["responses"][0]["model"]), (&json!(1), &json!("beta")));
    eventually("the slow one is cut off", PATIENCE, || async {
        let cut = hub.provider.count_where(|call| call.finished == tokenhub_demo::Finished::Aborted);
        (cut == 1).then_some(())
    })
    .await;
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_verifier_that_fails_has_not_accepted_and_the_plan_goes_on() {
    let hub = installation().start().await;
    let elsewhere = Verifier::start([]).await;
    let redirect = Says::Redirect(elsewhere.check()["url"].as_str().unwrap().to_owned());
    let large = Says::Json(json!({"pass": true, "more": "x".repeat(100_000)}));
    for (replies, asked, error) in [
        (vec![Says::Text("yes".to_owned())], 1, "is not {\"pass\""),
        (vec![Says::Json(json!({"pass": "true"}))], 1, "is not {\"pass\""),
        (vec![Says::Status(403)], 1, "403"),
        (vec![redirect], 1, "307"),
        (vec![large], 1, "larger"),
        (vec![Says::Status(503), Says::Status(500), Says::Status(503)], 3, "503"),
        (vec![Says::Hangs, Says::Hangs, Says::Hangs], 3, "in time"),
    ] {
        let verifier = Verifier::start(replies.clone()).await;
        drafts(&hub);
        let answer = ask(&hub, &refine(&verifier.check(), 2)).await;
        let check = &answer.body["response"]["checks"][0];
        assert_eq!((&check["passed"], verifier.heard().len()), (&json!(false), asked + 2), "{replies:?}");
        assert!(check["check_error"].as_str().unwrap().contains(error), "{replies:?}: {check}");
        assert_eq!(answer.body["stop_reason"], "check_passed", "the third draft is good: {}", answer.text);
    }
    assert!(elsewhere.heard().is_empty(), "a redirect is not followed");
    // One that comes back in time is asked again.
    let verifier = Verifier::start([Says::Status(503), Says::Json(json!({"pass": true, "score": 0.75}))]).await;
    drafts(&hub);
    let answer = ask(&hub, &refine(&verifier.check(), 2)).await;
    assert_eq!((&answer.body["response"]["check"]["score"], verifier.heard().len()), (&json!(0.75), 2));
    // One that is not there at all.
    let gone = Verifier::start([]).await.check();
    drafts(&hub);
    let answer = ask(&hub, &refine(&gone, 1)).await;
    assert_eq!((&answer.body["status"], &answer.body["stop_reason"]), (&json!("completed"), &json!("max_rounds")));
    assert!(answer.body["response"]["check"]["check_error"].as_str().unwrap().contains("could not be asked"));
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_listed_hosts_are_asked_and_whatever_else_is_wrong_is_refused_by_name() {
    let unlisted = TestHub::builder().temporal_off().start().await;
    let url = json!({"type": "http", "url": "http://127.0.0.1:9/verify"});
    let refused = unlisted.post("/v1/plan", &refine(&url, 1)).await.expect(400);
    assert_eq!(refused.body["param"], "strategy.check.url", "{}", refused.text);
    assert!(refused.text.contains("TOKENHUB_VERIFIER_HOSTS"), "{}", refused.text);
    unlisted.finish(Disturbance::None).await;

    let hub = installation().temporal_off().start().await;
    for (url, param) in [
        ("http://10.0.0.1/verify", "strategy.check.url"),
        ("http://localhost:80/verify", "strategy.check.url"),
        ("https://verify.example/", "strategy.check.url"),
        ("http://169.254.169.254/latest", "strategy.check.url"),
        ("http://me:word@127.0.0.1/", "strategy.check.url"),
    ] {
        let refused = hub.post("/v1/plan", &refine(&json!({"type": "http", "url": url}), 1)).await.expect(400);
        assert_eq!(refused.body["param"], param, "{url}");
        let estimated =
            hub.post("/v1/plan/estimate", &refine(&json!({"type": "http", "url": url}), 1)).await.expect(400);
        assert_eq!(estimated.body["param"], param, "{url}");
    }
    for (check, param) in [
        (json!({"type": "regex", "pattern": "("}), "strategy.check.pattern"),
        (json!({"type": "regex", "pattern": "a".repeat(1_001)}), "strategy.check.pattern"),
        (json!({"type": "schema"}), "strategy.check"),
        (json!("judge"), "strategy.check"),
    ] {
        let refused = hub.post("/v1/plan", &refine(&check, 1)).await.expect(400);
        assert_eq!(refused.body["param"], param, "{}", refused.text);
    }
    assert_eq!(hub.provider.count(), 0);
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_dies_while_the_verifier_thinks_buys_nothing_again() {
    let mut hub = installation().start().await;
    let verifier = Verifier::start([Says::Json(json!({"pass": false})), Says::Hangs]).await;
    drafts(&hub);
    let request = hub.request(reqwest::Method::POST, "/v1/plan").json(&refine(&verifier.check(), 3));
    let asked = tokio::spawn(exchange(request));
    eventually("the verifier is asked a second time", PATIENCE, || async {
        (verifier.heard().len() == 2).then_some(())
    })
    .await;
    for worker in &mut hub.workers {
        worker.kill();
    }
    hub.workers.clear();
    hub.start_worker(&[]);
    let answer = asked.await.unwrap().unwrap().expect(200);
    assert_eq!((&answer.body["stop_reason"], &answer.body["durable"]), (&json!("check_passed"), &json!(true)));
    assert_eq!(hub.provider.count(), 3, "each step is one call: {}", answer.text);
    assert_eq!(
        (&answer.body["usage"]["duplicate_calls"], &answer.body["usage"]["wasted_tokens"]),
        (&json!(0), &json!(0))
    );
    let steps: Vec<String> = verifier.heard().iter().map(|it| it["step"].as_str().unwrap().to_owned()).collect();
    assert!(steps.len() >= 4 && steps[1] == steps[2], "what nobody heard the end of is asked again: {steps:?}");
    let _rows = Evidence::of(&hub).await.ended(3).await;
    hub.finish(Disturbance::Kills).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_late_for_a_vote_is_waited_for_so_long_and_withdrawn() {
    for hub in [installation().start().await, installation().temporal_off().start().await] {
        hub.provider.script(Rule::any([Reply::text("red")]));
        hub.provider.script(Rule::model("beta", [Reply::text("blue").delay_ms(30_000)]));
        let vote = json!({"type": "vote", "voters": 3, "method": "majority", "min_success": 2, "grace_ms": 300});
        let answer = ask(&hub, &plan(&vote)).await;
        assert!(answer.took < Duration::from_secs(15), "{:?}", answer.took);
        assert_eq!(answer.body["status"], "completed", "{}", answer.text);
        let response = &answer.body["response"];
        assert_eq!((&response["calls_withdrawn"], &response["tally"]), (&json!(1), &json!([[0, 1]])));
        // Two of three fail, and two are needed.
        hub.provider.script(Rule::any([Reply::error(400, "invalid", "no")]));
        hub.provider.script(Rule::model("beta", [Reply::text("blue")]));
        let failed = hub.post("/v1/plan", &plan(&vote)).await;
        assert_eq!((&failed.body["run_status"], failed.body["steps"].as_array().unwrap().len()), (&json!("failed"), 3));
        hub.finish(Disturbance::None).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_judge_is_of_another_vendor_where_there_is_one_and_the_report_names_relatives() {
    let models = vec![model("gpt-a", 9), model("gpt-b", 8), model("claude-c", 1)];
    let hub = installation().models(models).temporal_off().start().await;
    hub.provider.script(Rule::any([Reply::text("an answer")]));
    hub.provider.script(Rule::any([Reply::text("{\"scores\": [50, 50]}")]).containing("impartial judge"));
    let best = |more: &Value| {
        let mut strategy = json!({"type": "best_of_n", "candidates": 2, "model": "gpt-a"});
        strategy.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        plan(&strategy)
    };
    for (more, judge, family, relatives) in [
        (json!({}), "claude-c", "anthropic", json!([])),
        (json!({"judge_model": "gpt-b"}), "gpt-b", "openai", json!(["gpt-a"])),
        (json!({"judge_min_weight": 5}), "gpt-b", "openai", json!(["gpt-a"])),
    ] {
        let answer = ask(&hub, &best(&more)).await;
        let report = &answer.body["judge_report"];
        let expected =
            json!({"judge": judge, "family": family, "same_family": relatives, "order_flips": null, "ties": 1});
        assert_eq!(*report, expected, "{more}");
    }
    hub.finish(Disturbance::None).await;
}
