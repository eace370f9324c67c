//! A plan, then rounds of critique and revision: 1 + 2 N steps.
//!
//! Every critique and every plan is returned. Once there is a plan, a failing round ends the run with the best plan so
//! far, marked as partial; a critique whose revision failed is kept. A failing first plan fails the run. With a check the
//! first plan that passes is the last one.

use tokenhub_domain::{
    AdversarialAnswer, AdversarialRound, AdversarialSpec, Answer, Candidate, Mismatch, ModelId, Outcome, Prompt,
    ProviderFailure, ReplyForm, Role, RoutingProfile, ShortlistWish, StepId, StepRecord, StopReason, Text,
};

use crate::{
    Steps,
    ask::{Answered, Ask, ask, preferring},
    check::Checks,
    conform::{self, Conformed, settle},
    ending::Ending,
    program::{Run, Unselected},
    prompts,
};

/// The stable name of the program, or of the part of it that was wanted.
pub(crate) fn routing_reason(spec: &AdversarialSpec) -> &'static str {
    if spec.return_plan_only { "adversarial-plan-only" } else { "adversarial-orchestration" }
}

pub(crate) async fn run<S: Steps>(run: &Run<'_, S>, spec: &AdversarialSpec) -> Result<Outcome, Unselected> {
    let (planners, critics) = select(run, spec).await?;
    let reason = routing_reason(spec);
    let mut steps = Vec::new();
    let prompt = prompts::plan(&spec.base.original);
    let planned = match put(run, "plan".into(), Role::Planner, planners.clone(), prompt.clone(), &mut steps).await {
        Ok(planned) => planned,
        Err(failure) => return Ok(Ending::failed(run, failure).outcome(reason, None, None, steps)),
    };
    let mut checks = Checks::default();
    let passed = checks.pass(run, spec.check.as_ref(), &"plan".into(), &planned).await;
    let mut draft = Draft::new(planned, prompt, checks);
    let mut ending = Ending::completed(StopReason::PlanOnly);
    if !spec.return_plan_only {
        let ended = match passed {
            Ok(true) => Ok(StopReason::CheckPassed),
            Ok(false) => rounds(run, spec, &mut draft, (&planners, &critics), &mut steps).await,
            Err(failure) => Err(failure),
        };
        ending = match ended {
            Ok(stop_reason) => Ending::completed(stop_reason),
            Err(failure) => Ending::partial(run, failure, StopReason::RoundFailed),
        };
    }
    let model = draft.model();
    let misses = draft.mismatch.is_some();
    let failure = draft.conform(run, &mut steps).await;
    if misses && failure.is_none() {
        draft.checks.note_repair(spec.check.as_ref());
    }
    draft.answer.checks = draft.checks.into_list();
    let settled = settle(run, failure, ending);
    let answer = settled.is_kept.then_some(Answer::Adversarial(draft.answer));
    Ok(settled.ending.outcome(reason, Some(model), answer, steps))
}

/// Planners and critics; nobody looks for a critic when only the plan is wanted.
async fn select<S: Steps>(
    run: &Run<'_, S>,
    spec: &AdversarialSpec,
) -> Result<(Vec<Candidate>, Vec<Candidate>), Unselected> {
    let planner = ShortlistWish {
        profile: RoutingProfile::Planning,
        model: spec.primary_model.clone(),
        min_weight: spec.primary_min_weight,
        needs: spec.base.needs.clone(),
        apart_from: None,
    };
    let critic = ShortlistWish {
        profile: RoutingProfile::Adversarial,
        model: spec.review_model.clone(),
        min_weight: spec.review_min_weight,
        needs: Vec::new(),
        apart_from: None,
    };
    if spec.return_plan_only {
        let [planners] = run.select([planner]).await?;
        return Ok((planners.candidates, Vec::new()));
    }
    let [planners, critics] = run.select([planner, critic]).await?;
    Ok((planners.candidates, critics.candidates))
}

