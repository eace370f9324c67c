//! One answer, then improvements by the same deployment: 1 + N steps.
//!
//! The first answer may come from any model on the list; after that its author goes on alone, because an improvement by
//! another model is another program. A failing improvement ends the run with the best answer so far, marked as partial,
//! and the number of improvements that were made.

use tokenhub_domain::{
    Answer, Candidate, Outcome, Prompt, RefineAnswer, RefineSpec, ReplyForm, Role, RoutingProfile, ShortlistWish,
    StepId, StopReason,
};

use crate::{
    Steps,
    ask::{Ask, ask, preferring},
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
    let mut steps = vec![asked.record];
    let draft = |step: &str, role, author: Candidate, question, reply| {
        Draft::of(step.into(), role, author, question, ReplyForm::Text, reply)
    };
    let question = Prompt::Original(original.clone());
    let mut best = match asked.result {
        Ok(answered) => draft("answer", Role::Answer, answered.author, question, answered.reply),
        Err(failure) => return Ok(Ending::failed(run, failure).outcome(ROUTING_REASON, None, None, steps)),
    };
    let mut ending = Ending::completed(StopReason::MaxRounds);
    let mut iterations = 0;
    for round in 1..=spec.rounds {
        let step = StepId::new(format!("improvement/{round}"));
        let prompt = prompts::improvement(original, &best.content);
        let improvement = Ask {
            step: step.clone(),
            role: Role::Refiner,
            candidates: preferring(&best.author, &models.candidates).into_iter().take(1).collect(),
            prompt: prompt.clone(),
            form: ReplyForm::Text,
        };
        let asked = ask(run, improvement).await;
        steps.push(asked.record);
        match asked.result {
            Ok(answered) => best = draft(step.as_str(), Role::Refiner, answered.author, prompt, answered.reply),
            Err(failure) => {
                ending = Ending::partial(run, failure, StopReason::RoundFailed);
                break;
            }
        }
        iterations = round;
    }
    let model = best.author.deployment.model.clone();
    let conformed = conform(run, best, &mut steps).await;
    let settled = settle(run, conformed.failure, ending);
    let answer = RefineAnswer { refined_response: conformed.content, iterations, model: model.clone() };
    let answer = settled.is_kept.then_some(Answer::Refine(answer));
    Ok(settled.ending.outcome(ROUTING_REASON, Some(model), answer, steps))
}
