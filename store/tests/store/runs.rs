//! Claims, results and idempotency.

use std::collections::HashSet;

use tokenhub_domain::{DurabilityMark, RunId, RunStatus, StopReason, TenantId, limits};
use tokenhub_store::{Claim, FinishRow, Inserted, NewRun, RunRow, Store, StoreError};

use crate::{
    databases::{Database, on_both_databases},
    rows::{NOW, process, result, run, scoped_run, tenant, workflow},
};

on_both_databases!(
    a_run_is_read_back_as_it_was_written,
    of_many_claims_one_wins,
    an_expired_lease_is_taken_over_with_the_next_epoch,
    a_renewed_lease_does_not_expire,
    the_claim_of_a_workflow_never_expires,
    the_same_owner_claims_again_with_the_same_epoch,
    a_result_is_stored_by_the_holder_only_and_once,
    the_same_epoch_is_needed_by_a_process_and_not_by_a_workflow,
    of_many_equal_requests_one_makes_the_run,
    another_body_is_a_conflict_even_after_a_failure,
    after_a_failure_the_same_request_makes_the_next_generation,
    of_many_repeats_after_a_failure_one_makes_the_next_generation,
    another_tenant_sees_nothing,
    the_sweep_finds_the_untouched_runs_without_a_result_page_by_page,
    a_scope_leads_to_its_current_run,
);

async fn new_run(store: &Store) -> RunId {
    let run_id = RunId::generate_plan();
    assert!(matches!(store.runs().insert(&run(&run_id)).await.unwrap(), Inserted::New(_)));
    run_id
}

async fn row(store: &Store, run_id: &RunId) -> RunRow {
    store.runs().get(&tenant(), run_id).await.unwrap().unwrap()
}

fn won(claim: &Claim) -> Option<i64> {
    match claim {
        Claim::Won { epoch } => Some(*epoch),
        Claim::Held { .. } | Claim::Finished => None,
    }
}

async fn a_run_is_read_back_as_it_was_written(database: Database) {
    let store = database.store().await;
    let wanted = run(&RunId::generate_plan());
    let Inserted::New(made) = store.runs().insert(&wanted).await.unwrap() else { panic!("not new") };
    let read = row(&store, &wanted.run_id).await;
    assert_eq!(made, read);
    assert_eq!((read.status, read.epoch, read.generation, read.config_version), (RunStatus::Pending, 0, 1, 7));
    assert_eq!((read.spec_json, read.workflow_id), (wanted.spec_json.clone(), wanted.workflow_id.clone()));
    assert_eq!(store.runs().insert(&wanted).await.unwrap(), Inserted::Existing(made));
}

async fn of_many_claims_one_wins(database: Database) {
    let store = database.store().await;
    let run_id = new_run(&store).await;
    let claims: Vec<_> = (0..32)
        .map(|number| {
            let (store, run_id) = (store.clone(), run_id.clone());
            let owner = process(&format!("inst_{number}"));
            tokio::spawn(async move { (store.runs().claim(&tenant(), &run_id, &owner, NOW).await.unwrap(), owner) })
        })
        .collect();
    let mut winners = Vec::new();
    let mut holders = HashSet::new();
    for claim in claims {
        match claim.await.unwrap() {
            (Claim::Won { epoch }, owner) => winners.push((epoch, owner)),
            (Claim::Held { owner, lease_until }, _) => {
                assert_eq!(lease_until, Some(NOW.plus_millis(limits::LEASE_MS)));
                holders.insert(owner);
            }
            (Claim::Finished, _) => panic!("nothing was finished"),
        }
    }
    assert_eq!(winners.len(), 1, "{winners:?}");
    assert_eq!(winners[0].0, 1);
    assert_eq!(holders, HashSet::from([winners[0].1.clone()]));
    assert_eq!(row(&store, &run_id).await.started_at, Some(NOW));
}

