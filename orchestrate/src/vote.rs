//! Distinct models answer the same question at once, and one answer is chosen, by a judge or by majority.
//!
//! A failed voter is missing from the ballot and marks the run as partial; a refusal is an abstention and does not. One
//! answer needs no choice. A judge without a verdict, dead or unreadable, leaves the choice to the majority of the
//! normalised answers, the first voter on a tie, and marks the run as partial. With a check the first answer that passes is
//! chosen, and nobody else is needed.

use tokenhub_domain::{
    Answer, Ballot, Candidate, ModelId, Outcome, ProviderFailure, Role, RoutingProfile, ShortlistWish, StepRecord,
    StopReason, VoteAnswer, VoteDecision, VoteMethod, VoteSpec,
};

use crate::{
    Steps,
    ballots::{Collected, Fanout, Grace, collect},
    conform::settle,
    ending::Ending,
    judging::{Judged, Shown, judge},
    lineup::{self, Bench, Lineup, author_wishes, judge_wish, kin_of},
    program::{Run, Unselected},
    prompts, tally, verdict,
};

/// The stable name of the program.
pub(crate) const ROUTING_REASON: &str = "vote-orchestration";
/// The same when there was nothing to choose from.
const SINGLE_RESPONSE: &str = "vote-single-response";

pub(crate) async fn run<S: Steps>(run: &Run<'_, S>, spec: &VoteSpec) -> Result<Outcome, Unselected> {
    let Lineup { authors, judges } = select(run, spec).await?;
    let min_success = spec.min_success.unwrap_or_default();
    if authors.len() < usize::try_from(min_success).unwrap_or(usize::MAX) {
        return Ok(Ending::too_few(run).outcome(ROUTING_REASON, None, None, Vec::new()));
    }
    let mut collected = collect(run, Role::Voter, "ballot", authors, fanout(spec)).await;
    let answered = u32::try_from(collected.ballots.len()).unwrap_or(u32::MAX);
    if answered < min_success.max(1) && collected.passed.is_none() {
        let failure = collected.fatal_failure();
        return Ok(Ending::failed(run, failure).outcome(ROUTING_REASON, None, None, collected.steps));
    }
    let tally = tally::tally(collected.ballots.iter().map(|ballot| &ballot.content));
    let tally = match spec.method {
        VoteMethod::Judge | VoteMethod::Majority => tally,
        VoteMethod::Weighted => tally::by_weight(tally, &collected.weights()),
    };
    let choice = choose(run, spec, &collected, judges, &tally).await;
    collected.steps.extend(choice.steps);
    let (reason, stop_reason) = match choice.decision {
        VoteDecision::SingleAnswer => (SINGLE_RESPONSE, StopReason::SingleAnswer),
        VoteDecision::Check => (ROUTING_REASON, StopReason::CheckPassed),
        VoteDecision::Judge | VoteDecision::JudgeRepaired | VoteDecision::JudgeFailed | VoteDecision::Majority => {
            (ROUTING_REASON, StopReason::Decided)
        }
    };
    let mismatch = collected.conform(run, Role::Voter, choice.selected).await;
    let ending = Ending::of(run, collected.decisive_failure(choice.failure), stop_reason);
    let settled = settle(run, mismatch, ending);
    let model = collected.ballots.get(choice.selected).map(|ballot| ballot.model.clone());
    let answer = Answer::Vote(VoteAnswer {
        ballots: collected.ballots,
        selected: choice.selected,
        method: spec.method,
        decision: choice.decision,
        judge: choice.judge,
        tally,
        calls_avoided: collected.avoided,
        calls_withdrawn: collected.withdrawn,
    });
    Ok(settled.ending.outcome(reason, model, settled.is_kept.then_some(answer), collected.steps))
}

fn fanout(spec: &VoteSpec) -> Fanout<'_> {
    let voters =
        if spec.models.is_empty() { spec.voters } else { u32::try_from(spec.models.len()).unwrap_or(u32::MAX) };
    let quorum = spec.min_success.unwrap_or(voters / 2 + 1);
    Fanout {
        parallelism: spec.parallelism,
        stop: spec.stop,
        check: spec.check.as_ref(),
        min_success: spec.min_success.unwrap_or_default(),
        grace: spec.grace_ms.map(|millis| Grace { quorum, millis }),
    }
}

async fn select<S: Steps>(run: &Run<'_, S>, spec: &VoteSpec) -> Result<Lineup, Unselected> {
    let count = usize::try_from(spec.voters).unwrap_or(usize::MAX);
    let voter = ShortlistWish {
        profile: RoutingProfile::Normal,
        model: None,
        min_weight: spec.voter_min_weight,
        needs: spec.base.needs.clone(),
        apart_from: None,
    };
    let mut wishes = author_wishes(&spec.models, voter);
    let bench = match (spec.method, spec.judge_votes, &spec.judge_model) {
        (VoteMethod::Majority | VoteMethod::Weighted, _, _) | (VoteMethod::Judge, true, _) => Bench::MayVote,
        (VoteMethod::Judge, false, Some(_)) => Bench::Named,
        (VoteMethod::Judge, false, None) => Bench::Unnamed,
    };
    let is_judged = spec.method == VoteMethod::Judge;
    if is_judged {
        let judge = (spec.judge_model.as_ref(), spec.judge_min_weight);
        wishes.push(judge_wish(RoutingProfile::HighConfidence, judge, kin_of(&spec.models, spec.voters)));
    }
    let mut lists = run.select_each(wishes).await?;
    let judges = if is_judged { lists.pop().unwrap_or_default().candidates } else { Vec::new() };
    if !spec.models.is_empty() {
        return Ok(lineup::of_named(lists, judges, bench));
    }
    let voters = lists.pop().unwrap_or_default();
    Ok(lineup::for_vote(voters.candidates, judges, count, bench))
}

/// The chosen answer and how it was chosen.
struct Choice {
    selected: usize,
    decision: VoteDecision,
    judge: Option<ModelId>,
    steps: Vec<StepRecord>,
    failure: Option<ProviderFailure>,
}

impl Choice {
    fn without_judge(selected: usize, decision: VoteDecision) -> Self {
        Self { selected, decision, judge: None, steps: Vec::new(), failure: None }
    }
}

async fn choose<S: Steps>(
    run: &Run<'_, S>,
    spec: &VoteSpec,
    collected: &Collected,
    judges: Vec<Candidate>,
    tally: &[Vec<usize>],
) -> Choice {
    let ballots: &[Ballot] = &collected.ballots;
    if let Some(passed) = collected.passed {
        return Choice::without_judge(passed, VoteDecision::Check);
    }
    if ballots.len() == 1 {
        return Choice::without_judge(0, VoteDecision::SingleAnswer);
    }
    match spec.method {
        VoteMethod::Majority | VoteMethod::Weighted => {
            Choice::without_judge(tally::elected(tally), VoteDecision::Majority)
        }
        VoteMethod::Judge => {
            let shown = Shown::of(run, ballots);
            let question = prompts::verdict(&spec.base.original, &shown.texts());
            let read = |reply: &str| verdict::winner(reply, ballots.len());
            let Judged { verdict, decision, judge, steps, failure } = judge(run, question, judges, read).await;
            let selected = verdict.map_or_else(|| tally::elected(tally), |place| shown.index_at(place));
            Choice { selected, decision, judge, steps, failure }
        }
    }
}
