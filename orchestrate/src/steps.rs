//! Everything an orchestration program may ask of the world.
//!
//! Two executors carry the steps out: `workflows::Durable` as Temporal commands, `activities::Direct` in process. A
//! program cannot tell which one it has, and no behaviour may depend on it.
//!
//! The contract that keeps a workflow replayable:
//! * a step is requested in program order, at the call and not at the first poll;
//! * the outcome of a step is the only source of nondeterminism;
//! * every requested step is awaited, or its group is cancelled and then awaited; nothing is dropped half-way.
//!
//! Reserving and settling money, journaling an answer and writing progress events are parts of the steps that cause
//! them, in the same transaction, and therefore no steps of their own.

use std::future::Future;

use tokenhub_domain::{
    ApprovalRequest, ApprovalStanding, ClassifyRequest, FinishRequest, NextMove, SelectRequest, Selection, SendOutcome,
    SendRequest, Steering, StepError, UnixMicros, Verdict, VerifyRequest,
};

/// What a program is written against. Implementations are cheap to clone.
pub trait Steps: Sized {
    /// Claims the run and ranks the models for each wish. A run's first step.
    fn select(&self, request: SelectRequest) -> impl Future<Output = Result<Selection, StepError>>;

    /// One provider call. A provider's failure is an `Ok` value: the programs decide about it, by [`Steps::classify`].
    fn send(&self, request: SendRequest) -> impl Future<Output = Result<SendOutcome, StepError>>;

    /// What to do after a failed call.
    fn classify(&self, request: ClassifyRequest) -> impl Future<Output = Result<NextMove, StepError>>;

    /// Asks a verifier about an answer. One that cannot be reached, or says what nobody understands, is a verdict too.
    fn verify(&self, request: VerifyRequest) -> impl Future<Output = Result<Verdict, StepError>>;

    /// Writes the outcome to the run's row and the request log. A run's last step.
    fn record(&self, request: FinishRequest) -> impl Future<Output = Result<(), StepError>>;

    /// Asks for a decision about what the run has come to, or tells how the one that was asked for stands.
    fn approval(&self, request: ApprovalRequest) -> impl Future<Output = Result<ApprovalStanding, StepError>>;

    /// Waits until somebody tells the run something, or may have; at most so long. What was told is read by another step.
    fn wait_for_signal(&self, millis: u64) -> impl Future<Output = Result<(), StepError>>;

    /// Waits, durably where the executor is durable.
    fn sleep(&self, millis: u64) -> impl Future<Output = Result<(), StepError>>;

    /// What somebody has asked of the run by now: the same at the same place of every replay.
    fn steering(&self) -> Steering;

    /// Completes when that is not `known` any more. No step: nothing is requested, and it may be dropped.
    fn steered(&self, known: Steering) -> impl Future<Output = ()>;

    /// The time of the run: the same on every replay.
    fn now(&self) -> UnixMicros;

    /// The same executor with a cancellation of its own: cancelling the group leaves the rest of the run alone.
    #[must_use]
    fn group(&self) -> Self;

    /// Cancels every step requested through this group. Each of them still completes, with [`StepError::Cancelled`].
    fn cancel(&self, reason: &str);
}