async fn an_expired_lease_is_taken_over_with_the_next_epoch(database: Database) {
    let store = database.store().await;
    let runs = store.runs();
    let run_id = new_run(&store).await;
    let (first, second) = (process("a"), process("b"));
    assert_eq!(won(&runs.claim(&tenant(), &run_id, &first, NOW).await.unwrap()), Some(1));
    let just_before = NOW.plus_millis(limits::LEASE_MS - 1);
    assert_eq!(won(&runs.claim(&tenant(), &run_id, &second, just_before).await.unwrap()), None);
    let at_the_end = NOW.plus_millis(limits::LEASE_MS);
    assert_eq!(won(&runs.claim(&tenant(), &run_id, &second, at_the_end).await.unwrap()), Some(2));
    assert!(!runs.renew(&tenant(), &run_id, &first, 1, at_the_end).await.unwrap());
    assert!(!runs.finish(&tenant(), &run_id, &first, &result(RunStatus::Completed)).await.unwrap());
    assert_eq!(row(&store, &run_id).await.status, RunStatus::Running);
}

async fn a_renewed_lease_does_not_expire(database: Database) {
    let store = database.store().await;
    let runs = store.runs();
    let run_id = new_run(&store).await;
    runs.claim(&tenant(), &run_id, &process("a"), NOW).await.unwrap();
    let later = NOW.plus_millis(limits::LEASE_RENEW_MS);
    assert!(runs.renew(&tenant(), &run_id, &process("a"), 1, later).await.unwrap());
    assert!(!runs.renew(&tenant(), &run_id, &process("a"), 2, later).await.unwrap(), "the epoch is not looked at");
    let after_the_first_lease = NOW.plus_millis(limits::LEASE_MS);
    assert_eq!(won(&runs.claim(&tenant(), &run_id, &process("b"), after_the_first_lease).await.unwrap()), None);
}

async fn the_claim_of_a_workflow_never_expires(database: Database) {
    let store = database.store().await;
    let runs = store.runs();
    let run_id = new_run(&store).await;
    assert_eq!(won(&runs.claim(&tenant(), &run_id, &workflow("w"), NOW).await.unwrap()), Some(1));
    let a_year_later = NOW.plus_millis(365 * 86_400_000);
    let claim = runs.claim(&tenant(), &run_id, &process("a"), a_year_later).await.unwrap();
    assert_eq!(claim, Claim::Held { owner: workflow("w"), lease_until: None });
}

async fn the_same_owner_claims_again_with_the_same_epoch(database: Database) {
    let store = database.store().await;
    let runs = store.runs();
    for owner in [workflow("w"), process("a")] {
        let run_id = new_run(&store).await;
        for moment in [NOW, NOW.plus_millis(10), NOW.plus_millis(2 * limits::LEASE_MS)] {
            assert_eq!(won(&runs.claim(&tenant(), &run_id, &owner, moment).await.unwrap()), Some(1));
        }
        assert_eq!(row(&store, &run_id).await.started_at, Some(NOW));
    }
}

async fn a_result_is_stored_by_the_holder_only_and_once(database: Database) {
    let store = database.store().await;
    let runs = store.runs();
    let run_id = new_run(&store).await;
    let completed = result(RunStatus::Completed);
    assert!(!runs.finish(&tenant(), &run_id, &workflow("w"), &completed).await.unwrap(), "nobody claimed it");
    runs.claim(&tenant(), &run_id, &workflow("w"), NOW).await.unwrap();
    assert!(!runs.finish(&tenant(), &run_id, &workflow("other"), &completed).await.unwrap());
    assert!(runs.finish(&tenant(), &run_id, &workflow("w"), &completed).await.unwrap());
    assert!(runs.finish(&tenant(), &run_id, &workflow("w"), &result(RunStatus::Failed)).await.unwrap());
    let row = row(&store, &run_id).await;
    assert_eq!((row.status, row.stop_reason), (RunStatus::Completed, Some(StopReason::Decided)));
    assert_eq!((row.outcome_json, row.usage), (Some(completed.outcome_json), completed.usage));
    assert_eq!((row.durability, row.finished_at), (Some(DurabilityMark::Durable), Some(completed.finished_at)));
    assert_eq!(row.negotiated_model, completed.negotiated_model);
    assert_eq!(runs.claim(&tenant(), &run_id, &workflow("w"), NOW).await.unwrap(), Claim::Finished);
    assert!(!runs.renew(&tenant(), &run_id, &workflow("w"), 1, NOW).await.unwrap());
}

