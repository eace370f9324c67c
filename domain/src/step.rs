//! The requests and results of the steps that a program may take; they are the payloads of the activities.

use serde::{Deserialize, Serialize};

use crate::{
    AttemptId, Bounds, Capability, Deployment, Dialect, ErrorClass, ForwardedHeader, Mismatch, ModelChoice,
    NanoDollars, Operation, Outcome, OutputWish, Policy, Prompt, PromptPrefix, ProviderFailure, ProviderId,
    RoutingProfile, RunId, StepId, Text,
};

/// What a call is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Answers the caller.
    Answer,
    /// Writes the first plan.
    Planner,
    /// Finds faults.
    Critic,
    /// Rewrites a plan by a critique.
    Reviser,
    /// Answers for a ballot.
    Voter,
    /// Chooses or scores.
    Judge,
    /// Improves an answer.
    Refiner,
    /// Answers as one of n candidates.
    Candidate,
    /// Makes one answer of several.
    Writer,
}

impl Role {
    /// The stable name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Answer => "answer",
            Self::Planner => "planner",
            Self::Critic => "critic",
            Self::Reviser => "reviser",
            Self::Voter => "voter",
            Self::Judge => "judge",
            Self::Refiner => "refiner",
            Self::Candidate => "candidate",
            Self::Writer => "writer",
        }
    }

    /// Whether the caller may get to read what is written in it. Critics and judges write for the program.
    pub fn writes_for_the_caller(self) -> bool {
        match self {
            Self::Answer
            | Self::Planner
            | Self::Reviser
            | Self::Voter
            | Self::Refiner
            | Self::Candidate
            | Self::Writer => true,
            Self::Critic | Self::Judge => false,
        }
    }
}

/// Asks for the models that may be called, best first, for each purpose of the program. Always a run's first step: it
/// also claims the run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SelectRequest {
    /// One list for each.
    pub wishes: Vec<ShortlistWish>,
    /// Input tokens, estimated.
    #[serde(default)]
    pub estimated_input_tokens: u64,
    /// Output tokens, estimated.
    #[serde(default)]
    pub estimated_output_tokens: u64,
    /// Limits on each call.
    #[serde(default)]
    pub policy: Policy,
    /// How a long prompt begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<PromptPrefix>,
}

/// One purpose.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShortlistWish {
    /// How to rank.
    pub profile: RoutingProfile,
    /// The only models wanted.
    #[serde(default)]
    pub model: Option<ModelChoice>,
    /// Smallest weight.
    #[serde(default)]
    pub min_weight: u32,
    /// What the model must be able to do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub needs: Vec<Capability>,
    /// Whom it is better not related to. A preference: whoever is, comes behind the others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub apart_from: Option<Kin>,
}

/// The authors whom a judge is better not related to: the first models of each of the first wishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kin {
    /// So many wishes.
    pub wishes: usize,
    /// So many models of each.
    pub models: u32,
}

/// What the first step finds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Selection {
    /// The run is ours; the lists are in the order of the wishes.
    Claimed(Vec<Shortlist>),
    /// Somebody else runs it: this program ends and buys nothing.
    ClaimLost,
}

/// Deployments that may be called, best first. Empty with a reason when there is none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shortlist {
    /// Best first.
    pub candidates: Vec<Candidate>,
    /// Why each of the others was left out, for the error message.
    #[serde(default)]
    pub skipped: Vec<String>,
    /// The providers among them that may only be called so often: a workflow's calls to them go by queues of their own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub paced: Vec<ProviderId>,
}

/// A deployment that may be called.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    /// Whom to call.
    pub deployment: Deployment,
    /// Its window, when known.
    #[serde(default)]
    pub max_context_tokens: Option<u64>,
    /// What the call is estimated to cost.
    #[serde(default)]
    pub estimated_cost: NanoDollars,
    /// Its weight.
    #[serde(default)]
    pub weight: u32,
}

/// Which form of the answer the program needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplyForm {
    /// The provider's whole JSON body.
    Body,
    /// The text of the answer.
    #[default]
    Text,
}

/// One provider call: one try of one step at one deployment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SendRequest {
    /// The step, named by the program.
    pub step: StepId,
    /// What it is for.
    pub role: Role,
    /// Counts the tries of this step at this deployment from 1.
    pub try_number: u32,
    /// Whom to call.
    pub deployment: Deployment,
    /// The protocol in which the prompt is written and the whole body is returned.
    #[serde(default)]
    pub dialect: Dialect,
    /// Headers of the caller that go to a provider of the same protocol.
    #[serde(default)]
    pub forwarded: Vec<ForwardedHeader>,
    /// What a provider is to do with it.
    #[serde(default)]
    pub operation: Operation,
    /// What to send.
    pub prompt: Prompt,
    /// What to return.
    #[serde(default)]
    pub form: ReplyForm,
    /// What is wanted of the text.
    #[serde(default, skip_serializing_if = "OutputWish::is_empty")]
    pub output: OutputWish,
    /// A smaller output limit than the caller's, to fit the window.
    #[serde(default)]
    pub max_output_tokens: Option<u64>,
    /// The call must end within this.
    pub timeout_ms: u64,
    /// A streamed answer must begin within this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_token_timeout_ms: Option<u64>,
    /// Whether somebody may give it more time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub movable: Option<MovableDeadline>,
    /// The run whose journal has the answer of this step already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept_by: Option<RunId>,
    /// Limits on the whole run, of which this call takes its part.
    #[serde(default, skip_serializing_if = "Bounds::is_empty")]
    pub bounds: Bounds,
    /// How a long prompt begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<PromptPrefix>,
}

