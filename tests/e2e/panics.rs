//! The code of a workflow panics: somebody is told, nobody waits for ever, and a worker without the mistake goes on where
//! the other one stopped.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::{
    figures::{METRICS, figure_of, page_of},
    harness::{Disturbance, TestHub, eventually},
    scripted::{ADVERSARIAL, Case, installation},
};

/// Promised are 10 s from the panic on.
const ALERT_PATIENCE: Duration = Duration::from_secs(40);
const PATIENCE: Duration = Duration::from_mins(1);

/// A worker whose workflows panic when they ask for the critique; behind their deadline they do not ask any more.
async fn start_faulty_worker(hub: &mut TestHub) -> String {
    start_worker_that_panics_at(hub, "critique/1").await
}

async fn start_worker_that_panics_at(hub: &mut TestHub, step: &str) -> String {
    hub.start_worker(&[("TOKENHUB_FAULT_PANIC", step), METRICS]);
    hub.wait_until_durable().await;
    page_of(&hub.workers[0]).await
}

/// Waits until the figure that an alert is set on counts the panic.
async fn wait_for_alert(page: &str) {
    let began = Instant::now();
    eventually("the panic is counted", ALERT_PATIENCE, || async {
        let failed = figure_of(page, "temporal_workflow_task_execution_failed_total").await;
        let of_plan = failed.into_iter().find(|(labels, _)| labels.contains("workflow_type=\"AdversarialWorkflow\""));
        of_plan.filter(|(_, count)| *count >= 1.0)
    })
    .await;
    println!("the panic was counted {:?} after it was looked for", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_whose_workflow_panics_ends_failed_at_its_execution_timeout_and_says_so() {
    let mut hub = installation().workers(0).environment("TOKENHUB_EXECUTION_GRACE_MS", "2000").start().await;
    let page = start_faulty_worker(&mut hub).await;
    let case = Case::new(&ADVERSARIAL, 1);
    case.script_stuck(&hub, &[]);
    // The deadline of a plan may be moved, so its execution lasts as long as the longest; that of a chat may not.
    let content = format!("{}\n@@tokenhub mode=adversarial latency=12000", case.question());
    let body = json!({"model": "*", "messages": [{"role": "user", "content": content}]});
    let asked = async {
        let answer = hub.post("/v1/chat/completions", &body).await;
        (answer, Instant::now())
    };
    let ((answer, _), ()) = tokio::join!(asked, async {
        eventually("the plan is written", PATIENCE, || async {
            (case.counts(&hub).get("plan") == Some(&1)).then_some(())
        })
        .await;
        wait_for_alert(&page).await;
    });
    let answer = answer.expect(500);
    assert_eq!(answer.body["error"]["code"], "execution_timeout", "{}", answer.text);
    let kept = hub.get(&format!("/v1/plan/{}", answer.header("x-tokenhub-run-id"))).await.unwrap().expect(200);
    assert_eq!((&kept.body["status"], &kept.body["stop_reason"]), (&json!("failed"), &json!("execution_timeout")));
    assert_eq!(hub.provider.count(), 1, "nothing is bought over and over");
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_without_the_mistake_resumes_a_plan_that_panics_and_repeats_no_call() {
    let mut hub = installation().start().await;
    let undisturbed = Case::new(&ADVERSARIAL, 0).undisturbed(&hub).await;
    hub.workers.remove(0).stop(PATIENCE).await;
    let page = start_faulty_worker(&mut hub).await;
    let case = Case::new(&ADVERSARIAL, 1);
    case.script_stuck(&hub, &[]);
    let asked = case.ask(&hub);
    wait_for_alert(&page).await;
    hub.workers.remove(0).stop(PATIENCE).await;
    let mended = Instant::now();
    hub.start_worker(&[]);
    let ended = asked.await.unwrap().unwrap();
    println!("resumed {:?} after the mended worker was started", ended.at.duration_since(mended));
    let answer = ended.answer.expect(200);
    assert_eq!(case.comparable(&answer), undisturbed);
    case.assert_calls(&hub, &answer, &[]);
    hub.finish(Disturbance::None).await;
}

/// A plan whose workflow panics whenever it wants to end, begun in the background, and its id.
async fn begin_stuck(hub: &TestHub, case: Case, deadline_ms: u64) -> String {
    case.script_stuck(hub, &[]);
    let mut body = case.body();
    body["bounds"] = json!({"deadline_ms": deadline_ms});
    body["background"] = json!(true);
    let accepted = hub.post("/v1/plan", &body).await.expect(202);
    accepted.body["id"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_whose_workflow_panics_ends_behind_its_own_deadline_and_not_before_a_later_one() {
    let mut hub = installation().workers(0).environment("TOKENHUB_EXECUTION_GRACE_MS", "2000").start().await;
    start_worker_that_panics_at(&mut hub, "record").await;
    let began = Instant::now();
    let first = begin_stuck(&hub, Case::new(&ADVERSARIAL, 1), 6_000).await;
    let second = begin_stuck(&hub, Case::new(&ADVERSARIAL, 2), 6_000).await;
    let longer = json!({"type": "extend_deadline", "deadline_ms": 40_000});
    hub.post(&format!("/v1/plan/{second}/signal"), &longer).await.expect(200);
    let read = async |id: &str, wait: &str| {
        let plan = hub.get(&format!("/v1/plan/{id}?wait={wait}")).await.unwrap().expect(200);
        (plan.body["status"].as_str().unwrap().to_owned(), plan.body["stop_reason"].clone())
    };
    let failed = ("failed".to_owned(), json!("execution_timeout"));
    assert_eq!(read(&first, "60s").await, failed);
    let ended = began.elapsed();
    assert!((Duration::from_secs(8)..Duration::from_secs(38)).contains(&ended), "{ended:?}");
    assert_eq!(read(&second, "0s").await.0, "running", "{ended:?}");
    let plan = hub.get(&format!("/v1/plan/{first}")).await.unwrap().expect(200).body;
    let attempts = hub.get(&format!("/v1/plan/{first}/steps")).await.unwrap().expect(200);
    for field in ["calls", "input_tokens", "output_tokens"] {
        assert!(plan["usage"][field].as_u64().unwrap() > 0, "{plan}");
        assert_eq!(plan["usage"][field], attempts.body["usage"][field], "{plan}");
    }
    assert_eq!(plan["steps"].as_array().unwrap().len() as u64, ADVERSARIAL.calls(), "{plan}");
    let events = hub.get(&format!("/v1/plan/{first}/events?format=json")).await.unwrap().expect(200);
    let last = events.body["data"].as_array().unwrap().last().unwrap().clone();
    assert_eq!((&last["event"], &last["data"]["stop_reason"]), (&json!("plan.failed"), &json!("execution_timeout")));
    let again = read(&second, "60s").await;
    assert_eq!(again, failed);
    assert!(began.elapsed() > Duration::from_secs(42), "{:?}", began.elapsed());
    assert_eq!(hub.provider.count(), 2 * ADVERSARIAL.calls(), "nothing is bought over and over");
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_waits_for_a_plan_that_panics_hears_why_it_was_ended() {
    let mut hub = installation().workers(0).environment("TOKENHUB_EXECUTION_GRACE_MS", "1000").start().await;
    start_worker_that_panics_at(&mut hub, "record").await;
    let case = Case::new(&ADVERSARIAL, 1);
    case.script_stuck(&hub, &[]);
    let mut body = case.body();
    body["bounds"] = json!({"deadline_ms": 2_000});
    // A request stops waiting five seconds behind the deadline; the next one joins the run.
    let key = [("Idempotency-Key", "waits")];
    let answer = eventually("somebody hears of the end", PATIENCE, || async {
        let answer = hub.post_with("/v1/plan", &key, &body).await;
        (answer.status != 503).then_some(answer)
    })
    .await
    .expect(500);
    assert_eq!(answer.body["code"], "execution_timeout", "{}", answer.text);
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_that_waits_for_a_person_has_no_deadline_to_be_late_for() {
    let hub = installation().environment("TOKENHUB_EXECUTION_GRACE_MS", "1000").start().await;
    let case = Case::new(&ADVERSARIAL, 1);
    case.script_stuck(&hub, &[]);
    let mut body = case.body();
    body["bounds"] = json!({"deadline_ms": 8_000});
    body["approval"] = json!({"timeout_ms": 600_000, "on_timeout": "fail"});
    let waiting = hub.post("/v1/plan", &body).await.expect(202);
    let path = format!("/v1/plan/{}", waiting.body["id"].as_str().unwrap());
    assert!(waiting.body["waiting"].is_object(), "{}", waiting.text);
    let still = hub.get(&format!("{path}?wait=25s")).await.unwrap().expect(200);
    assert_eq!(still.body["status"], "running", "{}", still.text);
    hub.post(&format!("{path}/signal"), &json!({"type": "approve"})).await.expect(200);
    let ended = hub.get(&format!("{path}?wait=30s")).await.unwrap().expect(200);
    assert_eq!(ended.body["status"], "completed", "{}", ended.text);
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_loses_the_thread_of_its_workflows_ends_and_another_one_carries_on() {
    let mut hub = installation().start().await;
    let threads = std::fs::read_dir(format!("/proc/{}/task", hub.workers[0].pid())).unwrap();
    let names = threads.filter_map(|thread| std::fs::read_to_string(thread.unwrap().path().join("comm")).ok());
    // Linux keeps 15 characters of a name. Without this thread the watch for it watches nothing.
    assert!(names.into_iter().any(|name| name.trim_end() == "workflow-proces"), "the core has renamed its thread");
    hub.workers.remove(0).stop(PATIENCE).await;
    hub.start_worker(&[("TOKENHUB_FAULT_CORE_PANIC_MS", "2000")]);
    let deadline = Instant::now() + PATIENCE;
    while !hub.workers[0].exited() {
        assert!(Instant::now() < deadline, "the worker lives on");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(hub.workers[0].output().contains("the thread of all workflows has panicked"));
    hub.workers.remove(0);
    hub.start_worker(&[]);
    hub.wait_until_durable().await;
    Case::new(&ADVERSARIAL, 0).undisturbed(&hub).await;
    hub.finish(Disturbance::None).await;
}
