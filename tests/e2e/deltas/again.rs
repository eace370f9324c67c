//! A client comes late, or again: no event is missing or there twice, and what is still being written it gets from the
//! beginning.

use tokenhub_demo::{Reply, Rule, SeenCall};

use super::{PATIENCE, assert_in_place, facts, is_delta, open, plan, plan_id, text_of, texts, words};
use crate::{
    harness::{Disturbance, TestHub},
    plan_events::reading::{EventStream, assert_numbered, names},
    scripted::installation,
};

async fn resume(hub: &TestHub, api: usize, id: &str, after: u64) -> EventStream {
    let request = hub.request_to(api, reqwest::Method::GET, &format!("/v1/plan/{id}/events"));
    EventStream::open(request.header("last-event-id", after.to_string())).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_comes_again_gets_each_event_once_and_what_is_being_written_from_the_start() {
    let hub = installation().apis(2).start().await;
    // The second answer is half written until the test lets the provider go on.
    let slow = Reply::text(words("second")).gap_ms(100);
    hub.provider.script(Rule::model("alpha", [Reply::text(words("first")).gap_ms(5), slow]));
    let body = plan(&serde_json::json!({"type": "refine", "rounds": 1, "model": "alpha"}));
    let mut stream = open(&hub, &body).await;
    let mut seen =
        stream.until(|event| is_delta(event) && event.data["step"] == "improvement/1" && event.data["seq"] == 2).await;
    let id = plan_id(&seen).to_owned();
    let last = facts(&seen).last().unwrap().id;
    drop(stream);

    let late = resume(&hub, 1, &id, 0).await;
    let again = resume(&hub, 1, &id, last).await.rest().await;
    assert!(again.iter().filter(|event| is_delta(event)).all(|event| event.data["step"] == "improvement/1"));
    assert_eq!(text_of(&again, "improvement/1", 1), words("second"));
    assert_eq!(text_of(&seen, "answer", 1), words("first"));
    let known: Vec<_> = facts(&seen);
    seen = [known, facts(&again)].concat();
    assert_numbered(&seen);

    let late = late.rest().await;
    assert_in_place(&late);
    assert_eq!(names(&facts(&late)), names(&seen));
    assert_eq!(texts(&late).into_iter().collect::<Vec<_>>(), [(("improvement/1".to_owned(), 1), words("second"))]);
    let after_the_end = resume(&hub, 0, &id, 0).await.rest().await;
    assert!(!after_the_end.iter().any(is_delta), "nothing is being written any more");
    assert_eq!(names(&after_the_end), names(&seen));
    assert_eq!(hub.provider.count(), 2);
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_changes_nothing_and_a_repetition_of_its_request_hears_the_rest() {
    let hub = installation().temporal_off().start().await;
    hub.provider.script(Rule::model("alpha", [Reply::text(words("word")).gap_ms(60)]));
    let keyed = || {
        hub.request(reqwest::Method::POST, "/v1/plan").header("idempotency-key", "one").json(&super::single("alpha"))
    };
    let mut first = EventStream::open(keyed()).await;
    first.until(is_delta).await;
    drop(first);
    let answering = |calls: &[SeenCall]| calls.len() == 1;
    assert!(hub.provider.wait_until(PATIENCE, answering).await);
    let second = EventStream::open(keyed()).await.rest().await;
    assert_numbered(&facts(&second));
    assert_eq!(text_of(&second, "answer", 1), words("word"));
    assert_eq!(hub.provider.count(), 1);
    hub.finish(Disturbance::None).await;
}
