//! Runs carried by this process: tracked tasks, never a handler's future, so a client that goes away kills nothing.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokenhub_activities::{Direct, Keeping};
use tokenhub_domain::{
    DurabilityMark, EventKeeping, Labels, Outcome, Owner, PlanSpec, RunContext, RunId, RunStatus, SpecBase, limits,
};
use tokenhub_orchestrate::{Finished, Steps};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::{Answered, Job, Origin, Shared, launch, now};
use crate::error::Problem;

/// What a run in this process came to, as far as it is known.
#[derive(Clone, Debug)]
pub(super) enum Here {
    /// It runs.
    Running,
    /// It ended.
    Finished(Arc<Outcome>),
    /// Another owner has it.
    ClaimLost,
}

/// Tells everybody in this process who waits for the same run.
pub(super) type HereWatch = watch::Receiver<Here>;

/// The runs that this process carries. Two requests of one process share an owner, so the claim alone would let both
/// carry the same run.
#[derive(Default)]
pub(super) struct RunningHere {
    runs: Mutex<HashMap<RunId, Carried>>,
}

/// A run that is carried here.
struct Carried {
    watch: HereWatch,
    /// Cancelled when somebody wants it to stop.
    stop: CancellationToken,
    /// Somebody has asked something of it.
    asked: Arc<Notify>,
}

/// A place for a run that is going to be carried here.
struct Place {
    sender: watch::Sender<Here>,
    watch: HereWatch,
    stop: CancellationToken,
    asked: Arc<Notify>,
}

impl RunningHere {
    /// The run that is carried here already, or a place for a new one.
    fn join(&self, run_id: &RunId) -> Result<HereWatch, Place> {
        let mut runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        // A sender that is gone while its run is still listed belongs to a task that panicked.
        if let Some(running) = runs.get(run_id).filter(|running| running.watch.has_changed().is_ok()) {
            return Ok(running.watch.clone());
        }
        let (sender, watch) = watch::channel(Here::Running);
        let (stop, asked) = (CancellationToken::new(), Arc::<Notify>::default());
        let carried = Carried { watch: watch.clone(), stop: stop.clone(), asked: Arc::clone(&asked) };
        runs.insert(run_id.clone(), carried);
        Err(Place { sender, watch, stop, asked })
    }

    /// Stops the run if it is carried here: it ends by itself then, and tells what it has. Whether it is.
    pub(super) fn stop(&self, run_id: &RunId) -> bool {
        let runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        let running = runs.get(run_id).filter(|running| running.watch.has_changed().is_ok());
        running.inspect(|running| running.stop.cancel()).is_some()
    }

    /// Has the run look at what is asked of it, if it is carried here; otherwise whoever carries it looks soon.
    pub(super) fn look(&self, run_id: &RunId) {
        let runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = runs.get(run_id) {
            running.asked.notify_one();
        }
    }

    /// Whether this process carries the run.
    pub(super) fn holds(&self, run_id: &RunId) -> bool {
        let runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        runs.get(run_id).is_some_and(|running| running.watch.has_changed().is_ok())
    }

    fn leave(&self, run_id: &RunId) {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner).remove(run_id);
    }
}

/// Carries `spec` in this process; joins the task that does so already.
pub(super) fn carry(shared: &Arc<Shared>, spec: PlanSpec) -> HereWatch {
    let run = spec.base().run.clone();
    let Place { sender, watch, stop, asked } = match shared.running_here.join(&run.run_id) {
        Ok(running) => return running,
        Err(place) => place,
    };
    let worker = Arc::clone(shared);
    shared.tasks.spawn(async move {
        let owner = Owner::process(&worker.world.instance);
        let renewing = CancellationToken::new();
        let steps = Direct::new(Arc::clone(&worker.world), run.clone(), owner.clone(), Keeping::Rows);
        let carrier = Carrier { owner, steps: steps.clone(), asked };
        worker.tasks.spawn(renew(Arc::clone(&worker), run.clone(), carrier, renewing.clone()));
        let (stopped, done) = (steps.clone(), renewing.clone());
        worker.tasks.spawn(async move {
            if done.run_until_cancelled(stop.cancelled()).await.is_some() {
                stopped.cancel("the run is to stop");
            }
        });
        // What only waits for a person does not hold up the end of the process: another one waits on, or this one when it
        // is back.
        let ended = tokio::select! {
            ended = execute(&worker, &steps, spec) => ended,
            () = let_go(&worker, &steps) => Here::ClaimLost,
        };
        renewing.cancel();
        worker.running_here.leave(&run.run_id);
        // Nobody may be waiting any more.
        let _ = sender.send(ended);
    });
    watch
}

async fn let_go(shared: &Shared, steps: &Direct) {
    shared.stopping.cancelled().await;
    steps.only_waits().await;
}

async fn execute(shared: &Shared, steps: &Direct, spec: PlanSpec) -> Here {
    hear(shared, &spec.base().run, steps).await;
    let finished = match answered_before(shared, spec.base()).await {
        Ok(None) => Box::pin(tokenhub_orchestrate::run(steps, spec)).await,
        Ok(Some(outcome)) => Box::pin(tokenhub_orchestrate::resume(steps, spec, outcome)).await,
        // Whoever sweeps later tries again.
        Err(_) => Finished::ClaimLost,
    };
    match finished {
        Finished::Outcome(outcome) => Here::Finished(Arc::new(*outcome)),
        Finished::ClaimLost => Here::ClaimLost,
    }
}

