//! Plans whose answers something outside the models accepts, and votes that need so many of them.

use serde_json::{Value, json};
use tokenhub_demo::Reply;

use super::{
    cases::{Case, boom},
    stages::strategy,
};

/// All of them; `check` asks a verifier that accepts whatever is good.
pub fn cases(check: &Value) -> Vec<Case> {
    let mut cases = in_rounds(check);
    cases.extend(first_passes(check));
    cases.extend(counted());
    cases
}

fn in_rounds(check: &Value) -> Vec<Case> {
    let refine = |check: &Value| json!({"type": "refine", "rounds": 2, "model": "alpha", "check": check});
    let adversarial =
        json!({"type": "adversarial", "rounds": 2, "model": "alpha", "critic_model": "beta", "check": check});
    let drafts = || [Reply::text("bad"), Reply::text("good")];
    vec![
        strategy("refine-until-verified", refine(check))
            .replies("alpha", drafts())
            .calls([("alpha", 2)])
            .fact("/stop_reason", "check_passed")
            .fact("/response/check/passed", true)
            .fact("/response/checks/0/feedback", "say good"),
        strategy("refine-never-verified", refine(check))
            .says("alpha", "bad")
            .calls([("alpha", 3)])
            .fact("/stop_reason", "max_rounds")
            .fact("/response/check/passed", false),
        strategy("refine-until-matched", refine(&json!({"type": "regex", "pattern": "^go*d$"})))
            .replies("alpha", drafts())
            .calls([("alpha", 2)])
            .fact("/stop_reason", "check_passed"),
        strategy("adversarial-until-verified", adversarial)
            .replies("alpha", drafts())
            .says("beta", "It is bad.")
            .calls([("alpha", 2), ("beta", 1)])
            .fact("/stop_reason", "check_passed")
            .fact("/response/refined_plan", "good"),
        strategy(
            "adversarial-until-it-fits",
            json!({"type": "adversarial", "rounds": 2, "model": "alpha", "critic_model": "beta",
                "check": {"type": "schema"}, "output_schema": {"type": "integer"}}),
        )
        .replies("alpha", [Reply::text("two"), Reply::text("2")])
        .says("beta", "It is no number.")
        .calls([("alpha", 2), ("beta", 1)])
        .fact("/stop_reason", "check_passed"),
    ]
}

fn first_passes(check: &Value) -> Vec<Case> {
    let best = json!({"type": "best_of_n", "models": ["alpha", "beta", "gamma"], "judge_model": "delta",
        "parallelism": 1, "stop": "first_pass", "check": check});
    let vote = json!({"type": "vote", "voters": 3, "method": "majority", "parallelism": 1, "stop": "first_pass",
        "check": {"type": "regex", "pattern": "good"}});
    vec![
        strategy("best-first-pass", best.clone())
            .says("alpha", "bad")
            .says("beta", "good")
            .calls([("alpha", 1), ("beta", 1)])
            .fact("/response/decision", "check")
            .fact("/response/selected", 1)
            .fact("/response/calls_avoided", 1),
        strategy("best-nobody-passes", best)
            .says("alpha", "one")
            .says("beta", "two")
            .says("gamma", "six")
            .replies("delta", [Reply::judge_by("two")])
            .calls([("alpha", 1), ("beta", 1), ("gamma", 1), ("delta", 1)])
            .fact("/response/decision", "judge")
            .fact("/response/check/passed", false)
            .fact("/judge_report/family", "delta"),
        strategy("vote-first-pass", vote)
            .says("alpha", "bad")
            .says("beta", "good")
            .calls([("alpha", 1), ("beta", 1)])
            .fact("/response/decision", "check")
            .fact("/stop_reason", "check_passed"),
    ]
}

fn counted() -> Vec<Case> {
    let vote = |least: u32| json!({"type": "vote", "voters": 3, "method": "majority", "min_success": least, "grace_ms": 60_000});
    vec![
        strategy("vote-enough", vote(2))
            .says("alpha", "one")
            .says("beta", "one")
            .replies("gamma", [boom()])
            .calls([("alpha", 1), ("beta", 1), ("gamma", 3)])
            .fact("/status", "completed_partial"),
        strategy("vote-too-few", vote(3))
            .says("alpha", "one")
            .says("beta", "one")
            .replies("gamma", [boom()])
            .status(502)
            .calls([("alpha", 1), ("beta", 1), ("gamma", 3)])
            .fact("/run_status", "failed"),
    ]
}
