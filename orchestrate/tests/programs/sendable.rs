//! A program over an executor whose steps may cross threads may cross threads itself: the in-process runner spawns it.

use std::future::{Future, ready};

use tokenhub_domain::{
    ApprovalRequest, ApprovalStanding, ClassifyRequest, FinishRequest, NextMove, PlanSpec, SelectRequest, Selection,
    SendOutcome, SendRequest, Steering, StepError, UnixMicros, Verdict, VerifyRequest,
};
use tokenhub_orchestrate::{Steps, run};

use crate::script::chat;

/// The future of a whole run, as an executor embeds it in its own.
const RUN_FUTURE_BYTES_MAX: usize = 12 * 1024;

#[derive(Clone)]
struct Away;

impl Steps for Away {
    fn select(&self, _request: SelectRequest) -> impl Future<Output = Result<Selection, StepError>> {
        ready(Err(StepError::TimedOut))
    }
    fn send(&self, _request: SendRequest) -> impl Future<Output = Result<SendOutcome, StepError>> {
        ready(Err(StepError::TimedOut))
    }
    fn classify(&self, _request: ClassifyRequest) -> impl Future<Output = Result<NextMove, StepError>> {
        ready(Err(StepError::TimedOut))
    }
    fn verify(&self, _request: VerifyRequest) -> impl Future<Output = Result<Verdict, StepError>> {
        ready(Err(StepError::TimedOut))
    }
    fn record(&self, _request: FinishRequest) -> impl Future<Output = Result<(), StepError>> {
        ready(Err(StepError::TimedOut))
    }
    fn approval(&self, _request: ApprovalRequest) -> impl Future<Output = Result<ApprovalStanding, StepError>> {
        ready(Err(StepError::TimedOut))
    }
    fn wait_for_signal(&self, _millis: u64) -> impl Future<Output = Result<(), StepError>> {
        ready(Err(StepError::TimedOut))
    }
    fn sleep(&self, _millis: u64) -> impl Future<Output = Result<(), StepError>> {
        ready(Err(StepError::TimedOut))
    }
    fn steering(&self) -> Steering {
        Steering::default()
    }
    fn steered(&self, _known: Steering) -> impl Future<Output = ()> {
        ready(())
    }
    fn now(&self) -> UnixMicros {
        UnixMicros(0)
    }
    fn group(&self) -> Self {
        Self
    }
    fn cancel(&self, _reason: &str) {}
}

fn size_of_sendable<F: Future + Send>(future: &F) -> usize {
    size_of_val(future)
}

#[test]
fn a_program_over_a_sendable_executor_is_sendable_and_of_moderate_size() {
    let steps = Away;
    let size = size_of_sendable(&run(&steps, PlanSpec::Chat(chat())));
    assert!(size < RUN_FUTURE_BYTES_MAX, "{size} bytes");
}
