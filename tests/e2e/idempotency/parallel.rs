//! Many requests with one key at the same moment, at two APIs that know nothing of each other.

use super::{KEY, ask, assert_other_body_is_refused, assert_replayed, told};
use crate::{
    harness::{Disturbance, TestHub},
    scripted::{Case, VOTE, installation},
};

const REQUESTS: usize = 100;

/// A hundred requests make one run, and whoever comes later gets its stored result.
async fn a_hundred_are_one(hub: TestHub, mark: &str) {
    let case = Case::new(&VOTE, 1);
    case.script(&hub, |_| vec![300]);
    let asked: Vec<_> = (0..REQUESTS).map(|index| case.ask_at(&hub, index % 2, &[KEY])).collect();
    case.wait_until_in_flight(&hub, &["ballot/1"]).await;
    assert_other_body_is_refused(&hub, 1).await;
    let mut first = None;
    for asked in asked {
        let answer = told(asked.await);
        assert_eq!(answer.header("x-tokenhub-durability"), mark);
        let first = first.get_or_insert_with(|| answer.body.clone());
        assert_eq!(answer.body, *first);
    }
    let replayed = ask(&hub, case).await;
    assert_replayed(&replayed, &first.unwrap());
    assert_other_body_is_refused(&hub, 0).await;
    case.assert_calls(&hub, &replayed, &[]);
    assert_eq!(hub.provider.calls().len(), VOTE.steps.len(), "one set of calls");
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_requests_with_one_key_are_one_workflow() {
    a_hundred_are_one(installation().apis(2).start().await, "durable").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_requests_with_one_key_are_one_run_without_temporal() {
    a_hundred_are_one(installation().temporal_off().apis(2).start().await, "none").await;
}