async fn the_same_epoch_is_needed_by_a_process_and_not_by_a_workflow(database: Database) {
    let store = database.store().await;
    let runs = store.runs();
    let stale = FinishRow { epoch: Some(9), ..result(RunStatus::Completed) };
    let run_id = new_run(&store).await;
    runs.claim(&tenant(), &run_id, &process("a"), NOW).await.unwrap();
    assert!(!runs.finish(&tenant(), &run_id, &process("a"), &stale).await.unwrap());
    let current = FinishRow { epoch: Some(1), ..stale.clone() };
    assert!(runs.finish(&tenant(), &run_id, &process("a"), &current).await.unwrap());
    let run_id = new_run(&store).await;
    runs.claim(&tenant(), &run_id, &workflow("w"), NOW).await.unwrap();
    assert!(runs.finish(&tenant(), &run_id, &workflow("w"), &stale).await.unwrap());
}

async fn of_many_equal_requests_one_makes_the_run(database: Database) {
    let store = database.store().await;
    let inserts: Vec<_> = (0..50)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move { store.runs().insert(&scoped_run("scope", "body")).await.unwrap() })
        })
        .collect();
    let (mut made, mut seen) = (0, HashSet::new());
    for insert in inserts {
        match insert.await.unwrap() {
            Inserted::New(row) => {
                made += 1;
                seen.insert(row.run_id);
            }
            Inserted::Existing(row) => {
                seen.insert(row.run_id);
            }
            Inserted::Conflict(row) => panic!("no conflict was made: {row:?}"),
        }
    }
    assert_eq!((made, seen.len()), (1, 1));
}

async fn finished(store: &Store, run_id: &RunId, status: RunStatus) {
    store.runs().claim(&tenant(), run_id, &workflow("w"), NOW).await.unwrap();
    assert!(store.runs().finish(&tenant(), run_id, &workflow("w"), &result(status)).await.unwrap());
}

async fn another_body_is_a_conflict_even_after_a_failure(database: Database) {
    let store = database.store().await;
    let first = scoped_run("scope", "body");
    store.runs().insert(&first).await.unwrap();
    let conflict = store.runs().insert(&scoped_run("scope", "other")).await.unwrap();
    assert!(matches!(conflict, Inserted::Conflict(ref row) if row.run_id == first.run_id));
    finished(&store, &first.run_id, RunStatus::Failed).await;
    let conflict = store.runs().insert(&scoped_run("scope", "other")).await.unwrap();
    assert!(matches!(conflict, Inserted::Conflict(ref row) if row.run_id == first.run_id));
}

async fn after_a_failure_the_same_request_makes_the_next_generation(database: Database) {
    let store = database.store().await;
    for (scope, status) in [("failed", RunStatus::Failed), ("cancelled", RunStatus::Cancelled)] {
        let first = scoped_run(scope, "body");
        let Inserted::New(made) = store.runs().insert(&first).await.unwrap() else { panic!("not new") };
        assert_eq!(made.workflow_id, Some("vote:default:1".into()));
        finished(&store, &first.run_id, status).await;
        let second = scoped_run(scope, "body");
        let Inserted::New(repeated) = store.runs().insert(&second).await.unwrap() else { panic!("not new") };
        assert_eq!((repeated.run_id, repeated.generation), (second.run_id.clone(), 2));
        assert_eq!(repeated.workflow_id, Some("vote:default:2".into()));
        let old = row(&store, &first.run_id).await;
        assert_eq!((old.status, old.idempotency_scope), (status, None));
        finished(&store, &second.run_id, RunStatus::Completed).await;
        let replay = store.runs().insert(&scoped_run(scope, "body")).await.unwrap();
        assert!(matches!(replay, Inserted::Existing(ref row) if row.run_id == second.run_id));
    }
}

