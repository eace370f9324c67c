//! Webhooks on their way: made with their run, due by its end, and each in one hand at a time.

use std::collections::BTreeSet;

use tokenhub_domain::{InstanceId, PlanEvent, RunId, RunStatus, UnixMicros, Webhook, limits};
use tokenhub_store::{AfterTry, DeliveryRow, DeliveryState, Inserted, NewRun, Redelivery, Store, TryEnd};

use crate::{
    databases::{Database, on_both_databases},
    rows::{NOW, result, run, scoped_run, tenant, workflow},
};

on_both_databases!(
    a_webhook_waits_for_the_end_of_its_run_and_is_due_by_it_alone,
    a_webhook_of_an_end_that_nobody_wants_to_hear_of_goes_away,
    a_repeated_request_makes_no_second_webhook_and_the_next_generation_one_of_its_own,
    of_eight_who_look_at_once_each_webhook_has_one,
    a_webhook_whose_holder_died_is_taken_over_and_what_the_dead_says_later_does_not_count,
    a_webhook_is_taken_tried_again_or_given_up,
    a_webhook_is_sent_again_when_an_administrator_says_so,
    webhooks_are_listed_newest_first_by_state_and_page,
);

fn webhook(events: &[PlanEvent]) -> Webhook {
    Webhook { url: "https://hooks.example/a".to_owned(), events: events.to_vec() }
}

fn process(name: &str) -> InstanceId {
    InstanceId::from(name)
}

async fn new_run(store: &Store, events: &[PlanEvent]) -> RunId {
    let run_id = RunId::generate_plan();
    store.runs().insert(&NewRun { webhook: Some(webhook(events)), ..run(&run_id) }).await.unwrap();
    run_id
}

async fn end(store: &Store, run_id: &RunId, status: RunStatus) {
    store.runs().claim(&tenant(), run_id, &workflow("w"), NOW).await.unwrap();
    assert!(store.runs().finish(&tenant(), run_id, &workflow("w"), &result(status)).await.unwrap());
}

async fn all(store: &Store) -> Vec<DeliveryRow> {
    store.webhook_deliveries().page(None, None, 1_000).await.unwrap()
}

/// A webhook that is due.
async fn due(store: &Store) -> RunId {
    let run_id = new_run(store, &[]).await;
    end(store, &run_id, RunStatus::Completed).await;
    assert_eq!(store.webhook_deliveries().release_ended(NOW).await.unwrap(), 1);
    run_id
}

async fn claim(store: &Store, owner: &str, now: UnixMicros) -> Option<DeliveryRow> {
    store.webhook_deliveries().claim_due(&process(owner), now, 1).await.unwrap().pop()
}

fn ended(next: AfterTry, status: Option<u16>) -> TryEnd {
    let error = status.is_none_or(|status| status >= 300).then(|| "no\0".to_owned());
    TryEnd { next, status, error, at: NOW }
}

async fn a_webhook_waits_for_the_end_of_its_run_and_is_due_by_it_alone(database: Database) {
    let store = database.store().await;
    let deliveries = store.webhook_deliveries();
    let run_id = new_run(&store, &[]).await;
    store.runs().insert(&run(&RunId::generate_plan())).await.unwrap();
    assert_eq!(deliveries.release_ended(NOW).await.unwrap(), 0);
    assert_eq!(claim(&store, "a", NOW).await, None);
    let waiting = all(&store).await;
    assert_eq!((waiting.len(), waiting[0].state, &waiting[0].run_id), (1, DeliveryState::Waiting, &run_id));
    for (status, event) in [
        (RunStatus::Completed, PlanEvent::PlanCompleted),
        (RunStatus::CompletedPartial, PlanEvent::PlanCompletedPartial),
        (RunStatus::Failed, PlanEvent::PlanFailed),
        (RunStatus::Cancelled, PlanEvent::PlanCancelled),
    ] {
        let run_id = new_run(&store, &[]).await;
        end(&store, &run_id, status).await;
        assert_eq!(deliveries.release_ended(NOW).await.unwrap(), 1, "{status:?}");
        assert_eq!(deliveries.release_ended(NOW).await.unwrap(), 0, "once is enough");
        let row = claim(&store, "a", NOW).await.unwrap();
        assert_eq!((row.run_id, row.event, row.tries), (run_id, Some(event), 1));
    }
}

