//! N candidates written at once; a judge scores all of them in one call, or compares them in pairs.
//!
//! With fewer models than candidates, models write several, each in a step of its own. The first candidate wins a tie,
//! and wins when the judge gives no scores; the run is then partial and says so. One answer needs no scores. With a check
//! the first candidate that passes is the best, and only when nobody does a judge is asked.

use tokenhub_domain::{
    Answer, BestOfNAnswer, BestOfNSpec, Candidate, Outcome, ProviderFailure, RankMethod, Role, RoutingProfile,
    ShortlistWish, StepRecord, StopReason, StopRule, VoteDecision,
};

use crate::{
    Steps,
    ballots::{Fanout, collect},
    conform::settle,
    ending::Ending,
    judging::{Judged, Shown, judge},
    lineup::{self, Bench, Lineup, author_wishes, judge_wish, kin_of},
    program::{Run, Unselected},
    prompts, tournament, verdict,
};

/// The stable name of the program.
pub(crate) const ROUTING_REASON: &str = "best-of-n-orchestration";

pub(crate) async fn run<S: Steps>(run: &Run<'_, S>, spec: &BestOfNSpec) -> Result<Outcome, Unselected> {
    let Lineup { authors, judges } = select(run, spec).await?;
    let stop = if spec.check.is_some() { StopRule::FirstPass } else { StopRule::All };
    let fanout = Fanout { parallelism: spec.parallelism, stop, check: spec.check.as_ref(), ..Fanout::default() };
    let mut collected = collect(run, Role::Candidate, "candidate", authors, fanout).await;
    if collected.ballots.is_empty() {
        let failure = collected.fatal_failure();
        return Ok(Ending::failed(run, failure).outcome(ROUTING_REASON, None, None, collected.steps));
    }
    let mut answer = BestOfNAnswer {
        candidates: collected.ballots.clone(),
        selected: 0,
        decision: VoteDecision::SingleAnswer,
        judge: None,
        matches: Vec::new(),
        calls_avoided: collected.avoided,
        calls_withdrawn: collected.withdrawn,
    };
    let mut judge_failure = None;
    let mut stop_reason = StopReason::SingleAnswer;
    if let Some(passed) = collected.passed {
        (answer.selected, answer.decision) = (passed, VoteDecision::Check);
        stop_reason = StopReason::CheckPassed;
    } else if collected.ballots.len() > 1 {
        let (steps, failure) = match spec.method {
            RankMethod::Scored => score(run, spec, judges, &mut answer).await,
            RankMethod::Pairwise => compare(run, &judges, &mut answer).await,
        };
        collected.steps.extend(steps);
        judge_failure = failure;
        stop_reason = StopReason::Decided;
    }
    let mismatch = collected.conform(run, Role::Candidate, answer.selected).await;
    if let (Some(shown), Some(repaired)) =
        (answer.candidates.get_mut(answer.selected), collected.ballots.get(answer.selected))
    {
        shown.content.clone_from(&repaired.content);
    }
    let model = answer.candidates.get(answer.selected).map(|candidate| candidate.model.clone());
    let ending = Ending::of(run, collected.decisive_failure(judge_failure), stop_reason);
    let settled = settle(run, mismatch, ending);
    let answer = settled.is_kept.then_some(Answer::BestOfN(answer));
    Ok(settled.ending.outcome(ROUTING_REASON, model, answer, collected.steps))
}

/// What a judge took, and why it gave no verdict.
type JudgedSteps = (Vec<StepRecord>, Option<ProviderFailure>);

async fn score<S: Steps>(
    run: &Run<'_, S>,
    spec: &BestOfNSpec,
    judges: Vec<Candidate>,
    answer: &mut BestOfNAnswer,
) -> JudgedSteps {
    let candidates = answer.candidates.clone();
    let shown = Shown::of(run, &candidates);
    let question = prompts::scores(&spec.base.original, &shown.texts());
    let read = |reply: &str| verdict::scores(reply, candidates.len());
    let Judged { verdict, decision, judge, steps, failure } = judge(run, question, judges, read).await;
    if let Some(by_place) = verdict {
        let by_place: Vec<u32> = by_place;
        apply(answer, &shown.by_ballot(&by_place));
    }
    (answer.decision, answer.judge) = (decision, judge);
    (steps, failure)
}

async fn compare<S: Steps>(run: &Run<'_, S>, judges: &[Candidate], answer: &mut BestOfNAnswer) -> JudgedSteps {
    let played = tournament::play(run, &answer.candidates, judges).await;
    answer.selected = played.winner;
    answer.matches = played.matches;
    (answer.decision, answer.judge) = (played.decision, played.judge);
    (played.steps, played.failure)
}

async fn select<S: Steps>(run: &Run<'_, S>, spec: &BestOfNSpec) -> Result<Lineup, Unselected> {
    let author = ShortlistWish {
        profile: RoutingProfile::Normal,
        model: spec.primary_model.clone(),
        min_weight: spec.primary_min_weight,
        needs: spec.base.needs.clone(),
        apart_from: None,
    };
    let mut wishes = author_wishes(&spec.models, author);
    let judge = (spec.judge_model.as_ref(), spec.judge_min_weight);
    wishes.push(judge_wish(RoutingProfile::HighConfidence, judge, kin_of(&spec.models, spec.candidates)));
    let bench = if spec.judge_model.is_some() { Bench::Named } else { Bench::Unnamed };
    let mut lists = run.select_each(wishes).await?;
    let judges = lists.pop().unwrap_or_default().candidates;
    if !spec.models.is_empty() {
        return Ok(lineup::of_named(lists, judges, bench));
    }
    let authors = lists.pop().unwrap_or_default();
    let count = usize::try_from(spec.candidates).unwrap_or(usize::MAX);
    Ok(lineup::for_best_of_n(authors.candidates, judges, count, bench))
}

/// Writes the scores down and selects the first of the highest.
fn apply(answer: &mut BestOfNAnswer, scores: &[u32]) {
    for (candidate, score) in answer.candidates.iter_mut().zip(scores) {
        candidate.score = Some(*score);
    }
    let highest = scores.iter().max();
    answer.selected = scores.iter().position(|score| Some(score) == highest).unwrap_or(0);
}
