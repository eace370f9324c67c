//! A streamed step that comes to nothing: what its provider has counted is paid, and nobody waits longer for a beginning
//! than the plan says.

use serde_json::json;
use tokenhub_demo::{Omission, Reply, Rule};
use tokenhub_domain::ErrorClass;
use tokenhub_store::{LedgerState, Waste};

use super::{plan, single, told};
use crate::{
    evidence::Evidence,
    harness::{Disturbance, TestHub},
    scripted::installation,
};

const USAGE: (u64, u64) = (70, 9);

async fn a_stream_that_breaks_behind_its_counts_is_paid(hub: TestHub) {
    let evidence = Evidence::of(&hub).await;
    let half = Reply::text("half of it").usage(USAGE.0, USAGE.1).without(Omission::Finish);
    hub.provider.script(Rule::model("alpha", [half, Reply::text("all of it").usage(USAGE.0, USAGE.1)]));
    let seen = told(&hub, &single("alpha")).await;
    let plan = &seen.last().unwrap().data["plan"];
    assert_eq!((&plan["status"], hub.provider.count()), (&json!("completed"), 2), "{plan}");
    assert_eq!(plan["usage"]["wasted_tokens"], USAGE.0 + USAGE.1, "{plan}");
    let failed = seen.iter().find(|event| event.name == "step.failed").unwrap();
    assert_eq!(failed.data["input_tokens"], USAGE.0, "{failed:?}");
    let mut rows = evidence.ended(2).await;
    rows.sort_by_key(|row| row.waste == Some(Waste::Used));
    for (row, waste) in rows.iter().zip([Waste::Wasted, Waste::Used]) {
        let seen = (row.state, row.waste, row.input_tokens, row.output_tokens);
        assert_eq!(seen, (LedgerState::Settled, Some(waste), USAGE.0, USAGE.1), "{row:?}");
    }
    assert_eq!((rows[0].error_class, rows[1].error_class), (Some(ErrorClass::StreamBroken), None));
    assert_eq!(rows[0].cost, rows[1].cost);
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_breaks_behind_its_counts_is_paid_for_and_told_as_wasted() {
    a_stream_that_breaks_behind_its_counts_is_paid(installation().start().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_holds_in_process() {
    a_stream_that_breaks_behind_its_counts_is_paid(installation().temporal_off().start().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_does_not_begin_in_time_is_followed_by_the_next() {
    let hub = installation().start().await;
    hub.provider.script(Rule::any([Reply::text("in time")]));
    hub.provider.script(Rule::model("alpha", [Reply::text("late").delay_ms(60_000)]));
    let mut body = plan(&json!({"type": "single"}));
    body["bounds"] = json!({"first_token_timeout_ms": 300});
    // More often than a model may fail in a row: how long a caller likes to wait is not held against anybody.
    for _ in 0..4 {
        let seen = told(&hub, &body).await;
        let ended = |name: &str| seen.iter().find(|event| event.name == name).unwrap().data.clone();
        let (failed, completed) = (ended("step.failed"), ended("step.completed"));
        let late = (&failed["model"], &failed["error_class"]);
        assert_eq!(late, (&json!("alpha"), &json!("first_token_timeout")), "{failed}");
        assert_ne!(completed["model"], "alpha", "{completed}");
    }
    body["deltas"] = false.into();
    let refused = hub.post("/v1/plan", &body).await.expect(400);
    assert_eq!(refused.body["param"], "bounds.first_token_timeout_ms", "{}", refused.text);
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_behind_the_counts_gives_nothing_back_of_what_the_plan_may_use() {
    let hub = installation().temporal_off().start().await;
    let half = json!({"choices": [{"index": 0, "delta": {"content": "half"}}],
        "usage": {"prompt_tokens": USAGE.0, "completion_tokens": USAGE.1}});
    let error = json!({"error": {"message": "no more", "code": 502}});
    hub.provider.script(Rule::model("alpha", [Reply::events([half.to_string(), error.to_string()])]));
    let mut body = single("alpha");
    body["bounds"] = json!({"max_calls": 1});
    let seen = told(&hub, &body).await;
    let plan = &seen.last().unwrap().data["plan"];
    assert_eq!((&plan["status"], hub.provider.count()), (&json!("budget_exhausted"), 1), "{plan}");
    assert_eq!(plan["usage"]["wasted_tokens"], USAGE.0 + USAGE.1, "{plan}");
    hub.finish(Disturbance::None).await;
}
