//! One answer, then improvements by the same deployment: 1 + N steps.
//!
//! The first answer may come from any model on the list; after that its author goes on alone, because an improvement by
//! another model is another program. A failing improvement ends the run with the best answer so far, marked as partial,
//! and the number of improvements that were made. With a check the first answer that passes is the last one.

use tokenhub_domain::{
    Answer, Candidate, Outcome, Prompt, RefineAnswer, RefineSpec, ReplyForm, Role, RoutingProfile, ShortlistWish,
    StepId, StepRecord, StopReason,
};

use crate::{
    Steps,
    ask::{Answered, Ask, ask, preferring},
    check::Checks,
    conform::{Draft, conform, settle},
    ending::Ending,
    program::{Run, Unselected},
    prompts,
};

/// The stable name of the program.
pub(crate) const ROUTING_REASON: &str = "refine-orchestration";

pub(crate) async fn run<S: Steps>(run: &Run<'_, S>, spec: &RefineSpec) -> Result<Outcome, Unselected> {
    let wish = ShortlistWish {
        profile: RoutingProfile::HighConfidence,
        model: spec.primary_model.clone(),
        min_weight: spec.primary_min_weight,
        needs: spec.base.needs.clone(),
        apart_from: None,
    };
    let [models] = run.select([wish]).await?;
    let original = &spec.base.original;
    let initial = Ask {
        step: "answer".into(),
        role: Role::Answer,
        candidates: models.candidates.clone(),
        prompt: Prompt::Original(original.clone()),
        form: ReplyForm::Text,
    };
    let asked = ask(run, initial).await;
    let steps = vec![asked.record];
    let answered = match asked.result {
        Ok(answered) => answered,
        Err(failure) => return Ok(Ending::failed(run, failure).outcome(ROUTING_REASON, None, None, steps)),
    };
    let mut checks = Checks::default();
    let passed = checks.pass(run, spec.check.as_ref(), &"answer".into(), &answered).await;
    let best = draft("answer", Role::Answer, answered, Prompt::Original(original.clone()));
    let mut work = Work { best, iterations: 0, checks, steps };
    let ending = match passed {
        Ok(true) => Ending::completed(StopReason::CheckPassed),
        Ok(false) => improve(run, spec, &models.candidates, &mut work).await,
        Err(failure) => Ending::partial(run, failure, StopReason::RoundFailed),
    };
    let Work { best, iterations, mut checks, mut steps } = work;
    let model = best.author.deployment.model.clone();
    let misses = best.mismatch.is_some();
    let conformed = conform(run, best, &mut steps).await;
    if misses && conformed.failure.is_none() {
        checks.note_repair(spec.check.as_ref());
    }
    let settled = settle(run, conformed.failure, ending);
    let checks = checks.into_list();
    let answer = RefineAnswer { refined_response: conformed.content, iterations, model: model.clone(), checks };
    let answer = settled.is_kept.then_some(Answer::Refine(answer));
    Ok(settled.ending.outcome(ROUTING_REASON, Some(model), answer, steps))
}

/// The answer as it stands, and how it came about.
struct Work {
    best: Draft,
    iterations: u32,
    checks: Checks,
    steps: Vec<StepRecord>,
}

fn draft(step: &str, role: Role, Answered { reply, author, .. }: Answered, question: Prompt) -> Draft {
    Draft::of(step.into(), role, author, question, ReplyForm::Text, reply)
}

/// All rounds, or as many as are needed and succeed.
async fn improve<S: Steps>(run: &Run<'_, S>, spec: &RefineSpec, models: &[Candidate], work: &mut Work) -> Ending {
    for round in 1..=spec.rounds {
        let step = StepId::new(format!("improvement/{round}"));
        let prompt = prompts::improvement(&spec.base.original, &work.best.content, work.checks.latest());
        let improvement = Ask {
            step: step.clone(),
            role: Role::Refiner,
            candidates: preferring(&work.best.author, models).into_iter().take(1).collect(),
            prompt: prompt.clone(),
            form: ReplyForm::Text,
        };
        let asked = ask(run, improvement).await;
        work.steps.push(asked.record);
        let answered = match asked.result {
            Ok(answered) => answered,
            Err(failure) => return Ending::partial(run, failure, StopReason::RoundFailed),
        };
        let passed = work.checks.pass(run, spec.check.as_ref(), &step, &answered).await;
        work.best = draft(step.as_str(), Role::Refiner, answered, prompt);
        work.iterations = round;
        match passed {
            Ok(true) => return Ending::completed(StopReason::CheckPassed),
            Ok(false) => {}
            Err(failure) => return Ending::partial(run, failure, StopReason::RoundFailed),
        }
    }
    Ending::completed(StopReason::MaxRounds)
}
