//! Runs that nobody works on any more: found by their rows, and brought to an end without anybody asking.
//!
//! Every API sweeps. The claim decides who carries a run, starting a workflow twice is starting it once, and a result is
//! fenced by its owner, so sweeps need no agreement. Must not know why a run was left alone.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use futures_util::future::join_all;
use tokenhub_domain::{DurabilityWish, Owner, PlanSpec, RunId, UnixMicros, WorkflowId};
use tokenhub_store::{PURGED_AT_ONCE, RunRow, Unfinished};
use tokio_util::sync::CancellationToken;

use super::{
    Shared, approval,
    durable::{self, Ended, StartFailure},
    in_process, launch, now, overdue, steering,
};

/// Between two passes, and before the first.
const INTERVAL: Duration = Duration::from_secs(5);
/// Rows of one pass; the next one goes on behind them.
const BATCH: u64 = 50;
/// A request that waits for the run takes it over as soon as its lease has run out, and should be the first.
const LEASE_GRACE_MS: u64 = 5_000;
/// Whoever accepts a run finds a carrier for it within this and the start deadline.
const START_GRACE_MS: u64 = 10_000;
/// A run that Temporal was to carry waits for Temporal this long.
const TEMPORAL_GRACE_MS: u64 = 30_000;
/// Shorter workflows are not asked about.
const WORKFLOW_GRACE_MS: u64 = 30_000;
/// What a step was writing is kept for so long behind it, for clients that are slow; and how often it is removed.
const DELTAS_KEPT_MS: u64 = 600_000;
const DELTAS_INTERVAL: Duration = Duration::from_mins(1);
/// Between two statements that remove some of them, for those who wait to write.
const DELTAS_PAUSE: Duration = Duration::from_millis(20);
/// A workflow that has ended says so at once.
const RESULT_TIMEOUT: Duration = Duration::from_secs(3);

/// Runs that a request of this process waits for and that must be durable, which their rows do not say.
#[derive(Default)]
pub(super) struct Promised {
    runs: Mutex<HashMap<RunId, Weak<()>>>,
}

impl Promised {
    /// Holds the promise for as long as the caller keeps what it gets.
    pub(super) fn hold(&self, run_id: &RunId) -> Arc<()> {
        let mut runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        runs.retain(|_, promise| promise.strong_count() > 0);
        if let Some(promise) = runs.get(run_id).and_then(Weak::upgrade) {
            return promise;
        }
        let promise = Arc::new(());
        runs.insert(run_id.clone(), Arc::downgrade(&promise));
        promise
    }

    fn holds(&self, run_id: &RunId) -> bool {
        let runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        runs.get(run_id).is_some_and(|promise| promise.strong_count() > 0)
    }
}

/// What an unfinished run lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lack {
    /// Nothing that its row tells of.
    Nothing,
    /// A process: the one that carried it is dead.
    Process,
    /// Anybody: whoever accepted it died before it was started.
    Start,
    /// The result of its workflow, if that has ended.
    Result,
}

fn lack_of(row: &RunRow, now: UnixMicros, start_deadline: Duration) -> Lack {
    let start_deadline_ms = u64::try_from(start_deadline.as_millis()).unwrap_or(u64::MAX);
    let is_over = |since: UnixMicros, grace_ms: u64| since.plus_millis(grace_ms) <= now;
    match (&row.owner, row.lease_until) {
        (None, _) if is_over(row.created_at, start_deadline_ms.saturating_add(START_GRACE_MS)) => Lack::Start,
        (Some(owner), Some(lease_until)) if owner.expires() && is_over(lease_until, LEASE_GRACE_MS) => Lack::Process,
        (Some(owner), _) if !owner.expires() && is_over(row.updated_at, WORKFLOW_GRACE_MS) => Lack::Result,
        (None | Some(_), _) => Lack::Nothing,
    }
}

/// Sweeps until `stop`.
pub(super) async fn keep_sweeping(shared: Arc<Shared>, stop: CancellationToken) {
    let sweeping = async {
        let (mut last, mut last_waiting) = (None, None);
        loop {
            tokio::time::sleep(INTERVAL).await;
            last = pass(&shared, Unfinished::AtWork, last).await;
            // Apart, so that a thousand runs that wait for a person hold up nobody.
            last_waiting = pass(&shared, Unfinished::Waiting, last_waiting).await;
            approval::tell_untold(&shared).await;
            steering::tell_untold(&shared).await;
        }
    };
    let purging = async {
        loop {
            tokio::time::sleep(DELTAS_INTERVAL).await;
            purge_deltas(&shared).await;
        }
    };
    tokio::select! {
        () = sweeping => {}
        () = purging => {}
        () = stop.cancelled() => {}
    }
}

