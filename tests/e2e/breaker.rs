//! Temporal away in every way there is: requests go on, say so, and nothing is paid for twice.

mod ambiguous;
mod slow_upload;

use std::time::Duration;

use nix::sys::signal::Signal;
use reqwest::Method;
use serde_json::{Value, json};
use temporalio_client::{WorkflowExecutionStatus, WorkflowGetResultOptions};
use tokenhub_demo::{Finished, Reply, Rule};
use tokenhub_domain::TenantId;
use tokenhub_store::Store;

use crate::harness::{Answer, Disturbance, Operator, TestHub, TestHubBuilder, eventually, exchange};

/// The promise is 1.5 s over normal; a loaded machine gets four times that.
const SLOWEST: Duration = Duration::from_secs(6);
/// Whatever comes back by itself does so within this.
const RETURN_PATIENCE: Duration = Duration::from_mins(1);
const COMPLETIONS: &str = "/v1/chat/completions";

fn builder() -> TestHubBuilder {
    TestHub::builder().environment("TOKENHUB_BREAKER_OPEN_MS", "1000")
}

fn chat(text: &str) -> Value {
    json!({"model": "alpha", "messages": [{"role": "user", "content": text}]})
}

/// How often `text` was paid for.
fn paid(hub: &TestHub, text: &str) -> usize {
    hub.provider.count_where(|call| call.last_text() == text)
}

#[track_caller]
fn assert_answered(hub: &TestHub, answer: Answer, text: &str, mark: &str, work: Duration) {
    let answer = answer.expect(200);
    assert_eq!(answer.header("x-tokenhub-durability"), mark, "{text}");
    assert_eq!(answer.body["choices"][0]["message"]["content"], text);
    assert!(answer.took < SLOWEST + work, "{text} took {:?}", answer.took);
    assert_eq!(paid(hub, text), 1, "{text}");
}

/// Asks, and asserts that the answer came in time, at the price of one call and with this mark. Returns the run's id.
async fn ask(hub: &TestHub, text: &str, mark: &str) -> String {
    let answer = hub.post(COMPLETIONS, &chat(text)).await;
    let run_id = answer.header("x-tokenhub-run-id").to_owned();
    assert_answered(hub, answer, text, mark, Duration::ZERO);
    run_id
}

/// Asks for durable service only, and asserts that it is refused at no price.
async fn ask_required_in_vain(hub: &TestHub, text: &str) {
    let answer = hub.post_with(COMPLETIONS, &[("x-tokenhub-durability", "required")], &chat(text)).await.expect(503);
    assert!(answer.took < SLOWEST, "{text} took {:?}", answer.took);
    assert_ne!(answer.header("retry-after"), "", "{text}");
    assert_eq!(paid(hub, text), 0, "{text}");
}

/// A request on its way.
fn asking(hub: &TestHub, text: &str, headers: &[(&str, &str)]) -> tokio::task::JoinHandle<Answer> {
    let mut request = hub.request(Method::POST, COMPLETIONS).json(&chat(text));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    tokio::spawn(async move { exchange(request).await.unwrap() })
}

async fn wait_for_call(hub: &TestHub, text: &str) {
    let arrived = |calls: &[tokenhub_demo::SeenCall]| calls.iter().any(|call| call.last_text() == text);
    assert!(hub.provider.wait_until(RETURN_PATIENCE, arrived).await, "no call for {text}");
}

async fn health(hub: &TestHub) -> Value {
    hub.get("/healthz?verbose").await.unwrap().body
}

/// The breaker tripped for `reason`, and the API is degraded but ready.
async fn assert_open(hub: &TestHub, reasons: &[&str]) {
    let health = health(hub).await;
    let breaker = &health["temporal"]["breaker"];
    assert_ne!(breaker["state"], "closed", "{breaker}");
    assert!(reasons.contains(&breaker["reason"].as_str().unwrap_or_default()), "{breaker}");
    assert_eq!(health["status"], "degraded");
    assert_eq!(hub.get("/readyz").await.unwrap().status.as_u16(), 200);
}

