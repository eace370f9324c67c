//! Leases on steps, and the first answer.

use tokenhub_domain::{AttemptId, NanoDollars, Owner, RunId, StepId, StepKey, UnixMicros, Use};
use tokenhub_store::{BackgroundCall, Completed, Lease, LeaseHeld, LeaseRequest, Store, StoreError};

use crate::{
    databases::{Database, on_both_databases},
    rows::{NOW, process, step_key, tenant},
};

const TTL_MS: u64 = 3_000;

on_both_databases!(
    of_many_senders_one_gets_the_lease,
    a_live_lease_is_busy_for_everybody_until_it_expires,
    a_renewed_lease_stays_and_a_lost_one_cannot_be_renewed,
    the_lease_of_a_dead_owner_can_be_ended_at_once,
    a_stored_answer_is_returned_instead_of_a_lease,
    the_first_answer_wins_whoever_holds_the_lease,
    an_answer_to_a_step_that_was_never_leased_is_refused,
    the_response_that_a_try_waits_for_is_found_by_the_next_holder_and_written_by_the_holder_alone,
);

async fn lease(store: &Store, key: &StepKey, owner: &Owner, now: UnixMicros) -> Lease {
    let (run_id, step) = (RunId::from("plan_1"), StepId::from("ballot/1"));
    let request = LeaseRequest { tenant: &tenant(), key, run_id: &run_id, step: &step, owner, now, ttl_ms: TTL_MS };
    store.journal().lease(request).await.unwrap()
}

async fn complete(store: &Store, key: &StepKey, owner: &Owner, outcome: &str, attempt: &str) -> Completed {
    let attempt = AttemptId::from(attempt);
    store.journal().complete(&tenant(), key, owner, outcome, &attempt, NOW.plus_millis(9)).await.unwrap()
}

async fn of_many_senders_one_gets_the_lease(database: Database) {
    let store = database.store().await;
    let leases: Vec<_> = (0..32)
        .map(|number| {
            let store = store.clone();
            tokio::spawn(async move { lease(&store, &step_key(1), &process(&number.to_string()), NOW).await })
        })
        .collect();
    let mut acquired = 0;
    for taken in leases {
        match taken.await.unwrap() {
            Lease::Acquired { epoch, earlier_epochs, .. } => {
                assert_eq!((epoch, earlier_epochs), (1, 0));
                acquired += 1;
            }
            Lease::Busy { .. } => {}
            Lease::Done(entry) => panic!("nothing was done: {entry:?}"),
        }
    }
    assert_eq!(acquired, 1);
}

async fn a_live_lease_is_busy_for_everybody_until_it_expires(database: Database) {
    let store = database.store().await;
    lease(&store, &step_key(1), &process("a"), NOW).await;
    let end = NOW.plus_millis(TTL_MS);
    for owner in [process("a"), process("b")] {
        let busy = lease(&store, &step_key(1), &owner, NOW.plus_millis(TTL_MS - 1)).await;
        assert_eq!(busy, Lease::Busy { owner: process("a"), lease_until: end });
    }
    let taken = lease(&store, &step_key(1), &process("b"), end).await;
    assert_eq!(taken, Lease::Acquired { epoch: 2, earlier_epochs: 1, lost_lease_until: Some(end) });
    let other_try = lease(&store, &step_key(2), &process("c"), NOW).await;
    assert_eq!(other_try, Lease::Acquired { epoch: 1, earlier_epochs: 0, lost_lease_until: None });
}

async fn a_renewed_lease_stays_and_a_lost_one_cannot_be_renewed(database: Database) {
    let store = database.store().await;
    let journal = store.journal();
    lease(&store, &step_key(1), &process("a"), NOW).await;
    let later = NOW.plus_millis(1_000);
    assert!(journal.renew(&tenant(), &step_key(1), &process("a"), 1, later, TTL_MS).await.unwrap());
    let busy = lease(&store, &step_key(1), &process("b"), NOW.plus_millis(TTL_MS)).await;
    assert_eq!(busy, Lease::Busy { owner: process("a"), lease_until: later.plus_millis(TTL_MS) });
    let after = later.plus_millis(TTL_MS);
    lease(&store, &step_key(1), &process("b"), after).await;
    assert!(!journal.renew(&tenant(), &step_key(1), &process("a"), 1, after, TTL_MS).await.unwrap());
}

