//! The ledger of a living process.

use std::time::{Duration, Instant};

use tokenhub_domain::{AttemptId, ErrorClass, InstanceId, NanoDollars};
use tokenhub_store::{AttemptOpen, Ledger, LedgerRow, LedgerState, Settlement, Store, StoreError, Waste};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    databases::{Database, on_both_databases},
    rows::{NOW, attempt, settlement, step_key, tenant},
};

on_both_databases!(
    an_answered_call_is_settled_with_everything_that_is_known,
    a_call_that_was_drained_before_its_end_is_settled_too,
    a_failed_call_is_void_and_counts_as_sent_only_if_bytes_left,
    an_answer_that_came_second_is_marked_wasted_and_stays_so,
    of_several_answers_to_one_try_all_but_one_are_wasted,
    a_late_answer_settles_an_orphan_and_nothing_unsettles_it,
    each_attempt_is_one_row_however_often_it_is_told,
    while_the_database_is_away_rows_wait_and_then_arrive_by_themselves,
    a_full_spool_refuses_new_calls_and_keeps_every_answer,
    a_busy_ledger_loses_nothing_when_its_spool_is_emptied,
    a_spool_that_is_rewritten_while_it_is_used_belongs_to_the_living,
    a_stopped_ledger_leaves_no_spool_unless_a_call_is_in_flight,
    an_attempt_that_nobody_announced_is_not_sent,
    whoever_attaches_to_an_attempt_ends_its_row_whether_it_has_arrived_or_not,
);

/// A ledger with the task that drains it.
pub(crate) struct Running {
    pub(crate) ledger: Ledger,
    tracker: TaskTracker,
    stop: CancellationToken,
}

impl Running {
    pub(crate) async fn start(store: &Store, database: &Database) -> Self {
        let (tracker, stop) = (TaskTracker::new(), CancellationToken::new());
        let instance = InstanceId::generate();
        let ledger = Ledger::open(store.clone(), database.data_dir(), instance, &tracker, stop.clone()).await.unwrap();
        Self { ledger, tracker, stop }
    }

    async fn stop(self) {
        self.stop.cancel();
        self.tracker.close();
        self.tracker.wait().await;
    }
}

pub(crate) fn announce(ledger: &Ledger, open: AttemptOpen) -> AttemptId {
    let attempt = open.attempt_id.clone();
    ledger.reserve(open);
    attempt
}

pub(crate) fn send(ledger: &Ledger, open: AttemptOpen) -> AttemptId {
    let attempt = announce(ledger, open);
    ledger.sent(&attempt, NOW.plus_millis(1)).unwrap();
    attempt
}

pub(crate) async fn rows(store: &Store) -> Vec<LedgerRow> {
    store.ledger_rows().all().await.unwrap()
}

async fn only_row(store: &Store) -> LedgerRow {
    let mut rows = rows(store).await;
    assert_eq!(rows.len(), 1, "{rows:?}");
    rows.remove(0)
}

fn assert_settled(row: &LedgerRow) {
    let told = settlement();
    assert_eq!((row.state, row.cost, row.estimated_cost), (LedgerState::Settled, told.cost, NanoDollars(99)));
    assert_eq!((row.input_tokens, row.output_tokens), (10, 20));
    assert_eq!((row.input_price, row.output_price), (told.input_price, told.output_price));
    assert_eq!((&row.usage_json, &row.finish_reason), (&told.usage_json, &told.finish_reason));
    assert_eq!((row.waste, row.latency_ms), (Some(Waste::Used), Some(12)));
    assert_eq!((row.created_at, row.sent_at, row.finished_at), (NOW, Some(NOW.plus_millis(1)), Some(told.at)));
    assert_eq!((row.step_key.clone(), row.role), (step_key(1), attempt(1).role));
}

async fn an_answered_call_is_settled_with_everything_that_is_known(database: Database) {
    let store = database.store().await;
    let running = Running::start(&store, &database).await;
    let id = send(&running.ledger, attempt(1));
    running.ledger.settle(&id, settlement()).unwrap();
    running.ledger.flush().await.unwrap();
    let row = only_row(&store).await;
    assert_settled(&row);
    assert_eq!((&row.attempt, &row.instance), (&id, running.ledger.instance()));
    assert_eq!(store.ledger_rows().of_run(&tenant(), &"plan_1".into()).await.unwrap(), [row]);
    running.stop().await;
}

