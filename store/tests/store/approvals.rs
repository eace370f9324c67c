//! Decisions about answers: asked for once, decided once, in time, and only of a run that has not ended.

use tokenhub_domain::{ApprovalState, DecidedBy, OnTimeout, PlanEvent, RunId, RunStatus, Text, UnixMicros};
use tokenhub_store::{ApprovalRow, NewApproval, NewDecision, NewEvent, NewRun, Store, Unfinished};

use crate::{
    databases::{Database, on_both_databases},
    rows::{NOW, process, result, run, tenant, workflow},
};

on_both_databases!(
    a_run_asks_once_and_of_eight_who_decide_one_does,
    nobody_decides_too_late_and_nothing_expires_too_early,
    a_run_that_has_ended_is_not_decided_about,
    a_decision_is_told_until_somebody_has_heard_it,
    a_workflow_that_waits_is_looked_for_apart_from_those_at_work,
);

const TIMEOUT_MS: u64 = 1_000;

fn event(name: PlanEvent) -> NewEvent {
    NewEvent { name, key: name.as_str().to_owned(), data: "{}".to_owned(), at: NOW }
}

fn decision(state: ApprovalState, at: UnixMicros) -> NewDecision {
    NewDecision {
        state,
        by: DecidedBy::Key,
        principal: Some("someone".into()),
        comment: Some("why\0".to_owned()),
        edited: (state == ApprovalState::Edited).then(|| Text::Inline("by hand \0".to_owned())),
        at,
    }
}

async fn ask(store: &Store, run_id: &RunId, outcome_json: &str) {
    let new = NewApproval {
        tenant: tenant(),
        run_id: run_id.clone(),
        on_timeout: OnTimeout::Reject,
        outcome_json: outcome_json.to_owned(),
        requested_at: NOW,
        expires_at: NOW.plus_millis(TIMEOUT_MS),
    };
    store.approvals().request(&new, Some(&event(PlanEvent::ApprovalRequested))).await.unwrap();
}

/// A run that is carried and waits.
async fn asking(store: &Store) -> RunId {
    let run_id = RunId::generate_plan();
    let first_event = Some(event(PlanEvent::PlanCreated));
    store.runs().insert(&NewRun { first_event, ..run(&run_id) }).await.unwrap();
    store.runs().claim(&tenant(), &run_id, &workflow("w"), NOW).await.unwrap();
    ask(store, &run_id, "{}").await;
    run_id
}

async fn decide(store: &Store, run_id: &RunId, state: ApprovalState, at: UnixMicros) -> bool {
    let resolved = event(PlanEvent::ApprovalResolved);
    store.approvals().decide((&tenant(), run_id), &decision(state, at), Some(&resolved)).await.unwrap()
}

async fn read(store: &Store, run_id: &RunId) -> ApprovalRow {
    store.approvals().get(&tenant(), run_id).await.unwrap().unwrap()
}

async fn a_run_asks_once_and_of_eight_who_decide_one_does(database: Database) {
    let store = database.store().await;
    let run_id = asking(&store).await;
    ask(&store, &run_id, "another").await;
    let question = read(&store, &run_id).await;
    assert_eq!((question.state, question.outcome_json.as_str()), (ApprovalState::Pending, "{}"));
    assert_eq!((question.on_timeout, question.expires_at), (OnTimeout::Reject, NOW.plus_millis(TIMEOUT_MS)));
    let mut deciders = Vec::new();
    for number in 0..8 {
        let (store, run_id) = (database.bare_store().await, run_id.clone());
        let state = if number % 2 == 0 { ApprovalState::Approved } else { ApprovalState::Edited };
        deciders.push(tokio::spawn(async move { (state, decide(&store, &run_id, state, NOW).await) }));
    }
    let mut won = Vec::new();
    for decider in deciders {
        let (state, is_first) = decider.await.unwrap();
        won.extend(is_first.then_some(state));
    }
    let decided = read(&store, &run_id).await;
    assert_eq!(won, [decided.state]);
    assert_eq!((decided.decided_by, decided.decided_at), (Some(DecidedBy::Key), Some(NOW)));
    assert_eq!((decided.principal, decided.comment.as_deref()), (Some("someone".into()), Some("why\u{fffd}")));
    let edited = (won == [ApprovalState::Edited]).then(|| Text::Inline("by hand \0".to_owned()));
    assert_eq!(decided.edited, edited);
    let told = store.plan_events().after(&tenant(), &run_id, 0, 10).await.unwrap();
    let names: Vec<&str> = told.iter().map(|event| event.name.as_str()).collect();
    assert_eq!(names, ["plan.created", "approval.requested", "approval.resolved"]);
}

