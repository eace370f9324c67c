//! Several models answer at once: the part that a vote and a best-of-n share.
//!
//! Owns the fan-out and its order: answers are listed as their authors were, never as they came in. Must not know how
//! one of them is chosen.

use std::{
    future::poll_fn,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    task::Poll,
};

use tokenhub_domain::{
    Ballot, Candidate, ErrorClass, Mismatch, Prompt, ProviderFailure, ReplyForm, Role, StepId, StepRecord, StopRule,
};

use crate::{
    Completions, Steps,
    ask::{Ask, Asked, ask},
    conform::{Conformed, Draft, conform},
    ending::no_eligible_model,
    program::Run,
    stopping::{Count, is_enough},
    tally::tally,
};

/// What the authors came to.
#[derive(Default)]
pub(crate) struct Collected {
    /// The answers, in the order of the authors.
    pub(crate) ballots: Vec<Ballot>,
    /// Who wrote each of them, and how it falls short of its schema.
    origins: Vec<(Candidate, Option<Mismatch>)>,
    /// Every author's step, in the same order.
    pub(crate) steps: Vec<StepRecord>,
    /// The failures, in the same order.
    pub(crate) failures: Vec<ProviderFailure>,
    /// Authors who were not asked, because it was decided without them.
    pub(crate) avoided: u32,
    /// Authors whose calls were withdrawn then.
    pub(crate) withdrawn: u32,
}

impl Collected {
    /// The failure that makes the run partial, `judge` being the judge's own: a cancellation before anything else, and no
    /// abstention, because a model that declines to answer has voted so.
    pub(crate) fn decisive_failure(&self, judge: Option<ProviderFailure>) -> Option<ProviderFailure> {
        let cancelled = self.failures.iter().find(|failure| failure.class == ErrorClass::Cancelled);
        let lost = || self.failures.iter().find(|failure| failure.class != ErrorClass::ContentFiltered).cloned();
        cancelled.cloned().or(judge).or_else(lost)
    }

    /// The weight of each ballot's author.
    pub(crate) fn weights(&self) -> Vec<u32> {
        self.origins.iter().map(|(author, _)| author.weight).collect()
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

/// How many authors are asked at once, and when enough have answered.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Fanout {
    /// All of them without it.
    pub(crate) parallelism: Option<u32>,
    pub(crate) stop: StopRule,
}

/// Whose turn it is. Everything in it changes in the order in which the history tells of completions, so a replay asks
/// the same authors in the same order.
struct Turns {
    width: usize,
    begun: AtomicUsize,
    ended: AtomicUsize,
    decided: AtomicBool,
}

impl Turns {
    /// Waits until an author may be asked; false when nobody is needed any more. Whoever waits is looked at again with
    /// every completion, so nobody has to be woken.
    async fn take(&self) -> bool {
        poll_fn(|_| {
            if self.decided.load(Ordering::Relaxed) {
                return Poll::Ready(false);
            }
            if self.begun.load(Ordering::Relaxed) < self.width + self.ended.load(Ordering::Relaxed) {
                self.begun.fetch_add(1, Ordering::Relaxed);
                return Poll::Ready(true);
            }
            Poll::Pending
        })
        .await
    }
}

/// Asks every author the caller's own question, all at once or as `fanout` says; their steps are `prefix/1`, `prefix/2`
/// and so on.
pub(crate) async fn collect<S: Steps>(
    run: &Run<'_, S>,
    role: Role,
    prefix: &str,
    authors: Vec<Vec<Candidate>>,
    fanout: Fanout,
) -> Collected {
    let group = run.steps.group();
    let grouped = run.through(&group);
    let width = fanout.parallelism.and_then(|width| usize::try_from(width).ok()).unwrap_or(usize::MAX / 2);
    let (begun, ended, decided) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicBool::new(false));
    let turns = Turns { width, begun, ended, decided };
    let mut answers: Vec<Option<Asked>> = authors.iter().map(|_| None).collect();
    let asks = authors.into_iter().enumerate().map(|(index, candidates)| {
        let step = StepId::new(format!("{prefix}/{}", index + 1));
        let prompt = Prompt::Original(run.base.original.clone());
        let asked = Ask { step, role, candidates, prompt, form: ReplyForm::Text };
        let (turns, grouped) = (&turns, &grouped);
        async move { if turns.take().await { Some(ask(grouped, asked).await) } else { None } }
    });
    let mut completions = Completions::new(asks);
    while let Some((index, asked)) = completions.next().await {
        turns.ended.fetch_add(1, Ordering::Relaxed);
        if let Some(place) = answers.get_mut(index) {
            *place = asked;
        }
        let open = answers.len() - turns.ended.load(Ordering::Relaxed).min(answers.len());
        if !turns.decided.load(Ordering::Relaxed) && is_enough(fanout.stop, count(&answers, open)) {
            turns.decided.store(true, Ordering::Relaxed);
            group.cancel("the vote is decided");
        }
    }
    drop(completions);
    gather(answers, turns.decided.into_inner())
}

/// The two leading answers so far, and who has not answered.
fn count(answers: &[Option<Asked>], open: usize) -> Count {
    let said = answers.iter().flatten().filter_map(|asked| asked.result.as_ref().ok());
    let tally = tally(said.map(|answered| &answered.reply.content));
    let votes = |place: usize| tally.get(place).map_or(0, Vec::len);
    Count { leader: votes(0), second: votes(1), open }
}

fn gather(answers: Vec<Option<Asked>>, decided: bool) -> Collected {
    let mut collected = Collected::default();
    for asked in answers {
        let Some(mut asked) = asked else {
            collected.avoided += 1;
            continue;
        };
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
            // It was in time for nobody's answer, which is no failure of the run.
            Err(failure) if decided && failure.class == ErrorClass::Cancelled => {
                asked.record.attempts += u32::from(asked.is_cut);
                collected.withdrawn += 1;
            }
            Err(failure) => collected.failures.push(failure),
        }
        collected.steps.push(asked.record);
    }
    collected
}
