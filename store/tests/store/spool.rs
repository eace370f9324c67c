//! The spools of processes that died.
//!
//! A process that dies is played by a runtime that is torn down with everything in it; a real one is killed in
//! `killed`.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    path::PathBuf,
};

use tokenhub_domain::{InstanceId, Owner};
use tokenhub_store::{Ledger, LedgerState, Store};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    databases::{Database, on_both_databases},
    ledger::{Running, announce, rows, send},
    rows::{NOW, attempt, process, settlement, step_key, tenant},
};

on_both_databases!(
    what_a_dead_process_left_undrained_is_orphaned,
    what_a_dead_process_left_in_the_database_is_orphaned,
    a_living_process_is_left_alone,
    half_a_line_and_rubbish_do_not_hide_the_other_lines,
    a_spool_that_is_adopted_twice_makes_no_second_row,
    the_calls_of_a_dead_process_are_counted,
);

/// Does `work` with a ledger of its own, whose process then ceases to exist.
pub(crate) fn abandon<T: Send>(database: &Database, work: impl AsyncFnOnce(&Ledger) -> T + Send) -> T {
    let life = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let store = Store::open(&database.url).await.unwrap();
            let (tracker, stop) = (TaskTracker::new(), CancellationToken::new());
            let ledger =
                Ledger::open(store, database.data_dir(), InstanceId::generate(), &tracker, stop).await.unwrap();
            work(&ledger).await
        })
    };
    std::thread::scope(|scope| scope.spawn(life).join().unwrap())
}

fn spool_of(database: &Database, instance: &InstanceId) -> PathBuf {
    database.data_dir().join("spool").join(format!("{instance}.jsonl"))
}

/// A spool with one attempt in flight. Nothing of it is in the database: the runtime had no turn to drain it.
fn abandoned_send(database: &Database) -> InstanceId {
    abandon(database, async |ledger| {
        send(ledger, attempt(1));
        ledger.instance().clone()
    })
}

async fn what_a_dead_process_left_undrained_is_orphaned(database: Database) {
    let store = database.store().await;
    let dead = abandon(&database, async |ledger| {
        let settled = send(ledger, attempt(1));
        ledger.settle(&settled, settlement()).unwrap();
        send(ledger, attempt(2));
        announce(ledger, attempt(3));
        ledger.instance().clone()
    });
    assert!(rows(&store).await.is_empty());
    let running = Running::start(&store, &database).await;
    let states: Vec<_> = rows(&store).await.into_iter().map(|row| (row.step_key, row.state)).collect();
    assert_eq!(states, [(step_key(1), LedgerState::Settled), (step_key(2), LedgerState::Orphaned)]);
    assert!(!spool_of(&database, &dead).exists());
    assert!(running.ledger.is_instance_dead(&dead));
    assert!(running.ledger.is_owner_dead(&process(dead.as_str())));
    assert!(running.ledger.is_owner_dead(&Owner(format!("process:{dead}/att_1"))));
    assert!(!running.ledger.is_owner_dead(&Owner(format!("workflow:{dead}"))));
}

async fn what_a_dead_process_left_in_the_database_is_orphaned(database: Database) {
    let store = database.store().await;
    let dead = abandon(&database, async |ledger| {
        send(ledger, attempt(1));
        ledger.flush().await.unwrap();
        ledger.instance().clone()
    });
    assert_eq!(rows(&store).await[0].state, LedgerState::Sent);
    // As after a long life: what is in the database is no longer in the spool.
    OpenOptions::new().write(true).open(spool_of(&database, &dead)).unwrap().set_len(0).unwrap();
    let running = Running::start(&store, &database).await;
    assert_eq!(rows(&store).await[0].state, LedgerState::Orphaned);
    assert!(running.ledger.is_instance_dead(&dead));
}

async fn a_living_process_is_left_alone(database: Database) {
    let store = database.store().await;
    let first = Running::start(&store, &database).await;
    let second = Running::start(&store, &database).await;
    let id = send(&first.ledger, attempt(1));
    assert_eq!(second.ledger.adopt_dead().await.unwrap(), 0);
    assert!(!second.ledger.is_instance_dead(first.ledger.instance()));
    assert!(!second.ledger.is_instance_dead(&InstanceId::from("inst_never_heard_of")));
    first.ledger.flush().await.unwrap();
    assert_eq!(second.ledger.adopt_dead().await.unwrap(), 0);
    assert_eq!(rows(&store).await[0].state, LedgerState::Sent);
    first.ledger.settle(&id, settlement()).unwrap();
    first.ledger.flush().await.unwrap();
    assert_eq!(rows(&store).await[0].state, LedgerState::Settled);
}

async fn half_a_line_and_rubbish_do_not_hide_the_other_lines(database: Database) {
    let store = database.store().await;
    let dead = abandoned_send(&database);
    let path = spool_of(&database, &dead);
    let good = fs::read_to_string(&path).unwrap();
    let second = good.replace(&good[good.find("att_").unwrap()..][..36], "att_second");
    let torn = format!("{{\"attempt\":\"att_x\",\"ope\n\n{second}{}", &good[..good.len() / 2]);
    OpenOptions::new().append(true).open(&path).unwrap().write_all(torn.as_bytes()).unwrap();
    let running = Running::start(&store, &database).await;
    let adopted = rows(&store).await;
    assert_eq!(adopted.len(), 2, "{adopted:?}");
    assert!(adopted.iter().all(|row| row.state == LedgerState::Orphaned && row.sent_at == Some(NOW.plus_millis(1))));
    assert!(!path.exists());
    drop(running);
}

async fn a_spool_that_is_adopted_twice_makes_no_second_row(database: Database) {
    let store = database.store().await;
    let dead = abandoned_send(&database);
    fs::copy(spool_of(&database, &dead), spool_of(&database, &InstanceId::from("inst_copy"))).unwrap();
    let running = Running::start(&store, &database).await;
    assert_eq!(rows(&store).await.len(), 1);
    assert!(running.ledger.is_instance_dead(&dead) && running.ledger.is_instance_dead(&"inst_copy".into()));
}

async fn the_calls_of_a_dead_process_are_counted(database: Database) {
    let store = database.store().await;
    let running = Running::start(&store, &database).await;
    abandoned_send(&database);
    abandoned_send(&database);
    send(&running.ledger, attempt(1));
    send(&running.ledger, attempt(2));
    assert_eq!(running.ledger.sends_of(&tenant(), &step_key(1)).await.unwrap(), 3);
    assert_eq!(running.ledger.sends_of(&tenant(), &step_key(2)).await.unwrap(), 1);
    assert_eq!(running.ledger.sends_of(&tenant(), &step_key(3)).await.unwrap(), 0);
}
