//! One answer, then improvements by the same deployment: 1 + N steps.
//!
//! The first answer may come from any model on the list; after that its author goes on alone, because an improvement by
//! another model is another program. A failing improvement ends the run with the best answer so far, marked as partial,
//! and the number of improvements that were made.

use tokenhub_domain::{
    Answer, Outcome, Prompt, RefineAnswer, RefineSpec, ReplyForm, Role, RoutingProfile, ShortlistWish, StepId,
    StopReason,
};

use crate::{
    Steps,
    ask::{Ask, ask},
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
        candidates: models.candidates,
        prompt: Prompt::Original(original.clone()),
        form: ReplyForm::Text,
    };
    let asked = ask(run, initial).await;
    let mut steps = vec![asked.record];
    let (author, mut best) = match asked.result {
        Ok(answered) => (answered.author, answered.reply.content),
        Err(failure) => return Ok(Ending::failed(run, failure).outcome(ROUTING_REASON, None, None, steps)),
    };
    let mut ending = Ending::completed(StopReason::MaxRounds);
    let mut iterations = 0;
    for round in 1..=spec.rounds {
        let improvement = Ask {
            step: StepId::new(format!("improvement/{round}")),
            role: Role::Refiner,
            candidates: vec![author.clone()],
            prompt: prompts::improvement(original, &best),
            form: ReplyForm::Text,
        };
        let asked = ask(run, improvement).await;
        steps.push(asked.record);
        match asked.result {
            Ok(answered) => best = answered.reply.content,
            Err(failure) => {
                ending = Ending::partial(run, failure, StopReason::RoundFailed);
                break;
            }
        }
        iterations = round;
    }
    let model = author.deployment.model;
    let answer = Answer::Refine(RefineAnswer { refined_response: best, iterations, model: model.clone() });
    Ok(ending.outcome(ROUTING_REASON, Some(model), Some(answer), steps))
}
