//! What a plan would come to is told before it runs, calls nobody, and holds: no run costs more than its worst case.

use std::time::Duration;

use serde_json::{Value, json};
use tokenhub_demo::{Reply, Rule};

use crate::{
    draw::Draw,
    harness::{Disturbance, TestHub, TestHubBuilder, model},
    verifier::{Says, Verifier},
};

/// Output tokens that every request allows.
const OUTPUT_TOKENS: u64 = 64;
/// Rounds over all strategies, each with other answers.
const ROUNDS: u64 = 2;

fn installation() -> TestHubBuilder {
    let models = ["m1", "m2", "m3", "m4"].iter().zip([9, 8, 7, 6]);
    TestHub::builder()
        .models(models.map(|(id, weight)| model(id, weight)).collect())
        .temporal_off()
        .environment("TOKENHUB_LIVE_SIGNALS", "false")
        .environment("TOKENHUB_PENALTIES", "false")
        .environment("TOKENHUB_VERIFIER_HOSTS", "127.0.0.1")
}

fn plan(strategy: &Value) -> Value {
    let messages = json!([{"role": "user", "content": "Which colour has the sky at noon?"}]);
    json!({"request": {"messages": messages, "parameters": {"max_tokens": OUTPUT_TOKENS}}, "strategy": strategy})
}

fn strategies(check: &Value) -> Vec<Value> {
    let schema = json!({"type": "object", "required": ["colour"]});
    vec![
        json!({"type": "single"}),
        json!({"type": "single", "output_schema": schema}),
        json!({"type": "vote", "voters": 3}),
        json!({"type": "vote", "voters": 4, "method": "majority"}),
        json!({"type": "vote", "voters": 4, "method": "weighted"}),
        json!({"type": "vote", "voters": 4, "method": "majority", "stop": "decided", "parallelism": 1}),
        json!({"type": "vote", "voters": 4, "method": "majority", "stop": {"margin": 2}, "parallelism": 2}),
        json!({"type": "best_of_n", "candidates": 3}),
        json!({"type": "best_of_n", "candidates": 3, "method": "pairwise"}),
        json!({"type": "refine", "rounds": 2}),
        json!({"type": "refine", "rounds": 1, "output_schema": schema}),
        json!({"type": "adversarial", "rounds": 2}),
        json!({"type": "cascade", "models": ["m4", "m1"]}),
        json!({"type": "cascade", "stages": 3}),
        json!({"type": "cascade", "check": "schema", "output_schema": schema}),
        json!({"type": "fuse", "panel": 3, "min_success": 2}),
        json!({"type": "fuse", "models": ["m2", "m3"], "grace_ms": 5}),
        json!({"type": "refine", "rounds": 2, "check": check}),
        json!({"type": "refine", "rounds": 2, "check": {"type": "regex", "pattern": "^(red|blue)$"}}),
        json!({"type": "refine", "rounds": 2, "check": {"type": "schema"}, "output_schema": schema}),
        json!({"type": "adversarial", "rounds": 2, "check": check}),
        json!({"type": "adversarial", "rounds": 1, "check": {"type": "schema"}, "output_schema": schema}),
        json!({"type": "best_of_n", "candidates": 4, "stop": "first_pass", "parallelism": 1, "check": check}),
        json!({"type": "best_of_n", "models": ["m1", "m3"], "method": "pairwise", "stop": "first_pass", "check": check}),
        json!({"type": "vote", "voters": 3, "stop": "first_pass", "check": {"type": "regex", "pattern": "blue"}}),
        json!({"type": "vote", "models": ["m4", "m2"], "method": "majority", "min_success": 2, "grace_ms": 5_000}),
        // The next one is asked after a failure only: a call that is withdrawn before it left would be counted and not seen.
        json!({"type": "hedge", "after_ms": 20_000}),
    ]
}

