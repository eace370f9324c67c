//! Cascades, fusions, and candidates compared in pairs.

use serde_json::{Value, json};
use tokenhub_demo::Reply;

use super::cases::{Case, boom};

const FOUND: &str = r#"{"consensus": ["it is a number"], "contradictions": ["one or two"], "gaps": []}"#;

/// All of them.
pub fn cases() -> Vec<Case> {
    let mut cases = cascades();
    cases.extend(fusions());
    cases.extend(compared());
    cases
}

/// A plan by its strategy.
pub fn strategy(name: &'static str, strategy: Value) -> Case {
    let mut case = Case::plan(name, Value::Null);
    case.body.as_object_mut().unwrap().remove("orchestration");
    case.with("/strategy", strategy)
}

fn accepts(yes: bool) -> Reply {
    Reply::text(json!({ "accept": yes }).to_string())
}

fn cascades() -> Vec<Case> {
    let cascade = json!({"type": "cascade", "models": ["gamma", "alpha"], "judge_model": "beta"});
    vec![
        strategy("cascade-accepted", cascade.clone())
            .says("gamma", "cheap")
            .replies("beta", [accepts(true)])
            .calls([("gamma", 1), ("beta", 1)])
            .fact("/status", "completed")
            .fact("/stop_reason", "decided")
            .fact("/response/content", "cheap")
            .fact("/response/escalations", 0),
        strategy("cascade-rejected", cascade.clone())
            .says("gamma", "cheap")
            .says("alpha", "good")
            .replies("beta", [accepts(false)])
            .calls([("gamma", 1), ("beta", 1), ("alpha", 1)])
            .fact("/status", "completed")
            .fact("/response/content", "good")
            .fact("/response/stages/0/verdict", "rejected")
            .fact("/response/stages/1/verdict", "last")
            .fact("/negotiated_model", "alpha"),
        strategy("cascade-falls-back", cascade)
            .says("gamma", "cheap")
            .replies("alpha", [boom()])
            .replies("beta", [accepts(false)])
            .calls([("gamma", 1), ("beta", 1), ("alpha", 3)])
            .fact("/status", "completed_partial")
            .fact("/response/content", "cheap")
            .fact("/response/selected", 0),
        strategy(
            "cascade-by-schema",
            json!({"type": "cascade", "models": ["gamma", "alpha"], "check": "schema", "output_schema": {"type": "integer"}}),
        )
        .says("gamma", "two")
        .says("alpha", "2")
        .calls([("gamma", 1), ("alpha", 1)])
        .fact("/response/content", "2"),
    ]
}

fn fusions() -> Vec<Case> {
    let fuse = json!({"type": "fuse", "panel": 2, "judge_model": "gamma", "writer_model": "delta", "min_success": 1});
    vec![
        strategy("fuse", fuse.clone())
            .says("alpha", "one")
            .says("beta", "two")
            .says("gamma", FOUND)
            .says("delta", "one and two")
            .calls([("alpha", 1), ("beta", 1), ("gamma", 1), ("delta", 1)])
            .fact("/status", "completed")
            .fact("/response/content", "one and two")
            .fact("/response/analysis/contradictions/0", "one or two")
            .fact("/response/writer", "delta"),
        strategy("fuse-without-a-writer", fuse)
            .says("alpha", "one")
            .says("beta", "two")
            .says("gamma", FOUND)
            .replies("delta", [boom()])
            .calls([("alpha", 1), ("beta", 1), ("gamma", 1), ("delta", 3)])
            .fact("/status", "completed_partial")
            .fact("/response/content", "one")
            .fact("/negotiated_model", "alpha"),
    ]
}

fn compared() -> Vec<Case> {
    let pairwise = json!({"type": "best_of_n", "candidates": 2, "method": "pairwise", "judge_model": "gamma"});
    vec![
        strategy("pairs-agreed", pairwise.clone())
            .says("alpha", "It is one.")
            .says("beta", "It is two.")
            .replies("gamma", [Reply::judge_by("It is two.")])
            .calls([("alpha", 1), ("beta", 1), ("gamma", 2)])
            .fact("/response/selected", 1)
            .fact("/response/order_flips", 0)
            .fact("/response/matches/0/result", "agreed"),
        strategy("pairs-flipped", pairwise)
            .says("alpha", "It is one.")
            .says("beta", "It is two.")
            .says("gamma", r#"{"winner": 1}"#)
            .calls([("alpha", 1), ("beta", 1), ("gamma", 2)])
            .fact("/response/selected", 0)
            .fact("/response/order_flips", 1)
            .fact("/status", "completed"),
        strategy("vote-weighted", json!({"type": "vote", "voters": 3, "method": "weighted"}))
            .says("alpha", "one")
            .says("beta", "two")
            .says("gamma", "two")
            .calls([("alpha", 1), ("beta", 1), ("gamma", 1)])
            .fact("/response/method", "weighted")
            .fact("/response/selected", 1),
    ]
}