async fn of_many_repeats_after_a_failure_one_makes_the_next_generation(database: Database) {
    let store = database.store().await;
    let first = scoped_run("scope", "body");
    store.runs().insert(&first).await.unwrap();
    finished(&store, &first.run_id, RunStatus::Failed).await;
    let inserts: Vec<_> = (0..16)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move { store.runs().insert(&scoped_run("scope", "body")).await.unwrap() })
        })
        .collect();
    let (mut made, mut seen) = (0, HashSet::new());
    for insert in inserts {
        match insert.await.unwrap() {
            Inserted::New(row) => {
                made += 1;
                seen.insert((row.run_id, row.generation));
            }
            Inserted::Existing(row) => {
                seen.insert((row.run_id, row.generation));
            }
            Inserted::Conflict(row) => panic!("no conflict was made: {row:?}"),
        }
    }
    assert_eq!((made, seen.len()), (1, 1));
    assert_eq!(seen.into_iter().next().unwrap().1, 2);
}

async fn another_tenant_sees_nothing(database: Database) {
    let store = database.store().await;
    let stranger = TenantId::from("stranger");
    let first = scoped_run("scope", "body");
    store.runs().insert(&first).await.unwrap();
    assert_eq!(store.runs().get(&stranger, &first.run_id).await.unwrap(), None);
    let claim = store.runs().claim(&stranger, &first.run_id, &process("a"), NOW).await;
    assert!(matches!(claim, Err(StoreError::UnknownRun(_))));
    assert_eq!(store.runs().unfinished_of(&stranger).await.unwrap(), 0);
    let theirs = tokenhub_store::NewRun { tenant: stranger.clone(), ..scoped_run("scope", "other") };
    assert!(matches!(store.runs().insert(&theirs).await.unwrap(), Inserted::New(_)));
    assert_eq!(store.runs().unfinished_of(&stranger).await.unwrap(), 1);
    // Who is let in by something else than a key finds both.
    for (run, tenant) in [(&first.run_id, tenant()), (&theirs.run_id, stranger)] {
        assert_eq!(store.runs().of_any_tenant(run).await.unwrap().unwrap().tenant, tenant);
    }
}

async fn the_sweep_finds_the_untouched_runs_without_a_result_page_by_page(database: Database) {
    let store = database.store().await;
    let runs = store.runs();
    let mut abandoned = Vec::new();
    for offset_ms in [20, 0, 10, 10] {
        let made = NewRun { created_at: NOW.plus_millis(offset_ms), ..run(&RunId::generate_plan()) };
        runs.insert(&made).await.unwrap();
        abandoned.push((made.created_at, made.run_id));
    }
    abandoned.sort();
    let strange = NewRun { tenant: "stranger".into(), created_at: NOW.plus_millis(30), ..run(&RunId::generate_plan()) };
    runs.insert(&strange).await.unwrap();
    abandoned.push((strange.created_at, strange.run_id));
    let ended = new_run(&store).await;
    finished(&store, &ended, RunStatus::Completed).await;
    let renewed = new_run(&store).await;
    runs.claim(&tenant(), &renewed, &process("a"), NOW.plus_millis(1_001)).await.unwrap();

    let before = NOW.plus_millis(1_000);
    let mut found = Vec::new();
    let mut last = None;
    for expected in [2, 2, 1, 0] {
        let page = runs.unfinished(tokenhub_store::Unfinished::AtWork, before, last.as_ref(), 2).await.unwrap();
        assert_eq!(page.len(), expected);
        found.extend(page.iter().map(|row| (row.created_at, row.run_id.clone())));
        last = page.into_iter().next_back().or(last);
    }
    assert_eq!(found, abandoned);
}

async fn a_scope_leads_to_its_current_run(database: Database) {
    let store = database.store().await;
    let first = scoped_run("scope", "body");
    store.runs().insert(&first).await.unwrap();
    finished(&store, &first.run_id, RunStatus::Failed).await;
    let second = scoped_run("scope", "body");
    store.runs().insert(&second).await.unwrap();
    let current = store.runs().of_scope(&tenant(), "scope").await.unwrap().unwrap();
    assert_eq!((current.run_id, current.generation), (second.run_id, 2));
    assert_eq!(store.runs().of_scope(&tenant(), "other").await.unwrap(), None);
    assert_eq!(store.runs().of_scope(&TenantId::from("stranger"), "scope").await.unwrap(), None);
}
