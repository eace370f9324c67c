//! A worker dies between two tries of a step, or during one.

use std::time::{Duration, Instant};

use reqwest::Method;
use tokenhub_demo::{Reply, Rule};
use tokenhub_store::{LedgerState, Store};

use super::{called, chat, installation};
use crate::harness::{Disturbance, eventually, exchange};

/// Recovery takes under 5 s.
const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_in_between_does_not_use_up_a_try() {
    let mut hub = installation().start().await;
    let boom = || Reply::error(500, "server_error", "boom");
    // The first try fails, the second is in flight when the worker dies, and fails when it is made again; so does the
    // third. Only then is it the next model's turn.
    let slow = Reply::text("never heard").delay_ms(60_000);
    hub.provider.script(Rule::model("alpha", [boom(), slow, boom(), boom(), Reply::text("a try too many")]));
    hub.provider.script(Rule::model("beta", [Reply::text("second best")]));

    let request = hub.request(Method::POST, "/v1/chat/completions").json(&chat(None, "crash"));
    let asking = tokio::spawn(exchange(request));
    assert!(hub.provider.wait_until(PATIENCE, |calls| calls.len() == 2).await, "no second call");
    hub.workers[0].kill();
    let killed = Instant::now();
    hub.start_worker(&[]);
    assert!(hub.provider.wait_until(PATIENCE, |calls| calls.len() == 3).await, "the call was not made again");
    println!("the call in flight was made again {:?} after the kill", killed.elapsed());
    let answer = tokio::time::timeout(PATIENCE, asking).await.expect("an answer after the crash").unwrap().unwrap();
    let answer = answer.expect(200);

    assert_eq!(answer.body["choices"][0]["message"]["content"], "second best");
    assert_eq!(answer.header("x-tokenhub-durability"), "durable");
    assert_eq!(called(&hub, "crash"), ["alpha", "alpha", "alpha", "alpha", "beta"]);
    let run = hub.get(&format!("/v1/plan/{}", answer.header("x-tokenhub-run-id"))).await.unwrap().expect(200);
    assert_eq!(run.body["steps"][0]["attempts"], 4, "three at alpha, one at beta: {}", run.text);
    assert_eq!(run.body["usage"]["duplicate_calls"], 1, "{}", run.text);
    assert_eq!(run.body["usage"]["calls"], 4, "{}", run.text);

    let database = hub.dir().join("data").join("tokenhub.db");
    let store = Store::open(&format!("sqlite://{}?mode=rwc", database.display())).await.unwrap();
    let rows = eventually("every call has ended in the ledger", PATIENCE, || async {
        let rows = store.ledger_rows().all().await.unwrap();
        let open = rows.iter().any(|row| matches!(row.state, LedgerState::Reserved | LedgerState::Sent));
        (rows.len() == 5 && !open).then_some(rows)
    })
    .await;
    let in_state = |state: LedgerState| rows.iter().filter(|row| row.state == state).count();
    assert_eq!(in_state(LedgerState::Orphaned), 1, "{rows:#?}");
    assert_eq!(in_state(LedgerState::Void), 3, "{rows:#?}");
    assert_eq!(in_state(LedgerState::Settled), 1, "{rows:#?}");
    let orphan = rows.iter().find(|row| row.state == LedgerState::Orphaned).unwrap();
    assert_eq!(Some(orphan.attempt.to_string()), hub.provider.calls()[1].attempt_id);
    hub.finish(Disturbance::Kills).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_while_a_hint_is_waited_out_costs_no_call_and_shortens_no_wait() {
    let mut hub = installation().start().await;
    let slow_down = Reply::error(429, "rate_limit_exceeded", "slow down").header("retry-after", "3");
    hub.provider.script(Rule::model("alpha", [slow_down, Reply::text("at last")]));
    let request = hub.request(Method::POST, "/v1/chat/completions").json(&chat(Some("alpha"), "wait"));
    let asking = tokio::spawn(exchange(request));
    assert!(hub.provider.wait_until(PATIENCE, |calls| calls.len() == 1).await, "no call");
    // The wait is a timer of the server by now; a worker that dies earlier finds the failure in the journal.
    tokio::time::sleep(Duration::from_millis(500)).await;
    hub.workers[0].kill();
    hub.start_worker(&[]);
    let answer = tokio::time::timeout(PATIENCE, asking).await.expect("an answer after the crash").unwrap().unwrap();
    let answer = answer.expect(200);
    assert_eq!(answer.body["choices"][0]["message"]["content"], "at last");
    let calls = hub.provider.calls();
    assert_eq!(calls.len(), 2);
    assert!(calls[1].at_micros - calls[0].at_micros >= 3_000_000);
    let run = hub.get(&format!("/v1/plan/{}", answer.header("x-tokenhub-run-id"))).await.unwrap().expect(200);
    assert_eq!(run.body["steps"][0]["attempts"], 2, "{}", run.text);
    assert_eq!(run.body["usage"]["duplicate_calls"], 0, "{}", run.text);
    hub.finish(Disturbance::Kills).await;
}
