//! What each program is asked to do: the input of its workflow.
//!
//! A spec is validated at the edge; programs trust it. New fields have defaults, so an older worker ignores them and a
//! newer one fills them.

use serde::{Deserialize, Serialize};

use crate::{
    ApprovalWish, Bounds, Capability, CascadeSpec, Dialect, DurabilityWish, Fork, ForwardedHeader, FuseSpec,
    ModelChoice, ModelId, Operation, OutputWish, OutsideCheck, Policy, PromptPrefix, RunContext, RunKind, Text, limits,
};

/// A run of any kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum PlanSpec {
    /// See [`ChatSpec`].
    Chat(ChatSpec),
    /// See [`AdversarialSpec`].
    Adversarial(AdversarialSpec),
    /// See [`VoteSpec`].
    Vote(VoteSpec),
    /// See [`RefineSpec`].
    Refine(RefineSpec),
    /// See [`BestOfNSpec`].
    BestOfN(BestOfNSpec),
    /// See [`CascadeSpec`].
    Cascade(CascadeSpec),
    /// See [`FuseSpec`].
    Fuse(FuseSpec),
}

impl PlanSpec {
    /// The part that every program has.
    pub fn base(&self) -> &SpecBase {
        match self {
            Self::Chat(spec) => &spec.base,
            Self::Adversarial(spec) => &spec.base,
            Self::Vote(spec) => &spec.base,
            Self::Refine(spec) => &spec.base,
            Self::BestOfN(spec) => &spec.base,
            Self::Cascade(spec) => &spec.base,
            Self::Fuse(spec) => &spec.base,
        }
    }

    /// The alias that the caller asked for, where the model of the answer was named by one.
    pub fn alias(&self) -> Option<&ModelId> {
        let choice = match self {
            Self::Chat(spec) => spec.model.as_ref(),
            Self::Adversarial(spec) => spec.primary_model.as_ref(),
            Self::Refine(spec) => spec.primary_model.as_ref(),
            Self::BestOfN(spec) => spec.primary_model.as_ref(),
            Self::Fuse(spec) => spec.writer_model.as_ref(),
            Self::Vote(_) | Self::Cascade(_) => None,
        };
        choice?.alias.as_ref()
    }

    /// What every run has, to be changed before it is stored.
    pub fn base_mut(&mut self) -> &mut SpecBase {
        match self {
            Self::Chat(spec) => &mut spec.base,
            Self::Adversarial(spec) => &mut spec.base,
            Self::Vote(spec) => &mut spec.base,
            Self::Refine(spec) => &mut spec.base,
            Self::BestOfN(spec) => &mut spec.base,
            Self::Cascade(spec) => &mut spec.base,
            Self::Fuse(spec) => &mut spec.base,
        }
    }

    /// What accepts an answer from outside.
    pub fn check(&self) -> Option<&OutsideCheck> {
        match self {
            Self::Adversarial(spec) => spec.check.as_ref(),
            Self::Vote(spec) => spec.check.as_ref(),
            Self::Refine(spec) => spec.check.as_ref(),
            Self::BestOfN(spec) => spec.check.as_ref(),
            Self::Chat(_) | Self::Cascade(_) | Self::Fuse(_) => None,
        }
    }

    /// Without whatever follows when somebody takes too long.
    pub fn forget_clocks(&mut self) {
        self.base_mut().policy.hedge_after_ms = None;
        match self {
            Self::Vote(spec) => spec.grace_ms = None,
            Self::Fuse(spec) => spec.grace_ms = None,
            Self::Chat(_) | Self::Adversarial(_) | Self::Refine(_) | Self::BestOfN(_) | Self::Cascade(_) => {}
        }
    }

    /// The program.
    pub fn kind(&self) -> RunKind {
        self.base().run.kind
    }
}

/// What every program is given.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SpecBase {
    /// Whose run it is.
    pub run: RunContext,
    /// The protocol of the caller, in which `original` is written and a chat is answered.
    #[serde(default)]
    pub dialect: Dialect,
    /// What a provider is to do with it.
    #[serde(default)]
    pub operation: Operation,
    /// The caller's request body, a JSON object. Its `model` and `stream` are set again for each call.
    pub original: Text,
    /// Headers of the caller that go to a provider of the same protocol.
    #[serde(default)]
    pub forwarded: Vec<ForwardedHeader>,
    /// Input tokens, estimated.
    #[serde(default)]
    pub estimated_input_tokens: u64,
    /// Output tokens, estimated or limited by the request.
    #[serde(default)]
    pub estimated_output_tokens: u64,
    /// Limits on each call.
    #[serde(default)]
    pub policy: Policy,
    /// Limits on the whole run.
    #[serde(default, skip_serializing_if = "Bounds::is_empty")]
    pub bounds: Bounds,
    /// Each try of a step must end within this, where the run leaves it that long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step_timeout_ms: Option<u64>,
    /// The text of a call that is shown while it is written must begin within this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_token_timeout_ms: Option<u64>,
    /// Which answers of earlier runs it keeps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fork: Option<Fork>,
    /// What whoever answers the request itself must be able to do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub needs: Vec<Capability>,
    /// How a long prompt begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<PromptPrefix>,
    /// What is wanted of the texts that are written for the caller.
    #[serde(default, skip_serializing_if = "OutputWish::is_empty")]
    pub output: OutputWish,
    /// How durable the caller wants it, for whoever finds it later without one who carries it.
    #[serde(default, skip_serializing_if = "DurabilityWish::is_default")]
    pub wish: DurabilityWish,
    /// Whether somebody decides about the answer before it goes out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<ApprovalWish>,
    /// The run must end within this, counted from its first step.
    #[serde(default = "run_deadline_ms")]
    pub deadline_ms: u64,
}

