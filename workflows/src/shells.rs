//! One workflow type per program; each is a shell around `orchestrate` and holds no logic.
//!
//! A change of a program's step order needs `patched` and a new golden history: see CONTRIBUTING.

#![expect(missing_docs, reason = "the macros generate items without documentation")]

use serde::{Deserialize, Serialize};
use temporalio_workflow::{SyncWorkflowContext, WorkflowContext, WorkflowResult, workflow, workflow_methods};
use tokenhub_domain::{Outcome, PlanSpec, RunStatus, Steering};
use tokenhub_orchestrate::Finished;

use crate::{Durable, durable::Signalled, failure};

/// The result of a workflow.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunOutput {
    /// It ran.
    Finished(Box<Outcome>),
    /// Somebody else held the run: this workflow bought nothing.
    Superseded,
}

async fn run_program<W: Signalled>(context: &WorkflowContext<W>, spec: PlanSpec) -> WorkflowResult<RunOutput> {
    let steps = Durable::new(context.clone(), spec.base().run.clone());
    match tokenhub_orchestrate::run(&steps, spec).await {
        Finished::ClaimLost => Ok(RunOutput::Superseded),
        Finished::Outcome(outcome) => match outcome.status {
            RunStatus::Failed | RunStatus::BudgetExhausted | RunStatus::DeadlineExceeded => {
                Err(failure::of_outcome(*outcome))
            }
            RunStatus::Pending
            | RunStatus::Running
            | RunStatus::Completed
            | RunStatus::CompletedPartial
            | RunStatus::Cancelled => Ok(RunOutput::Finished(outcome)),
        },
    }
}

macro_rules! shell {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[workflow]
        #[derive(Default)]
        pub struct $name {
            signals: u32,
            steering: Steering,
        }

        impl Signalled for $name {
            fn signals(&self) -> u32 {
                self.signals
            }

            fn steering(&self) -> Steering {
                self.steering
            }
        }

        #[workflow_methods]
        impl $name {
            /// Runs the program.
            #[run]
            pub async fn run(context: &mut WorkflowContext<Self>, spec: PlanSpec) -> WorkflowResult<RunOutput> {
                run_program(context, spec).await
            }

            /// Something was decided; what, is in the database. The same name in every workflow.
            #[signal]
            pub fn decided(&mut self, _context: &mut SyncWorkflowContext<Self>) {
                self.signals = self.signals.saturating_add(1);
            }

            /// Somebody asks something of the run. Twice is once. The same name in every workflow.
            #[signal]
            pub fn steered(&mut self, _context: &mut SyncWorkflowContext<Self>, asked: Steering) {
                self.steering = self.steering.and(asked);
                // Who waits for a decision looks at this as well.
                self.signals = self.signals.saturating_add(1);
            }
        }
    };
}

shell!(
    /// One answer from one model.
    ChatWorkflow
);
shell!(
    /// Plan, critique, revision.
    AdversarialWorkflow
);
shell!(
    /// Several models answer, one answer is chosen.
    VoteWorkflow
);
shell!(
    /// One answer, improved in rounds.
    RefineWorkflow
);
shell!(
    /// Several candidates, scored by a judge.
    BestOfNWorkflow
);
shell!(
    /// Cheap models first, until an answer is accepted.
    CascadeWorkflow
);
shell!(
    /// Several answers made into one.
    FuseWorkflow
);