async fn the_lease_of_a_dead_owner_can_be_ended_at_once(database: Database) {
    let store = database.store().await;
    let journal = store.journal();
    lease(&store, &step_key(1), &process("a"), NOW).await;
    assert!(!journal.take_over(&tenant(), &step_key(1), &process("b")).await.unwrap());
    assert!(matches!(lease(&store, &step_key(1), &process("b"), NOW).await, Lease::Busy { .. }));
    assert!(journal.take_over(&tenant(), &step_key(1), &process("a")).await.unwrap());
    let taken = lease(&store, &step_key(1), &process("b"), NOW).await;
    assert_eq!(taken, Lease::Acquired { epoch: 2, earlier_epochs: 1, lost_lease_until: None });
    assert!(!journal.take_over(&tenant(), &step_key(1), &process("a")).await.unwrap(), "it holds nothing any more");
}

async fn a_stored_answer_is_returned_instead_of_a_lease(database: Database) {
    let store = database.store().await;
    lease(&store, &step_key(1), &process("a"), NOW).await;
    let outcome = r#"{"answered":{"content":"zero: \u0000"}}"#;
    assert_eq!(complete(&store, &step_key(1), &process("a"), outcome, "att_1").await, Completed::First);
    let long_after = NOW.plus_millis(100 * TTL_MS);
    let Lease::Done(entry) = lease(&store, &step_key(1), &process("b"), long_after).await else {
        panic!("it would be bought again")
    };
    assert_eq!((entry.outcome_json.as_str(), entry.attempt.as_str(), entry.epoch), (outcome, "att_1", 1));
    assert_eq!(entry.completed_at, NOW.plus_millis(9));
    let row = store.journal().get(&tenant(), &step_key(1)).await.unwrap().unwrap();
    assert_eq!(row.entry, Some(entry));
    assert_eq!(store.journal().of_run(&tenant(), &RunId::from("plan_1")).await.unwrap(), [row]);
    assert!(!store.journal().take_over(&tenant(), &step_key(1), &process("a")).await.unwrap());
}

async fn the_first_answer_wins_whoever_holds_the_lease(database: Database) {
    let store = database.store().await;
    lease(&store, &step_key(1), &process("slow"), NOW).await;
    lease(&store, &step_key(1), &process("second"), NOW.plus_millis(TTL_MS)).await;
    assert_eq!(complete(&store, &step_key(1), &process("slow"), r#""slow""#, "att_1").await, Completed::First);
    let again = complete(&store, &step_key(1), &process("slow"), r#""slow""#, "att_1").await;
    assert!(matches!(again, Completed::Again(entry) if entry.attempt.as_str() == "att_1"));
    let Completed::AlreadyDone(kept) = complete(&store, &step_key(1), &process("second"), r#""x""#, "att_2").await
    else {
        panic!("the first answer was overwritten")
    };
    assert_eq!((kept.outcome_json.as_str(), kept.attempt.as_str()), (r#""slow""#, "att_1"));
    assert_eq!((kept.owner, kept.epoch), (process("slow"), 2));
}

async fn an_answer_to_a_step_that_was_never_leased_is_refused(database: Database) {
    let store = database.store().await;
    let answer =
        store.journal().complete(&tenant(), &step_key(1), &process("a"), "{}", &AttemptId::from("att_1"), NOW).await;
    assert!(matches!(answer, Err(StoreError::UnknownStep(_))));
}

async fn the_response_that_a_try_waits_for_is_found_by_the_next_holder_and_written_by_the_holder_alone(
    database: Database,
) {
    let store = database.store().await;
    let journal = store.journal();
    let (tenant, key, first, second) = (tenant(), step_key(1), process("a"), process("b"));
    let held = |owner, epoch| LeaseHeld { tenant: &tenant, key: &key, owner, epoch };
    let call = |response: &str| BackgroundCall {
        response: response.into(),
        attempt: AttemptId::from("att_1"),
        sent_at: NOW,
        taken: Some(Use { calls: 1, tokens: 2, cost: NanoDollars(3) }),
        reattached: 0,
    };
    lease(&store, &key, &first, NOW).await;
    assert_eq!(journal.background_of(&tenant, &key).await.unwrap(), None);
    assert!(journal.keep_background(held(&first, 1), &call("resp_1")).await.unwrap());
    lease(&store, &key, &second, NOW.plus_millis(TTL_MS)).await;
    assert_eq!(journal.background_of(&tenant, &key).await.unwrap(), Some(call("resp_1")));
    let again = BackgroundCall { reattached: 1, ..call("resp_1") };
    assert!(journal.keep_background(held(&second, 2), &again).await.unwrap());
    assert!(!journal.keep_background(held(&first, 1), &call("resp_2")).await.unwrap(), "it has lost its lease");
    complete(&store, &key, &second, "{}", "att_1").await;
    assert!(!journal.keep_background(held(&second, 2), &call("resp_3")).await.unwrap(), "it is done");
    assert_eq!(journal.background_calls_of(&tenant, &RunId::from("plan_1")).await.unwrap(), [again]);
}
