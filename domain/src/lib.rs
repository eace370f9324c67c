//! The vocabulary of TokenHub: ids, money, prompts, plan specifications, outcomes, error classes and limits.
//!
//! Owns the types that cross crate, process and history borders, and the small pure functions on them.
//! Must not know any executor, database, HTTP library or clock: every other crate depends on this one.
//! Types that enter a workflow history tolerate unknown fields and give new fields a default, because an API and a
//! worker of different versions talk through them.

mod alias;
mod approval;
mod bounds;
mod call_rate;
mod capability;
mod cascade;
mod catalogue;
mod check;
mod content;
mod dialect;
mod error_class;
mod family;
mod figures;
mod fork;
mod fuse;
mod ids;
mod labels;
pub mod limits;
mod model_choice;
mod money;
mod outcome;
mod output;
mod plan_event;
mod policy;
mod prompt;
mod prompt_prefix;
mod raw_fields;
mod run;
mod share;
mod spec;
mod steering;
mod step;
mod step_record;
mod time;
mod webhook;

pub use alias::{Alias, AliasVariant, StickyBy};
pub use approval::{
    ApprovalRequest, ApprovalStanding, ApprovalState, ApprovalWish, DecidedBy, OnTimeout, Resolution, expiry,
};
pub use bounds::{BOUNDED_OUTPUT_TOKENS, Bound, Bounds, Extent, StepBounds, TokensAtMost, Use, input_tokens_max};
pub use call_rate::CallRate;
pub use capability::{Capabilities, Capability};
pub use cascade::{CascadeAnswer, CascadeCheck, CascadeSpec, CascadeStage, StageVerdict};
pub use catalogue::{
    Bill, Catalogue, CredentialHeader, Deployment, Model, ModelOrigin, ModelQuirks, PriceSource, Provider,
    ProviderKind, ProviderOrigin,
};
pub use check::{Checked, OutsideCheck, Verdict, VerifyRequest};
pub use content::{ContentHash, ContentRef, Text};
pub use dialect::{Dialect, ForwardedHeader, Operation};
pub use error_class::{ErrorClass, ProviderFailure};
pub use family::family_of;
pub use figures::{RECOVERY_MS_BUCKETS, RecoveryFigures, RunFigures, StepFigures};
pub use fork::{Fork, KeptStep};
pub use fuse::{Analysis, FuseAnswer, FuseSpec};
pub use ids::{
    ApiKeyId, AttemptId, CredentialId, DeliveryId, InstanceId, ModelId, PayloadKeyId, PrincipalId, ProviderId,
    ProviderResponseId, RequestId, RunId, StepId, StepKey, TemplateName, TenantId, WorkflowId,
};
pub use labels::{Labels, Tags, TemplatePin, canonical_json};
pub use model_choice::{ModelChoice, Target};
pub use money::{NanoDollars, PricePerMillion};
pub use outcome::{
    AdversarialAnswer, AdversarialRound, Answer, Ballot, BestOfNAnswer, Match, MatchResult, Outcome, RefineAnswer,
    RunStatus, StopReason, VoteAnswer, VoteDecision,
};
pub use output::{Mismatch, OnMismatch, OutputWish, TextFormat};
pub use plan_event::{CallNumber, PlanEvent, STEP_DELTA};
pub use policy::{Policy, RoutingProfile};
pub use prompt::{Derived, Prompt, PromptError, Repair, Segment, Voice, answer_text, render, user_text};
pub use prompt_prefix::PromptPrefix;
pub use raw_fields::{RawFields, RawText};
pub use run::{Deltas, DurabilityMark, DurabilityWish, EventKeeping, Owner, RunContext, RunKind};
pub use share::{Share, Urgency};
pub use spec::{
    AdversarialSpec, BestOfNSpec, ChatSpec, PlanSpec, RankMethod, RefineSpec, SpecBase, StopRule, VoteMethod, VoteSpec,
};
pub use steering::{Steering, SteeringRequest};
pub use step::{
    Candidate, ClassifyRequest, FinishRequest, Kin, MovableDeadline, NextMove, Reply, ReplyForm, Role, SelectRequest,
    Selection, SendOutcome, SendRequest, Shortlist, ShortlistWish, StepError, TokenUsage,
};
pub use step_record::{StepRecord, Usage};
pub use time::UnixMicros;
pub use webhook::Webhook;

/// Whether a field is left out when it is written, because it is what a reader takes for a missing one.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
