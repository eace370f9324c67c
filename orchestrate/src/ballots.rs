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
    Ballot, Candidate, ErrorClass, Mismatch, OutsideCheck, Prompt, ProviderFailure, ReplyForm, Role, StepId,
    StepRecord, StopRule, Verdict,
};

use crate::{
    Completions, Steps,
    ask::{Ask, Asked, ask},
    check::verdict_on,
    conform::{Conformed, Draft, conform},
    ending::no_eligible_model,
    program::Run,
    steering,
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
    /// Authors who were not asked, because it was decided without them or nobody wanted them any more.
    pub(crate) avoided: u32,
    /// Authors whose calls were withdrawn then.
    pub(crate) withdrawn: u32,
    /// The ballot that passed the check before any other.
    pub(crate) passed: Option<usize>,
}

impl Collected {
    /// The failure that makes the run partial, `judge` being the judge's own: a cancellation before anything else, and no
    /// abstention, because a model that declines to answer has voted so.
    pub(crate) fn decisive_failure(&self, judge: Option<ProviderFailure>) -> Option<ProviderFailure> {
        let cancelled = self.failures.iter().filter(|failure| failure.class == ErrorClass::Cancelled);
        // Who was stopped with the whole run comes before who was only not wanted any more.
        let cancelled = cancelled.min_by_key(|failure| steering::reason_of(failure).is_some());
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
pub(crate) struct Fanout<'a> {
    /// All of them without it.
    pub(crate) parallelism: Option<u32>,
    pub(crate) stop: StopRule,
    /// What the first answer to pass is taken by.
    pub(crate) check: Option<&'a OutsideCheck>,
    /// So many are needed, whatever is decided.
    pub(crate) min_success: u32,
    /// How long the others are waited for when so many have answered.
    pub(crate) grace: Option<Grace>,
}

/// The wait for the last ones.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Grace {
    /// Answers with which it begins.
    pub(crate) quorum: u32,
    pub(crate) millis: u64,
}

/// Whose turn it is. Everything in it changes in the order in which the history tells of completions, so a replay asks
/// the same authors in the same order.
struct Turns {
    width: usize,
    begun: AtomicUsize,
    ended: AtomicUsize,
    decided: AtomicBool,
    /// Enough have answered for the wait for the others to begin.
    is_quorate: AtomicBool,
}

impl Turns {
    fn of(fanout: Fanout<'_>) -> Self {
        let width = fanout.parallelism.and_then(|width| usize::try_from(width).ok()).unwrap_or(usize::MAX / 2);
        let (begun, ended) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Self { width, begun, ended, decided: AtomicBool::new(false), is_quorate: AtomicBool::new(false) }
    }

    /// Waits until an author may be asked; false when nobody is needed any more. Whoever waits is looked at again with
    /// every completion, so nobody has to be woken.
    async fn take<S: Steps>(&self, run: &Run<'_, S>) -> bool {
        poll_fn(|_| {
            if self.decided.load(Ordering::Relaxed) {
                return Poll::Ready(false);
            }
            let width = if run.wants_one_answer() { 1 } else { self.width };
            if self.begun.load(Ordering::Relaxed) < width + self.ended.load(Ordering::Relaxed) {
                self.begun.fetch_add(1, Ordering::Relaxed);
                return Poll::Ready(true);
            }
            Poll::Pending
        })
        .await
    }

    /// Waits until so many have answered that the others have `millis` left, and for these; false when there is nobody to
    /// wait for any more.
    async fn grace<S: Steps>(&self, waits: &S, authors: usize, millis: u64) -> bool {
        let begins = poll_fn(|_| {
            if self.is_decided() || self.ended.load(Ordering::Relaxed) >= authors {
                return Poll::Ready(false);
            }
            if self.is_quorate.load(Ordering::Relaxed) { Poll::Ready(true) } else { Poll::Pending }
        })
        .await;
        begins && waits.sleep(millis).await.is_ok()
    }

    fn is_decided(&self) -> bool {
        self.decided.load(Ordering::Relaxed)
    }
}

/// An author's step, and what was said about its answer.
struct Voiced {
    asked: Asked,
    verdict: Option<Verdict>,
    /// Why the check did not end.
    unchecked: Option<ProviderFailure>,
}

/// One of those that are waited for.
enum Task {
    Author(Ask),
    Grace(u64),
}

/// What it came to.
enum Done {
    Author(Option<Box<Voiced>>),
    /// Whether the wait for the others is over.
    Grace(bool),
}

