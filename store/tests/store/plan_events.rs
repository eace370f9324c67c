//! Events of plans: numbered without a gap, each told once, the last one with the result.

use tokenhub_domain::{AttemptId, PlanEvent, RunId, RunStatus, limits};
use tokenhub_store::{
    Completed, EventRow, FinishRow, HandedIn, Inserted, Lease, LeaseRequest, NewEvent, NewRun, Progress, Store,
};

use crate::{
    databases::{Database, on_both_databases},
    rows::{NOW, process, result, run, scoped_run, step_key, tenant},
};

on_both_databases!(
    eight_writers_at_once_leave_no_gap_and_a_reader_never_sees_one,
    the_same_event_is_told_once,
    the_last_event_comes_with_the_result_and_nothing_after_it,
    an_outcome_and_its_event_are_one,
    a_run_without_a_first_event_keeps_none,
    a_repetition_after_a_failure_counts_from_one_again,
    of_too_many_events_the_last_one_has_room,
);

const WRITERS: usize = 8;
const EACH: usize = 20;

fn event(name: PlanEvent, key: &str) -> NewEvent {
    NewEvent { name, key: key.to_owned(), data: format!(r#"{{"key":"{key}"}}"#), at: NOW }
}

fn watched(run: NewRun) -> NewRun {
    NewRun { first_event: Some(event(PlanEvent::PlanCreated, "created")), ..run }
}

fn ended(status: RunStatus) -> FinishRow {
    FinishRow { event: Some(event(PlanEvent::end_of(status).unwrap(), "ended")), ..result(status) }
}

async fn watched_run(store: &Store) -> RunId {
    let wanted = watched(run(&RunId::generate_plan()));
    let Inserted::New(row) = store.runs().insert(&wanted).await.unwrap() else { panic!("not new") };
    assert_eq!(row.last_seq, 1);
    wanted.run_id
}

async fn all(store: &Store, run_id: &RunId) -> Vec<EventRow> {
    store.plan_events().after(&tenant(), run_id, 0, u64::MAX >> 1).await.unwrap()
}

async fn names(store: &Store, run_id: &RunId) -> Vec<(u64, String)> {
    all(store, run_id).await.into_iter().map(|row| (row.seq, row.name)).collect()
}

async fn progress(store: &Store, run_id: &RunId) -> Progress {
    store.plan_events().progress(&tenant(), run_id).await.unwrap().unwrap()
}

async fn eight_writers_at_once_leave_no_gap_and_a_reader_never_sees_one(database: Database) {
    let store = database.store().await;
    let run_id = watched_run(&store).await;
    let mut writers = Vec::new();
    for writer in 0..WRITERS {
        // Each has connections of its own, as a process has.
        let (store, run_id) = (database.bare_store().await, run_id.clone());
        writers.push(tokio::spawn(async move {
            for number in 0..EACH {
                let own = event(PlanEvent::StepStarted, &format!("{writer}/{number}"));
                let shared = event(PlanEvent::StepCompleted, &format!("shared/{number}"));
                store.plan_events().append(&tenant(), &run_id, &[own, shared]).await.unwrap();
            }
        }));
    }
    let (reader, read) = (store.clone(), run_id.clone());
    let reading = tokio::spawn(async move {
        let wanted = 1 + (WRITERS + 1) * EACH;
        let mut seen: Vec<EventRow> = Vec::new();
        while seen.len() < wanted {
            let after = seen.last().map_or(0, |row| row.seq);
            seen.extend(reader.plan_events().after(&tenant(), &read, after, 7).await.unwrap());
            tokio::task::yield_now().await;
        }
        seen
    });
    for writer in writers {
        writer.await.unwrap();
    }
    let seen = tokio::time::timeout(std::time::Duration::from_secs(30), reading).await.unwrap().unwrap();
    let numbers: Vec<u64> = seen.iter().map(|row| row.seq).collect();
    assert_eq!(numbers, (1..=seen.len() as u64).collect::<Vec<_>>());
    assert_eq!(seen, all(&store, &run_id).await);
    assert_eq!(progress(&store, &run_id).await.last_seq, seen.len() as u64);
    let shared = seen.iter().filter(|row| row.data.contains("shared/")).count();
    assert_eq!(shared, EACH, "what all of them told is told once");
}

async fn the_same_event_is_told_once(database: Database) {
    let store = database.store().await;
    let run_id = watched_run(&store).await;
    let first = event(PlanEvent::StepStarted, "a");
    let again = NewEvent { data: "{}".to_owned(), at: NOW.plus_millis(5), ..first.clone() };
    let other = NewEvent { data: r#"{"odd":"\u0000"}"#.to_owned(), ..event(PlanEvent::StepFailed, "b") };
    store.plan_events().append(&tenant(), &run_id, &[first.clone(), again, other]).await.unwrap();
    store.plan_events().append(&tenant(), &run_id, std::slice::from_ref(&first)).await.unwrap();
    let expected = [(1, "plan.created"), (2, "step.started"), (3, "step.failed")];
    assert_eq!(names(&store, &run_id).await, expected.map(|(seq, name)| (seq, name.to_owned())));
    assert_eq!(all(&store, &run_id).await[1].data, first.data, "the first one stays");
    assert_eq!(store.plan_events().after(&tenant(), &run_id, 1, 1).await.unwrap()[0].seq, 2);
    assert!(store.plan_events().after(&"stranger".into(), &run_id, 0, 9).await.unwrap().is_empty());
    assert_eq!(store.plan_events().progress(&"stranger".into(), &run_id).await.unwrap(), None);
}

async fn the_last_event_comes_with_the_result_and_nothing_after_it(database: Database) {
    let store = database.store().await;
    let run_id = watched_run(&store).await;
    let (owner, other) = (process("a"), process("b"));
    store.runs().claim(&tenant(), &run_id, &owner, NOW).await.unwrap();
    assert!(!store.runs().finish(&tenant(), &run_id, &other, &ended(RunStatus::Failed)).await.unwrap());
    assert_eq!(progress(&store, &run_id).await, Progress { last_seq: 1, status: RunStatus::Running });
    for _ in 0..2 {
        assert!(store.runs().finish(&tenant(), &run_id, &owner, &ended(RunStatus::Completed)).await.unwrap());
    }
    assert!(store.runs().finish(&tenant(), &run_id, &owner, &ended(RunStatus::Cancelled)).await.unwrap());
    store.plan_events().append(&tenant(), &run_id, &[event(PlanEvent::StepCompleted, "late")]).await.unwrap();
    assert_eq!(names(&store, &run_id).await.last().unwrap(), &(2, "plan.completed".to_owned()));
    assert_eq!(progress(&store, &run_id).await, Progress { last_seq: 2, status: RunStatus::Completed });
}

async fn an_outcome_and_its_event_are_one(database: Database) {
    let store = database.store().await;
    let run_id = watched_run(&store).await;
    let (owner, key, tenant) = (process("a/1"), step_key(1), tenant());
    let lease = LeaseRequest {
        tenant: &tenant,
        key: &key,
        run_id: &run_id,
        step: &"ballot/1".into(),
        owner: &owner,
        now: NOW,
        ttl_ms: limits::LEASE_MS,
    };
    assert!(matches!(store.journal().lease(lease).await.unwrap(), Lease::Acquired { epoch: 1, .. }));
    let (first, second) = (AttemptId::generate(), AttemptId::generate());
    let told = event(PlanEvent::StepCompleted, "ended");
    let of = |attempt| HandedIn { tenant: &tenant, key: &key, owner: &owner, outcome_json: "{}", attempt, now: NOW };
    assert_eq!(store.journal().complete_and_tell(of(&first), &run_id, &told).await.unwrap(), Completed::First);
    let again = store.journal().complete_and_tell(of(&first), &run_id, &told).await.unwrap();
    assert!(matches!(again, Completed::Again(entry) if entry.attempt == first));
    let late = event(PlanEvent::StepFailed, "of another attempt");
    let completed = store.journal().complete_and_tell(of(&second), &run_id, &late).await.unwrap();
    assert!(matches!(completed, Completed::AlreadyDone(entry) if entry.attempt == first));
    assert_eq!(names(&store, &run_id).await[1..], [(2, "step.completed".to_owned())]);
}

async fn a_run_without_a_first_event_keeps_none(database: Database) {
    let store = database.store().await;
    let plain = run(&RunId::generate_plan());
    store.runs().insert(&plain).await.unwrap();
    let owner = process("a");
    store.runs().claim(&tenant(), &plain.run_id, &owner, NOW).await.unwrap();
    store.plan_events().append(&tenant(), &plain.run_id, &[event(PlanEvent::PlanStarted, "a")]).await.unwrap();
    assert!(store.runs().finish(&tenant(), &plain.run_id, &owner, &ended(RunStatus::Failed)).await.unwrap());
    assert!(all(&store, &plain.run_id).await.is_empty());
    assert_eq!(progress(&store, &plain.run_id).await, Progress { last_seq: 0, status: RunStatus::Failed });
}

async fn a_repetition_after_a_failure_counts_from_one_again(database: Database) {
    let store = database.store().await;
    let first = watched(scoped_run("scope", "body"));
    store.runs().insert(&first).await.unwrap();
    assert!(matches!(store.runs().insert(&first).await.unwrap(), Inserted::Existing(_)));
    let owner = process("a");
    store.runs().claim(&tenant(), &first.run_id, &owner, NOW).await.unwrap();
    store.runs().finish(&tenant(), &first.run_id, &owner, &ended(RunStatus::Failed)).await.unwrap();
    let second = watched(scoped_run("scope", "body"));
    assert!(matches!(store.runs().insert(&second).await.unwrap(), Inserted::New(_)));
    assert_eq!(names(&store, &second.run_id).await, [(1, "plan.created".to_owned())]);
    assert_eq!(names(&store, &first.run_id).await.len(), 2);
}

async fn of_too_many_events_the_last_one_has_room(database: Database) {
    let store = database.store().await;
    let run_id = watched_run(&store).await;
    let owner = process("a");
    store.runs().claim(&tenant(), &run_id, &owner, NOW).await.unwrap();
    let count = usize::try_from(limits::PLAN_EVENTS_MAX).unwrap() + 5;
    let many: Vec<_> = (0..count).map(|number| event(PlanEvent::StepStarted, &number.to_string())).collect();
    store.plan_events().append(&tenant(), &run_id, &many).await.unwrap();
    assert_eq!(progress(&store, &run_id).await.last_seq, limits::PLAN_EVENTS_MAX - 1);
    assert!(store.runs().finish(&tenant(), &run_id, &owner, &ended(RunStatus::Completed)).await.unwrap());
    let last = store.plan_events().after(&tenant(), &run_id, limits::PLAN_EVENTS_MAX - 1, 9).await.unwrap();
    assert_eq!(last.len(), 1);
    assert_eq!((last[0].seq, last[0].name.as_str()), (limits::PLAN_EVENTS_MAX, "plan.completed"));
}