/// The plan as it stands.
struct Draft {
    answer: AdversarialAnswer,
    author: Candidate,
    critic: Option<Candidate>,
    /// The latest plan's step and what it was written for.
    step: (StepId, Role, Prompt),
    mismatch: Option<Mismatch>,
    /// What was said about each plan.
    checks: Checks,
}

impl Draft {
    fn new(planned: Answered, prompt: Prompt, checks: Checks) -> Self {
        let Answered { reply, author, .. } = planned;
        let answer = AdversarialAnswer {
            initial_plan: reply.content,
            rounds: Vec::new(),
            unanswered_critique: None,
            checks: Vec::new(),
        };
        let step = ("plan".into(), Role::Planner, prompt);
        Self { answer, author, critic: None, step, mismatch: reply.mismatch, checks }
    }

    /// Has the latest plan repaired where its schema asks for that. Why it still does not match.
    async fn conform<S: Steps>(&mut self, run: &Run<'_, S>, steps: &mut Vec<StepRecord>) -> Option<ProviderFailure> {
        let (step, role, question) = self.step.clone();
        let draft = conform::Draft {
            step,
            role,
            author: self.author.clone(),
            question,
            form: ReplyForm::Text,
            content: self.latest().clone(),
            mismatch: self.mismatch.take(),
        };
        let Conformed { content, failure } = conform::conform(run, draft, steps).await;
        match self.answer.rounds.last_mut() {
            Some(round) => round.refined_plan = content,
            None => self.answer.initial_plan = content,
        }
        failure
    }

    fn latest(&self) -> &Text {
        self.answer.rounds.last().map_or(&self.answer.initial_plan, |round| &round.refined_plan)
    }

    fn model(&self) -> ModelId {
        self.author.deployment.model.clone()
    }
}

/// All rounds, or as many as are needed and succeed.
async fn rounds<S: Steps>(
    run: &Run<'_, S>,
    spec: &AdversarialSpec,
    draft: &mut Draft,
    (planners, critics): (&[Candidate], &[Candidate]),
    steps: &mut Vec<StepRecord>,
) -> Result<StopReason, ProviderFailure> {
    let original = &spec.base.original;
    for round in 1..=spec.rounds {
        let asked = draft.critic.as_ref().map_or_else(|| critics.to_vec(), |critic| preferring(critic, critics));
        let prompt = prompts::critique(original, draft.latest(), draft.checks.latest());
        let critique = put(run, StepId::new(format!("critique/{round}")), Role::Critic, asked, prompt, steps).await?;
        draft.critic = Some(critique.author);
        let critique = critique.reply.content;
        draft.answer.unanswered_critique = Some(critique.clone());

        let prompt = prompts::revision(original, draft.latest(), &critique);
        let asked = preferring(&draft.author, planners);
        let step = StepId::new(format!("revision/{round}"));
        let revised = put(run, step.clone(), Role::Reviser, asked, prompt.clone(), steps).await?;
        let passed = draft.checks.pass(run, spec.check.as_ref(), &step, &revised).await;
        draft.author = revised.author;
        draft.step = (step, Role::Reviser, prompt);
        draft.mismatch = revised.reply.mismatch;
        draft.answer.unanswered_critique = None;
        draft.answer.rounds.push(AdversarialRound { critique, refined_plan: revised.reply.content });
        if passed? {
            return Ok(StopReason::CheckPassed);
        }
    }
    Ok(StopReason::MaxRounds)
}

async fn put<S: Steps>(
    run: &Run<'_, S>,
    step: StepId,
    role: Role,
    candidates: Vec<Candidate>,
    prompt: Prompt,
    steps: &mut Vec<StepRecord>,
) -> Result<Answered, ProviderFailure> {
    let asked = ask(run, Ask { step, role, candidates, prompt, form: ReplyForm::Text }).await;
    steps.push(asked.record);
    asked.result
}
