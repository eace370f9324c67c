//! What speaks for and against a judge: verdicts that changed with the order, ties, and relatives among the authors.

use serde_json::{Value, json};
use tokenhub_domain::{
    Answer, Ballot, BestOfNAnswer, CascadeAnswer, Checked, FuseAnswer, MatchResult, ModelId, Outcome, Role, Verdict,
    VoteAnswer, family_of,
};

/// The report about the judge of `outcome`, where there was one.
pub(super) fn judge_report(outcome: &Outcome) -> Option<Value> {
    let (judge, authors) = match outcome.answer.as_ref()? {
        Answer::Vote(VoteAnswer { judge, ballots, .. })
        | Answer::BestOfN(BestOfNAnswer { judge, candidates: ballots, .. }) => (judge.as_ref(), models_of(ballots)),
        Answer::Fuse(FuseAnswer { judge, panel, .. }) => (judge.as_ref(), models_of(panel)),
        Answer::Cascade(CascadeAnswer { stages, .. }) => {
            let mut judges = outcome.steps.iter().filter(|step| step.role == Role::Judge);
            (
                judges.next_back().and_then(|step| step.model.as_ref()),
                stages.iter().filter_map(|it| it.model.as_ref()).collect(),
            )
        }
        Answer::Chat { .. } | Answer::Adversarial(_) | Answer::Refine(_) => return None,
    };
    let judge = judge?;
    let family = family_of(judge);
    let mut relatives: Vec<&ModelId> = Vec::new();
    for author in authors {
        if family_of(author) == family && !relatives.contains(&author) {
            relatives.push(author);
        }
    }
    let (order_flips, ties) = counts(outcome.answer.as_ref()?);
    Some(json!({
        "judge": judge,
        "family": family,
        "same_family": relatives,
        "order_flips": order_flips,
        "ties": ties,
    }))
}

fn models_of(ballots: &[Ballot]) -> Vec<&ModelId> {
    ballots.iter().map(|ballot| &ballot.model).collect()
}

/// Pairs in which the order decided, and answers that the judge could not tell apart; neither where it was asked for nothing
/// of the kind.
fn counts(answer: &Answer) -> (Option<usize>, Option<usize>) {
    let Answer::BestOfN(answer) = answer else { return (None, None) };
    if !answer.matches.is_empty() {
        let of = |result| answer.matches.iter().filter(|one| one.result == result).count();
        let flips = of(MatchResult::Flipped);
        return (Some(flips), Some(flips + of(MatchResult::Undecided)));
    }
    let scores = || answer.candidates.iter().filter_map(|candidate| candidate.score);
    let highest = scores().max();
    let ties = highest.map(|highest| scores().filter(|score| *score == highest).count().saturating_sub(1));
    (None, ties)
}

/// What a check said about an answer.
pub(super) fn verdict(verdict: &Verdict) -> Value {
    json!({
        "passed": verdict.passed,
        "score": verdict.score,
        "feedback": verdict.feedback,
        "check_error": verdict.error,
    })
}

/// What was said about the last answer, and about each.
pub(super) fn checks(checks: &[Checked]) -> Option<(Value, Value)> {
    let shown = |checked: &Checked| {
        let mut object = verdict(&checked.verdict);
        object["step"] = json!(checked.step);
        object["model"] = json!(checked.model);
        object
    };
    let last = shown(checks.last()?);
    Some((last, checks.iter().map(shown).collect()))
}
