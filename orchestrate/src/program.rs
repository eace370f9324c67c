//! The frame around every program: claim and shortlists first, the run's clock, the record last.
//!
//! Owns the order select, program, record. Must not know the programs' own decisions.

use std::sync::{Arc, atomic::AtomicBool};

use tokenhub_domain::{
    FinishRequest, Outcome, PlanSpec, SelectRequest, Selection, Shortlist, ShortlistWish, SpecBase, UnixMicros,
};

use crate::{
    Steps, adversarial, approval, best_of_n, cascade, chat,
    ending::{self, Ending},
    fuse, refine, vote,
};

/// How a program ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Finished {
    /// It ran, and this is what the run came to.
    Outcome(Box<Outcome>),
    /// Somebody else runs it: nothing was bought and nothing recorded.
    ClaimLost,
}

/// Carries out `spec`: selects first, records last, and never fails otherwise than by its outcome.
///
/// An outcome that could not be recorded is returned all the same: the executor repeats and logs a failing record step,
/// and the answer is worth more than its row.
pub async fn run<S: Steps>(steps: &S, spec: PlanSpec) -> Finished {
    let run = Run::start(steps, spec.base());
    let ended = match &spec {
        PlanSpec::Chat(spec) => chat::run(&run, spec).await,
        PlanSpec::Adversarial(spec) => adversarial::run(&run, spec).await,
        PlanSpec::Vote(spec) => vote::run(&run, spec).await,
        PlanSpec::Refine(spec) => refine::run(&run, spec).await,
        PlanSpec::BestOfN(spec) => best_of_n::run(&run, spec).await,
        PlanSpec::Cascade(spec) => cascade::run(&run, spec).await,
        PlanSpec::Fuse(spec) => fuse::run(&run, spec).await,
    };
    let outcome = match ended {
        Ok(outcome) => outcome,
        Err(Unselected::ClaimLost) => return Finished::ClaimLost,
        Err(Unselected::Ended(ending)) => ending.outcome(routing_reason(&spec), None, None, Vec::new()),
    };
    finish(steps, spec.base(), outcome).await
}

/// Carries on a run whose program had its answer before, and which may wait for a decision about it: nothing is bought.
/// Only for an executor that does not replay what has happened.
pub async fn resume<S: Steps>(steps: &S, spec: PlanSpec, outcome: Outcome) -> Finished {
    let run = Run::start(steps, spec.base());
    // A run that cannot be claimed now is left as it is.
    match run.select_each(Vec::new()).await {
        Ok(_) => finish(steps, spec.base(), outcome).await,
        Err(Unselected::ClaimLost | Unselected::Ended(_)) => Finished::ClaimLost,
    }
}

async fn finish<S: Steps>(steps: &S, base: &SpecBase, outcome: Outcome) -> Finished {
    let outcome = match base.approval {
        Some(wish) if approval::is_due(&outcome) => Box::pin(approval::decided(steps, wish, outcome)).await,
        Some(_) | None => outcome,
    };
    let _recorded = steps.record(FinishRequest { outcome: outcome.clone() }).await;
    Finished::Outcome(Box::new(outcome))
}

/// What stands for how the model was found when none was.
fn routing_reason(spec: &PlanSpec) -> &'static str {
    match spec {
        PlanSpec::Chat(spec) => chat::routing_reason(spec),
        PlanSpec::Adversarial(spec) => adversarial::routing_reason(spec),
        PlanSpec::Vote(_) => vote::ROUTING_REASON,
        PlanSpec::Refine(_) => refine::ROUTING_REASON,
        PlanSpec::BestOfN(_) => best_of_n::ROUTING_REASON,
        PlanSpec::Cascade(_) => cascade::ROUTING_REASON,
        PlanSpec::Fuse(_) => fuse::ROUTING_REASON,
    }
}

/// Why a program did not get past its first step.
pub(crate) enum Unselected {
    ClaimLost,
    Ended(Ending),
}

/// A run in progress: its steps, its specification and its clock.
pub(crate) struct Run<'s, S> {
    pub(crate) steps: &'s S,
    pub(crate) base: &'s SpecBase,
    started: UnixMicros,
    /// Whether somebody has written something that could go out.
    pub(crate) answered: Arc<AtomicBool>,
}

impl<'s, S: Steps> Run<'s, S> {
    fn start(steps: &'s S, base: &'s SpecBase) -> Self {
        Self { steps, base, started: steps.now(), answered: Arc::default() }
    }

    /// The same run, its steps requested through `group`.
    pub(crate) fn through<'g>(&'g self, group: &'g S) -> Run<'g, S> {
        Run { steps: group, base: self.base, started: self.started, answered: Arc::clone(&self.answered) }
    }

    /// The run must have ended so long after its first step: its own deadline, or the caller's latency limit when that is
    /// nearer, unless somebody has given it more.
    pub(crate) fn deadline_ms(&self) -> u64 {
        let own = self.base.first_deadline_ms();
        self.steps.steering().deadline_ms.map_or(own, |moved| moved.max(own))
    }

    /// Milliseconds until then.
    pub(crate) fn time_left_ms(&self) -> u64 {
        self.deadline_ms().saturating_sub(self.steps.now().millis_since(self.started))
    }

    /// Claims the run and fetches a shortlist for each wish. A wish that nobody can fulfil ends the run here, before
    /// anything is bought.
    pub(crate) async fn select<const N: usize>(
        &self,
        wishes: [ShortlistWish; N],
    ) -> Result<[Shortlist; N], Unselected> {
        let mut lists = self.select_each(wishes.to_vec()).await?.into_iter();
        Ok(std::array::from_fn(|_| lists.next().unwrap_or_default()))
    }

    /// The same for as many wishes as a request names.
    pub(crate) async fn select_each(&self, wishes: Vec<ShortlistWish>) -> Result<Vec<Shortlist>, Unselected> {
        let count = wishes.len();
        let request = SelectRequest {
            wishes,
            estimated_input_tokens: self.base.estimated_input_tokens,
            estimated_output_tokens: self.base.estimated_output_tokens,
            policy: self.base.policy.clone(),
            prefix: self.base.prefix,
        };
        let mut lists = match self.steps.select(request).await {
            Ok(Selection::Claimed(lists)) => lists,
            Ok(Selection::ClaimLost) => return Err(Unselected::ClaimLost),
            Err(error) => return Err(Unselected::Ended(Ending::failed(self, ending::executor_failure(&error)))),
        };
        lists.resize(count, Shortlist::default());
        match lists.iter().find(|list| list.candidates.is_empty()) {
            Some(empty) => Err(Unselected::Ended(Ending::failed(self, ending::no_eligible_model(&empty.skipped)))),
            None => Ok(lists),
        }
    }
}