/// Answers that differ from round to round and not from run to run.
fn reply(draw: &mut Draw) -> Reply {
    match draw.below(8) {
        0 => Reply::failure(500, "out of order"),
        1 => Reply::text(r#"{"winner": 1}"#).usage(draw.below(60), draw.below(OUTPUT_TOKENS)),
        2 => Reply::text(r#"{"colour": "blue"}"#).usage(60, OUTPUT_TOKENS),
        3 => Reply::text(r#"{"scores": [1, 2, 3]}"#).usage(60, OUTPUT_TOKENS),
        _ => Reply::text(["red", "blue", "green"][draw.place(3)]).usage(draw.below(60), draw.below(OUTPUT_TOKENS + 1)),
    }
}

fn sums(object: &Value) -> (u64, u64, f64) {
    let tokens = object
        .get("tokens")
        .and_then(Value::as_u64)
        .unwrap_or_else(|| object["input_tokens"].as_u64().unwrap() + object["output_tokens"].as_u64().unwrap());
    (object["calls"].as_u64().unwrap(), tokens, object["cost_usd"].as_f64().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn no_run_of_any_strategy_comes_to_more_than_its_worst_case() {
    let hub = installation().start().await;
    // It says no more often than yes, and always at length.
    let verifier = Verifier::start([]).await;
    verifier
        .then((0..200).map(|number| Says::Json(json!({"pass": number % 4 == 3, "feedback": "\u{e9} ".repeat(2_000)}))));
    let mut draw = Draw::of(20_261_126);
    let mut closest: f64 = 0.0;
    for _ in 0..ROUNDS {
        for strategy in strategies(&verifier.check()) {
            let before = hub.provider.count();
            let estimate = hub.post("/v1/plan/estimate", &plan(&strategy)).await.expect(200).body;
            assert_eq!(hub.provider.count(), before, "an estimate calls nobody");
            hub.provider.script(Rule::any((0..40).map(|_| reply(&mut draw)).collect::<Vec<_>>()));
            let ran = hub.post("/v1/plan", &plan(&strategy)).await;
            let usage = &ran.body["usage"];
            let (most, used) = (sums(&estimate["worst_case"]), sums(usage));
            assert_eq!(used.0, hub.provider.count() - before, "{strategy}: {}", ran.text);
            assert!(used.0 <= most.0 && used.1 <= most.1 && used.2 <= most.2, "{strategy}: {used:?} of {most:?}");
            let expected = sums(&estimate["expected"]);
            assert!(expected.0 <= most.0 && expected.1 <= most.1 && expected.2 <= most.2 && expected.0 > 0);
            closest = closest.max(used.2 / most.2);
        }
    }
    assert!(closest > 0.01, "the worst case is no guess at infinity: {closest}");
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_all_goes_well_the_expected_calls_are_those_that_are_made() {
    let hub = installation().start().await;
    let judged = r#"{"winner": 1, "scores": [3, 2, 1]}"#;
    for (strategy, steps) in [
        (json!({"type": "single"}), vec!["answer"]),
        (json!({"type": "vote", "voters": 3}), vec!["ballot/1", "ballot/2", "ballot/3", "judge"]),
        (
            json!({"type": "vote", "voters": 4, "method": "majority", "stop": "decided", "parallelism": 1}),
            vec!["ballot/1", "ballot/2", "ballot/3"],
        ),
        (json!({"type": "best_of_n", "candidates": 3}), vec!["candidate/1", "candidate/2", "candidate/3", "judge"]),
        (json!({"type": "adversarial", "rounds": 1}), vec!["plan", "critique/1", "revision/1"]),
        (json!({"type": "cascade", "models": ["m4", "m1"]}), vec!["stage/1", "check/1"]),
        (json!({"type": "fuse", "panel": 2}), vec!["panel/1", "panel/2", "judge", "fusion"]),
    ] {
        let estimate = hub.post("/v1/plan/estimate", &plan(&strategy)).await.expect(200).body;
        let expected: Vec<&str> = estimate["steps"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|step| !step["expected"].is_null())
            .map(|step| step["id"].as_str().unwrap())
            .collect();
        assert_eq!(expected, steps, "{estimate}");
        hub.provider.script(Rule::any([Reply::text("blue")]));
        hub.provider.script(Rule::any([Reply::text(judged)]).containing("impartial judge"));
        hub.provider.script(Rule::any([Reply::text(r#"{"accept": true}"#)]).containing("strict examiner"));
        let lists = r#"{"consensus": [], "contradictions": [], "gaps": []}"#;
        hub.provider.script(Rule::any([Reply::text(lists)]).containing("impartial analyst"));
        let ran = hub.post("/v1/plan", &plan(&strategy)).await.expect(200).body;
        let made: Vec<(&str, &str)> = named(&ran["steps"]);
        let thought: Vec<(&str, &str)> =
            named(&estimate["steps"]).into_iter().filter(|(id, _)| steps.contains(id)).collect();
        assert_eq!(made, thought, "{ran}");
        assert_eq!(estimate["expected"]["calls"], ran["usage"]["calls"]);
    }
    hub.finish(Disturbance::None).await;
}

fn named(steps: &Value) -> Vec<(&str, &str)> {
    let steps = steps.as_array().unwrap().iter();
    steps.map(|step| (step["id"].as_str().unwrap(), step["model"].as_str().unwrap())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_estimate_says_what_it_assumes_whether_it_fits_and_what_is_wrong() {
    let hub = installation().start().await;
    let mut body = plan(&json!({"type": "vote", "voters": 3}));
    let estimate = hub.post("/v1/plan/estimate", &body).await.expect(200);
    assert!(estimate.took < Duration::from_secs(3), "{:?}", estimate.took);
    assert_eq!((&estimate.body["within_bounds"], &estimate.body["first_exceeded"]), (&json!(true), &Value::Null));
    body["bounds"] = json!({"max_calls": 2});
    let estimate = hub.post("/v1/plan/estimate", &body).await.expect(200).body;
    assert_eq!((&estimate["within_bounds"], &estimate["first_exceeded"]), (&json!(false), &json!("max_calls")));
    body["request"].as_object_mut().unwrap().remove("parameters");
    body["bounds"] = Value::Null;
    let estimate = hub.post("/v1/plan/estimate", &body).await.expect(200).body;
    let said = estimate["assumptions"].as_array().unwrap().iter().filter_map(Value::as_str);
    assert!(said.clone().any(|text| text.contains("4096")), "{:?}", said.collect::<Vec<_>>());
    body["strategy"]["voters"] = json!(1);
    assert_eq!(hub.post("/v1/plan/estimate", &body).await.expect(400).body["param"], "strategy.voters");
    body["strategy"] = json!({"type": "refine", "model": "nobody"});
    assert_eq!(hub.post("/v1/plan/estimate", &body).await.expect(404).body["param"], "strategy.model");
    assert_eq!(hub.provider.count(), 0);
    hub.finish(Disturbance::None).await;
}