async fn a_webhook_of_an_end_that_nobody_wants_to_hear_of_goes_away(database: Database) {
    let store = database.store().await;
    let events = [PlanEvent::PlanFailed, PlanEvent::PlanCancelled];
    for (status, wanted) in [(RunStatus::Completed, 0), (RunStatus::Failed, 1)] {
        let run_id = new_run(&store, &events).await;
        end(&store, &run_id, status).await;
        store.webhook_deliveries().release_ended(NOW).await.unwrap();
        assert_eq!(all(&store).await.len(), wanted);
    }
    assert_eq!(all(&store).await[0].events, events);
}

async fn a_repeated_request_makes_no_second_webhook_and_the_next_generation_one_of_its_own(database: Database) {
    let store = database.store().await;
    let asked = || NewRun { webhook: Some(webhook(&[])), ..scoped_run("scope", "body") };
    let Inserted::New(first) = store.runs().insert(&asked()).await.unwrap() else { panic!("not new") };
    assert!(matches!(store.runs().insert(&asked()).await.unwrap(), Inserted::Existing(_)));
    assert_eq!(all(&store).await.len(), 1);
    end(&store, &first.run_id, RunStatus::Failed).await;
    let Inserted::New(second) = store.runs().insert(&asked()).await.unwrap() else { panic!("not new") };
    let runs: Vec<RunId> = all(&store).await.into_iter().map(|row| row.run_id).collect();
    assert_eq!(runs, [second.run_id, first.run_id]);
}

async fn of_eight_who_look_at_once_each_webhook_has_one(database: Database) {
    const WEBHOOKS: usize = 40;
    let store = database.store().await;
    for _ in 0..WEBHOOKS {
        let run_id = new_run(&store, &[]).await;
        end(&store, &run_id, RunStatus::Completed).await;
    }
    let looking: Vec<_> = (0..8)
        .map(|number| {
            let store = store.clone();
            tokio::spawn(async move {
                let owner = process(&format!("inst_{number}"));
                let mut mine = Vec::new();
                store.webhook_deliveries().release_ended(NOW).await.unwrap();
                for _ in 0..WEBHOOKS {
                    let claimed = store.webhook_deliveries().claim_due(&owner, NOW, 7).await.unwrap();
                    mine.extend(claimed.into_iter().map(|row| row.id));
                }
                mine
            })
        })
        .collect();
    let mut claimed = Vec::new();
    for mine in looking {
        claimed.extend(mine.await.unwrap());
    }
    let distinct: BTreeSet<_> = claimed.iter().collect();
    assert_eq!((claimed.len(), distinct.len()), (WEBHOOKS, WEBHOOKS));
    assert!(all(&store).await.iter().all(|row| row.tries == 1));
}

async fn a_webhook_whose_holder_died_is_taken_over_and_what_the_dead_says_later_does_not_count(database: Database) {
    let store = database.store().await;
    let deliveries = store.webhook_deliveries();
    due(&store).await;
    let first = claim(&store, "a", NOW).await.unwrap();
    let renewed = NOW.plus_millis(limits::LEASE_RENEW_MS);
    assert!(deliveries.renew(&first, &process("a"), renewed).await.unwrap());
    assert!(!deliveries.renew(&first, &process("b"), renewed).await.unwrap());
    let end = renewed.plus_millis(limits::LEASE_MS);
    assert_eq!(claim(&store, "b", UnixMicros(end.0 - 1)).await, None);
    let second = claim(&store, "b", end).await.unwrap();
    assert_eq!((&second.id, second.tries), (&first.id, 2));
    assert!(!deliveries.renew(&first, &process("a"), end).await.unwrap());
    assert!(!deliveries.end_try(&first, &process("a"), &ended(AfterTry::Dead, None)).await.unwrap());
    assert!(deliveries.end_try(&second, &process("b"), &ended(AfterTry::Delivered, Some(200))).await.unwrap());
    assert_eq!(all(&store).await[0].state, DeliveryState::Delivered);
    // A process that stalled longer than its lease is no better than a dead one.
    due(&store).await;
    let stalled = claim(&store, "a", NOW).await.unwrap();
    let again = claim(&store, "a", end).await.unwrap();
    assert!(!deliveries.end_try(&stalled, &process("a"), &ended(AfterTry::Dead, None)).await.unwrap());
    assert!(deliveries.end_try(&again, &process("a"), &ended(AfterTry::Delivered, Some(204))).await.unwrap());
}

