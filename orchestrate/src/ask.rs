//! One step: ask a model, and after a failure do what the class table says until there is an answer or nobody is left.
//!
//! Owns the loop of send, classify, wait, retry, shrink and next deployment, and the record of the step. Must not know
//! which failure deserves what: that is the classify step's answer. Tries are counted here, from outcomes, so a crash
//! of a process between them does not use one up.

use tokenhub_domain::{
    Candidate, ClassifyRequest, ErrorClass, EventKeeping, MovableDeadline, NanoDollars, NextMove, OutputWish, Prompt,
    ProviderFailure, Reply, ReplyForm, Role, Segment, SendOutcome, SendRequest, StepError, StepId, StepRecord, Voice,
    limits,
};

use crate::{
    Steps,
    ending::{executor_failure, no_eligible_model},
    hedge::ask_hedged,
    program::Run,
    steering::ask_while_wanted,
};

/// Longest single call: a provider that needs more does not answer at all.
const CALL_MS_MAX: u64 = 600_000;
/// Tries of one step at one deployment. The class table stops long before: this ends a classifier that always says
/// "again".
const TRIES_MAX: u32 = 10;
/// Bytes of an earlier answer that make one token, for the estimate of a derived prompt.
const BYTES_PER_TOKEN: u64 = 4;

/// A question to the first of `candidates` that answers.
#[derive(Clone)]
pub(crate) struct Ask {
    /// Unique within the run.
    pub(crate) step: StepId,
    pub(crate) role: Role,
    /// Best first.
    pub(crate) candidates: Vec<Candidate>,
    pub(crate) prompt: Prompt,
    pub(crate) form: ReplyForm,
}

/// What a step came to.
pub(crate) struct Asked {
    pub(crate) record: StepRecord,
    pub(crate) result: Result<Answered, ProviderFailure>,
    /// A call was under way when the step was cancelled; the record does not have it.
    pub(crate) is_cut: bool,
}

/// An answer and its author.
pub(crate) struct Answered {
    pub(crate) reply: Reply,
    pub(crate) author: Candidate,
    /// Whether somebody better ranked failed before.
    pub(crate) failed_over: bool,
}

impl Asked {
    /// Nobody was asked.
    pub(crate) fn nobody(ask: &Ask) -> Self {
        failed(blank(&ask.step, ask.role), no_eligible_model(&[]))
    }
}

/// Carries out one step.
pub(crate) async fn ask<S: Steps>(run: &Run<'_, S>, ask: Ask) -> Asked {
    let ask = pinned(run, ask);
    match run.base.run.events {
        EventKeeping::Kept => ask_while_wanted(run, ask).await,
        // Nobody steers what is not a plan.
        EventKeeping::None => carry_out(run, ask).await,
    }
}

/// Asks several deployments at once where the caller wants it so, else one after the other.
pub(crate) async fn carry_out<S: Steps>(run: &Run<'_, S>, ask: Ask) -> Asked {
    match run.base.policy.hedge_after_ms {
        Some(after_ms) if ask.candidates.len() > 1 => ask_hedged(run, ask, after_ms).await,
        Some(_) | None => ask_in_turn(run, ask).await,
    }
}

/// The answer of a step that a fork keeps has its author.
fn pinned<S: Steps>(run: &Run<'_, S>, mut ask: Ask) -> Ask {
    let Some(kept) = run.base.fork.as_ref().and_then(|fork| fork.of_step(&ask.step)) else { return ask };
    let same = |one: &&Candidate| {
        (&one.deployment.model, &one.deployment.provider) == (&kept.deployment.model, &kept.deployment.provider)
    };
    let unlisted = || Candidate {
        deployment: kept.deployment.clone(),
        max_context_tokens: None,
        estimated_cost: NanoDollars::default(),
        weight: 0,
    };
    ask.candidates = vec![ask.candidates.iter().find(same).cloned().unwrap_or_else(unlisted)];
    ask
}

