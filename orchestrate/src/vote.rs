//! Distinct models answer the same question at once, and one answer is chosen, by a judge or by majority.
//!
//! A failed voter is missing from the ballot and marks the run as partial; a refusal is an abstention and does not. One
//! answer needs no choice. A judge without a verdict, dead or unreadable, leaves the choice to the majority of the
//! normalised answers, the first voter on a tie, and marks the run as partial.

use tokenhub_domain::{
    Answer, Ballot, Candidate, ModelId, Outcome, ProviderFailure, Role, RoutingProfile, ShortlistWish, StepRecord,
    StopReason, VoteAnswer, VoteDecision, VoteMethod, VoteSpec,
};

use crate::{
    Steps,
    ballots::{Collected, Fanout, collect},
    conform::settle,
    ending::Ending,
    judging::{Judged, Shown, judge},
    lineup::{self, Bench, Lineup},
    program::{Run, Unselected},
    prompts, tally, verdict,
};

/// The stable name of the program.
pub(crate) const ROUTING_REASON: &str = "vote-orchestration";
/// The same when there was nothing to choose from.
const SINGLE_RESPONSE: &str = "vote-single-response";

pub(crate) async fn run<S: Steps>(run: &Run<'_, S>, spec: &VoteSpec) -> Result<Outcome, Unselected> {
    let Lineup { authors, judges } = select(run, spec).await?;
    let fanout = Fanout { parallelism: spec.parallelism, stop: spec.stop };
    let mut collected = collect(run, Role::Voter, "ballot", authors, fanout).await;
    if collected.ballots.is_empty() {
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

async fn select<S: Steps>(run: &Run<'_, S>, spec: &VoteSpec) -> Result<Lineup, Unselected> {
    let wished = usize::try_from(spec.voters).unwrap_or(usize::MAX);
    let voters = ShortlistWish {
        profile: RoutingProfile::Normal,
        model: None,
        min_weight: spec.voter_min_weight,
        needs: spec.base.needs.clone(),
    };
    let judge = ShortlistWish {
        profile: RoutingProfile::HighConfidence,
        model: spec.judge_model.clone(),
        min_weight: spec.judge_min_weight,
        needs: Vec::new(),
    };
    let bench = match (spec.judge_votes, &spec.judge_model) {
        (true, _) => Bench::MayVote,
        (false, Some(_)) => Bench::Named,
        (false, None) => Bench::Unnamed,
    };
    match spec.method {
        VoteMethod::Judge => {
            let [voters, judges] = run.select([voters, judge]).await?;
            Ok(lineup::for_vote(voters.candidates, judges.candidates, wished, bench))
        }
        VoteMethod::Majority | VoteMethod::Weighted => {
            let [voters] = run.select([voters]).await?;
            Ok(lineup::for_vote(voters.candidates, Vec::new(), wished, Bench::MayVote))
        }
    }
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