async fn a_webhook_is_taken_tried_again_or_given_up(database: Database) {
    let store = database.store().await;
    let deliveries = store.webhook_deliveries();
    due(&store).await;
    let later = NOW.plus_millis(5_000);
    let row = claim(&store, "a", NOW).await.unwrap();
    assert!(deliveries.end_try(&row, &process("a"), &ended(AfterTry::Again(later), Some(500))).await.unwrap());
    assert_eq!(claim(&store, "b", UnixMicros(later.0 - 1)).await, None);
    let row = claim(&store, "b", later).await.unwrap();
    assert_eq!((row.tries, row.last_status, row.last_error.as_deref()), (2, Some(500), Some("no\u{fffd}")));
    assert_eq!(row.due_since, Some(NOW));
    assert!(deliveries.end_try(&row, &process("b"), &ended(AfterTry::Dead, Some(410))).await.unwrap());
    let dead = deliveries.get(&row.id).await.unwrap().unwrap();
    assert_eq!((dead.state, dead.last_status, dead.next_at), (DeliveryState::Dead, Some(410), None));
    assert_eq!(claim(&store, "a", NOW.plus_millis(1_000_000)).await, None);
}

async fn a_webhook_is_sent_again_when_an_administrator_says_so(database: Database) {
    let store = database.store().await;
    let deliveries = store.webhook_deliveries();
    new_run(&store, &[]).await;
    let waiting = all(&store).await.remove(0);
    assert_eq!(deliveries.redeliver(&waiting.id, NOW).await.unwrap(), Redelivery::TooEarly);
    assert_eq!(deliveries.redeliver(&"msg_1".into(), NOW).await.unwrap(), Redelivery::Unknown);
    let run_id = due(&store).await;
    for next in [AfterTry::Dead, AfterTry::Delivered, AfterTry::Again(NOW.plus_millis(1_000_000))] {
        let row = claim(&store, "a", NOW.plus_millis(10)).await.unwrap();
        assert_eq!((&row.run_id, row.tries), (&run_id, 1), "{next:?}");
        assert!(deliveries.end_try(&row, &process("a"), &ended(next, Some(200))).await.unwrap());
        assert_eq!(claim(&store, "a", NOW.plus_millis(10)).await, None);
        let asked = NOW.plus_millis(10);
        assert_eq!(deliveries.redeliver(&row.id, asked).await.unwrap(), Redelivery::Due);
        let again = deliveries.get(&row.id).await.unwrap().unwrap();
        assert_eq!((again.state, again.tries, again.due_since), (DeliveryState::Pending, 0, Some(asked)));
        assert_eq!(again.delivered_at, None);
    }
}

async fn webhooks_are_listed_newest_first_by_state_and_page(database: Database) {
    let store = database.store().await;
    let deliveries = store.webhook_deliveries();
    let ended = due(&store).await;
    let mut runs = vec![ended.clone()];
    for _ in 0..3 {
        runs.insert(0, new_run(&store, &[]).await);
    }
    let of = |rows: &[DeliveryRow]| rows.iter().map(|row| row.run_id.clone()).collect::<Vec<_>>();
    assert_eq!(of(&all(&store).await), runs);
    let first = deliveries.page(None, None, 3).await.unwrap();
    let rest = deliveries.page(None, Some(&first[2].id), 3).await.unwrap();
    assert_eq!((of(&first), of(&rest)), (runs[..3].to_vec(), runs[3..].to_vec()));
    let pending = deliveries.page(Some(DeliveryState::Pending), None, 9).await.unwrap();
    assert_eq!(of(&pending), [ended]);
}
