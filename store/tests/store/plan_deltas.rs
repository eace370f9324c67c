//! Pieces of answers: kept apart by step and call, read from any of them on, and gone when nobody can want them.

use tokenhub_domain::{AttemptId, CallNumber, PlanEvent, RunId, RunStatus, limits};
use tokenhub_store::{Delta, DeltaPlace, FinishRow, LeaseRequest, NewEvent, NewRun, Store};

use crate::{
    databases::{Database, on_both_databases},
    rows::{NOW, process, result, run, step_key, tenant},
};

on_both_databases!(
    pieces_of_two_calls_never_mix_and_are_read_from_any_place_on,
    a_piece_is_removed_once_it_is_old_and_its_step_is_not_worked_on,
    calls_that_begin_at_the_same_time_see_each_other,
);

const CALLS: usize = 8;

fn place(step: &str, call: u32, seq: u64) -> DeltaPlace {
    DeltaPlace { step: step.into(), call: CallNumber(call), seq }
}

fn delta(step: &str, call: u32, seq: u64, text: &str) -> Delta {
    Delta { place: place(step, call, seq), text: text.to_owned() }
}

async fn all(store: &Store, run_id: &RunId) -> Vec<Delta> {
    let places = [place("ballot/1", 1, 0), place("ballot/1", 2, 0), place("ballot/2", 1, 0)];
    store.plan_deltas().read_from((&tenant(), run_id), &places, 100).await.unwrap()
}

async fn pieces_of_two_calls_never_mix_and_are_read_from_any_place_on(database: Database) {
    let store = database.store().await;
    let (first, second) = (RunId::generate_plan(), RunId::generate_plan());
    let deltas = store.plan_deltas();
    let told = [
        delta("ballot/1", 1, 0, "a\0é"),
        // The one between was lost.
        delta("ballot/1", 1, 2, "c"),
        delta("ballot/1", 2, 0, "x"),
        delta("ballot/2", 1, 0, "y"),
    ];
    for piece in [3, 0, 2, 1].map(|position| told[position].clone()) {
        deltas.append((&tenant(), &first), piece, NOW).await.unwrap();
    }
    deltas.append((&tenant(), &second), delta("ballot/1", 1, 0, "of another run"), NOW).await.unwrap();
    assert!(deltas.append((&tenant(), &first), told[0].clone(), NOW).await.is_err(), "each is there once");
    assert_eq!(all(&store, &first).await, told);
    let from = |places: Vec<DeltaPlace>, limit| {
        let (deltas, run_id) = (store.plan_deltas(), first.clone());
        async move { deltas.read_from((&tenant(), &run_id), &places, limit).await.unwrap() }
    };
    assert_eq!(
        from(vec![place("ballot/1", 1, 1), place("ballot/2", 1, 0)], 9).await,
        [told[1].clone(), told[3].clone()]
    );
    assert_eq!(from(vec![place("ballot/1", 1, 0)], 1).await, told[..1]);
    assert!(from(vec![place("ballot/1", 1, 3), place("ballot/1", 3, 0)], 9).await.is_empty());
    assert!(from(Vec::new(), 9).await.is_empty());
    let stranger = deltas.read_from((&"stranger".into(), &first), &[place("ballot/1", 1, 0)], 9).await;
    assert!(stranger.unwrap().is_empty());
}

async fn a_piece_is_removed_once_it_is_old_and_its_step_is_not_worked_on(database: Database) {
    let store = database.store().await;
    let wanted = run(&RunId::generate_plan());
    let (run_id, owner, key, tenant) = (wanted.run_id.clone(), process("a/1"), step_key(1), tenant());
    store.runs().insert(&wanted).await.unwrap();
    store.runs().claim(&tenant, &run_id, &process("a"), NOW).await.unwrap();
    let lease = LeaseRequest {
        tenant: &tenant,
        key: &key,
        run_id: &run_id,
        step: &"ballot/1".into(),
        owner: &owner,
        now: NOW,
        ttl_ms: limits::LEASE_MS,
    };
    store.journal().lease(lease).await.unwrap();
    let (old, new) = (delta("ballot/1", 1, 0, "old"), delta("ballot/1", 1, 1, "new"));
    store.plan_deltas().append((&tenant, &run_id), old.clone(), NOW).await.unwrap();
    store.plan_deltas().append((&tenant, &run_id), new.clone(), NOW.plus_millis(2)).await.unwrap();
    store.plan_deltas().append((&tenant, &run_id), delta("ballot/2", 1, 0, "of no lease"), NOW).await.unwrap();
    let before = NOW.plus_millis(1);
    assert_eq!(store.plan_deltas().purge(before).await.unwrap(), 1);
    assert_eq!(all(&store, &run_id).await, [old, new.clone()], "its step is worked on");
    store.journal().complete(&tenant, &key, &owner, "{}", &AttemptId::generate(), NOW).await.unwrap();
    assert_eq!(store.plan_deltas().purge(before).await.unwrap(), 1);
    assert_eq!(all(&store, &run_id).await, [new], "it is not old");

    let key = step_key(2);
    store.journal().lease(LeaseRequest { key: &key, ..lease }).await.unwrap();
    let later = NOW.plus_millis(3);
    assert_eq!(store.plan_deltas().purge(later).await.unwrap(), 0);
    assert!(store.runs().finish(&tenant, &run_id, &process("a"), &result(RunStatus::Cancelled)).await.unwrap());
    assert_eq!(store.plan_deltas().purge(later).await.unwrap(), 1, "a run that has ended works on nothing");
}

async fn calls_that_begin_at_the_same_time_see_each_other(database: Database) {
    let store = database.store().await;
    let event = |name, key: &str| NewEvent { name, key: key.to_owned(), data: "{}".to_owned(), at: NOW };
    let created = Some(event(PlanEvent::PlanCreated, "created"));
    let wanted = NewRun { first_event: created, ..run(&RunId::generate_plan()) };
    let run_id = wanted.run_id.clone();
    store.runs().insert(&wanted).await.unwrap();
    let mut calls = Vec::new();
    for call in 0..CALLS {
        let (store, run_id) = (database.bare_store().await, run_id.clone());
        calls.push(tokio::spawn(async move {
            let kinds = [PlanEvent::StepStarted, PlanEvent::StepFailed];
            let begin = |known: &[String]| vec![event(PlanEvent::StepStarted, &format!("{call} of {}", known.len()))];
            store.plan_events().append_knowing((&tenant(), &run_id), &kinds, begin).await.unwrap()
        }));
    }
    for call in calls {
        let known = call.await.unwrap();
        let own = known.len() - 1;
        assert!(known[own].ends_with(&format!(" of {own}")), "{known:?}");
    }
    let begin = |_: &[String]| vec![event(PlanEvent::StepStarted, "late")];
    let finish = FinishRow { event: Some(event(PlanEvent::PlanFailed, "ended")), ..result(RunStatus::Failed) };
    store.runs().claim(&tenant(), &run_id, &process("a"), NOW).await.unwrap();
    assert!(store.runs().finish(&tenant(), &run_id, &process("a"), &finish).await.unwrap());
    let kinds = [PlanEvent::StepStarted];
    let known = store.plan_events().append_knowing((&tenant(), &run_id), &kinds, begin).await.unwrap();
    assert_eq!(known.len(), CALLS, "nothing is told behind the end");
}