/// Removes what nobody can want to read any more.
async fn purge_deltas(shared: &Shared) {
    let before = UnixMicros(now().0.saturating_sub_unsigned(DELTAS_KEPT_MS * 1_000));
    loop {
        match shared.world.store.plan_deltas().purge(before).await {
            Ok(PURGED_AT_ONCE) => tokio::time::sleep(DELTAS_PAUSE).await,
            Ok(_) => return,
            Err(error) => {
                tracing::debug!(error = &error as &dyn std::error::Error, "old deltas could not be removed");
                return;
            }
        }
    }
}

/// Looks at one batch; says which row was its last, unless no more follow.
async fn pass(shared: &Arc<Shared>, which: Unfinished, after: Option<RunRow>) -> Option<RunRow> {
    let touched_before = UnixMicros(now().0.saturating_sub_unsigned(LEASE_GRACE_MS * 1_000));
    let rows = match shared.world.store.runs().unfinished(which, touched_before, after.as_ref(), BATCH).await {
        Ok(rows) => rows,
        Err(error) => {
            tracing::debug!(error = &error as &dyn std::error::Error, "unfinished runs could not be looked for");
            return None;
        }
    };
    join_all(rows.iter().map(|row| attend(shared, row))).await;
    if (rows.len() as u64) < BATCH { None } else { rows.into_iter().next_back() }
}

async fn attend(shared: &Arc<Shared>, row: &RunRow) {
    if shared.running_here.holds(&row.run_id) {
        return;
    }
    let workflow_id = row.workflow_id.as_ref().filter(|id| row.owner == Some(Owner::workflow(id)));
    if let Some(workflow_id) = workflow_id
        && overdue::end(shared, row, workflow_id).await
    {
        return;
    }
    match lack_of(row, now(), shared.start_deadline) {
        Lack::Nothing => {}
        Lack::Process => carry(shared, row),
        Lack::Start => start(shared, row).await,
        Lack::Result => {
            if let Some(workflow_id) = workflow_id {
                fetch_result(shared, row, workflow_id).await;
            }
        }
    }
}

fn carry(shared: &Arc<Shared>, row: &RunRow) {
    if let Some(spec) = spec_of(row) {
        tracing::info!(run = %row.run_id, "carrying on a run that nobody works on");
        in_process::carry(shared, spec);
    }
}

fn spec_of(row: &RunRow) -> Option<PlanSpec> {
    serde_json::from_str(&row.spec_json)
        .inspect_err(|error| {
            tracing::warn!(error = error as &dyn std::error::Error, run = %row.run_id, "an abandoned run cannot be read");
        })
        .ok()
}

/// Lets Temporal carry the run, or this process when Temporal is not coming back soon.
async fn start(shared: &Arc<Shared>, row: &RunRow) {
    if let (Some(workflow_id), Some(_)) = (&row.workflow_id, &shared.link) {
        let waits_long = row.created_at.plus_millis(TEMPORAL_GRACE_MS) <= now();
        if is_started(shared, row, workflow_id).await {
            // A workflow that was stopped before it claimed the run never will.
            if waits_long {
                fetch_result(shared, row, workflow_id).await;
            }
            return;
        }
        if !waits_long || shared.promised.holds(&row.run_id) {
            return;
        }
        if let Some(deadline) = temporals_until(row) {
            // However long Temporal is away: it is carried nowhere else, and ends when nobody may wait any more.
            if deadline <= now() {
                let outcome = launch::cancelled("durability was required and Temporal was away");
                // A failure was logged where it happened, and the next sweep tries again.
                let _ = launch::end_unclaimed(shared, (&row.tenant, &row.run_id), &outcome).await;
            }
            return;
        }
    }
    carry(shared, row);
}

/// The deadline of a run that must be durable; nothing for one that may be carried here.
fn temporals_until(row: &RunRow) -> Option<UnixMicros> {
    let spec = spec_of(row).filter(|spec| spec.base().wish == DurabilityWish::Required)?;
    Some(row.created_at.plus_millis(spec.base().deadline_ms))
}

async fn is_started(shared: &Shared, row: &RunRow, workflow_id: &WorkflowId) -> bool {
    let (Some(spec), Ok(connected)) = (spec_of(row), shared.durable_path()) else { return false };
    match durable::start(&connected, &spec, workflow_id, shared.start_deadline).await {
        Ok(()) => return true,
        Err(StartFailure::Temporal(failure)) => shared.breaker.failed(failure),
        Err(StartFailure::Refused(reason)) => tracing::error!(reason, %workflow_id, "a start was refused"),
    }
    false
}

