//! An answer that must match a schema: one repair, and what becomes of the run when that does not help.
//!
//! Owns the rule: only the answer that the run is about to return is repaired, once, by its own author, in a step of its
//! own. Must not know how a text is checked: the send step does that and tells with the reply, so that the verdict is
//! journaled with the answer and a replay reads what was found then.

use tokenhub_domain::{
    Candidate, ErrorClass, Mismatch, OnMismatch, Prompt, ProviderFailure, Repair, Reply, ReplyForm, Role, StepId,
    StepRecord, Text,
};

use crate::{
    Steps,
    ask::{Ask, ask},
    ending::{Ending, bad_output},
    program::Run,
    prompts,
};

/// The answer that a run is about to return, and how it came about.
pub(crate) struct Draft {
    pub(crate) step: StepId,
    pub(crate) role: Role,
    pub(crate) author: Candidate,
    pub(crate) question: Prompt,
    pub(crate) form: ReplyForm,
    pub(crate) content: Text,
    pub(crate) mismatch: Option<Mismatch>,
}

impl Draft {
    /// What `reply` made of `question`.
    pub(crate) fn of(
        step: StepId,
        role: Role,
        author: Candidate,
        question: Prompt,
        form: ReplyForm,
        reply: Reply,
    ) -> Self {
        Self { step, role, author, question, form, content: reply.content, mismatch: reply.mismatch }
    }
}

/// What a draft came to.
pub(crate) struct Conformed {
    /// The answer as it is to go out.
    pub(crate) content: Text,
    /// Why it still does not match.
    pub(crate) failure: Option<ProviderFailure>,
}

/// Has `draft` repaired when it does not match its schema. A draft that matches, or has no schema, costs nothing.
pub(crate) async fn conform<S: Steps>(run: &Run<'_, S>, draft: Draft, steps: &mut Vec<StepRecord>) -> Conformed {
    let Draft { step, role, author, question, form, content, mismatch } = draft;
    let Some(mismatch) = mismatch else { return Conformed { content, failure: None } };
    mark(steps, &step);
    let repair = Ask {
        step: StepId::new(format!("{step}/repair")),
        role,
        candidates: vec![author],
        prompt: Prompt::Repair(Box::new(Repair {
            question,
            answer: mismatch.text,
            complaint: prompts::complaint(&mismatch.violations),
        })),
        form,
    };
    let asked = ask(run, repair).await;
    let repair_step = asked.record.id.clone();
    steps.push(asked.record);
    match asked.result {
        Ok(answered) => match answered.reply.mismatch {
            None => Conformed { content: answered.reply.content, failure: None },
            Some(again) => {
                mark(steps, &repair_step);
                Conformed { content: answered.reply.content, failure: Some(unmatched(&again.violations)) }
            }
        },
        Err(failure) if matches!(failure.class, ErrorClass::Cancelled | ErrorClass::StepDeadline) => {
            Conformed { content, failure: Some(failure) }
        }
        // That the repair failed is in its step; what the caller can do something about is the answer.
        Err(_) => Conformed { content, failure: Some(unmatched(&mismatch.violations)) },
    }
}

/// The end of a run whose answer is `conformed` and would otherwise have ended so. Without an answer where the caller
/// wants none that does not match.
pub(crate) fn settle<S: Steps>(run: &Run<'_, S>, failure: Option<ProviderFailure>, otherwise: Ending) -> Settled {
    let Some(failure) = failure else { return Settled { ending: otherwise, is_kept: true } };
    match run.base.output.on_mismatch {
        OnMismatch::Keep => Settled { ending: Ending::mismatched(run, failure), is_kept: true },
        OnMismatch::Fail => Settled { ending: Ending::failed(run, failure), is_kept: false },
    }
}

/// How a run ends.
pub(crate) struct Settled {
    pub(crate) ending: Ending,
    /// Whether its answer goes out.
    pub(crate) is_kept: bool,
}

fn unmatched(violations: &str) -> ProviderFailure {
    bad_output(&format!("the answer does not match the schema: {}", violations.replace('\n', "; ")))
}

fn mark(steps: &mut [StepRecord], id: &StepId) {
    if let Some(step) = steps.iter_mut().rev().find(|step| step.id == *id) {
        step.error_class = Some(ErrorClass::BadOutput);
    }
}
