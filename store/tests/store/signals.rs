//! What is asked of runs while they run: kept once, counted once, and only while they run.

use tokenhub_domain::{
    Bound, Bounds, Extent, NanoDollars, PlanEvent, RunId, RunStatus, Steering, SteeringRequest, Use, limits,
};
use tokenhub_store::{Accepted, NewEvent, NewRun, NewSignal, Room, Store};

use crate::{
    databases::{Database, on_both_databases},
    rows::{NOW, process, result, run, tenant, workflow},
};

on_both_databases!(
    of_sixteen_who_ask_with_one_key_one_counts_and_the_room_is_given_once,
    a_run_that_has_ended_is_asked_nothing,
    a_workflow_is_told_until_it_has_heard_it_and_a_process_is_not,
    a_run_takes_so_many_signals_and_no_more,
);

const ONE: Use = Use { calls: 1, tokens: 10, cost: NanoDollars(100) };

fn event(key: &str) -> NewEvent {
    NewEvent { name: PlanEvent::SignalReceived, key: key.to_owned(), data: "{}".to_owned(), at: NOW }
}

async fn running(store: &Store) -> RunId {
    let run_id = RunId::generate_plan();
    let first_event = Some(NewEvent { name: PlanEvent::PlanCreated, ..event("created") });
    store.runs().insert(&NewRun { first_event, ..run(&run_id) }).await.unwrap();
    store.runs().claim(&tenant(), &run_id, &workflow("w"), NOW).await.unwrap();
    run_id
}

async fn ask(store: &Store, run_id: &RunId, key: &str, request: SteeringRequest) -> Accepted {
    let (principal, key) = ("someone".into(), key.to_owned());
    let new = NewSignal { tenant: tenant(), run_id: run_id.clone(), key: key.clone(), request, principal, at: NOW };
    store.signals().accept(&new, &event(&key)).await.unwrap()
}

async fn of_sixteen_who_ask_with_one_key_one_counts_and_the_room_is_given_once(database: Database) {
    let store = database.store().await;
    let run_id = running(&store).await;
    let mut asking = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let (store, run_id) = (store.clone(), run_id.clone());
        asking.spawn(async move { ask(&store, &run_id, "id|x", SteeringRequest::AddBudget(ONE)).await });
    }
    let accepted = asking.join_all().await;
    assert_eq!(accepted.iter().filter(|it| **it == Accepted::Now).count(), 1, "{accepted:?}");
    assert_eq!(accepted.iter().filter(|it| **it == Accepted::AsBefore).count(), 15, "{accepted:?}");
    let other = SteeringRequest::AddBudget(Use { calls: 2, ..ONE });
    assert_eq!(ask(&store, &run_id, "id|x", other).await, Accepted::Otherwise);
    assert_eq!(store.signals().of_run(&tenant(), &run_id).await.unwrap().len(), 1);
    let told = store.plan_events().after(&tenant(), &run_id, 0, 10).await.unwrap();
    assert_eq!(told.iter().map(|event| event.name.as_str()).collect::<Vec<_>>(), ["plan.created", "signal.received"]);

    let bounds = Bounds { max_calls: Some(1), ..Bounds::default() };
    let take =
        || async { store.budgets().take((&tenant(), &run_id), &"ballot/1".into(), bounds, ONE, NOW).await.unwrap() };
    assert_eq!([take().await, take().await], [Room::Taken; 2], "one of its own, and one that was given");
    let raised = Bounds { max_calls: Some(2), ..Bounds::default() };
    let used = Use { calls: 2, tokens: 20, cost: NanoDollars(200) };
    assert_eq!(take().await, Room::Refused { extent: Extent::Run, bound: Bound::Calls, used, bounds: raised });
    assert_eq!(store.budgets().used(&tenant(), &run_id).await.unwrap(), used);
}

async fn a_run_that_has_ended_is_asked_nothing(database: Database) {
    let store = database.store().await;
    let run_id = running(&store).await;
    assert_eq!(ask(&store, &run_id, "answer_now", SteeringRequest::AnswerNow).await, Accepted::Now);
    store.runs().finish(&tenant(), &run_id, &workflow("w"), &result(RunStatus::Completed)).await.unwrap();
    assert_eq!(ask(&store, &run_id, "after_step", SteeringRequest::StopAfterStep).await, Accepted::Ended);
    assert_eq!(ask(&store, &run_id, "answer_now", SteeringRequest::AnswerNow).await, Accepted::AsBefore);
    assert_eq!(store.signals().untold().await.unwrap(), []);
    let steering = store.signals().steering(&tenant(), &run_id).await.unwrap();
    assert_eq!(steering, Steering { answers_now: true, ..Steering::default() });
}

async fn a_workflow_is_told_until_it_has_heard_it_and_a_process_is_not(database: Database) {
    let store = database.store().await;
    let (durable, direct) = (running(&store).await, RunId::generate_plan());
    store.runs().insert(&run(&direct)).await.unwrap();
    store.runs().claim(&tenant(), &direct, &process("p"), NOW).await.unwrap();
    for run_id in [&durable, &direct] {
        ask(&store, run_id, "b|1", SteeringRequest::ExtendDeadline { deadline_ms: 5 }).await;
        ask(&store, run_id, "a|2", SteeringRequest::AddBudget(ONE)).await;
    }
    let untold = store.signals().untold().await.unwrap();
    assert_eq!((untold.len(), &untold[0].run_id, untold[0].key.as_str()), (1, &durable, "b|1"), "{untold:?}");
    store.signals().told(&durable, "b|1", NOW).await.unwrap();
    assert_eq!(store.signals().untold().await.unwrap(), []);
}

async fn a_run_takes_so_many_signals_and_no_more(database: Database) {
    let store = database.store().await;
    let run_id = running(&store).await;
    for number in 0..limits::PLAN_SIGNALS_MAX {
        let request = SteeringRequest::ExtendDeadline { deadline_ms: number };
        assert_eq!(ask(&store, &run_id, &number.to_string(), request).await, Accepted::Now);
    }
    assert_eq!(ask(&store, &run_id, "more", SteeringRequest::AnswerNow).await, Accepted::TooMany);
    assert_eq!(ask(&store, &run_id, "7", SteeringRequest::ExtendDeadline { deadline_ms: 7 }).await, Accepted::AsBefore);
}