/// What a run came to that asked for a decision before its process died. It is not computed again: a selection of now
/// might ask other models.
async fn answered_before(shared: &Shared, base: &SpecBase) -> Result<Option<Outcome>, Problem> {
    if base.approval.is_none() {
        return Ok(None);
    }
    let asked = shared.world.store.approvals().get(&base.run.tenant, &base.run.run_id).await;
    let asked = asked.map_err(|error| launch::away(&error))?;
    asked.map(|asked| serde_json::from_str(&asked.outcome_json).map_err(|_| Problem::Internal)).transpose()
}

/// Tells a run what was asked of it, as far as that can be read now.
async fn hear(shared: &Shared, run: &RunContext, steps: &Direct) {
    if run.events == EventKeeping::None {
        return;
    }
    match shared.world.store.signals().steering(&run.tenant, &run.run_id).await {
        Ok(steering) => steps.steer(steering),
        Err(error) => {
            tracing::debug!(error = &error as &dyn std::error::Error, run = %run.run_id, "signals could not be read");
        }
    }
}

/// Who carries a run here, and by what it is told to look.
struct Carrier {
    owner: Owner,
    steps: Direct,
    asked: Arc<Notify>,
}

/// Keeps the lease while the run lasts, and looks at what is asked of it; ends when it is somebody else's, and stops the
/// run when it was cancelled.
async fn renew(shared: Arc<Shared>, run: RunContext, carrier: Carrier, done: CancellationToken) {
    let Carrier { owner, steps, asked } = carrier;
    let runs = shared.world.store.runs();
    let interval = Duration::from_millis(limits::LEASE_RENEW_MS);
    let mut epoch = None;
    loop {
        tokio::select! {
            () = tokio::time::sleep(interval) => {}
            () = asked.notified() => {}
            () = done.cancelled() => return,
        }
        hear(&shared, &run, &steps).await;
        if epoch.is_none() {
            let row = runs.get(&run.tenant, &run.run_id).await.ok().flatten();
            epoch = row.filter(|row| row.owner.as_ref() == Some(&owner)).map(|row| row.epoch);
        }
        let Some(held) = epoch else { continue };
        match runs.renew(&run.tenant, &run.run_id, &owner, held, now()).await {
            Ok(true) => {}
            Ok(false) => match runs.get(&run.tenant, &run.run_id).await {
                // An owner that lost its claim goes on: the journal gives what it buys to the next one.
                Ok(row) => {
                    if row.is_some_and(|row| row.status == RunStatus::Cancelled) {
                        steps.cancel("the run was cancelled");
                    }
                    return;
                }
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(error, run = %run.run_id, "it is not known why a lease was lost");
                }
            },
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, run = %run.run_id, "a lease was not renewed");
            }
        }
    }
}

/// Carries a chat whose caller wants no durability: no row, no journal, the ledger and the log as always.
pub(super) async fn ledger_only(shared: &Arc<Shared>, job: Job) -> Result<Answered, Problem> {
    let run = job.spec.base().run.clone();
    let run_id = run.run_id.clone();
    let worker = Arc::clone(shared);
    let task = shared.tasks.spawn(async move {
        let owner = Owner::process(&worker.world.instance);
        let steps = Direct::new(Arc::clone(&worker.world), run, owner, Keeping::LedgerOnly);
        execute(&worker, &steps, job.spec).await
    });
    match task.await {
        Ok(Here::Finished(outcome)) => Ok(answered(run_id, outcome)),
        Ok(Here::Running | Here::ClaimLost) | Err(_) => Err(Problem::Internal),
    }
}

fn answered(run_id: RunId, outcome: Arc<Outcome>) -> Answered {
    Answered {
        outcome: Arc::unwrap_or_clone(outcome),
        run_id,
        // Chats have none, and only they run without a row.
        labels: Labels::default(),
        workflow_id: None,
        mark: DurabilityMark::None,
        origin: Origin::Fresh,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_request_for_the_same_run_joins_the_first() {
        let here = RunningHere::default();
        let run_id = RunId::from("run_1");
        let place = here.join(&run_id).err().unwrap();
        assert!(here.join(&run_id).is_ok() && here.holds(&run_id));
        assert!(!here.stop(&RunId::from("run_2")) && !place.stop.is_cancelled());
        assert!(here.stop(&run_id) && place.stop.is_cancelled());
        assert!(here.join(&RunId::from("run_2")).is_err());
        here.leave(&run_id);
        assert!(here.join(&run_id).is_err());
    }

    #[test]
    fn the_place_of_a_task_that_died_is_free() {
        let here = RunningHere::default();
        let run_id = RunId::from("run_1");
        drop(here.join(&run_id).err().unwrap().sender);
        assert!(!here.holds(&run_id));
        assert!(here.join(&run_id).is_err());
    }
}
