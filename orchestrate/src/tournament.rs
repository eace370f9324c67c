//! Pairs of answers, each judged in both orders, until one answer is left.
//!
//! Judges prefer places, so a verdict counts only when it survives the swap: where the two verdicts name different
//! answers, the match is a tie, and the earlier candidate goes on. A single-elimination bracket over the run's own order
//! needs 2 (n - 1) verdicts. Owns bracket and tie rule; must not know who wrote what.

use tokenhub_domain::{Ballot, Candidate, Match, MatchResult, ModelId, ProviderFailure, StepRecord, VoteDecision};

use crate::{
    Completions, Steps,
    judging::{Judged, Shown, judge_as},
    program::Run,
    prompts, verdict,
};

/// What the matches came to.
pub(crate) struct Tournament {
    /// The ballot that won.
    pub(crate) winner: usize,
    /// In the order in which they were played.
    pub(crate) matches: Vec<Match>,
    /// How the decision is to be called: as the worst of its verdicts.
    pub(crate) decision: VoteDecision,
    /// The model that judged last.
    pub(crate) judge: Option<ModelId>,
    /// The judge's steps.
    pub(crate) steps: Vec<StepRecord>,
    /// Why a verdict is missing.
    pub(crate) failure: Option<ProviderFailure>,
}

/// Plays `ballots` against each other. The pairs of a round are judged at the same time.
pub(crate) async fn play<S: Steps>(run: &Run<'_, S>, ballots: &[Ballot], judges: &[Candidate]) -> Tournament {
    let mut tournament = Tournament {
        winner: 0,
        matches: Vec::new(),
        decision: VoteDecision::Judge,
        judge: None,
        steps: Vec::new(),
        failure: None,
    };
    let mut standing = Shown::of(run, ballots).indexes().to_vec();
    while standing.len() > 1 {
        standing = round(run, ballots, judges, &standing, &mut tournament).await;
    }
    tournament.winner = standing.first().copied().unwrap_or(0);
    tournament
}

/// One round; who has no opponent goes on.
async fn round<S: Steps>(
    run: &Run<'_, S>,
    ballots: &[Ballot],
    judges: &[Candidate],
    standing: &[usize],
    tournament: &mut Tournament,
) -> Vec<usize> {
    let begun = tournament.matches.len();
    // Each pair is shown in both orders, so which of the two comes first needs no chance.
    let pairs: Vec<(usize, usize)> =
        standing.chunks_exact(2).map(|pair| (pair[0].min(pair[1]), pair[0].max(pair[1]))).collect();
    // Both orders of every pair: an even place is the pair as it stands, an odd one swapped.
    let verdicts = pairs.iter().enumerate().flat_map(|(place, (left, right))| {
        let number = begun + place + 1;
        [(*left, *right, "ab"), (*right, *left, "ba")].map(|(first, second, order)| {
            let texts = [&ballots[first].content, &ballots[second].content];
            let question = prompts::verdict(&run.base.original, &texts);
            let step = format!("judge/{number}/{order}");
            async move {
                let read = |reply: &str| verdict::winner(reply, 2).map(|winner| [first, second][winner]);
                judge_as(run, &step, question, judges.to_vec(), read).await
            }
        })
    });
    let mut said: Vec<Option<Judged<usize>>> = pairs.iter().flat_map(|_| [None, None]).collect();
    let mut completions = Completions::new(verdicts);
    while let Some((place, judged)) = completions.next().await {
        if let Some(slot) = said.get_mut(place) {
            *slot = Some(judged);
        }
    }
    let mut winners = Vec::with_capacity(standing.len().div_ceil(2));
    for ((left, right), both) in pairs.into_iter().zip(said.chunks_mut(2)) {
        let mut named = [None, None];
        for (slot, judged) in named.iter_mut().zip(both.iter_mut().filter_map(Option::take)) {
            *slot = judged.verdict;
            note(tournament, judged);
        }
        let (winner, result) = decide((left, right), named);
        tournament.matches.push(Match { left, right, winner, result });
        winners.push(winner);
    }
    winners.extend(standing.chunks_exact(2).remainder());
    winners
}

/// Who goes on, by the verdicts in both orders.
fn decide((left, right): (usize, usize), said: [Option<usize>; 2]) -> (usize, MatchResult) {
    let earlier = left.min(right);
    match said {
        [Some(one), Some(other)] if one == other => (one, MatchResult::Agreed),
        [Some(_), Some(_)] => (earlier, MatchResult::Flipped),
        [Some(only), None] | [None, Some(only)] => (only, MatchResult::OneOrder),
        [None, None] => (earlier, MatchResult::Undecided),
    }
}

fn note(tournament: &mut Tournament, judged: Judged<usize>) {
    let rank = |decision: VoteDecision| match decision {
        VoteDecision::Judge | VoteDecision::Majority | VoteDecision::SingleAnswer | VoteDecision::Check => 0,
        VoteDecision::JudgeRepaired => 1,
        VoteDecision::JudgeFailed => 2,
    };
    if rank(judged.decision) > rank(tournament.decision) {
        tournament.decision = judged.decision;
    }
    tournament.judge = judged.judge.or(tournament.judge.take());
    tournament.steps.extend(judged.steps);
    tournament.failure = tournament.failure.take().or(judged.failure);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_verdict_that_survives_the_swap_is_one() {
        assert_eq!(decide((3, 1), [Some(3), Some(3)]), (3, MatchResult::Agreed));
        assert_eq!(decide((3, 1), [Some(3), Some(1)]), (1, MatchResult::Flipped), "the earlier candidate");
        assert_eq!(decide((3, 1), [None, Some(3)]), (3, MatchResult::OneOrder));
        assert_eq!(decide((3, 1), [None, None]), (1, MatchResult::Undecided));
    }
}
