//! Every attempt of a plan: in its events, at the provider and in its list of steps.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Value, json};
use tokenhub_demo::{Reply, Rule};

use super::{
    PATIENCE,
    reading::{EventStream, assert_numbered, names},
    start, streamed, undisturbed, without_penalties,
};
use crate::{
    evidence::{Evidence, assert_same_usage},
    harness::{Disturbance, TestHub, eventually, exchange},
    scripted::{Case, REFINE, installation},
};

/// The list once no attempt of it is open and it has so many.
async fn steps_of(hub: &TestHub, id: &str, count: usize) -> Value {
    eventually("every attempt is listed and has ended", PATIENCE, || async {
        let listed = hub.get(&format!("/v1/plan/{id}/steps")).await.unwrap().expect(200).body;
        let steps = listed["data"].as_array().unwrap();
        // Of a call whose process died nobody knows when it ended.
        let have_ended = steps.iter().all(|step| step["ended_at"].is_string() || step["state"] == "orphaned");
        (steps.len() == count && have_ended).then_some(listed)
    })
    .await
}

fn fields<'a>(steps: &'a Value, name: &str) -> Vec<&'a Value> {
    steps["data"].as_array().unwrap().iter().map(|step| &step[name]).collect()
}

#[track_caller]
fn assert_same_attempts(hub: &TestHub, steps: &Value) {
    let listed: BTreeSet<String> =
        fields(steps, "attempt_id").into_iter().map(|id| id.as_str().unwrap().to_owned()).collect();
    let called: BTreeSet<String> = hub.provider.calls().into_iter().filter_map(|call| call.attempt_id).collect();
    assert_eq!(listed, called);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_whose_worker_dies_is_told_as_restarted_and_listed_twice() {
    let mut hub = installation().start().await;
    let case = Case::new(&REFINE, 1);
    case.script_stuck(&hub, &["improvement/1"]);
    let mut stream = start(&hub, &streamed(case)).await;
    let mut seen = stream.until(|event| event.name == "step.started" && event.data["step"] == "improvement/1").await;
    case.wait_until_in_flight(&hub, &["improvement/1"]).await;
    Evidence::of(&hub).await.wait_until_answers_are_journaled(&hub).await;
    hub.workers.remove(0).kill();
    hub.start_worker(&[]);
    seen.extend(stream.rest().await);
    assert_numbered(&seen);
    let mut expected = undisturbed(&["answer", "improvement/1", "improvement/2"]);
    expected.insert(5, "step.restarted improvement/1".to_owned());
    assert_eq!(names(&seen), expected);
    assert_eq!((&seen[5].data["restarts"], &seen[6].data["restarts"]), (&json!(1), &json!(1)));

    let id = seen[0].data["plan_id"].as_str().unwrap();
    let steps = steps_of(&hub, id, 4).await;
    assert_same_attempts(&hub, &steps);
    let names = ["answer", "improvement/1", "improvement/1", "improvement/2"];
    assert_eq!(fields(&steps, "step"), names);
    assert_eq!(fields(&steps, "duplicate"), [false, false, true, false]);
    assert_eq!(fields(&steps, "state"), ["settled", "orphaned", "settled", "settled"]);
    assert_eq!(fields(&steps, "waste"), ["used", "orphaned", "used", "used"]);
    assert_eq!(fields(&steps, "attempt_id")[2], &seen[6].data["attempt_id"]);
    assert_same_usage(&steps, &seen.last().unwrap().data["plan"]);
    assert_eq!(steps["usage"]["duplicate_calls"], 1);
    hub.finish(Disturbance::Kills).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vote_lists_what_its_provider_has_counted_and_tells_every_try() {
    for durability in ["preferred", "none"] {
        let hub = without_penalties().start().await;
        hub.provider.script(Rule::any([Reply::text("red").usage(7, 3)]));
        // A server error is tried again at the same deployment.
        hub.provider.script(Rule::model("beta", [Reply::failure(500, "canary"), Reply::text("red").usage(7, 3)]));
        let body = json!({
            "request": {"messages": [{"role": "user", "content": "which colour?"}]},
            "orchestration": {"mode": "vote", "voters": 3, "method": "majority"},
            "stream": true,
        });
        let request = hub.request(Method::POST, "/v1/plan").header("x-tokenhub-durability", durability);
        let seen = EventStream::open(request.json(&body)).await.rest().await;
        assert_numbered(&seen);
        let tries = |name: &str| seen.iter().filter(|event| event.name == name).count();
        assert_eq!((tries("step.started"), tries("step.completed"), tries("step.failed")), (4, 3, 1));
        let failed = seen.iter().find(|event| event.name == "step.failed").unwrap();
        assert_eq!((&failed.data["model"], &failed.data["error_class"]), (&json!("beta"), &json!("server_error")));
        let last = seen.last().unwrap();
        let verdict = json!({"models": ["alpha", "beta", "gamma"], "selected": 0, "decision": "majority",
            "judge": null, "tally": [[0, 1, 2]]});
        assert_eq!((last.name.as_str(), &last.data["verdict"]), ("plan.completed", &verdict));

        let id = seen[0].data["plan_id"].as_str().unwrap();
        let steps = steps_of(&hub, id, hub.provider.calls().len()).await;
        assert_same_attempts(&hub, &steps);
        assert_same_usage(&steps, &last.data["plan"]);
        assert_eq!(steps["usage"]["input_tokens"], 21);
        let events = hub.request(Method::GET, &format!("/v1/plan/{id}/events")).header("accept", "application/json");
        let kept = exchange(events).await.unwrap().expect(200).text;
        assert!(!kept.contains("canary") && !kept.contains("colour"), "{kept}");
        hub.finish(Disturbance::None).await;
    }
}
