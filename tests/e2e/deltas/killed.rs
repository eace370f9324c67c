//! Whoever makes a streamed call dies in the middle of it: another one makes it again, and its text is another call's.

use serde_json::json;
use tokenhub_demo::{Reply, Rule};

use super::{GAP_MS, assert_all_is_shown, assert_in_place, facts, is_delta, open, single, text_of, words};
use crate::{
    harness::{Disturbance, TestHubBuilder},
    plan_events::reading::{assert_numbered, names},
    scripted::installation,
};

/// So much of an answer that does not go on.
const WRITTEN: usize = 5;

async fn a_process_dies_while_a_step_writes(builder: TestHubBuilder, is_worker: bool) {
    let mut hub = builder.apis(2).start().await;
    let stalled = Reply::text(words("lost")).gap_ms(GAP_MS).stall_after_tokens(WRITTEN);
    hub.provider.script(Rule::model("alpha", [stalled, Reply::text(words("kept")).gap_ms(GAP_MS)]));
    let mut stream = open(&hub, &single("alpha")).await;
    let mut seen = stream.until(is_delta).await;
    let id = super::plan_id(&seen).to_owned();
    if is_worker {
        hub.workers.remove(0).kill();
        hub.start_worker(&[]);
    } else {
        let (mut api, _) = hub.apis.remove(0);
        api.kill();
        let last = facts(&seen).last().unwrap().id;
        let request = hub.request(reqwest::Method::GET, &format!("/v1/plan/{id}/events"));
        stream =
            crate::plan_events::reading::EventStream::open(request.header("last-event-id", last.to_string())).await;
    }
    let rest = stream.rest().await;
    let restarted = rest.iter().position(|event| event.name == "step.restarted").expect("it is restarted");
    let later = rest[restarted..].iter().filter(|event| is_delta(event));
    assert!(later.clone().count() > 0 && later.clone().all(|event| event.data["attempt"] == 2), "{:?}", names(&rest));
    seen.extend(rest.iter().filter(|event| !is_delta(event) || event.data["attempt"] == 2).cloned());
    assert_numbered(&facts(&seen));
    assert_in_place(&rest[restarted..]);
    let expected =
        ["plan.created", "plan.started", "step.started answer", "step.restarted answer", "step.completed answer"];
    assert_eq!(names(&facts(&seen))[..5], expected.map(str::to_owned));
    assert!(words("lost").starts_with(&text_of(&seen, "answer", 1)));
    assert_eq!(text_of(&seen, "answer", 2), words("kept"));
    assert_all_is_shown(&hub, &seen).await;
    let plan = &seen.last().unwrap().data["plan"];
    assert_eq!(plan["response"]["choices"][0]["message"]["content"], words("kept"));
    assert_eq!((&plan["usage"]["calls"], &plan["usage"]["duplicate_calls"]), (&json!(1), &json!(1)), "{plan}");
    assert_eq!((&plan["steps"][0]["attempts"], &plan["steps"][0]["duplicate_calls"]), (&json!(1), &json!(1)));
    assert_eq!(hub.provider.count(), 2);
    hub.finish(Disturbance::Kills).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_dies_while_a_step_writes_is_followed_by_another_call() {
    a_process_dies_while_a_step_writes(installation(), true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn so_is_an_api_that_carries_the_plan_itself() {
    a_process_dies_while_a_step_writes(installation().temporal_off(), false).await;
}
