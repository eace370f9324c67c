//! Cheap models first: what a cascade is asked to do, and what it answers.

use serde::{Deserialize, Serialize};

use crate::{ModelChoice, ModelId, SpecBase, StepId, Text};

/// One model after the other, until an answer is accepted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CascadeSpec {
    /// Common part.
    #[serde(flatten)]
    pub base: SpecBase,
    /// The models, in the order in which they are asked; routing goes from cheap to good without them.
    #[serde(default)]
    pub models: Vec<ModelChoice>,
    /// Models to ask at most, where routing finds them.
    pub stages: u32,
    /// What accepts an answer.
    #[serde(default)]
    pub check: CascadeCheck,
    /// Who checks.
    #[serde(default)]
    pub judge_model: Option<ModelChoice>,
    /// Smallest weight of a model that routing finds.
    #[serde(default)]
    pub min_weight: u32,
    /// Smallest weight of the judge.
    #[serde(default)]
    pub judge_min_weight: u32,
}

/// What accepts the answer of a stage. The last stage is not checked: there is nobody after it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CascadeCheck {
    /// A model says whether it will do; a schema that is not matched will not.
    #[default]
    Judge,
    /// It matches its schema.
    Schema,
}

/// The answer of a cascade.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CascadeAnswer {
    /// The answer.
    pub response: Text,
    /// Index of the stage that gave it.
    pub selected: usize,
    /// Every stage that was asked.
    pub stages: Vec<CascadeStage>,
}

/// One stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CascadeStage {
    /// Its step.
    pub step: StepId,
    /// Who answered; nobody when every try failed.
    #[serde(default)]
    pub model: Option<ModelId>,
    /// What became of the answer.
    pub verdict: StageVerdict,
}

/// What became of the answer of a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StageVerdict {
    /// It was accepted.
    Accepted,
    /// It was not.
    Rejected,
    /// Nobody could say; the next stage was asked.
    Unchecked,
    /// It was the last one, which needs no check.
    Last,
    /// There is none.
    Failed,
}
