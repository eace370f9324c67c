//! Several models answer at once: the part that a vote and a best-of-n share.
//!
//! Owns the fan-out and its order: answers are listed as their authors were, never as they came in. Must not know how
//! one of them is chosen.

use tokenhub_domain::{
    Ballot, Candidate, ErrorClass, Mismatch, Prompt, ProviderFailure, ReplyForm, Role, StepId, StepRecord,
};

use crate::{
    Completions, Steps,
    ask::{Ask, ask},
    conform::{Conformed, Draft, conform},
    ending::no_eligible_model,
    program::Run,
};

/// What the authors came to.
pub(crate) struct Collected {
    /// The answers, in the order of the authors.
    pub(crate) ballots: Vec<Ballot>,
    /// Who wrote each of them, and how it falls short of its schema.
    origins: Vec<(Candidate, Option<Mismatch>)>,
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

    /// Has the chosen answer repaired where its schema asks for that; the others stay as they were judged. Why it still
    /// does not match.
    pub(crate) async fn conform<S: Steps>(
        &mut self,
        run: &Run<'_, S>,
        role: Role,
        selected: usize,
    ) -> Option<ProviderFailure> {
        let (ballot, (author, mismatch)) = self.ballots.get(selected).zip(self.origins.get(selected))?;
        let draft = Draft {
            step: ballot.step.clone(),
            role,
            author: author.clone(),
            question: Prompt::Original(run.base.original.clone()),
            form: ReplyForm::Text,
            content: ballot.content.clone(),
            mismatch: mismatch.clone(),
        };
        let Conformed { content, failure } = conform(run, draft, &mut self.steps).await;
        if let Some(ballot) = self.ballots.get_mut(selected) {
            ballot.content = content;
        }
        failure
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
    let mut collected = Collected { ballots: Vec::new(), origins: Vec::new(), steps: Vec::new(), failures: Vec::new() };
    for asked in Completions::new(asks).all().await {
        match asked.result {
            Ok(answered) => {
                collected.ballots.push(Ballot {
                    step: asked.record.id.clone(),
                    model: answered.author.deployment.model.clone(),
                    provider: answered.author.deployment.provider.clone(),
                    content: answered.reply.content,
                    score: None,
                });
                collected.origins.push((answered.author, answered.reply.mismatch));
            }
            Err(failure) => collected.failures.push(failure),
        }
        collected.steps.push(asked.record);
    }
    collected
}