/// Writes what a workflow came to that ended without writing it.
async fn fetch_result(shared: &Shared, row: &RunRow, workflow_id: &WorkflowId) {
    let Some(connected) = shared.link.as_ref().and_then(|link| link.connected()) else { return };
    if durable::is_running(&connected, workflow_id).await {
        return;
    }
    let asking = durable::result(connected, workflow_id.clone());
    let Ok(ended) = tokio::time::timeout(RESULT_TIMEOUT, asking).await else { return };
    let outcome = match ended {
        Ended::With(outcome) | Ended::Stopped(outcome) => *outcome,
        Ended::Without => durable::lost(),
    };
    // A failure was logged where it happened, and the next sweep tries again.
    if let Ok(true) = launch::finish_for_workflow(shared, (&row.tenant, &row.run_id), workflow_id, outcome).await {
        tracing::warn!(run = %row.run_id, %workflow_id, "a workflow ended without writing its result");
    }
}

#[cfg(test)]
mod tests {
    use tokenhub_domain::{ChatSpec, RunContext, RunKind, RunStatus, SpecBase, Text, Usage};

    use super::*;

    const START: UnixMicros = UnixMicros(1_800_000_000_000_000);
    const START_DEADLINE: Duration = Duration::from_secs(2);

    fn row(owner: Option<Owner>, lease_until: Option<UnixMicros>) -> RunRow {
        RunRow {
            run_id: "run_1".into(),
            kind: RunKind::Chat,
            tenant: "default".into(),
            principal: "someone".into(),
            api_key_id: "key_1".into(),
            request_id: "req_1".into(),
            config_version: 1,
            labels: tokenhub_domain::Labels::default(),
            spec_json: String::new(),
            idempotency_scope: None,
            body_hash: None,
            generation: 1,
            workflow_id: None,
            status: RunStatus::Pending,
            stop_reason: None,
            owner,
            epoch: 0,
            lease_until,
            durability: None,
            negotiated_model: None,
            outcome_json: None,
            usage: Usage::default(),
            last_seq: 0,
            created_at: START,
            started_at: None,
            finished_at: None,
            updated_at: START,
        }
    }

    #[test]
    fn a_run_that_must_be_durable_is_temporals_to_its_deadline_whoever_finds_it() {
        let of = |wish: DurabilityWish| {
            let run = RunContext {
                run_id: "run_1".into(),
                kind: RunKind::Chat,
                tenant: "default".into(),
                principal: "someone".into(),
                api_key_id: "key_1".into(),
                request_id: "req_1".into(),
                config_version: 1,
                events: tokenhub_domain::EventKeeping::None,
                labels: tokenhub_domain::Labels::default(),
                share: tokenhub_domain::Share::default(),
                deltas: tokenhub_domain::Deltas::None,
            };
            let base = serde_json::json!({"run": run, "original": Text::Inline("{}".to_owned()), "deadline_ms": 5_000});
            let base = SpecBase { wish, ..serde_json::from_value(base).unwrap() };
            let spec = PlanSpec::Chat(ChatSpec { base, model: None, background: true });
            RunRow { spec_json: serde_json::to_string(&spec).unwrap(), ..row(None, None) }
        };
        assert_eq!(temporals_until(&of(DurabilityWish::Required)), Some(START.plus_millis(5_000)));
        assert_eq!(temporals_until(&of(DurabilityWish::Preferred)), None);
        assert!(!of(DurabilityWish::Preferred).spec_json.contains("wish"), "as before there were wishes");
    }

    #[test]
    fn a_run_is_left_alone_until_whoever_is_responsible_had_time() {
        let process = Owner::process(&"a".into());
        let workflow = Owner::workflow(&"w".into());
        let cases = [
            (row(None, None), 12_000, Lack::Start),
            (row(Some(process), Some(START.plus_millis(3_000))), 8_000, Lack::Process),
            (row(Some(workflow), None), 30_000, Lack::Result),
        ];
        for (row, due_ms, lack) in cases {
            assert_eq!(lack_of(&row, START.plus_millis(due_ms - 1), START_DEADLINE), Lack::Nothing, "{lack:?}");
            assert_eq!(lack_of(&row, START.plus_millis(due_ms), START_DEADLINE), lack);
        }
    }

    #[test]
    fn a_promise_lasts_as_long_as_somebody_waits() {
        let promised = Promised::default();
        let run_id = RunId::from("run_1");
        let (first, second) = (promised.hold(&run_id), promised.hold(&run_id));
        drop(first);
        assert!(promised.holds(&run_id) && !promised.holds(&RunId::from("run_2")));
        drop(second);
        assert!(!promised.holds(&run_id));
    }
}