async fn nobody_decides_too_late_and_nothing_expires_too_early(database: Database) {
    let store = database.store().await;
    let (in_time, late) = (NOW.plus_millis(TIMEOUT_MS - 1), NOW.plus_millis(TIMEOUT_MS));
    let run_id = asking(&store).await;
    assert!(!decide(&store, &run_id, ApprovalState::Expired, in_time).await);
    assert!(!decide(&store, &run_id, ApprovalState::Approved, late).await);
    assert!(decide(&store, &run_id, ApprovalState::Expired, late).await);
    assert!(!decide(&store, &run_id, ApprovalState::Approved, in_time).await);
    assert_eq!(read(&store, &run_id).await.state, ApprovalState::Expired);
    let run_id = asking(&store).await;
    assert!(decide(&store, &run_id, ApprovalState::Rejected, in_time).await);
}

async fn a_run_that_has_ended_is_not_decided_about(database: Database) {
    let store = database.store().await;
    let run_id = asking(&store).await;
    let ended = result(RunStatus::Cancelled);
    assert!(store.runs().finish(&tenant(), &run_id, &workflow("w"), &ended).await.unwrap());
    assert!(!decide(&store, &run_id, ApprovalState::Approved, NOW).await);
    assert_eq!(read(&store, &run_id).await.state, ApprovalState::Pending);
    assert!(!decide(&store, &RunId::from("plan_of_nobody"), ApprovalState::Approved, NOW).await);
}

async fn a_decision_is_told_until_somebody_has_heard_it(database: Database) {
    let store = database.store().await;
    let approvals = store.approvals();
    let (first, second) = (asking(&store).await, asking(&store).await);
    approvals.told(&tenant(), &first, NOW).await.unwrap();
    assert_eq!(approvals.untold().await.unwrap(), [], "nobody has decided");
    for run_id in [&first, &second] {
        assert!(decide(&store, run_id, ApprovalState::Approved, NOW).await);
    }
    let ids = |untold: Vec<(_, RunId, _)>| untold.into_iter().map(|(_, run_id, _)| run_id).collect::<Vec<_>>();
    let both = ids(approvals.untold().await.unwrap());
    assert!(both.len() == 2 && both.contains(&first) && both.contains(&second), "{both:?}");
    approvals.told(&tenant(), &first, NOW).await.unwrap();
    assert_eq!(ids(approvals.untold().await.unwrap()), std::slice::from_ref(&second));
    assert!(store.runs().finish(&tenant(), &second, &workflow("w"), &result(RunStatus::Completed)).await.unwrap());
    assert_eq!(approvals.untold().await.unwrap(), [], "its run has ended");
}

async fn a_workflow_that_waits_is_looked_for_apart_from_those_at_work(database: Database) {
    let store = database.store().await;
    let found = async |which| {
        let rows = store.runs().unfinished(which, NOW.plus_millis(60_000), None, 10).await.unwrap();
        rows.into_iter().map(|row| row.run_id).collect::<Vec<_>>()
    };
    let (waiting, in_process) = (asking(&store).await, RunId::generate_plan());
    store.runs().insert(&run(&in_process)).await.unwrap();
    store.runs().claim(&tenant(), &in_process, &process("a"), NOW).await.unwrap();
    ask(&store, &in_process, "{}").await;
    assert_eq!(found(Unfinished::Waiting).await, std::slice::from_ref(&waiting));
    assert_eq!(found(Unfinished::AtWork).await, std::slice::from_ref(&in_process));
    assert!(decide(&store, &waiting, ApprovalState::Approved, NOW).await);
    assert_eq!(found(Unfinished::Waiting).await, []);
    assert_eq!(found(Unfinished::AtWork).await, [waiting, in_process]);
}
