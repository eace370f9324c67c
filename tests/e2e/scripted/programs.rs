//! The programs that are run while something dies, one of each strategy. Their texts are equally long, so that token counts
//! do not depend on who meets whom.

use super::{Program, Says, Step};

const fn step(id: &'static str, model: &'static str, after: Option<&'static str>, says: &'static str) -> Step {
    Step { id, model, after, says: Says::Text(says), calls: 1 }
}

const fn judge(says: Says, calls: u64) -> Step {
    Step { id: "judge", model: "delta", after: None, says, calls }
}

/// Three voters and a judge who never votes.
pub static VOTE: Program = Program {
    name: "vote",
    asks: r#"{"orchestration": {"mode": "vote", "voters": 3, "review_model_id": "delta"}}"#,
    steps: &[
        step("ballot/1", "alpha", None, "it is red"),
        step("ballot/2", "beta", None, "it is blue"),
        step("ballot/3", "gamma", None, "it is green"),
        judge(Says::VerdictFor("it is blue"), 1),
    ],
    gives: ("/response/responses/1/selected", "true"),
};

/// Five voters and a judge who never votes.
pub static FIVE_VOTERS: Program = Program {
    name: "vote of five",
    asks: r#"{"strategy": {"type": "vote", "voters": 5, "judge_model": "delta"}}"#,
    steps: &[
        step("ballot/1", "alpha", None, "it is red"),
        step("ballot/2", "beta", None, "it is blue"),
        step("ballot/3", "gamma", None, "it is green"),
        step("ballot/4", "epsilon", None, "it is white"),
        step("ballot/5", "zeta", None, "it is black"),
        judge(Says::VerdictFor("it is green"), 1),
    ],
    gives: ("/response/responses/2/selected", "true"),
};

/// Three voters, two of whom agree.
pub static MAJORITY: Program = Program {
    name: "majority",
    asks: r#"{"strategy": {"type": "vote", "voters": 3, "method": "majority"}}"#,
    steps: &[
        step("ballot/1", "alpha", None, "it is red"),
        step("ballot/2", "beta", None, "it is blue"),
        step("ballot/3", "gamma", None, "it is blue"),
    ],
    gives: ("/response/tally", "[[1,2],[0]]"),
};

/// Three candidates and a judge who gives scores.
pub static SCORED: Program = Program {
    name: "scored",
    asks: r#"{"strategy": {"type": "best_of_n", "candidates": 3, "judge_model": "delta"}}"#,
    steps: &[
        step("candidate/1", "alpha", None, "it is red"),
        step("candidate/2", "beta", None, "it is blue"),
        step("candidate/3", "gamma", None, "it is green"),
        judge(Says::VerdictFor("it is green"), 1),
    ],
    gives: ("/response/responses/2/selected", "true"),
};

/// Three candidates, compared in pairs and both orders.
pub static BEST_OF_THREE: Program = Program {
    name: "best of 3",
    asks: r#"{"strategy": {"type": "best_of_n", "candidates": 3, "method": "pairwise", "judge_model": "delta"}}"#,
    steps: &[
        step("candidate/1", "alpha", None, "it is one"),
        step("candidate/2", "beta", None, "it is two"),
        step("candidate/3", "gamma", None, "it is six"),
        judge(Says::VerdictFor("it is two"), 4),
    ],
    gives: ("/response/responses/1/selected", "true"),
};

/// A plan and two rounds of critique and revision.
pub static ADVERSARIAL: Program = Program {
    name: "adversarial",
    asks: r#"{"orchestration": {"mode": "adversarial", "iterations": 2, "primary_model_id": "alpha",
        "review_model_id": "beta"}}"#,
    steps: &[
        step("plan", "alpha", None, "plan zero"),
        step("critique/1", "beta", Some("plan zero"), "critique one"),
        step("revision/1", "alpha", Some("critique one"), "plan one"),
        step("critique/2", "beta", Some("plan one"), "critique two"),
        step("revision/2", "alpha", Some("critique two"), "plan two"),
    ],
    gives: ("/response/refined_plan", "plan two"),
};

/// An answer and two improvements.
pub static REFINE: Program = Program {
    name: "refine",
    asks: r#"{"orchestration": {"mode": "refine", "iterations": 2, "primary_model_id": "gamma"}}"#,
    steps: &[
        step("answer", "gamma", None, "draft zero"),
        step("improvement/1", "gamma", Some("draft zero"), "draft one"),
        step("improvement/2", "gamma", Some("draft one"), "draft two"),
    ],
    gives: ("/response/refined_response", "draft two"),
};

/// A cheap answer that will not do, and a dear one.
pub static CASCADE: Program = Program {
    name: "cascade",
    asks: r#"{"strategy": {"type": "cascade", "models": ["gamma", "alpha"], "judge_model": "delta"}}"#,
    steps: &[
        step("stage/1", "gamma", None, "it is cheap"),
        Step { id: "check/1", model: "delta", after: None, says: Says::Json(r#"{"accept": false}"#), calls: 1 },
        step("stage/2", "alpha", None, "it is dear"),
    ],
    gives: ("/response/content", "it is dear"),
};

/// Three answers, an analysis of them, and one answer made of them.
pub static FUSE: Program = Program {
    name: "fuse",
    asks: r#"{"strategy": {"type": "fuse", "panel": 3, "writer_model": "alpha", "judge_model": "delta"}}"#,
    steps: &[
        step("panel/1", "alpha", None, "it is red"),
        step("panel/2", "beta", None, "it is blue"),
        step("panel/3", "gamma", None, "it is green"),
        judge(Says::Json(r#"{"consensus": ["it is"], "contradictions": ["what"], "gaps": []}"#), 1),
        step("fusion", "alpha", Some("it is blue"), "it is all"),
    ],
    gives: ("/response/content", "it is all"),
};

/// An answer that misses its schema, and its repair.
pub static REPAIRED: Program = Program {
    name: "repaired",
    asks: r#"{"orchestration": {"primary_model_id": "gamma", "output_schema": {"type": "object", "required": ["color"]}}}"#,
    steps: &[
        step("answer", "gamma", None, "it is blue"),
        step("answer/repair", "gamma", Some("it is blue"), r#"{"color": "blue"}"#),
    ],
    gives: ("/status", "completed"),
};

/// One of each strategy.
pub static STRATEGIES: [&Program; 8] =
    [&MAJORITY, &VOTE, &SCORED, &BEST_OF_THREE, &REFINE, &ADVERSARIAL, &CASCADE, &FUSE];
