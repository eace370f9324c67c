//! What a run came to: the result of its workflow and the content of its row, whichever executor ran it.

use serde::{Deserialize, Serialize};

use crate::{
    CascadeAnswer, Checked, FuseAnswer, ModelId, ProviderFailure, ProviderId, StepId, StepRecord, Text, Usage, Verdict,
    VoteMethod,
};

/// The state of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    /// Accepted, not claimed.
    #[default]
    Pending,
    /// Claimed.
    Running,
    /// Everything that was asked for.
    Completed,
    /// An answer, but fewer rounds or voters than asked for.
    CompletedPartial,
    /// No answer.
    Failed,
    /// Stopped from outside.
    Cancelled,
    /// No answer, because the limits of the run left no room for it.
    BudgetExhausted,
    /// No answer in time.
    DeadlineExceeded,
}

impl RunStatus {
    /// Every status, for tables and tests.
    pub const ALL: [Self; 8] = [
        Self::Pending,
        Self::Running,
        Self::Completed,
        Self::CompletedPartial,
        Self::Failed,
        Self::Cancelled,
        Self::BudgetExhausted,
        Self::DeadlineExceeded,
    ];

    /// The stable name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::CompletedPartial => "completed_partial",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::BudgetExhausted => "budget_exhausted",
            Self::DeadlineExceeded => "deadline_exceeded",
        }
    }

    /// The status named `name`.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == name)
    }

    /// Whether there is an answer.
    pub fn is_answered(self) -> bool {
        match self {
            Self::Completed | Self::CompletedPartial => true,
            Self::Pending
            | Self::Running
            | Self::Failed
            | Self::Cancelled
            | Self::BudgetExhausted
            | Self::DeadlineExceeded => false,
        }
    }

    /// Whether nothing will change any more.
    pub fn is_final(self) -> bool {
        match self {
            Self::Pending | Self::Running => false,
            Self::Completed
            | Self::CompletedPartial
            | Self::Failed
            | Self::Cancelled
            | Self::BudgetExhausted
            | Self::DeadlineExceeded => true,
        }
    }
}

/// Why a run ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// The answer is complete.
    #[default]
    Answered,
    /// Every round that was asked for is done.
    MaxRounds,
    /// The vote is decided.
    Decided,
    /// An answer has passed the check from outside.
    CheckPassed,
    /// Only the plan was wanted.
    PlanOnly,
    /// One answer was left, so there was nothing to judge.
    SingleAnswer,
    /// A later round failed; this is the best so far.
    RoundFailed,
    /// Every provider failed.
    AllFailed,
    /// No model is eligible.
    NoEligibleModel,
    /// The deadline passed.
    DeadlineExceeded,
    /// The limits of the run left no room for more.
    BudgetExhausted,
    /// The answer does not match its schema, after a repair either.
    SchemaMismatch,
    /// Stopped from outside.
    Cancelled,
    /// Stopped from outside, once what was under way had ended.
    CancelledAfterStep,
    /// Somebody did not want to wait for more.
    AnsweredNow,
    /// Somebody decided that the answer does not go out.
    Rejected,
    /// Nobody decided about the answer in time.
    ApprovalExpired,
    /// The workflow did not come to an end by itself: its code failed at every try, or no worker was left.
    ExecutionTimeout,
}

/// What a run came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// A final status.
    pub status: RunStatus,
    /// Why it ended.
    pub stop_reason: StopReason,
    /// The model whose answer it is.
    #[serde(default)]
    pub negotiated_model: Option<ModelId>,
    /// How the model was found.
    #[serde(default)]
    pub routing_reason: String,
    /// The answer, unless the run failed.
    #[serde(default)]
    pub answer: Option<Answer>,
    /// Every step, in program order.
    #[serde(default)]
    pub steps: Vec<StepRecord>,
    /// The sums over the steps.
    #[serde(default)]
    pub usage: Usage,
    /// The failure that decided a failed or partial run.
    #[serde(default)]
    pub failure: Option<ProviderFailure>,
    /// Whether somebody put another text in the place of the answer.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub edited: bool,
}

