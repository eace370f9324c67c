//! Votes and best-of-n: parallel answers and a judge, whose place in the order of answers differs from run to run.

use serde_json::{Value, json};
use tokenhub_demo::Reply;

use super::cases::{Case, boom, slow_down};

/// All of them.
pub fn cases() -> Vec<Case> {
    let mut cases = judged();
    cases.extend(badly_judged());
    cases.extend(lost_voters());
    cases.extend(majority());
    cases.extend(best_of_n());
    cases
}

fn vote(name: &'static str) -> Case {
    Case::plan(name, json!({"mode": "vote"}))
}

/// beta and gamma agree, so that the majority differs from the first voter.
fn voters(case: Case) -> Case {
    case.says("alpha", "It is one.").says("beta", "It is two.").says("gamma", "it is two")
}

fn rubbish() -> Reply {
    Reply::text("I like the second one, 7/10, or perhaps the third")
}

fn judged() -> Vec<Case> {
    vec![
        voters(vote("vote-judge"))
            .replies("delta", [Reply::judge_by("it is two")])
            .calls([("alpha", 1), ("beta", 1), ("gamma", 1), ("delta", 1)])
            .fact("/status", "completed")
            .fact("/stop_reason", "decided")
            .fact("/response/decision", "judge")
            .fact("/response/judge", "delta")
            .fact("/response/selected", 2)
            .fact("/response/responses/2/selected", true)
            .fact("/negotiated_model", "gamma"),
        voters(Case::plan("vote-named-judge", json!({"mode": "vote", "review_model_id": "gamma"})))
            .replies("gamma", [Reply::judge_by("It is two.")])
            .says("delta", "It is four.")
            .calls([("alpha", 1), ("beta", 1), ("gamma", 1), ("delta", 1)])
            .fact("/response/judge", "gamma")
            .fact("/response/responses/2/model", "delta")
            .fact("/negotiated_model", "beta"),
        voters(Case::plan("vote-with-a-schema", json!({"mode": "vote", "output_schema": {"type": "integer"}})))
            .replies("beta", [Reply::text("It is two."), Reply::text("2")])
            .replies("delta", [Reply::judge_by("It is two.")])
            .calls([("alpha", 1), ("beta", 2), ("gamma", 1), ("delta", 1)])
            .fact("/response/responses/1/content", "2")
            .fact("/response/selected", 1)
            .fact("/steps/4/id", "ballot/2/repair")
            .fact("/status", "completed"),
        voters(vote("vote-judge-waits"))
            .replies("delta", [slow_down(), Reply::judge_by("It is one.")])
            .calls([("alpha", 1), ("beta", 1), ("gamma", 1), ("delta", 2)])
            .fact("/status", "completed")
            .fact("/response/selected", 0),
        voters(vote("vote-judge-repaired"))
            .replies("delta", [rubbish(), Reply::judge_by("It is one.")])
            .calls([("alpha", 1), ("beta", 1), ("gamma", 1), ("delta", 2)])
            .fact("/status", "completed")
            .fact("/response/decision", "judge_repaired")
            .fact("/response/selected", 0)
            .fact("/steps/3/error_class", "bad_output")
            .fact("/steps/4/id", "judge/repair"),
    ]
}

/// The majority decides, and the run is marked.
fn badly_judged() -> Vec<Case> {
    vec![
        voters(vote("vote-judge-rubbish-twice"))
            .replies("delta", [rubbish()])
            .calls([("alpha", 1), ("beta", 1), ("gamma", 1), ("delta", 2)])
            .fact("/status", "completed_partial")
            .fact("/response/decision", "judge_failed")
            .fact("/response/selected", 1)
            .fact("/response/tally", json!([[1, 2], [0]])),
        voters(vote("vote-judge-dead"))
            .replies("delta", [boom()])
            .calls([("alpha", 1), ("beta", 1), ("gamma", 1), ("delta", 3)])
            .fact("/status", "completed_partial")
            .fact("/response/decision", "judge_failed")
            .fact("/response/selected", 1)
            .fact("/steps/3/error_class", "server_error"),
        voters(vote("vote-judge-dies-repairing"))
            .replies("delta", [rubbish(), Reply::error(400, "invalid_value", "no")])
            .calls([("alpha", 1), ("beta", 1), ("gamma", 1), ("delta", 2)])
            .fact("/status", "completed_partial")
            .fact("/response/decision", "judge_failed")
            .fact("/response/selected", 1),
    ]
}