/// Asks every author the caller's own question, all at once or as `fanout` says; their steps are `prefix/1`, `prefix/2`
/// and so on.
pub(crate) async fn collect<S: Steps>(
    run: &Run<'_, S>,
    role: Role,
    prefix: &str,
    authors: Vec<Vec<Candidate>>,
    fanout: Fanout<'_>,
) -> Collected {
    let (group, waits) = (run.steps.group(), run.steps.group());
    let grouped = run.through(&group);
    let turns = Turns::of(fanout);
    let mut answers: Vec<Option<Box<Voiced>>> = authors.iter().map(|_| None).collect();
    let count_of_authors = answers.len();
    let asks = authors.into_iter().enumerate().map(|(index, candidates)| {
        let step = StepId::new(format!("{prefix}/{}", index + 1));
        let prompt = Prompt::Original(run.base.original.clone());
        Task::Author(Ask { step, role, candidates, prompt, form: ReplyForm::Text })
    });
    let (shared, grouped, waiting) = (&turns, &grouped, &waits);
    let tasks = asks.chain(fanout.grace.map(|grace| Task::Grace(grace.millis))).map(|task| async move {
        match task {
            Task::Author(asked) => Done::Author(voiced(grouped, shared, asked, fanout.check).await.map(Box::new)),
            Task::Grace(millis) => Done::Grace(shared.grace(waiting, count_of_authors, millis).await),
        }
    });
    let mut completions = Completions::new(tasks);
    let mut passed = None;
    while let Some((index, done)) = completions.next().await {
        let is_enough = match done {
            Done::Grace(is_over) => is_over,
            Done::Author(voiced) => {
                let has_passed = voiced.as_ref().is_some_and(|it| it.verdict.as_ref().is_some_and(|it| it.passed));
                if has_passed && !turns.is_decided() {
                    passed = Some(index);
                }
                if let Some(place) = answers.get_mut(index) {
                    *place = voiced;
                }
                has_passed || note(&answers, &turns, fanout)
            }
        };
        if is_enough && !turns.is_decided() {
            turns.decided.store(true, Ordering::Relaxed);
            group.cancel("it is decided, or the others are not waited for any longer");
        }
        let is_over = turns.is_decided() || turns.ended.load(Ordering::Relaxed) >= count_of_authors;
        if fanout.grace.is_some() && is_over {
            waits.cancel("there is nobody to wait for");
        }
    }
    drop(completions);
    gather(answers, passed, turns.decided.into_inner())
}

async fn voiced<S: Steps>(run: &Run<'_, S>, turns: &Turns, asked: Ask, check: Option<&OutsideCheck>) -> Option<Voiced> {
    if !turns.take(run).await {
        return None;
    }
    let asked = ask(run, asked).await;
    let checked = match (&asked.result, check) {
        (Ok(answered), Some(check)) => verdict_on(run, check, &asked.record.id, &answered.reply).await.map(Some),
        (Ok(_) | Err(_), _) => Ok(None),
    };
    Some(match checked {
        Ok(verdict) => Voiced { asked, verdict, unchecked: None },
        Err(failure) => Voiced { asked, verdict: None, unchecked: Some(failure) },
    })
}

/// Counts one more author who has ended; whether it is decided now.
fn note(answers: &[Option<Box<Voiced>>], turns: &Turns, fanout: Fanout<'_>) -> bool {
    let ended = turns.ended.fetch_add(1, Ordering::Relaxed) + 1;
    let said = answers.iter().flatten().filter_map(|voiced| voiced.asked.result.as_ref().ok());
    let good = u32::try_from(said.clone().count()).unwrap_or(u32::MAX);
    if fanout.grace.is_some_and(|grace| good >= grace.quorum) {
        turns.is_quorate.store(true, Ordering::Relaxed);
    }
    let tally = tally(said.map(|answered| &answered.reply.content));
    let votes = |place: usize| tally.get(place).map_or(0, Vec::len);
    let open = answers.len().saturating_sub(ended);
    good >= fanout.min_success && is_enough(fanout.stop, Count { leader: votes(0), second: votes(1), open })
}

fn gather(answers: Vec<Option<Box<Voiced>>>, passed: Option<usize>, decided: bool) -> Collected {
    let mut collected = Collected::default();
    for (index, voiced) in answers.into_iter().enumerate() {
        let Some(voiced) = voiced else {
            collected.avoided += 1;
            continue;
        };
        let Voiced { mut asked, verdict, unchecked } = *voiced;
        match asked.result {
            Ok(answered) => {
                if passed == Some(index) {
                    collected.passed = Some(collected.ballots.len());
                }
                collected.ballots.push(Ballot {
                    step: asked.record.id.clone(),
                    model: answered.author.deployment.model.clone(),
                    provider: answered.author.deployment.provider.clone(),
                    content: answered.reply.content,
                    score: None,
                    check: verdict,
                });
                collected.origins.push((answered.author, answered.reply.mismatch));
                // Who was in time for nobody's answer is not missed.
                collected.failures.extend(unchecked.filter(|_| !decided));
            }
            // It was in time for nobody's answer, which is no failure of the run.
            Err(failure) if decided && failure.class == ErrorClass::Cancelled => {
                asked.record.attempts += u32::from(asked.is_cut);
                collected.withdrawn += 1;
            }
            Err(failure) => {
                if steering::reason_of(&failure).is_some() {
                    let was_called = asked.record.attempts > 0;
                    let count = if was_called { &mut collected.withdrawn } else { &mut collected.avoided };
                    *count += 1;
                }
                collected.failures.push(failure);
            }
        }
        collected.steps.push(asked.record);
    }
    collected
}