impl SendRequest {
    /// The most that the call may take, however far its deadline is moved.
    pub fn longest_ms(&self) -> u64 {
        self.timeout_ms.max(self.movable.map_or(0, |movable| movable.call_ms_max))
    }
}

/// The time of a call that is bounded by the deadline of its run, which may be moved while the call is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MovableDeadline {
    /// The deadline that the call's own time was made of, as [`crate::Steering::deadline_ms`] counts.
    pub run_deadline_ms: u64,
    /// What the call may take however far the deadline is moved.
    pub call_ms_max: u64,
}

/// What a provider call came to. A failure is a value: retries belong to the program, not to the executor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SendOutcome {
    /// It answered.
    Answered(Reply),
    /// It did not.
    Failed {
        /// Why.
        failure: ProviderFailure,
        /// Calls of this try that were sent again because a process died while one was in flight.
        #[serde(default)]
        duplicate_calls: u32,
        /// Milliseconds from sending to the failure.
        #[serde(default)]
        latency_ms: u64,
        /// Tokens of answers to this try that died with their process or broke off, and that nobody used.
        #[serde(default, skip_serializing_if = "crate::is_default")]
        wasted_tokens: u64,
    },
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// The ledger row that paid for it.
    pub attempt: AttemptId,
    /// The body or the text, as asked.
    pub content: Text,
    /// The provider's finish reason.
    #[serde(default)]
    pub finish_reason: Option<String>,
    /// Tokens, as the provider counted them.
    #[serde(default)]
    pub usage: TokenUsage,
    /// What it cost.
    #[serde(default)]
    pub cost: NanoDollars,
    /// Milliseconds from sending to the last byte.
    #[serde(default)]
    pub latency_ms: u64,
    /// Calls of this try that were sent again because a process died while one was in flight.
    #[serde(default)]
    pub duplicate_calls: u32,
    /// Names of what the provider's protocol, or the caller's, could not express.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub losses: Vec<String>,
    /// How the text falls short of the schema that was wished for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mismatch: Option<Mismatch>,
    /// The pattern that was wished for is not found in it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub lacks_pattern: bool,
    /// Tokens of answers to the same try that died with their process, and that nobody used.
    #[serde(default, skip_serializing_if = "crate::is_default")]
    pub wasted_tokens: u64,
    /// It was paid for by an earlier run, and no call was made.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_kept: bool,
}

/// Token counts of one call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenUsage {
    /// Prompt tokens, cached ones included.
    pub input_tokens: u64,
    /// Answer tokens, reasoning included.
    pub output_tokens: u64,
}

/// Asks what to do after a failed try.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClassifyRequest {
    /// The step.
    pub step: StepId,
    /// What happened.
    pub failure: ProviderFailure,
    /// Tries of this step at this deployment so far, this one included.
    pub tries: u32,
    /// Who failed.
    pub failed: Candidate,
    /// Who has not been tried yet, best first.
    #[serde(default)]
    pub untried: Vec<Candidate>,
    /// Input tokens, estimated.
    #[serde(default)]
    pub estimated_input_tokens: u64,
    /// Output limit of the failed try.
    #[serde(default)]
    pub max_output_tokens: Option<u64>,
    /// Milliseconds until the run's deadline.
    pub time_left_ms: u64,
}

/// What to do after a failed try.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NextMove {
    /// The same deployment again.
    Retry {
        /// After this long.
        delay_ms: u64,
    },
    /// The same deployment once more with a smaller output limit.
    Shrink {
        /// The limit that fits.
        max_output_tokens: u64,
    },
    /// Another deployment.
    Next {
        /// Which of the untried.
        deployment: Deployment,
    },
    /// Nothing more.
    Stop,
}

/// Ends a run: its row, its log line and its outcome are written together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FinishRequest {
    /// What the run came to.
    pub outcome: Outcome,
}

/// A step that could not be carried out at all: the executor or the run, never the provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum StepError {
    /// The run or the step's group was cancelled.
    #[error("the step was cancelled")]
    Cancelled,
    /// The step did not end in time, whatever carried it.
    #[error("the step ran out of time")]
    TimedOut,
    /// The executor gave up: what it depends on stayed away.
    #[error("the step could not be carried out: {0}")]
    Unavailable(String),
}

impl StepError {
    /// The class under which a step record shows it.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Cancelled => ErrorClass::Cancelled,
            Self::TimedOut => ErrorClass::StepDeadline,
            Self::Unavailable(_) => ErrorClass::ServerError,
        }
    }
}
