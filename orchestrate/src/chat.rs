//! One answer from one model: a chat, and a plan of the mode `planning` or of none.
//!
//! The answer is the provider's own body. With a named model only its deployments are asked, and never another model.

use tokenhub_domain::{Answer, ChatSpec, Outcome, Prompt, ReplyForm, Role, ShortlistWish, StopReason};

use crate::{
    Steps,
    ask::{Ask, ask},
    conform::{Draft, conform, settle},
    ending::Ending,
    program::{Run, Unselected},
};

/// How the model is found.
pub(crate) fn routing_reason(spec: &ChatSpec) -> &'static str {
    if spec.model.is_some() { "model-named" } else { "routed" }
}

pub(crate) async fn run<S: Steps>(run: &Run<'_, S>, spec: &ChatSpec) -> Result<Outcome, Unselected> {
    let policy = &spec.base.policy;
    let wish = ShortlistWish {
        profile: policy.profile,
        model: spec.model.clone(),
        min_weight: policy.min_weight,
        needs: spec.base.needs.clone(),
        apart_from: None,
    };
    let [models] = run.select([wish]).await?;
    let asked = ask(
        run,
        Ask {
            step: "answer".into(),
            role: Role::Answer,
            candidates: models.candidates,
            prompt: Prompt::Original(spec.base.original.clone()),
            form: ReplyForm::Body,
        },
    )
    .await;
    let reason = routing_reason(spec);
    let mut steps = vec![asked.record];
    Ok(match asked.result {
        Err(failure) => Ending::failed(run, failure).outcome(reason, None, None, steps),
        Ok(answered) => {
            let reason = if answered.failed_over { format!("{reason}-after-failover") } else { reason.to_owned() };
            let model = Some(answered.author.deployment.model.clone());
            let question = Prompt::Original(spec.base.original.clone());
            let form = ReplyForm::Body;
            let draft = Draft::of("answer".into(), Role::Answer, answered.author, question, form, answered.reply);
            let conformed = conform(run, draft, &mut steps).await;
            let settled = settle(run, conformed.failure, Ending::completed(StopReason::Answered));
            let answer = settled.is_kept.then_some(Answer::Chat { body: conformed.content });
            settled.ending.outcome(&reason, model, answer, steps)
        }
    })
}