async fn assert_closed_and_untouched(hub: &TestHub) {
    let breaker = health(hub).await["temporal"]["breaker"].clone();
    assert_eq!((&breaker["state"], &breaker["failures"]), (&json!("closed"), &json!(0)), "{breaker}");
}

/// Every workflow has ended; those that woke up late have bought what they buy.
async fn wait_until_quiet(operator: &Operator) {
    eventually("no workflow runs", RETURN_PATIENCE, || async {
        operator.list("ExecutionStatus = 'Running'").await.is_empty().then_some(())
    })
    .await;
}

/// The log of a stream is written without Temporal, too.
async fn wait_until_logged(hub: &TestHub, run_id: &str) {
    let path = hub.dir().join("data/tokenhub.db");
    let store = Store::open(&format!("sqlite://{}?mode=rw", path.display())).await.unwrap();
    eventually("the stream is logged", RETURN_PATIENCE, || async {
        let lines = store.request_log().list(&TenantId::default_tenant(), None, 100).await.unwrap();
        lines.iter().any(|line| line.run.run_id.as_str() == run_id).then_some(())
    })
    .await;
}

/// The workflow of `run_id` came too late and did nothing.
async fn assert_superseded(operator: &Operator, run_id: &str) {
    let workflows = operator.workflows_of(run_id).await;
    assert_eq!(workflows.len(), 1, "{workflows:?}");
    let ended = operator.ended(&workflows[0], RETURN_PATIENCE).await;
    assert_eq!(ended, WorkflowExecutionStatus::Completed);
    let result = operator.handle(&workflows[0]).get_result(WorkflowGetResultOptions::default()).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&result.payloads[0].data), "\"superseded\"");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_temporal_killed_requests_are_answered_in_process_and_durable_service_returns_by_itself() {
    let mut hub = builder().start().await;
    ask(&hub, "before", "durable").await;
    hub.temporal.kill();
    for text in ["killed 1", "killed 2", "killed 3", "killed 4"] {
        ask(&hub, text, "none").await;
    }
    assert_open(&hub, &["connect_refused", "unavailable", "start_deadline"]).await;
    ask_required_in_vain(&hub, "killed and required").await;

    let before = hub.provider.count();
    let vote = json!({"request": {"messages": [{"role": "user", "content": "killed vote"}]},
        "orchestration": {"mode": "vote", "voters": 3, "method": "majority"}});
    let plan = hub.post("/v1/plan", &vote).await.expect(200);
    assert_eq!((&plan.body["durable"], &plan.body["status"]), (&json!(false), &json!("completed")), "{}", plan.text);
    assert_eq!(plan.body["usage"]["calls"], hub.provider.count() - before);

    let mut streamed = chat("killed stream");
    streamed["stream"] = json!(true);
    let stream = hub.post(COMPLETIONS, &streamed).await.expect(200);
    assert_eq!(stream.header("x-tokenhub-durability"), "stream");
    assert!(stream.text.ends_with("data: [DONE]\n\n"), "{}", stream.text);
    wait_until_logged(&hub, stream.header("x-tokenhub-run-id")).await;

    hub.temporal.start().await;
    hub.wait_until_durable().await;
    ask(&hub, "after", "durable").await;
    wait_until_quiet(&Operator::connect(&hub.temporal).await).await;
    for text in ["killed 1", "killed 2", "killed 3", "killed 4"] {
        assert_eq!(paid(&hub, text), 1, "{text}");
    }
    assert_eq!(paid(&hub, "killed and required"), 0);
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_temporal_hung_before_the_start_requests_are_answered_in_process_and_late_starts_buy_nothing() {
    let mut hub = builder().start().await;
    hub.temporal.process().signal(Signal::SIGSTOP);
    ask_required_in_vain(&hub, "hung and required").await;
    for text in ["hung 1", "hung 2", "hung 3"] {
        ask(&hub, text, "none").await;
    }
    assert_open(&hub, &["start_deadline", "unavailable"]).await;

    hub.temporal.process().signal(Signal::SIGCONT);
    hub.wait_until_durable().await;
    ask(&hub, "after", "durable").await;
    wait_until_quiet(&Operator::connect(&hub.temporal).await).await;
    for (text, calls) in [("hung 1", 1), ("hung 2", 1), ("hung 3", 1), ("hung and required", 0)] {
        assert_eq!(paid(&hub, text), calls, "{text}");
    }
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_temporal_holds_when_it_hangs_waits_for_it_and_is_not_run_elsewhere() {
    let mut hub = builder().start().await;
    hub.provider.script(Rule::any([Reply::echo().delay_ms(2_000)]).containing("held"));
    let held = asking(&hub, "held", &[]);
    wait_for_call(&hub, "held").await;
    hub.temporal.process().signal(Signal::SIGSTOP);
    ask(&hub, "beside", "none").await;
    // Longer than the provider takes, the heartbeat lasts and the start deadline is.
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(!held.is_finished(), "a run of a hung Temporal was answered by somebody else");
    assert_eq!(paid(&hub, "held"), 1);

    hub.temporal.process().signal(Signal::SIGCONT);
    let answer = tokio::time::timeout(RETURN_PATIENCE, held).await.expect("the held run ends").unwrap();
    assert_answered(&hub, answer, "held", "durable", RETURN_PATIENCE);
    hub.wait_until_durable().await;
    ask(&hub, "after", "durable").await;
    wait_until_quiet(&Operator::connect(&hub.temporal).await).await;
    assert_eq!((paid(&hub, "held"), paid(&hub, "beside")), (1, 1));
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn temporal_may_be_absent_at_the_start_and_come_later() {
    let mut hub = builder().temporal_absent().start().await;
    ask(&hub, "absent", "none").await;
    assert_open(&hub, &["connect_refused"]).await;
    ask_required_in_vain(&hub, "absent and required").await;
    assert!(!hub.workers[0].exited(), "the worker waits for Temporal:\n{}", hub.workers[0].output());

    hub.temporal.start().await;
    hub.wait_until_durable().await;
    ask(&hub, "present", "durable").await;
    let health = health(&hub).await;
    assert_eq!((&health["status"], &health["temporal"]["connected"]), (&json!("ok"), &json!(true)));
    assert_eq!((paid(&hub, "absent"), paid(&hub, "absent and required")), (1, 0));
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_any_worker_requests_run_in_process_until_one_comes() {
    let mut hub = builder().workers(0).start().await;
    for text in ["alone 1", "alone 2"] {
        ask(&hub, text, "none").await;
    }
    ask_required_in_vain(&hub, "alone and required").await;
    hub.start_worker(&[]);
    hub.wait_until_durable().await;
    ask(&hub, "together", "durable").await;
    assert_eq!((paid(&hub, "alone 1"), paid(&hub, "alone 2"), paid(&hub, "alone and required")), (1, 1, 0));
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn workflows_that_lost_their_worker_find_the_claim_taken_and_buy_nothing() {
    let mut hub = TestHub::builder().environment("TOKENHUB_BREAKER_OPEN_MS", "4000").start().await;
    ask(&hub, "before", "durable").await;
    hub.workers.remove(0).kill();
    // Whoever asks for durability only stays with Temporal until a worker comes.
    let required = asking(&hub, "patient", &[("x-tokenhub-durability", "required")]);
    let mut late = Vec::new();
    for text in ["lost 1", "lost 2", "lost 3"] {
        late.push(ask(&hub, text, "none").await);
    }
    assert_open(&hub, &["no_poller"]).await;
    // The third came to a closed or an open breaker; the first two have a workflow for certain.
    assert_eq!(paid(&hub, "patient"), 0);

    hub.start_worker(&[]);
    let answer = tokio::time::timeout(RETURN_PATIENCE, required).await.expect("the patient run ends").unwrap();
    assert_answered(&hub, answer, "patient", "durable", RETURN_PATIENCE);
    hub.wait_until_durable().await;
    ask(&hub, "after", "durable").await;
    let operator = Operator::connect(&hub.temporal).await;
    assert_superseded(&operator, &late[0]).await;
    assert_superseded(&operator, &late[1]).await;
    wait_until_quiet(&operator).await;
    for text in ["lost 1", "lost 2", "lost 3", "patient"] {
        assert_eq!(paid(&hub, text), 1, "{text}");
    }
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_wakes_up_while_the_run_goes_on_in_process_does_not_run_it_again() {
    let hub = builder().start().await;
    hub.provider.script(Rule::any([Reply::echo().delay_ms(3_000)]).containing("frozen"));
    hub.workers[0].signal(Signal::SIGSTOP);
    let running = asking(&hub, "frozen", &[]);
    wait_for_call(&hub, "frozen").await;
    hub.workers[0].signal(Signal::SIGCONT);
    let answer = running.await.unwrap();
    let run_id = answer.header("x-tokenhub-run-id").to_owned();
    assert_answered(&hub, answer, "frozen", "none", Duration::from_secs(3));
    assert_superseded(&Operator::connect(&hub.temporal).await, &run_id).await;
    assert_eq!(paid(&hub, "frozen"), 1);
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_of_providers_and_disconnects_of_clients_leave_the_breaker_closed() {
    let hub = TestHub::builder().start().await;
    hub.provider.script(Rule::any([Reply::error(500, "server_error", "broken")]).containing("fails"));
    let failing: Vec<_> = ["fails 1", "fails 2", "fails 3"].map(|text| asking(&hub, text, &[])).into();
    for answer in failing {
        let answer = answer.await.unwrap().expect(502);
        assert_eq!(answer.header("x-tokenhub-durability"), "durable");
    }
    assert_eq!(hub.provider.count(), 9, "three tries each");
    assert_closed_and_untouched(&hub).await;

    assert_disconnects_kill_nothing(&hub, "durable").await;
    assert_closed_and_untouched(&hub).await;
    ask(&hub, "after", "durable").await;
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disconnect_does_not_kill_a_run_that_is_carried_in_process() {
    let hub = TestHub::builder().temporal_off().start().await;
    assert_disconnects_kill_nothing(&hub, "none").await;
    hub.finish(Disturbance::None).await;
}

/// Three clients go away in the middle; their runs finish, and each client that comes back finds its answer.
async fn assert_disconnects_kill_nothing(hub: &TestHub, mark: &str) {
    let texts = ["gone 1", "gone 2", "gone 3"];
    hub.provider.script(Rule::any([Reply::echo().delay_ms(1_500)]).containing("gone"));
    let clients = texts.map(|text| asking(hub, text, &[("idempotency-key", text)]));
    for text in texts {
        wait_for_call(hub, text).await;
    }
    for client in &clients {
        client.abort();
    }
    let is_answered = |calls: &[tokenhub_demo::SeenCall]| {
        calls.iter().filter(|call| call.last_text().starts_with("gone") && call.finished == Finished::Answered).count()
            == texts.len()
    };
    assert!(hub.provider.wait_until(RETURN_PATIENCE, is_answered).await, "a disconnect reached the provider");
    for text in texts {
        let again = asking(hub, text, &[("idempotency-key", text)]).await.unwrap();
        let run_id = again.header("x-tokenhub-run-id").to_owned();
        assert_answered(hub, again, text, mark, Duration::ZERO);
        let run = hub.get(&format!("/v1/plan/{run_id}")).await.unwrap().expect(200);
        assert_eq!(run.body["status"], "completed", "{}", run.text);
    }
}