/// Asks one after the other. Without a candidate or without time left it fails with no call.
pub(crate) async fn ask_in_turn<S: Steps>(run: &Run<'_, S>, ask: Ask) -> Asked {
    let mut record = blank(&ask.step, ask.role);
    let mut untried = ask.candidates.clone();
    if untried.is_empty() {
        return failed(record, no_eligible_model(&[]));
    }
    let mut attempt = Attempt::first(untried.remove(0));
    let mut failed_over = false;
    loop {
        if let Some(refusal) = run.refusal(&ask) {
            return failed(record, refusal);
        }
        if run.time_left_ms() == 0 {
            return failed(record, ProviderFailure::of(ErrorClass::StepDeadline, "the run's deadline has passed"));
        }
        record.model = Some(attempt.candidate.deployment.model.clone());
        record.provider = Some(attempt.candidate.deployment.provider.clone());
        let failure = match run.steps.send(attempt.request(run, &ask)).await {
            Ok(SendOutcome::Answered(reply)) => {
                note_reply(&mut record, &reply);
                let result = Ok(Answered { reply, author: attempt.candidate, failed_over });
                return Asked { record, result, is_cut: false };
            }
            Ok(SendOutcome::Failed { failure, duplicate_calls, latency_ms, wasted_tokens }) => {
                record.wasted_tokens += wasted_tokens;
                note_failure(&mut record, failure.class, duplicate_calls, latency_ms);
                failure
            }
            // Whether bytes left is not known here; the ledger knows, and the record claims no call.
            Err(error) => {
                let is_cut = error == StepError::Cancelled;
                return Asked { is_cut, ..failed(record, executor_failure(&error)) };
            }
        };
        match attempt.follow_up(run, &ask, &untried, &failure).await {
            Ok(Some(next)) => {
                failed_over |= next.candidate.deployment != attempt.candidate.deployment;
                untried.retain(|candidate| candidate.deployment != next.candidate.deployment);
                attempt = next;
            }
            Err(error @ StepError::Cancelled) => return failed(record, executor_failure(&error)),
            // When nobody could say what to do next, what the provider said is still the best explanation.
            Ok(None) | Err(StepError::TimedOut | StepError::Unavailable(_)) => return failed(record, failure),
        }
    }
}

/// `candidates` with `first` in front: whoever answered before is asked first again. A fork may have kept the answer of
/// somebody who is not to go on.
pub(crate) fn preferring(first: &Candidate, candidates: &[Candidate]) -> Vec<Candidate> {
    if !candidates.iter().any(|candidate| candidate.deployment == first.deployment) {
        return candidates.to_vec();
    }
    let others = candidates.iter().filter(|candidate| candidate.deployment != first.deployment);
    std::iter::once(first).chain(others).cloned().collect()
}

/// One try at one deployment.
struct Attempt {
    candidate: Candidate,
    try_number: u32,
    max_output_tokens: Option<u64>,
}

impl Attempt {
    fn first(candidate: Candidate) -> Self {
        Self { candidate, try_number: 1, max_output_tokens: None }
    }

    fn again(&self, max_output_tokens: Option<u64>) -> Option<Self> {
        let again = Self { candidate: self.candidate.clone(), try_number: self.try_number + 1, max_output_tokens };
        (self.try_number < TRIES_MAX).then_some(again)
    }

    fn request<S: Steps>(&self, run: &Run<'_, S>, ask: &Ask) -> SendRequest {
        let call_ms_max = run.base.step_timeout_ms.unwrap_or(CALL_MS_MAX).min(CALL_MS_MAX);
        let time_left_ms = run.time_left_ms();
        let is_movable = run.base.run.events == EventKeeping::Kept && time_left_ms < call_ms_max;
        SendRequest {
            step: ask.step.clone(),
            role: ask.role,
            try_number: self.try_number,
            deployment: self.candidate.deployment.clone(),
            dialect: run.base.dialect,
            operation: run.base.operation,
            forwarded: run.base.forwarded.clone(),
            prompt: ask.prompt.clone(),
            form: ask.form,
            output: if ask.role.writes_for_the_caller() { run.base.output.clone() } else { OutputWish::default() },
            max_output_tokens: self.max_output_tokens,
            timeout_ms: time_left_ms.min(call_ms_max),
            first_token_timeout_ms: run.base.first_token_timeout_ms,
            movable: is_movable.then(|| MovableDeadline { run_deadline_ms: run.deadline_ms(), call_ms_max }),
            kept_by: run.base.fork.as_ref().and_then(|fork| fork.of_step(&ask.step)).map(|kept| kept.run_id.clone()),
            bounds: run.base.bounds,
            prefix: run.base.prefix.filter(|_| matches!(ask.prompt, Prompt::Original(_))),
        }
    }

