//! The figures of each process: what the Temporal SDK counts beside what the runs came to.

use std::time::Duration;

use serde_json::json;
use tokenhub_demo::{Reply, Rule};

use crate::harness::{Disturbance, Process, TestHub, eventually, exchange, http};

/// Makes a worker show its figures.
pub const METRICS: (&str, &str) = ("TOKENHUB_WORKER_METRICS_ADDR", "127.0.0.1:0");
const SAYS: &str = "metrics are at /metrics";
const PATIENCE: Duration = Duration::from_mins(1);

/// The page of a worker that was started with [`METRICS`].
pub async fn page_of(worker: &Process) -> String {
    eventually("the page of figures is there", PATIENCE, || async {
        let output = worker.output();
        let line = output.lines().find(|line| line.contains(SAYS))?;
        let address = line.split("address=").nth(1)?.split_whitespace().next()?;
        Some(format!("http://{address}/metrics"))
    })
    .await
}

/// The series of `name` on a page: labels and value.
pub async fn figure_of(page: &str, name: &str) -> Vec<(String, f64)> {
    let Ok(answer) = exchange(http().get(page)).await else { return Vec::new() };
    series(&answer.text, name)
}

fn series(text: &str, name: &str) -> Vec<(String, f64)> {
    let read = |line: &str| {
        let (series, value) = line.rsplit_once(' ')?;
        let (found, labels) = series.split_once('{').unwrap_or((series, ""));
        (found == name).then(|| Some((labels.trim_end_matches('}').to_owned(), value.parse().ok()?)))?
    };
    text.lines().filter_map(read).collect()
}

fn sum_of(text: &str, name: &str, label: &str) -> f64 {
    series(text, name).iter().filter(|(labels, _)| labels.contains(label)).map(|(_, value)| value).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_and_an_api_show_what_the_sdk_counts_and_what_the_runs_came_to() {
    let mut hub = TestHub::builder().workers(0).environment("TOKENHUB_START_DEADLINE_MS", "15000").start().await;
    hub.start_worker(&[METRICS]);
    hub.wait_until_durable().await;
    hub.provider.script(Rule::any([Reply::text("red").delay_ms(20)]));
    let vote = json!({"request": {"messages": [{"role": "user", "content": "which colour?"}]},
        "orchestration": {"mode": "vote", "voters": 3, "method": "majority"}});
    let plan = hub.post("/v1/plan", &vote).await.expect(200);
    assert_eq!(plan.body["durable"], true, "{}", plan.text);
    let page = page_of(&hub.workers[0]).await;
    let text = eventually("the run is counted", PATIENCE, || async {
        let answer = exchange(http().get(&page)).await.ok()?.expect(200);
        assert!(answer.header("content-type").starts_with("application/openmetrics-text"));
        (sum_of(&answer.text, "tokenhub_steps_total", "role=\"voter\"") > 0.0).then_some(answer.text)
    })
    .await;
    let attempts = sum_of(&text, "tokenhub_step_attempts_total", "role=\"voter\"");
    assert!((attempts - plan.body["usage"]["calls"].as_f64().unwrap()).abs() < 0.5, "{text}");
    for name in ["tokenhub_judge_order_flips_total", "tokenhub_wasted_tokens_total", "tokenhub_budget_reserved_usd"] {
        assert!(!series(&text, name).is_empty(), "{name} in\n{text}");
    }
    assert!(sum_of(&text, "temporal_workflow_completed_total", "workflow_type=\"VoteWorkflow\"") >= 1.0, "{text}");
    let latency = "temporal_activity_execution_latency_count";
    assert!(sum_of(&text, latency, "activity_type=\"send_to_provider\"") >= 2.0, "{text}");
    assert!(sum_of(&text, "temporal_long_request_total", "operation=\"PollWorkflowTaskQueue\"") >= 1.0, "{text}");
    assert!(sum_of(&text, "temporal_num_pollers", "poller_type") >= 1.0, "{text}");
    assert!(!text.contains(plan.body["id"].as_str().unwrap()), "no id is a label");

    let text = hub.get("/metrics").await.unwrap().expect(200).text;
    assert!(sum_of(&text, "temporal_request_total", "operation=\"StartWorkflowExecution\"") >= 1.0, "{text}");
    let in_process = [("X-TokenHub-Durability", "none")];
    hub.post_with("/v1/plan", &in_process, &vote).await.expect(200);
    let text = hub.get("/metrics").await.unwrap().expect(200).text;
    assert!(sum_of(&text, "tokenhub_steps_total", "role=\"voter\"") >= 2.0, "who records a run counts it: {text}");

    hub.start_worker(&[]);
    eventually("another worker polls", PATIENCE, || async {
        hub.workers[1].output().contains("polling").then_some(())
    })
    .await;
    assert!(!hub.workers[1].output().contains(SAYS), "nobody asked for its page");
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_is_carried_on_after_a_death_tells_how_long_it_lay_still() {
    let mut hub = TestHub::builder().environment("TOKENHUB_START_DEADLINE_MS", "15000").start().await;
    hub.wait_until_durable().await;
    hub.provider.script(Rule::any([Reply::text("never read").delay_ms(30_000), Reply::text("red")]));
    let body = json!({"request": {"messages": [{"role": "user", "content": "which colour?"}]},
        "strategy": {"type": "single"}, "background": true});
    let accepted = hub.post("/v1/plan", &body).await.expect(202);
    eventually("the call is in flight", PATIENCE, || async { (hub.provider.count() == 1).then_some(()) }).await;
    hub.start_worker(&[METRICS]);
    let page = page_of(&hub.workers[1]).await;
    let recovery = |what: &str| format!("tokenhub_plan_recovery_seconds_{what}");
    assert_eq!(figure_of(&page, &recovery("count")).await, [(String::new(), 0.0)]);
    hub.workers[0].kill();
    hub.workers.remove(0);
    let path = format!("/v1/plan/{}?wait=60s", accepted.body["id"].as_str().unwrap());
    let ended = hub.get(&path).await.unwrap().expect(200);
    assert_eq!((&ended.body["status"], hub.provider.count()), (&json!("completed"), 2), "{}", ended.text);
    assert_eq!(figure_of(&page, &recovery("count")).await, [(String::new(), 1.0)]);
    let seconds = figure_of(&page, &recovery("sum")).await[0].1;
    println!("the step lay still for {seconds} s");
    assert!((0.1..10.0).contains(&seconds), "{seconds}");
    let of_api = hub.get("/metrics").await.unwrap().expect(200).text;
    assert!(sum_of(&of_api, &recovery("bucket"), "+Inf") < 0.5, "{of_api}");
    assert!(!series(&of_api, &recovery("count")).is_empty(), "{of_api}");
    hub.finish(Disturbance::Kills).await;
}