impl SpecBase {
    /// The run must end within this, counted from its first step, where nobody gives it more: its deadline, or the
    /// caller's latency limit when that is nearer.
    pub fn first_deadline_ms(&self) -> u64 {
        self.policy.max_latency_ms.map_or(self.deadline_ms, |limit| limit.min(self.deadline_ms))
    }
}

fn run_deadline_ms() -> u64 {
    limits::RUN_DEADLINE_MS
}

/// One answer from one model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChatSpec {
    /// Common part.
    #[serde(flatten)]
    pub base: SpecBase,
    /// The model that must answer; routing chooses without it.
    #[serde(default)]
    pub model: Option<ModelChoice>,
    /// Nobody waits for the answer: it is kept under the run's id, and the run may be cancelled by it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub background: bool,
}

/// Plan, then `rounds` times critique and revision.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AdversarialSpec {
    /// Common part.
    #[serde(flatten)]
    pub base: SpecBase,
    /// Critiques and revisions, at least 1.
    pub rounds: u32,
    /// Planner and reviser.
    #[serde(default)]
    pub primary_model: Option<ModelChoice>,
    /// Critic.
    #[serde(default)]
    pub review_model: Option<ModelChoice>,
    /// Smallest weight of planner and reviser.
    #[serde(default)]
    pub primary_min_weight: u32,
    /// Smallest weight of the critic.
    #[serde(default)]
    pub review_min_weight: u32,
    /// Stop after the first plan.
    #[serde(default)]
    pub return_plan_only: bool,
    /// What ends the rounds as soon as a plan passes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<OutsideCheck>,
}

/// How a vote is decided.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VoteMethod {
    /// A model names the best answer.
    #[default]
    Judge,
    /// The most frequent answer, after normalisation.
    Majority,
    /// The answer whose voters have the largest weights together.
    Weighted,
}

/// Distinct models answer, one answer is chosen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VoteSpec {
    /// Common part.
    #[serde(flatten)]
    pub base: SpecBase,
    /// Voters wished for; fewer when fewer distinct models are eligible.
    pub voters: u32,
    /// How to decide.
    #[serde(default)]
    pub method: VoteMethod,
    /// The judge; never a voter unless `judge_votes`.
    #[serde(default)]
    pub judge_model: Option<ModelChoice>,
    /// Smallest weight of a voter.
    #[serde(default)]
    pub voter_min_weight: u32,
    /// Smallest weight of the judge.
    #[serde(default)]
    pub judge_min_weight: u32,
    /// Whether the judge may also be on the ballot.
    #[serde(default)]
    pub judge_votes: bool,
    /// Voters that are asked at the same time; all of them without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parallelism: Option<u32>,
    /// When enough voters have answered.
    #[serde(default, skip_serializing_if = "StopRule::is_all")]
    pub stop: StopRule,
    /// What accepts an answer, for [`StopRule::FirstPass`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<OutsideCheck>,
    /// So many must have answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_success: Option<u32>,
    /// How long the others are waited for when that many have, or more than half where no number is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grace_ms: Option<u64>,
    /// The voters, where they are named.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<ModelChoice>,
}

/// When enough voters have answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopRule {
    /// When all of them have.
    #[default]
    All,
    /// When those who have not cannot change the majority any more.
    Decided,
    /// When that, or when the leading answer is the most frequent one with this probability.
    Posterior {
        /// Of a thousand.
        per_mille: u32,
    },
    /// When decided, or when the leading answer is ahead of the second by so many.
    Margin {
        /// Voters.
        votes: u32,
    },
    /// When an answer has passed the check.
    FirstPass,
}

impl StopRule {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
    fn is_all(&self) -> bool {
        *self == Self::All
    }
}

/// One answer, then `rounds` times an improvement by the same model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RefineSpec {
    /// Common part.
    #[serde(flatten)]
    pub base: SpecBase,
    /// Improvements, at least 1.
    pub rounds: u32,
    /// The author.
    #[serde(default)]
    pub primary_model: Option<ModelChoice>,
    /// Smallest weight of the author.
    #[serde(default)]
    pub primary_min_weight: u32,
    /// What ends the rounds as soon as an answer passes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<OutsideCheck>,
}

/// How the best of n candidates is found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RankMethod {
    /// A judge scores all of them in one call.
    #[default]
    Scored,
    /// A judge compares them in pairs, each pair in both orders.
    Pairwise,
}

impl RankMethod {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
    fn is_scored(&self) -> bool {
        *self == Self::Scored
    }
}

/// `candidates` answers, of which a judge finds the best.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BestOfNSpec {
    /// Common part.
    #[serde(flatten)]
    pub base: SpecBase,
    /// Candidates; models repeat when fewer are eligible.
    pub candidates: u32,
    /// The author of every candidate; routing spreads them over models without it.
    #[serde(default)]
    pub primary_model: Option<ModelChoice>,
    /// The judge.
    #[serde(default)]
    pub judge_model: Option<ModelChoice>,
    /// Smallest weight of an author.
    #[serde(default)]
    pub primary_min_weight: u32,
    /// How to compare them.
    #[serde(default, skip_serializing_if = "RankMethod::is_scored")]
    pub method: RankMethod,
    /// Smallest weight of the judge.
    #[serde(default)]
    pub judge_min_weight: u32,
    /// Candidates that are asked at the same time; all of them without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parallelism: Option<u32>,
    /// What the first answer to pass is taken by, without a judge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<OutsideCheck>,
    /// The authors, where several are named.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<ModelChoice>,
}
