//! Answers that something outside the models accepts: a schema, a pattern or a verifier.
//!
//! Owns what a verdict is made of and what becomes of one that nobody could give: the answer has not passed, and the run
//! goes on. Schema and pattern were judged with the step that bought the answer, so a replay reads what was found then;
//! a verifier is asked in a step of its own, and only by runs that name one.

use tokenhub_domain::{
    Checked, OutsideCheck, ProviderFailure, Reply, StepError, StepId, Verdict, VerifyRequest, limits,
};

use crate::{Steps, ask::Answered, ending::executor_failure, program::Run};

/// Whether the reply of `step` passes. It fails only when the run, or the group of its steps, is cancelled.
pub(crate) async fn verdict_on<S: Steps>(
    run: &Run<'_, S>,
    check: &OutsideCheck,
    step: &StepId,
    reply: &Reply,
) -> Result<Verdict, ProviderFailure> {
    // Nobody needs to be asked about what misses its schema.
    if let Some(mismatch) = &reply.mismatch {
        return Ok(Verdict::rejected(mismatch.violations.clone()));
    }
    match check {
        OutsideCheck::Regex { pattern } if reply.lacks_pattern => {
            Ok(Verdict::rejected(format!("the answer does not match the regular expression {pattern}")))
        }
        OutsideCheck::Schema | OutsideCheck::Regex { .. } => Ok(Verdict::passed()),
        OutsideCheck::Http { url } => verified(run, url, step, reply).await,
    }
}

async fn verified<S: Steps>(
    run: &Run<'_, S>,
    url: &str,
    step: &StepId,
    reply: &Reply,
) -> Result<Verdict, ProviderFailure> {
    let timeout_ms = run.time_left_ms().min(limits::VERIFY_MS_MAX);
    if timeout_ms == 0 {
        return Ok(Verdict::unchecked("no time was left to ask the verifier"));
    }
    let request = VerifyRequest { step: step.clone(), url: url.to_owned(), answer: reply.content.clone(), timeout_ms };
    match run.steps.verify(request).await {
        Ok(verdict) => Ok(verdict),
        Err(error @ StepError::Cancelled) => Err(executor_failure(&error)),
        Err(error @ (StepError::TimedOut | StepError::Unavailable(_))) => Ok(Verdict::unchecked(error.to_string())),
    }
}

/// The checks of a run that goes on until an answer passes.
#[derive(Default)]
pub(crate) struct Checks(Vec<Checked>);

impl Checks {
    /// Whether the answer of `step` passes: never where nothing is to be checked.
    pub(crate) async fn pass<S: Steps>(
        &mut self,
        run: &Run<'_, S>,
        check: Option<&OutsideCheck>,
        step: &StepId,
        answered: &Answered,
    ) -> Result<bool, ProviderFailure> {
        let Some(check) = check else { return Ok(false) };
        let verdict = verdict_on(run, check, step, &answered.reply).await?;
        let passed = verdict.passed;
        self.0.push(Checked { step: step.clone(), model: Some(answered.author.deployment.model.clone()), verdict });
        Ok(passed)
    }

    /// What was said about the newest answer.
    pub(crate) fn latest(&self) -> Option<&Verdict> {
        self.0.last().map(|checked| &checked.verdict)
    }

    /// The newest answer matches its schema after a repair. A verifier and a pattern have not seen that one.
    pub(crate) fn note_repair(&mut self, check: Option<&OutsideCheck>) {
        if let (Some(OutsideCheck::Schema), Some(latest)) = (check, self.0.last_mut()) {
            latest.verdict = Verdict::passed();
        }
    }

    pub(crate) fn into_list(self) -> Vec<Checked> {
        self.0
    }
}
