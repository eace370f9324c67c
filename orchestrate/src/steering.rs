//! What becomes of a run of which somebody does not want all any more: who is still asked, who is called off, and how the
//! run says so.
//!
//! | asked of the run | before there is an answer | afterwards |
//! |---|---|---|
//! | to answer now | it goes on until there is one, and asks no two at once | nobody is asked, who is under way is called off |
//! | to stop after the step | nobody is asked, who is under way is waited for | the same |
//!
//! A step that is not begun any more fails with a failure of its own kind, so every program ends with what it has by the
//! rules that it has for failures. What is asked of a run comes through [`Steps`]; must not know how it got there.

use std::{
    future::{Future, poll_fn},
    sync::atomic::Ordering,
    task::Poll,
};

use tokenhub_domain::{ErrorClass, OnMismatch, Prompt, ProviderFailure, StepRecord, StopReason};

use crate::{
    Steps,
    ask::{Ask, Asked, carry_out},
    program::Run,
};

/// The stable codes of the failures of steps that are not wanted any more.
const ANSWERED_NOW: &str = "answered_now";
const CANCELLED_AFTER_STEP: &str = "cancelled_after_step";

/// Why the run ends, where `failure` is that of a step that is not wanted any more.
pub(crate) fn reason_of(failure: &ProviderFailure) -> Option<StopReason> {
    match failure.code.as_deref() {
        Some(ANSWERED_NOW) if failure.class == ErrorClass::Cancelled => Some(StopReason::AnsweredNow),
        Some(CANCELLED_AFTER_STEP) if failure.class == ErrorClass::Cancelled => Some(StopReason::CancelledAfterStep),
        Some(_) | None => None,
    }
}

/// Whether a step was begun, or is at least to be told of.
pub(crate) fn was_begun(record: &StepRecord) -> bool {
    record.attempts > 0 || record.model.is_some() || record.error_class != Some(ErrorClass::Cancelled)
}

/// Asks, and calls off whoever is asked once the run answers with what it has.
pub(crate) async fn ask_while_wanted<S: Steps>(run: &Run<'_, S>, ask: Ask) -> Asked {
    let is_of_the_caller = ask.role.writes_for_the_caller();
    let finishes = finishes_an_answer(run, &ask);
    let group = run.steps.group();
    let grouped = run.through(&group);
    let mut asking = Box::pin(carry_out(&grouped, ask));
    let mut urged = Box::pin(urged(run));
    let mut is_urged = false;
    let in_time = poll_fn(|context| {
        if let Poll::Ready(asked) = asking.as_mut().poll(context) {
            return Poll::Ready(Some(asked));
        }
        is_urged = is_urged || urged.as_mut().poll(context).is_ready();
        // Whoever else answers is a completion, after which everybody is looked at again.
        if is_urged && run.is_answered() && !finishes { Poll::Ready(None) } else { Poll::Pending }
    })
    .await;
    let asked = if let Some(asked) = in_time {
        asked
    } else {
        group.cancel("the run answers with what it has");
        called_off(run, asking.await)
    };
    if is_of_the_caller && asked.result.is_ok() {
        run.answered.store(true, Ordering::Relaxed);
    }
    asked
}

/// Completes when the run is to answer with what it has.
async fn urged<S: Steps>(run: &Run<'_, S>) {
    let mut known = run.steps.steering();
    while !known.answers_now {
        run.steps.steered(known).await;
        known = run.steps.steering();
    }
}

/// Who was faster than the wish keeps the answer.
fn called_off<S: Steps>(run: &Run<'_, S>, mut asked: Asked) -> Asked {
    if asked.result.is_err() {
        asked.record.attempts += u32::from(asked.is_cut);
        asked.record.error_class = Some(ErrorClass::Cancelled);
        asked.result = Err(unwanted(run));
        asked.is_cut = false;
    }
    asked
}

/// Without its repair there would be no answer where none is wanted that misses its schema.
fn finishes_an_answer<S: Steps>(run: &Run<'_, S>, ask: &Ask) -> bool {
    let is_repair = matches!(ask.prompt, Prompt::Repair(_)) && ask.role.writes_for_the_caller();
    is_repair && run.base.output.on_mismatch == OnMismatch::Fail
}

fn unwanted<S: Steps>(run: &Run<'_, S>) -> ProviderFailure {
    let (code, message) = if run.steps.steering().stops_after_step {
        (CANCELLED_AFTER_STEP, "the run was to stop after the step")
    } else {
        (ANSWERED_NOW, "the run was to answer now")
    };
    ProviderFailure { code: Some(code.to_owned()), ..ProviderFailure::of(ErrorClass::Cancelled, message) }
}

impl<S: Steps> Run<'_, S> {
    /// Whether there is an answer that could go out.
    pub(crate) fn is_answered(&self) -> bool {
        self.answered.load(Ordering::Relaxed)
    }

    /// Whether one answer is all that is wanted, and there is none.
    pub(crate) fn wants_one_answer(&self) -> bool {
        self.steps.steering().answers_now && !self.is_answered()
    }

    /// Whether the run is to answer with what it has, however little that is.
    pub(crate) fn is_content(&self) -> bool {
        self.steps.steering().answers_now && self.is_answered()
    }

    /// Why nobody is asked for `ask` any more.
    pub(crate) fn refusal(&self, ask: &Ask) -> Option<ProviderFailure> {
        let is_unwanted =
            self.steps.steering().stops_after_step || (self.is_content() && !finishes_an_answer(self, ask));
        is_unwanted.then(|| unwanted(self))
    }
}