/// The answer of each program.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// The provider's own body.
    Chat {
        /// A JSON object.
        body: Text,
    },
    /// See [`AdversarialAnswer`].
    Adversarial(AdversarialAnswer),
    /// See [`VoteAnswer`].
    Vote(VoteAnswer),
    /// See [`RefineAnswer`].
    Refine(RefineAnswer),
    /// See [`BestOfNAnswer`].
    BestOfN(BestOfNAnswer),
    /// See [`CascadeAnswer`].
    Cascade(CascadeAnswer),
    /// See [`FuseAnswer`].
    Fuse(FuseAnswer),
}

/// Plans and critiques.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AdversarialAnswer {
    /// The first plan.
    pub initial_plan: Text,
    /// Each completed round.
    #[serde(default)]
    pub rounds: Vec<AdversarialRound>,
    /// A critique whose revision failed.
    #[serde(default)]
    pub unanswered_critique: Option<Text>,
    /// What the check said about each plan, where one was asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<Checked>,
}

/// A critique and the plan rewritten by it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AdversarialRound {
    /// The critique.
    pub critique: Text,
    /// The plan after it.
    pub refined_plan: Text,
}

/// One answer on a ballot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ballot {
    /// The step that produced it.
    pub step: StepId,
    /// Its author.
    pub model: ModelId,
    /// The author's provider.
    pub provider: ProviderId,
    /// The answer.
    pub content: Text,
    /// The judge's score, in best-of-n.
    #[serde(default)]
    pub score: Option<u32>,
    /// What the check said about it, where one was asked for and it was checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<Verdict>,
}

/// How a choice was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VoteDecision {
    /// The judge's verdict.
    Judge,
    /// The judge's verdict, after its first reply could not be read.
    JudgeRepaired,
    /// The judge gave no verdict: the most frequent answer, the first on a tie.
    JudgeFailed,
    /// The most frequent answer.
    Majority,
    /// There was one answer only.
    SingleAnswer,
    /// The first answer that passed the check.
    Check,
}

/// Answers and the chosen one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VoteAnswer {
    /// In the order of the voters.
    pub ballots: Vec<Ballot>,
    /// Index of the chosen one.
    pub selected: usize,
    /// What was asked for.
    #[serde(default)]
    pub method: VoteMethod,
    /// How it was decided.
    pub decision: VoteDecision,
    /// The judge.
    #[serde(default)]
    pub judge: Option<ModelId>,
    /// For each group of equal answers, the indexes; the largest group first.
    #[serde(default)]
    pub tally: Vec<Vec<usize>>,
    /// Voters that were not asked, because the vote was decided without them.
    #[serde(default, skip_serializing_if = "crate::is_default")]
    pub calls_avoided: u32,
    /// Voters whose calls were withdrawn when the vote was decided.
    #[serde(default, skip_serializing_if = "crate::is_default")]
    pub calls_withdrawn: u32,
}

/// The improved answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RefineAnswer {
    /// The last answer.
    pub refined_response: Text,
    /// Improvements made, not asked for.
    pub iterations: u32,
    /// The author.
    pub model: ModelId,
    /// What the check said about each answer, where one was asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<Checked>,
}

/// Candidates and the best one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BestOfNAnswer {
    /// In the order of the candidates.
    pub candidates: Vec<Ballot>,
    /// Index of the best one.
    pub selected: usize,
    /// How it was decided.
    pub decision: VoteDecision,
    /// The judge.
    #[serde(default)]
    pub judge: Option<ModelId>,
    /// The pairs that were judged, where that was asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub matches: Vec<Match>,
    /// Candidates that were not asked, because it was decided without them.
    #[serde(default, skip_serializing_if = "crate::is_default")]
    pub calls_avoided: u32,
    /// Candidates whose calls were withdrawn when it was decided.
    #[serde(default, skip_serializing_if = "crate::is_default")]
    pub calls_withdrawn: u32,
}

/// Two answers of which one goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Match {
    /// Index of a candidate.
    pub left: usize,
    /// Index of the other one.
    pub right: usize,
    /// Index of the one that goes on.
    pub winner: usize,
    /// Why.
    pub result: MatchResult,
}

/// What the verdicts in both orders of a match came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MatchResult {
    /// Both name the same answer.
    Agreed,
    /// The judge named the place and not the answer: a tie, which the earlier candidate wins.
    Flipped,
    /// There is a verdict in one order only.
    OneOrder,
    /// There is none: the earlier candidate wins.
    Undecided,
}
