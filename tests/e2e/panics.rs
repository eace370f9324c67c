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

/// A worker whose workflows panic when they ask for the critique.
async fn start_faulty_worker(hub: &mut TestHub) -> String {
    hub.start_worker(&[("TOKENHUB_FAULT_PANIC", "critique/1"), METRICS]);
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
