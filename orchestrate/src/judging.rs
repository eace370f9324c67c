//! One judge, one question, at most one repair.
//!
//! Owns the conversation with a judge whose reply may not be readable. Must not know what is judged: the caller brings
//! the question and the reader. A judge that gives no verdict is an ordinary result; the fallback is the caller's.

use tokenhub_domain::{
    Ballot, Candidate, Derived, ErrorClass, ModelId, Prompt, ProviderFailure, ReplyForm, Role, StepId, StepRecord,
    Text, VoteDecision,
};

use crate::{
    Steps,
    ask::{Answered, Ask, ask, preferring},
    ending::bad_output,
    program::Run,
    prompts,
    shuffle::ballot_order,
};

const JUDGE: &str = "judge";

/// What the judge came to.
pub(crate) struct Judged<V> {
    /// What it said, if that could be read.
    pub(crate) verdict: Option<V>,
    /// How the decision is to be called.
    pub(crate) decision: VoteDecision,
    /// The model asked last.
    pub(crate) judge: Option<ModelId>,
    /// The judge's steps.
    pub(crate) steps: Vec<StepRecord>,
    /// Why there is no verdict.
    pub(crate) failure: Option<ProviderFailure>,
}

/// The ballots as the judge sees them: without names and in an order of the run's own.
pub(crate) struct Shown<'a> {
    order: Vec<usize>,
    ballots: &'a [Ballot],
}

impl<'a> Shown<'a> {
    pub(crate) fn of<S: Steps>(run: &Run<'_, S>, ballots: &'a [Ballot]) -> Self {
        // A kept verdict names places in the order of the run that it was given in.
        let run_id = run.base.fork.as_ref().map_or(&run.base.run.run_id, |fork| &fork.order_of);
        Self { order: ballot_order(run_id, ballots.len()), ballots }
    }

    /// The texts, place by place.
    pub(crate) fn texts(&self) -> Vec<&'a Text> {
        self.order.iter().map(|index| &self.ballots[*index].content).collect()
    }

    /// The ballots in the order in which they are shown.
    pub(crate) fn indexes(&self) -> &[usize] {
        &self.order
    }

    /// The index of the ballot shown at `place`.
    pub(crate) fn index_at(&self, place: usize) -> usize {
        self.order[place]
    }

    /// What was said place by place, ballot by ballot.
    pub(crate) fn by_ballot<T: Copy + Default>(&self, by_place: &[T]) -> Vec<T> {
        let mut by_ballot = vec![T::default(); self.ballots.len()];
        for (index, value) in self.order.iter().zip(by_place) {
            by_ballot[*index] = *value;
        }
        by_ballot
    }
}

/// Asks `question` and reads the reply; asks once more when it cannot be read.
pub(crate) async fn judge<S: Steps, V>(
    run: &Run<'_, S>,
    question: Derived,
    judges: Vec<Candidate>,
    read: impl Fn(&str) -> Option<V>,
) -> Judged<V> {
    judge_as(run, JUDGE, question, judges, read).await
}

/// The same under a step id of its own, for programs that ask judges more than once.
pub(crate) async fn judge_as<S: Steps, V>(
    run: &Run<'_, S>,
    step: &str,
    question: Derived,
    judges: Vec<Candidate>,
    read: impl Fn(&str) -> Option<V>,
) -> Judged<V> {
    let read = |text: &Text| text.as_inline().and_then(&read);
    let mut steps = Vec::new();
    let first = match put(run, step, Prompt::Derived(question.clone()), judges.clone(), &mut steps).await {
        Ok(first) => first,
        Err(failure) => return without_verdict(steps, failure),
    };
    if let Some(verdict) = read(&first.reply.content) {
        return with_verdict(steps, verdict, VoteDecision::Judge);
    }
    mark_unreadable(&mut steps);
    let again = prompts::repair(&question, &first.reply.content);
    let second = match put(run, &format!("{step}/repair"), again, preferring(&first.author, &judges), &mut steps).await
    {
        Ok(second) => second,
        Err(failure) => return without_verdict(steps, failure),
    };
    if let Some(verdict) = read(&second.reply.content) {
        return with_verdict(steps, verdict, VoteDecision::JudgeRepaired);
    }
    mark_unreadable(&mut steps);
    without_verdict(steps, bad_output("the judge gave no verdict, and none when asked again"))
}

async fn put<S: Steps>(
    run: &Run<'_, S>,
    step: &str,
    prompt: Prompt,
    candidates: Vec<Candidate>,
    steps: &mut Vec<StepRecord>,
) -> Result<Answered, ProviderFailure> {
    let question = Ask { step: StepId::from(step), role: Role::Judge, candidates, prompt, form: ReplyForm::Text };
    let asked = ask(run, question).await;
    steps.push(asked.record);
    asked.result
}

fn mark_unreadable(steps: &mut [StepRecord]) {
    if let Some(last) = steps.last_mut() {
        last.error_class = Some(ErrorClass::BadOutput);
    }
}

fn with_verdict<V>(steps: Vec<StepRecord>, verdict: V, decision: VoteDecision) -> Judged<V> {
    Judged { verdict: Some(verdict), decision, judge: last_model(&steps), steps, failure: None }
}

fn without_verdict<V>(steps: Vec<StepRecord>, failure: ProviderFailure) -> Judged<V> {
    let decision = VoteDecision::JudgeFailed;
    Judged { verdict: None, decision, judge: last_model(&steps), steps, failure: Some(failure) }
}

fn last_model(steps: &[StepRecord]) -> Option<ModelId> {
    steps.last().and_then(|step| step.model.clone())
}
