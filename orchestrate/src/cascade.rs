//! Cheap models first; a dearer one is asked only when the answer before it will not do.
//!
//! Each stage is a model with its deployments. What is not accepted, or cannot be checked, moves on; the last stage is
//! taken as it is. Where a later stage fails, the newest answer before it is returned, and the run is partial. Source of
//! the pattern: `FrugalGPT` (arXiv 2305.05176).

use tokenhub_domain::{
    Answer, Candidate, CascadeAnswer, CascadeCheck, CascadeSpec, CascadeStage, Outcome, Prompt, ProviderFailure,
    ReplyForm, Role, RoutingProfile, Shortlist, ShortlistWish, StageVerdict, StepId, StepRecord, StopReason,
};

use crate::{
    Steps,
    ask::{Answered, Ask, ask},
    conform::{Draft, conform, settle},
    ending::Ending,
    judging::judge_as,
    lineup::{by_model, judge_wish, kin_of},
    program::{Run, Unselected},
    prompts, steering, verdict,
};

/// The stable name of the program.
pub(crate) const ROUTING_REASON: &str = "cascade-orchestration";

/// What the stages came to.
#[derive(Default)]
struct Climb {
    stages: Vec<CascadeStage>,
    steps: Vec<StepRecord>,
    /// The newest answer and the index of its stage.
    newest: Option<(usize, Draft)>,
    /// Why there is no better one.
    failure: Option<ProviderFailure>,
    stop_reason: StopReason,
}

pub(crate) async fn run<S: Steps>(run: &Run<'_, S>, spec: &CascadeSpec) -> Result<Outcome, Unselected> {
    let (stages, judges) = select(run, spec).await?;
    let mut climb = climb(run, spec, stages, &judges).await;
    let Some((selected, draft)) = climb.newest.take() else {
        let failure = climb.failure.unwrap_or_else(|| crate::ending::no_eligible_model(&[]));
        return Ok(Ending::failed(run, failure).outcome(ROUTING_REASON, None, None, climb.steps));
    };
    let model = draft.author.deployment.model.clone();
    let conformed = conform(run, draft, &mut climb.steps).await;
    let ending = Ending::of(run, climb.failure, climb.stop_reason);
    let settled = settle(run, conformed.failure, ending);
    let answer = CascadeAnswer { response: conformed.content, selected, stages: climb.stages };
    let answer = settled.is_kept.then_some(Answer::Cascade(answer));
    Ok(settled.ending.outcome(ROUTING_REASON, Some(model), answer, climb.steps))
}

async fn climb<S: Steps>(
    run: &Run<'_, S>,
    spec: &CascadeSpec,
    stages: Vec<Vec<Candidate>>,
    judges: &[Candidate],
) -> Climb {
    let mut climb = Climb { stop_reason: StopReason::MaxRounds, ..Climb::default() };
    let last = stages.len();
    for (place, candidates) in stages.into_iter().enumerate() {
        let number = place + 1;
        let step = StepId::new(format!("stage/{number}"));
        let prompt = Prompt::Original(run.base.original.clone());
        let form = ReplyForm::Text;
        let question = Ask { step: step.clone(), role: Role::Candidate, candidates, prompt: prompt.clone(), form };
        let asked = ask(run, question).await;
        let model = asked.record.model.clone();
        climb.steps.push(asked.record);
        let Answered { reply, author, .. } = match asked.result {
            Ok(answered) => answered,
            Err(failure) => {
                let is_unwanted = steering::reason_of(&failure).is_some();
                if !is_unwanted {
                    climb.stages.push(CascadeStage { step, model: None, verdict: StageVerdict::Failed });
                }
                let is_over = is_unwanted || run.time_left_ms() == 0 || !failure.class.is_of_a_call();
                climb.failure = Some(failure);
                if is_over {
                    break;
                }
                continue;
            }
        };
        // An earlier stage that failed did no harm: there is an answer of a better model.
        climb.failure = None;
        let draft = Draft::of(step.clone(), Role::Candidate, author, prompt, form, reply);
        let verdict = if number == last {
            StageVerdict::Last
        } else {
            check(run, spec, number, &draft, judges, &mut climb.steps).await
        };
        climb.stages.push(CascadeStage { step, model, verdict });
        climb.newest = Some((place, draft));
        if verdict == StageVerdict::Accepted {
            climb.stop_reason = StopReason::Decided;
            break;
        }
    }
    climb
}

