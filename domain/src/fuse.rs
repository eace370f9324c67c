//! Several answers made into one: what a fusion is asked to do, and what it answers.

use serde::{Deserialize, Serialize};

use crate::{Ballot, ModelChoice, ModelId, SpecBase, Text};

/// A panel answers, a judge lists what the answers agree on, contradict each other in and lack, and a writer makes one
/// answer of all that.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FuseSpec {
    /// Common part.
    #[serde(flatten)]
    pub base: SpecBase,
    /// Panelists wished for; fewer when fewer distinct models are eligible.
    pub panel: u32,
    /// So many of them must have answered.
    pub min_success: u32,
    /// Who lists.
    #[serde(default)]
    pub judge_model: Option<ModelChoice>,
    /// Who writes; the best panelist without it.
    #[serde(default)]
    pub writer_model: Option<ModelChoice>,
    /// Smallest weight of a panelist.
    #[serde(default)]
    pub min_weight: u32,
    /// Smallest weight of the judge.
    #[serde(default)]
    pub judge_min_weight: u32,
    /// How long the others are waited for when `min_success` have answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grace_ms: Option<u64>,
    /// The panelists, where they are named.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<ModelChoice>,
}

/// The answer of a fusion.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FuseAnswer {
    /// The writer's text; the best panelist's where the writer failed.
    pub response: Text,
    /// What the panel said.
    pub panel: Vec<Ballot>,
    /// What the judge found, where it could be read.
    #[serde(default)]
    pub analysis: Option<Analysis>,
    /// The judge.
    #[serde(default)]
    pub judge: Option<ModelId>,
    /// The writer, where there is one.
    #[serde(default)]
    pub writer: Option<ModelId>,
    /// Panelists whose calls were withdrawn, because the others had answered long enough before.
    #[serde(default, skip_serializing_if = "crate::is_default")]
    pub calls_withdrawn: u32,
}

/// What a judge finds in several answers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Analysis {
    /// What they agree on.
    pub consensus: Vec<String>,
    /// Where they contradict each other.
    pub contradictions: Vec<String>,
    /// What all of them lack.
    pub gaps: Vec<String>,
}