async fn a_call_that_was_drained_before_its_end_is_settled_too(database: Database) {
    let store = database.store().await;
    let running = Running::start(&store, &database).await;
    let id = send(&running.ledger, attempt(1));
    running.ledger.flush().await.unwrap();
    assert_eq!(only_row(&store).await.state, LedgerState::Sent);
    running.ledger.settle(&id, settlement()).unwrap();
    running.ledger.flush().await.unwrap();
    assert_settled(&only_row(&store).await);
    running.stop().await;
}

async fn of_several_answers_to_one_try_all_but_one_are_wasted(database: Database) {
    let store = database.store().await;
    let running = Running::start(&store, &database).await;
    let [lost, used, other] = [attempt(1), attempt(1), attempt(2)].map(|open| send(&running.ledger, open));
    for answered in [&lost, &used, &other] {
        running.ledger.settle(answered, settlement()).unwrap();
    }
    let failed = send(&running.ledger, attempt(1));
    running.ledger.fail(&failed, ErrorClass::Overloaded, Some(503), 7, NOW.plus_millis(8)).unwrap();
    assert_eq!(running.ledger.sends_of(&tenant(), &step_key(1)).await.unwrap(), 3);
    running.ledger.waste_all_but(&used, &tenant(), &step_key(1)).await.unwrap();
    let waste_of = |id: &AttemptId, rows: &[LedgerRow]| rows.iter().find(|row| row.attempt == *id).unwrap().waste;
    let rows = rows(&store).await;
    let wastes = [&lost, &used, &other, &failed].map(|id| waste_of(id, &rows));
    assert_eq!(wastes, [Some(Waste::Wasted), Some(Waste::Used), Some(Waste::Used), None]);
    running.stop().await;
}

async fn a_failed_call_is_void_and_counts_as_sent_only_if_bytes_left(database: Database) {
    let store = database.store().await;
    let running = Running::start(&store, &database).await;
    let refused = send(&running.ledger, attempt(1));
    running.ledger.fail(&refused, ErrorClass::Overloaded, Some(503), 7, NOW.plus_millis(8)).unwrap();
    let never_sent = announce(&running.ledger, attempt(1));
    running.ledger.fail(&never_sent, ErrorClass::Cancelled, None, 0, NOW.plus_millis(8)).unwrap();
    assert_eq!(running.ledger.sends_of(&tenant(), &step_key(1)).await.unwrap(), 1);
    let rows = rows(&store).await;
    assert_eq!(rows.len(), 2);
    for row in rows {
        let sent = row.attempt == refused;
        assert_eq!((row.state, row.cost, row.sent_at.is_some()), (LedgerState::Void, NanoDollars(0), sent));
        let class = if sent { ErrorClass::Overloaded } else { ErrorClass::Cancelled };
        assert_eq!((row.error_class, row.status_code), (Some(class), sent.then_some(503)));
    }
    running.stop().await;
}

async fn an_answer_that_came_second_is_marked_wasted_and_stays_so(database: Database) {
    let store = database.store().await;
    let running = Running::start(&store, &database).await;
    let wasted = || Settlement { waste: Waste::Wasted, ..settlement() };
    let told_at_once = send(&running.ledger, attempt(1));
    running.ledger.settle(&told_at_once, settlement()).unwrap();
    running.ledger.settle(&told_at_once, wasted()).unwrap();
    let told_later = send(&running.ledger, attempt(1));
    running.ledger.settle(&told_later, settlement()).unwrap();
    running.ledger.flush().await.unwrap();
    running.ledger.settle(&told_later, wasted()).unwrap();
    running.ledger.flush().await.unwrap();
    running.ledger.settle(&told_later, settlement()).unwrap();
    running.ledger.flush().await.unwrap();
    for row in rows(&store).await {
        assert_eq!((row.state, row.waste), (LedgerState::Settled, Some(Waste::Wasted)));
    }
    running.stop().await;
}