async fn check<S: Steps>(
    run: &Run<'_, S>,
    spec: &CascadeSpec,
    number: usize,
    draft: &Draft,
    judges: &[Candidate],
    steps: &mut Vec<StepRecord>,
) -> StageVerdict {
    match spec.check {
        _ if draft.mismatch.is_some() => return StageVerdict::Rejected,
        CascadeCheck::Schema => return StageVerdict::Accepted,
        CascadeCheck::Judge => {}
    }
    // Nobody checks an answer of its own while another judge is there.
    let others: Vec<Candidate> =
        judges.iter().filter(|judge| judge.deployment.model != draft.author.deployment.model).cloned().collect();
    let judges = if others.is_empty() { judges.to_vec() } else { others };
    let question = prompts::acceptance(&run.base.original, &draft.content);
    let checked = judge_as(run, &format!("check/{number}"), question, judges, verdict::acceptance).await;
    steps.extend(checked.steps);
    match checked.verdict {
        Some(true) => StageVerdict::Accepted,
        Some(false) => StageVerdict::Rejected,
        None => StageVerdict::Unchecked,
    }
}

async fn select<S: Steps>(
    run: &Run<'_, S>,
    spec: &CascadeSpec,
) -> Result<(Vec<Vec<Candidate>>, Vec<Candidate>), Unselected> {
    let stage = |model: Option<_>| ShortlistWish {
        profile: RoutingProfile::Cheap,
        model,
        min_weight: spec.min_weight,
        needs: spec.base.needs.clone(),
        apart_from: None,
    };
    let judge = (spec.judge_model.as_ref(), spec.judge_min_weight);
    let judge = judge_wish(RoutingProfile::Normal, judge, kin_of(&spec.models, spec.stages));
    let mut wishes: Vec<ShortlistWish> = spec.models.iter().cloned().map(Some).map(stage).collect();
    if wishes.is_empty() {
        wishes.push(stage(None));
    }
    if spec.check == CascadeCheck::Judge {
        wishes.push(judge);
    }
    let mut lists = run.select_each(wishes).await?;
    let judges = match spec.check {
        CascadeCheck::Judge => lists.pop().unwrap_or_default().candidates,
        CascadeCheck::Schema => Vec::new(),
    };
    let stages = if spec.models.is_empty() {
        from_cheap_to_good(lists.pop().unwrap_or_default(), usize::try_from(spec.stages).unwrap_or(usize::MAX))
    } else {
        lists.into_iter().map(|list| list.candidates).collect()
    };
    Ok((stages, judges))
}

/// The cheapest models by the estimate of a call, and in the last place the one of the largest weight.
fn from_cheap_to_good(list: Shortlist, stages: usize) -> Vec<Vec<Candidate>> {
    let mut models = by_model(list.candidates);
    models.sort_by_key(|deployments| deployments.first().map(|first| first.estimated_cost));
    let weight = |deployments: &Vec<Candidate>| deployments.first().map_or(0, |first| first.weight);
    let heaviest = models.iter().map(weight).max().unwrap_or(0);
    let best = models.iter().rposition(|deployments| weight(deployments) == heaviest);
    let Some(best) = best.map(|best| models.remove(best)) else { return models };
    models.retain(|deployments| cost(deployments) <= cost(&best));
    models.truncate(stages.saturating_sub(1));
    models.push(best);
    models
}

fn cost(deployments: &[Candidate]) -> i64 {
    deployments.first().map_or(0, |first| first.estimated_cost.0)
}
