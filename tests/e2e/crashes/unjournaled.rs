//! The worker dies with an answer in hand that it could not journal: it is paid for, and the step is paid for again.

use std::time::Duration;

use sea_orm::{ConnectOptions, ConnectionTrait, Database, TransactionTrait};
use serde_json::{Value, json};
use tokenhub_demo::Finished;

use super::replace_worker;
use crate::{
    evidence::assert_same_usage,
    harness::{Disturbance, TestHub, eventually},
    scripted::{Case, REFINE, STEP_MS, installation},
};

const PATIENCE: Duration = Duration::from_secs(30);
/// Long enough to lock the database meanwhile.
const CALL_MS: u64 = 1_000;

/// Whether a spool tells the end of a call.
fn is_settled(hub: &TestHub, attempt: &str) -> bool {
    let spools = std::fs::read_dir(hub.dir().join("data/spool")).unwrap();
    let texts = spools.flatten().filter_map(|spool| std::fs::read_to_string(spool.path()).ok());
    texts
        .flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>())
        .any(|line| line.contains(attempt) && line.contains("settled"))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_died_before_it_was_journaled_is_told_as_wasted() {
    let mut hub = installation().start().await;
    let undisturbed = Case::new(&REFINE, 0).undisturbed(&hub).await;
    let case = Case::new(&REFINE, 1);
    case.script(&hub, |step| vec![if step == "improvement/1" { CALL_MS } else { STEP_MS }]);
    let asked = case.ask(&hub);
    case.wait_until_in_flight(&hub, &["improvement/1"]).await;
    let (_, call) = case.calls(&hub).into_iter().find(|(step, _)| *step == "improvement/1").unwrap();
    let attempt = call.attempt_id.unwrap();

    let url = format!("sqlite://{}", hub.dir().join("data/tokenhub.db").display());
    let lock = Database::connect(ConnectOptions::new(url).max_connections(1).to_owned()).await.unwrap();
    let writing = lock.begin().await.unwrap();
    writing.execute_unprepared("UPDATE runs SET status = status WHERE run_id = ''").await.unwrap();
    eventually("the answer is in the spool", PATIENCE, || async { is_settled(&hub, &attempt).then_some(()) }).await;
    replace_worker(&mut hub);
    writing.rollback().await.unwrap();

    let answer = asked.await.unwrap().unwrap().answer.expect(200);
    assert_eq!(case.comparable(&answer), undisturbed);
    case.assert_calls(&hub, &answer, &["improvement/1"]);
    assert!(case.calls(&hub).iter().all(|(_, call)| call.finished == Finished::Answered));
    let path = format!("/v1/plan/{}/steps", answer.body["id"].as_str().unwrap());
    let steps = eventually("every attempt is listed with its end", PATIENCE, || async {
        let steps = hub.get(&path).await.unwrap().expect(200).body;
        let attempts = steps["data"].as_array().unwrap();
        (attempts.len() == 4 && attempts.iter().all(|attempt| !attempt["waste"].is_null())).then_some(steps)
    })
    .await;
    let wastes: Vec<&Value> = steps["data"].as_array().unwrap().iter().map(|step| &step["waste"]).collect();
    assert_eq!(wastes, ["used", "wasted", "used", "used"], "{steps:#}");
    assert_same_usage(&steps, &answer.body);
    let lost = &steps["data"][1];
    let tokens = lost["input_tokens"].as_u64().unwrap() + lost["output_tokens"].as_u64().unwrap();
    assert!(tokens > 0, "{steps:#}");
    assert_eq!(answer.body["usage"]["wasted_tokens"], tokens, "{}", answer.text);
    assert_eq!(answer.body["steps"][1]["wasted_tokens"], tokens, "{}", answer.text);
    let sums = json!({"calls": 1, "input_tokens": lost["input_tokens"], "output_tokens": lost["output_tokens"],
        "cost_usd": lost["cost_usd"]});
    assert_eq!(steps["wasted"], sums, "{steps:#}");
    hub.finish(Disturbance::Kills).await;
}
