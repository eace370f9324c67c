//! A run that goes on where another one was: which of that one's answers it keeps.
//!
//! Must not know how an answer is found again. What is kept is part of the specification, so a replay keeps the same.

use serde::{Deserialize, Serialize};

use crate::{Deployment, RunId, StepId};

/// What a run keeps of earlier ones.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fork {
    /// The run that it was made from.
    pub of: RunId,
    /// The run by whose id answers were put in order before a judge: of a fork of a fork the first one's.
    pub order_of: RunId,
    /// The first step that is asked anew.
    pub from_step: StepId,
    /// The steps whose answers are kept.
    pub kept: Vec<KeptStep>,
}

/// A step that was answered and paid for before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptStep {
    /// The step.
    pub step: StepId,
    /// The run whose journal has the answer; of a fork of a fork the first one.
    pub run_id: RunId,
    /// Who answered.
    pub deployment: Deployment,
}

impl Fork {
    /// The answer of a step, when it is kept.
    pub fn of_step(&self, step: &StepId) -> Option<&KeptStep> {
        self.kept.iter().find(|kept| kept.step == *step)
    }
}
