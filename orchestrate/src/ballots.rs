//! Several models answer at once: the part that a vote and a best-of-n share.
//!
//! Owns the fan-out and its order: answers are listed as their authors were, never as they came in. Must not know how
//! one of them is chosen.

use tokenhub_domain::{Ballot, Candidate, ErrorClass, Prompt, ProviderFailure, ReplyForm, Role, StepId, StepRecord};

use crate::{
    Completions, Steps,
    ask::{Ask, ask},
    ending::no_eligible_model,
    program::Run,
};

/// What the authors came to.
pub(crate) struct Collected {
    /// The answers, in the order of the authors.
    pub(crate) ballots: Vec<Ballot>,
    /// Every author's step, in the same order.
    pub(crate) steps: Vec<StepRecord>,
    /// The failures, in the same order.
    pub(crate) failures: Vec<ProviderFailure>,
}

impl Collected {
    /// The failure that makes the run partial, `judge` being the judge's own: a cancellation before anything else, and no
    /// abstention, because a model that declines to answer has voted so.
    pub(crate) fn decisive_failure(&self, judge: Option<ProviderFailure>) -> Option<ProviderFailure> {
        let cancelled = self.failures.iter().find(|failure| failure.class == ErrorClass::Cancelled);
        let lost = || self.failures.iter().find(|failure| failure.class != ErrorClass::ContentFiltered).cloned();
        cancelled.cloned().or(judge).or_else(lost)
    }

    /// The failure of a run that nobody answered: the first that is not an abstention, if there is one.
    pub(crate) fn fatal_failure(&self) -> ProviderFailure {
        let first = || self.failures.first().cloned();
        self.decisive_failure(None).or_else(first).unwrap_or_else(|| no_eligible_model(&[]))
    }
}

/// Asks every author the caller's own question, all at once; their steps are `prefix/1`, `prefix/2` and so on.
pub(crate) async fn collect<S: Steps>(
    run: &Run<'_, S>,
    role: Role,
    prefix: &str,
    authors: Vec<Vec<Candidate>>,
) -> Collected {
    let group = run.steps.group();
    let grouped = run.through(&group);
    let asks = authors.into_iter().enumerate().map(|(index, candidates)| {
        let step = StepId::new(format!("{prefix}/{}", index + 1));
        let prompt = Prompt::Original(run.base.original.clone());
        ask(&grouped, Ask { step, role, candidates, prompt, form: ReplyForm::Text })
    });
    let mut collected = Collected { ballots: Vec::new(), steps: Vec::new(), failures: Vec::new() };
    for asked in Completions::new(asks).all().await {
        match asked.result {
            Ok(answered) => collected.ballots.push(Ballot {
                step: asked.record.id.clone(),
                model: answered.author.deployment.model,
                provider: answered.author.deployment.provider,
                content: answered.reply.content,
                score: None,
            }),
            Err(failure) => collected.failures.push(failure),
        }
        collected.steps.push(asked.record);
    }
    collected
}
