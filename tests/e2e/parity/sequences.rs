//! Adversarial plans and refinements: steps that follow each other.

use serde_json::{Value, json};
use tokenhub_demo::Reply;

use super::cases::{Case, boom, slow_down, too_long};

/// All of them.
pub fn cases() -> Vec<Case> {
    let mut cases = adversarial();
    cases.extend(broken_adversarial());
    cases.extend(refine());
    cases
}

fn named(iterations: u32) -> Value {
    json!({"mode": "adversarial", "iterations": iterations, "primary_model_id": "alpha", "review_model_id": "beta"})
}

fn texts<const N: usize>(texts: [&str; N]) -> [Reply; N] {
    texts.map(Reply::text)
}

fn adversarial() -> Vec<Case> {
    vec![
        Case::plan("adversarial-1", json!({"mode": "adversarial"}))
            .replies("alpha", texts(["plan", "critique", "better plan"]))
            .calls([("alpha", 3)])
            .fact("/status", "completed")
            .fact("/stop_reason", "max_rounds")
            .fact("/response/initial_plan", "plan")
            .fact("/response/critique", "critique")
            .fact("/response/refined_plan", "better plan"),
        Case::plan("adversarial-2", named(2))
            .replies("alpha", texts(["plan", "plan 1", "plan 2"]))
            .replies("beta", texts(["critique 1", "critique 2"]))
            .calls([("alpha", 3), ("beta", 2)])
            .fact("/status", "completed")
            .fact("/response/iterations", 2)
            .fact("/response/rounds/0/critique", "critique 1")
            .fact("/response/rounds/1/refined_plan", "plan 2")
            .fact("/response/refined_plan", "plan 2"),
        Case::plan("adversarial-plan-only", json!({"mode": "adversarial", "return_plan_only": true}))
            .says("alpha", "plan")
            .calls([("alpha", 1)])
            .fact("/status", "completed")
            .fact("/stop_reason", "plan_only")
            .fact("/routing_reason", "adversarial-plan-only")
            .fact("/response/iterations", 0)
            .fact("/response/initial_plan", "plan"),
        Case::plan("adversarial-long", named(1))
            .replies("alpha", [Reply::big(60_000), Reply::text("better plan")])
            .replies("beta", [Reply::big(50_000)])
            .calls([("alpha", 2), ("beta", 1)])
            .fact("/response/refined_plan", "better plan"),
    ]
}

fn broken_adversarial() -> Vec<Case> {
    vec![
        Case::plan("adversarial-no-plan", named(2))
            .replies("alpha", [boom()])
            .status(502)
            .calls([("alpha", 3)])
            .fact("/run_status", "failed")
            .fact("/response", Value::Null),
        Case::plan("adversarial-critique-2-fails", named(2))
            .replies("alpha", texts(["plan", "plan 1"]))
            .replies("beta", [Reply::text("critique 1"), boom()])
            .calls([("alpha", 2), ("beta", 4)])
            .fact("/status", "completed_partial")
            .fact("/stop_reason", "round_failed")
            .fact("/response/iterations", 1)
            .fact("/response/refined_plan", "plan 1")
            .fact("/response/critique", "critique 1")
            .fact("/steps/3/error_class", "server_error"),
        Case::plan("adversarial-revision-2-fails", named(2))
            .replies("alpha", [Reply::text("plan"), Reply::text("plan 1"), Reply::error(400, "invalid_value", "no")])
            .replies("beta", texts(["critique 1", "critique 2"]))
            .calls([("alpha", 3), ("beta", 2)])
            .fact("/status", "completed_partial")
            .fact("/stop_reason", "round_failed")
            .fact("/response/iterations", 1)
            .fact("/response/critique", "critique 2")
            .fact("/response/refined_plan", "plan 1"),
        Case::plan("adversarial-critic-changes", json!({"mode": "adversarial", "primary_model_id": "alpha"}))
            .replies("alpha", [Reply::text("plan"), boom(), boom(), boom(), Reply::text("better plan")])
            .says("beta", "critique")
            .calls([("alpha", 5), ("beta", 1)])
            .fact("/status", "completed")
            .fact("/steps/1/model", "beta")
            .fact("/response/refined_plan", "better plan"),
        Case::plan("adversarial-critic-waits", named(1))
            .replies("alpha", texts(["plan", "better plan"]))
            .replies("beta", [slow_down(), Reply::text("critique")])
            .calls([("alpha", 2), ("beta", 2)])
            .fact("/status", "completed"),
        Case::plan("adversarial-critic-overflows", named(1))
            .says("alpha", "plan")
            .replies("beta", [too_long()])
            .calls([("alpha", 1), ("beta", 2)])
            .fact("/status", "completed_partial")
            .fact("/response/rounds", json!([]))
            .fact("/response/initial_plan", "plan"),
    ]
}

fn refine() -> Vec<Case> {
    let twice = json!({"mode": "refine", "iterations": 2});
    vec![
        Case::plan("refine-2", twice.clone())
            .replies("alpha", texts(["draft", "better", "best"]))
            .calls([("alpha", 3)])
            .fact("/status", "completed")
            .fact("/stop_reason", "max_rounds")
            .fact("/response/refined_response", "best")
            .fact("/response/iterations", 2)
            .fact("/response/model", "alpha"),
        Case::plan("refine-second-fails", twice.clone())
            .replies("alpha", [Reply::text("draft"), Reply::text("better"), boom()])
            .calls([("alpha", 5)])
            .fact("/status", "completed_partial")
            .fact("/stop_reason", "round_failed")
            .fact("/response/refined_response", "better")
            .fact("/response/iterations", 1),
        Case::plan("refine-second-waits", twice.clone())
            .replies("alpha", [Reply::text("draft"), Reply::text("better"), slow_down(), Reply::text("best")])
            .calls([("alpha", 4)])
            .fact("/status", "completed")
            .fact("/response/refined_response", "best"),
        Case::plan("refine-author-changes", twice.clone())
            .replies("alpha", [boom()])
            .replies("beta", texts(["draft", "better", "best"]))
            .calls([("alpha", 3), ("beta", 3)])
            .fact("/negotiated_model", "beta")
            .fact("/response/model", "beta"),
        Case::plan("refine-no-answer", json!({"mode": "refine", "primary_model_id": "gamma"}))
            .replies("gamma", [Reply::error(422, "invalid_value", "no")])
            .status(422)
            .calls([("gamma", 1)])
            .fact("/run_status", "failed"),
        Case::plan("refine-first-is-enough", twice)
            .replies("alpha", [Reply::text("draft"), Reply::error(400, "content_filter", "no")])
            .calls([("alpha", 2)])
            .fact("/status", "completed_partial")
            .fact("/response/refined_response", "draft")
            .fact("/response/iterations", 0),
    ]
}