async fn a_late_answer_settles_an_orphan_and_nothing_unsettles_it(database: Database) {
    let store = database.store().await;
    let orphan = crate::spool::abandon(&database, async |ledger| send(ledger, attempt(1)));
    let running = Running::start(&store, &database).await;
    assert_eq!(only_row(&store).await.state, LedgerState::Orphaned);
    running.ledger.settle(&orphan, settlement()).unwrap();
    running.ledger.flush().await.unwrap();
    assert_settled(&only_row(&store).await);
    running.ledger.fail(&orphan, ErrorClass::Transport, None, 1, NOW).unwrap();
    running.ledger.flush().await.unwrap();
    assert_settled(&only_row(&store).await);
    running.stop().await;
}

async fn each_attempt_is_one_row_however_often_it_is_told(database: Database) {
    let store = database.store().await;
    let running = Running::start(&store, &database).await;
    let open = attempt(1);
    for _ in 0..3 {
        let id = send(&running.ledger, open.clone());
        running.ledger.sent(&id, NOW.plus_millis(2)).unwrap();
        running.ledger.settle(&id, settlement()).unwrap();
        running.ledger.flush().await.unwrap();
    }
    assert_settled(&only_row(&store).await);
    running.stop().await;
}

async fn while_the_database_is_away_rows_wait_and_then_arrive_by_themselves(database: Database) {
    let store = database.bare_store().await;
    let running = Running::start(&store, &database).await;
    let id = send(&running.ledger, attempt(1));
    running.ledger.settle(&id, settlement()).unwrap();
    assert!(running.ledger.flush().await.is_err(), "there is no table yet");
    store.migrate().await.unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    while rows(&store).await.is_empty() {
        assert!(Instant::now() < deadline, "the drain did not come back");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_settled(&only_row(&store).await);
    running.stop().await;
}

async fn a_full_spool_refuses_new_calls_and_keeps_every_answer(database: Database) {
    const LARGE_BYTES: usize = 1024 * 1024;
    let store = database.bare_store().await;
    let running = Running::start(&store, &database).await;
    let large = || AttemptOpen { principal: "p".repeat(LARGE_BYTES).as_str().into(), ..attempt(1) };
    let mut sent = Vec::new();
    let refused = loop {
        let id = announce(&running.ledger, large());
        match running.ledger.sent(&id, NOW) {
            Ok(()) => sent.push(id),
            Err(error) => break (id, error),
        }
    };
    assert!(matches!(refused.1, StoreError::SpoolFull) && refused.1.is_unavailable());
    assert_eq!(sent.len(), 63, "the bound is 64 MiB, and each line is a little over one");
    for id in &sent {
        running.ledger.settle(id, settlement()).unwrap();
    }
    store.migrate().await.unwrap();
    running.ledger.flush().await.unwrap();
    let states: Vec<_> = rows(&store).await.into_iter().map(|row| row.state).collect();
    assert_eq!(states, vec![LedgerState::Settled; sent.len()]);
    let forgotten = running.ledger.sent(&refused.0, NOW);
    assert!(matches!(forgotten, Err(StoreError::UnknownAttempt(_))), "a refused call is no longer in flight");
    let admitted = send(&running.ledger, attempt(2));
    running.ledger.settle(&admitted, settlement()).unwrap();
    let spool = database.data_dir().join("spool").join(format!("{}.jsonl", running.ledger.instance()));
    running.stop().await;
    assert!(!spool.exists(), "nothing is in flight");
}

async fn a_busy_ledger_loses_nothing_when_its_spool_is_emptied(database: Database) {
    const CALLS: usize = 3_000; // about 3 MiB of lines, so the file is emptied more than once
    let store = database.store().await;
    let running = Running::start(&store, &database).await;
    for number in 0..CALLS {
        let id = send(&running.ledger, attempt(1));
        running.ledger.settle(&id, settlement()).unwrap();
        if number % 500 == 499 {
            running.ledger.flush().await.unwrap();
        }
    }
    running.ledger.flush().await.unwrap();
    let rows = rows(&store).await;
    assert_eq!(rows.len(), CALLS);
    rows.iter().for_each(assert_settled);
    let spool = database.data_dir().join("spool").join(format!("{}.jsonl", running.ledger.instance()));
    assert!(spool.metadata().unwrap().len() < 2 * 1024 * 1024, "the spool only grows");
    running.stop().await;
}

async fn a_spool_that_is_rewritten_while_it_is_used_belongs_to_the_living(database: Database) {
    const CALLS: usize = 60;
    let store = database.store().await;
    let running = Running::start(&store, &database).await;
    let witness = Running::start(&store, &database).await;
    // About 128 KiB each: the file is rewritten every eight calls or so, and a call is always in flight.
    let large = || AttemptOpen { principal: "p".repeat(128 * 1024).as_str().into(), ..attempt(1) };
    let spool = database.data_dir().join("spool").join(format!("{}.jsonl", running.ledger.instance()));
    let mut last = send(&running.ledger, large());
    for _ in 1..CALLS {
        let next = send(&running.ledger, large());
        running.ledger.settle(&std::mem::replace(&mut last, next), settlement()).unwrap();
        let (flushed, adopted) = tokio::join!(running.ledger.flush(), witness.ledger.adopt_dead());
        flushed.unwrap();
        assert_eq!(adopted.unwrap(), 0);
        assert!(!witness.ledger.is_instance_dead(running.ledger.instance()));
        assert!(spool.metadata().unwrap().len() < 2 * 1024 * 1024, "the spool only grows");
    }
    running.ledger.settle(&last, settlement()).unwrap();
    running.ledger.flush().await.unwrap();
    let rows = rows(&store).await;
    assert_eq!(rows.len(), CALLS);
    rows.iter().for_each(assert_settled);
    running.stop().await;
    witness.stop().await;
}

async fn a_stopped_ledger_leaves_no_spool_unless_a_call_is_in_flight(database: Database) {
    let store = database.store().await;
    let finished = Running::start(&store, &database).await;
    let witness = Running::start(&store, &database).await;
    let id = send(&finished.ledger, attempt(1));
    finished.ledger.settle(&id, settlement()).unwrap();
    let (instance, ledger) = (finished.ledger.instance().clone(), finished.ledger.clone());
    assert!(!witness.ledger.is_instance_dead(&instance));
    finished.stop().await;
    assert_settled(&only_row(&store).await);
    assert!(witness.ledger.is_instance_dead(&instance));
    let late = announce(&ledger, attempt(2));
    assert!(matches!(ledger.sent(&late, NOW), Err(StoreError::LedgerClosed)));
    let interrupted = Running::start(&store, &database).await;
    let open = send(&interrupted.ledger, attempt(3));
    interrupted.stop().await;
    assert_eq!(witness.ledger.adopt_dead().await.unwrap(), 1);
    let state = rows(&store).await.into_iter().find(|row| row.attempt == open).unwrap().state;
    assert_eq!(state, LedgerState::Orphaned);
    witness.stop().await;
}

async fn an_attempt_that_nobody_announced_is_not_sent(database: Database) {
    let store = database.store().await;
    let running = Running::start(&store, &database).await;
    let sent = running.ledger.sent(&AttemptId::generate(), NOW);
    assert!(matches!(sent, Err(StoreError::UnknownAttempt(_))));
    running.stop().await;
}

async fn whoever_attaches_to_an_attempt_ends_its_row_whether_it_has_arrived_or_not(database: Database) {
    let store = database.store().await;
    let first = Running::start(&store, &database).await;
    let second = Running::start(&store, &database).await;
    let (arrived, held_up) = (attempt(1), attempt(2));
    send(&first.ledger, arrived.clone());
    first.ledger.flush().await.unwrap();
    for open in [arrived, held_up.clone()] {
        let id = open.attempt_id.clone();
        second.ledger.attach(open, NOW.plus_millis(1));
        second.ledger.settle(&id, settlement()).unwrap();
    }
    second.ledger.flush().await.unwrap();
    let sent: Vec<_> = rows(&store).await.iter().map(|row| (row.state, row.sent_at, row.waste)).collect();
    assert_eq!(sent, [(LedgerState::Settled, Some(NOW.plus_millis(1)), Some(Waste::Used)); 2]);
    // What arrives late changes nothing.
    send(&first.ledger, held_up);
    first.ledger.flush().await.unwrap();
    let rows = rows(&store).await;
    assert!(rows.len() == 2 && rows.iter().all(|row| row.state == LedgerState::Settled), "{rows:?}");
    second.stop().await;
    first.stop().await;
}