    /// The try after this one failed; `None` when there is none.
    async fn follow_up<S: Steps>(
        &self,
        run: &Run<'_, S>,
        ask: &Ask,
        untried: &[Candidate],
        failure: &ProviderFailure,
    ) -> Result<Option<Self>, StepError> {
        let request = ClassifyRequest {
            step: ask.step.clone(),
            failure: failure.clone(),
            tries: self.try_number,
            failed: self.candidate.clone(),
            untried: untried.to_vec(),
            estimated_input_tokens: run.base.estimated_input_tokens + added_tokens(&ask.prompt),
            max_output_tokens: self.max_output_tokens.or_else(|| callers_limit(run, &ask.prompt)),
            time_left_ms: run.time_left_ms(),
        };
        Ok(match run.steps.classify(request).await? {
            NextMove::Retry { delay_ms } => {
                run.steps.sleep(delay_ms).await?;
                self.again(self.max_output_tokens)
            }
            NextMove::Shrink { max_output_tokens } => self.again(Some(max_output_tokens)),
            NextMove::Next { deployment } => {
                untried.iter().find(|candidate| candidate.deployment == deployment).cloned().map(Self::first)
            }
            NextMove::Stop => None,
        })
    }
}

/// What the earlier answers in a derived prompt add to the estimate of the caller's request.
fn added_tokens(prompt: &Prompt) -> u64 {
    let parts: &[Segment] = match prompt {
        Prompt::Original(_) => &[],
        Prompt::Derived(derived) => &derived.parts,
        Prompt::Repair(repair) => {
            let added = (repair.answer.bytes() + repair.complaint.len() as u64) / BYTES_PER_TOKEN;
            return added_tokens(&repair.question) + added;
        }
    };
    let bytes: u64 = parts
        .iter()
        .map(|part| match part {
            Segment::Literal(text) => text.len() as u64,
            Segment::OriginalRequest => 0,
            Segment::Answer(text) => text.bytes(),
        })
        .sum();
    bytes / BYTES_PER_TOKEN
}

/// The output limit that goes out with `prompt`, where it is known: a request without one carries the general estimate,
/// and a reviewer's request leaves the caller's limit out.
fn callers_limit<S: Steps>(run: &Run<'_, S>, prompt: &Prompt) -> Option<u64> {
    let estimate = run.base.estimated_output_tokens;
    let is_limited = !matches!(estimate, 0 | limits::ESTIMATED_OUTPUT_TOKENS);
    (is_limited && keeps_limit(prompt)).then_some(estimate)
}

fn keeps_limit(prompt: &Prompt) -> bool {
    match prompt {
        Prompt::Original(_) => true,
        Prompt::Derived(derived) => derived.voice == Voice::Author,
        Prompt::Repair(repair) => keeps_limit(&repair.question),
    }
}

pub(crate) fn blank(step: &StepId, role: Role) -> StepRecord {
    StepRecord {
        id: step.clone(),
        role,
        model: None,
        provider: None,
        attempts: 0,
        duplicate_calls: 0,
        input_tokens: 0,
        output_tokens: 0,
        cost: NanoDollars::default(),
        latency_ms: 0,
        error_class: None,
        losses: Vec::new(),
        hedged: 0,
        wasted_tokens: 0,
    }
}

fn note_call(record: &mut StepRecord, duplicate_calls: u32, latency_ms: u64) {
    record.attempts += 1;
    record.duplicate_calls += duplicate_calls;
    record.latency_ms += latency_ms;
}

/// A failure without a call leaves the calls of dead processes to be counted.
pub(crate) fn note_failure(record: &mut StepRecord, class: ErrorClass, duplicate_calls: u32, latency_ms: u64) {
    if class.is_of_a_call() {
        note_call(record, duplicate_calls, latency_ms);
    } else {
        record.duplicate_calls += duplicate_calls;
    }
}

pub(crate) fn note_reply(record: &mut StepRecord, reply: &Reply) {
    if reply.is_kept {
        record.losses.clone_from(&reply.losses);
        return;
    }
    note_call(record, reply.duplicate_calls, reply.latency_ms);
    record.input_tokens += reply.usage.input_tokens;
    record.output_tokens += reply.usage.output_tokens;
    record.cost += reply.cost;
    record.wasted_tokens += reply.wasted_tokens;
    record.losses.clone_from(&reply.losses);
}

fn failed(mut record: StepRecord, failure: ProviderFailure) -> Asked {
    record.error_class = Some(failure.class);
    Asked { record, result: Err(failure), is_cut: false }
}