fn lost_voters() -> Vec<Case> {
    vec![
        voters(vote("vote-voter-500"))
            .replies("alpha", [boom()])
            .replies("delta", [Reply::judge_by("it is two")])
            .calls([("alpha", 3), ("beta", 1), ("gamma", 1), ("delta", 1)])
            .fact("/status", "completed_partial")
            .fact("/response/decision", "judge")
            .fact("/response/responses/0/model", "beta")
            .fact("/negotiated_model", "gamma")
            .fact("/steps/0/error_class", "server_error"),
        voters(vote("vote-voter-waits"))
            .replies("beta", [slow_down(), Reply::text("It is two.")])
            .replies("delta", [Reply::judge_by("It is two.")])
            .calls([("alpha", 1), ("beta", 2), ("gamma", 1), ("delta", 1)])
            .fact("/status", "completed")
            .fact("/steps/1/attempts", 2)
            .fact("/response/selected", 1),
        voters(vote("vote-voter-abstains"))
            .replies("beta", [Reply::error(400, "content_filter", "not that")])
            .replies("delta", [Reply::judge_by("It is one.")])
            .calls([("alpha", 1), ("beta", 1), ("gamma", 1), ("delta", 1)])
            .fact("/status", "completed")
            .fact("/steps/1/error_class", "content_filtered"),
        voters(vote("vote-one-left"))
            .replies("alpha", [Reply::error(400, "invalid_value", "no")])
            .replies("gamma", [Reply::error(401, "invalid_api_key", "no")])
            .calls([("alpha", 1), ("beta", 1), ("gamma", 1)])
            .fact("/status", "completed_partial")
            .fact("/stop_reason", "single_answer")
            .fact("/response/decision", "single_answer")
            .fact("/response/judge", Value::Null)
            .fact("/routing_reason", "vote-single-response"),
        vote("vote-all-down")
            .replies("alpha", [boom()])
            .replies("beta", [boom()])
            .replies("gamma", [boom()])
            .status(502)
            .calls([("alpha", 3), ("beta", 3), ("gamma", 3)])
            .fact("/run_status", "failed")
            .fact("/stop_reason", "all_failed")
            .fact("/response", Value::Null)
            .fact("/usage/calls", 9),
    ]
}

fn majority() -> Vec<Case> {
    let orchestration = json!({"mode": "vote", "method": "majority"});
    vec![
        voters(Case::plan("majority", orchestration.clone()))
            .calls([("alpha", 1), ("beta", 1), ("gamma", 1)])
            .fact("/status", "completed")
            .fact("/response/decision", "majority")
            .fact("/response/selected", 1)
            .fact("/response/tally", json!([[1, 2], [0]])),
        voters(Case::plan("majority-voter-500", orchestration.clone()))
            .replies("gamma", [boom()])
            .calls([("alpha", 1), ("beta", 1), ("gamma", 3)])
            .fact("/status", "completed_partial")
            .fact("/response/selected", 0)
            .fact("/response/tally", json!([[0], [1]])),
        Case::plan("majority-all-down", orchestration)
            .replies("alpha", [Reply::error(400, "invalid_value", "no")])
            .replies("beta", [boom()])
            .replies("gamma", [slow_down()])
            .status(400)
            .calls([("alpha", 1), ("beta", 3), ("gamma", 3)])
            .fact("/run_status", "failed"),
    ]
}

fn best_of_n() -> Vec<Case> {
    let best = |name| voters(Case::plan(name, json!({"mode": "best_of_n", "voters": 3})));
    vec![
        best("best-of-3")
            .replies("delta", [Reply::judge_by("It is two.")])
            .calls([("alpha", 1), ("beta", 1), ("gamma", 1), ("delta", 1)])
            .fact("/status", "completed")
            .fact("/response/selected", 1)
            .fact("/response/responses/1/score", 90)
            .fact("/response/responses/0/score", 10)
            .fact("/negotiated_model", "beta"),
        Case::plan("best-of-6", json!({"mode": "best_of_n", "voters": 6, "primary_model_id": "alpha"}))
            .says("alpha", "It is one.")
            .replies("delta", [Reply::judge_by("nobody says this")])
            .replies("beta", [Reply::judge_by("nobody says this")])
            .calls([("alpha", 6), ("beta", 1)])
            .fact("/response/selected", 0)
            .fact("/response/judge", "beta"),
        best("best-candidate-500")
            .replies("beta", [boom()])
            .replies("delta", [Reply::judge_by("it is two")])
            .calls([("alpha", 1), ("beta", 3), ("gamma", 1), ("delta", 1)])
            .fact("/status", "completed_partial")
            .fact("/response/selected", 1)
            .fact("/negotiated_model", "gamma"),
        best("best-judge-repaired")
            .replies("delta", [Reply::text("{\"scores\": [1, 2]}"), Reply::judge_by("It is two.")])
            .calls([("alpha", 1), ("beta", 1), ("gamma", 1), ("delta", 2)])
            .fact("/status", "completed")
            .fact("/response/decision", "judge_repaired")
            .fact("/response/selected", 1),
        best("best-judge-dead")
            .replies("delta", [boom()])
            .calls([("alpha", 1), ("beta", 1), ("gamma", 1), ("delta", 3)])
            .fact("/status", "completed_partial")
            .fact("/response/decision", "judge_failed")
            .fact("/response/selected", 0)
            .fact("/response/responses/0/score", Value::Null),
        Case::plan("best-all-down", json!({"mode": "best_of_n", "voters": 2}))
            .replies("alpha", [Reply::error(403, "forbidden", "no")])
            .replies("beta", [Reply::error(402, "payment_required", "no")])
            .status(502)
            .calls([("alpha", 1), ("beta", 1)])
            .fact("/run_status", "failed"),
    ]
}
