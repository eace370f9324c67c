//! Who answers and who judges: pure choices from the shortlists.
//!
//! Owns the rules:
//! * each author is a model; its other deployments are its failover, never another author;
//! * a named judge leaves the ballot unless it is asked to vote, or would leave nobody on it (a single answer is never
//!   judged);
//! * an unnamed judge of a vote is the best of the judges' list that does not vote. When all of them vote and three or
//!   more models are eligible, the lowest-ranked voter that may judge does so instead, and the voters come from the rest;
//!   with two, both vote and the best of the judges' list judges, its own answer among the ballots, unnamed and shuffled.

use tokenhub_domain::{Candidate, Kin, ModelChoice, ModelId, RoutingProfile, Shortlist, ShortlistWish};

/// With this many models one can judge and still leave a ballot of two.
const MODELS_TO_SPARE: usize = 3;

/// Authors, each with its deployments, and the judge's candidates, best first.
#[derive(Debug, PartialEq)]
pub(crate) struct Lineup {
    pub(crate) authors: Vec<Vec<Candidate>>,
    pub(crate) judges: Vec<Candidate>,
}

/// What a judge is looked for by: one who is named, or else one who is better no relative of the authors.
pub(crate) fn judge_wish(profile: RoutingProfile, judge: (Option<&ModelChoice>, u32), authors: Kin) -> ShortlistWish {
    let (model, min_weight) = judge;
    let apart_from = model.is_none().then_some(authors);
    ShortlistWish { profile, model: model.cloned(), min_weight, needs: Vec::new(), apart_from }
}

/// A wish for each of `models`, or one for as many as there are to be.
pub(crate) fn author_wishes(models: &[ModelChoice], any: ShortlistWish) -> Vec<ShortlistWish> {
    if models.is_empty() {
        return vec![any];
    }
    models.iter().map(|model| ShortlistWish { model: Some(model.clone()), ..any.clone() }).collect()
}

/// Those authors, to whoever judges them.
pub(crate) fn kin_of(models: &[ModelChoice], wished: u32) -> Kin {
    if models.is_empty() { Kin { wishes: 1, models: wished } } else { Kin { wishes: models.len(), models: 1 } }
}

/// Where a vote's judge comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bench {
    /// A named model that does not vote.
    Named,
    /// The best model that does not vote.
    Unnamed,
    /// Anyone on the judges' list, voters included.
    MayVote,
}

/// The deployments of each distinct model, in rank order.
pub(crate) fn by_model(shortlist: Vec<Candidate>) -> Vec<Vec<Candidate>> {
    let mut models: Vec<Vec<Candidate>> = Vec::new();
    for candidate in shortlist {
        match models.iter_mut().find(|deployments| model_of(deployments) == Some(&candidate.deployment.model)) {
            Some(deployments) => deployments.push(candidate),
            None => models.push(vec![candidate]),
        }
    }
    models
}

/// The lineup of a judged vote.
pub(crate) fn for_vote(voters: Vec<Candidate>, judges: Vec<Candidate>, wished: usize, bench: Bench) -> Lineup {
    let mut models = by_model(voters);
    match bench {
        Bench::MayVote => {
            models.truncate(wished);
            Lineup { authors: models, judges }
        }
        Bench::Named => {
            if models.iter().any(|model| !is_among(model, &judges)) {
                models.retain(|model| !is_among(model, &judges));
            }
            models.truncate(wished);
            Lineup { authors: models, judges }
        }
        Bench::Unnamed => with_unnamed_judge(models, judges, wished),
    }
}

fn with_unnamed_judge(mut models: Vec<Vec<Candidate>>, judges: Vec<Candidate>, wished: usize) -> Lineup {
    let voting = wished.min(models.len());
    let free = outside(&models[..voting], &judges);
    let spare = models[..voting].iter().rposition(|model| is_among(model, &judges));
    if let Some(spare) = spare
        && free.is_empty()
        && voting > 1
        && models.len() >= MODELS_TO_SPARE
    {
        let freed = models.remove(spare);
        models.truncate(wished);
        let judges = judges.into_iter().filter(|judge| model_of(&freed) == Some(&judge.deployment.model)).collect();
        return Lineup { authors: models, judges };
    }
    models.truncate(wished);
    Lineup { authors: models, judges: if free.is_empty() { judges } else { free } }
}

/// The lineup whose authors are named: each of `lists` is one. The judge is best a model that is none of them.
pub(crate) fn of_named(lists: Vec<Shortlist>, judges: Vec<Candidate>, bench: Bench) -> Lineup {
    let authors: Vec<Vec<Candidate>> = lists.into_iter().map(|list| list.candidates).collect();
    let free = match bench {
        Bench::Named | Bench::MayVote => Vec::new(),
        Bench::Unnamed => outside(&authors, &judges),
    };
    Lineup { authors, judges: if free.is_empty() { judges } else { free } }
}

/// The lineup of a best-of-n: `wished` candidates over the distinct models in turn. The judge is best a model that wrote
/// nothing; when all did, the best of the judges' list.
pub(crate) fn for_best_of_n(authors: Vec<Candidate>, judges: Vec<Candidate>, wished: usize, bench: Bench) -> Lineup {
    let models = by_model(authors);
    let authors: Vec<Vec<Candidate>> = models.iter().cycle().take(wished).cloned().collect();
    let free = match bench {
        Bench::Named | Bench::MayVote => Vec::new(),
        Bench::Unnamed => outside(&authors, &judges),
    };
    Lineup { authors, judges: if free.is_empty() { judges } else { free } }
}

fn outside(authors: &[Vec<Candidate>], judges: &[Candidate]) -> Vec<Candidate> {
    let is_author = |judge: &Candidate| authors.iter().any(|model| model_of(model) == Some(&judge.deployment.model));
    judges.iter().filter(|judge| !is_author(judge)).cloned().collect()
}

fn is_among(model: &[Candidate], judges: &[Candidate]) -> bool {
    judges.iter().any(|judge| model_of(model) == Some(&judge.deployment.model))
}

fn model_of(deployments: &[Candidate]) -> Option<&ModelId> {
    deployments.first().map(|candidate| &candidate.deployment.model)
}

#[cfg(test)]
mod tests {
    use tokenhub_domain::{Deployment, NanoDollars};

    use super::*;

    fn list(names: &str) -> Vec<Candidate> {
        names
            .split_whitespace()
            .map(|name| {
                let (model, provider) = name.split_once('@').unwrap_or((name, "p"));
                Candidate {
                    deployment: Deployment::new(model, provider),
                    max_context_tokens: None,
                    estimated_cost: NanoDollars(0),
                    weight: 5,
                }
            })
            .collect()
    }

    fn names(lineup: &Lineup) -> (String, String) {
        let show = |candidate: &Candidate| candidate.deployment.model.to_string();
        let authors: Vec<String> = lineup.authors.iter().map(|model| show(&model[0])).collect();
        let judges: Vec<String> = lineup.judges.iter().map(show).collect();
        (authors.join(" "), judges.join(" "))
    }

    #[test]
    fn deployments_of_one_model_are_one_author() {
        let models = by_model(list("a@p b@p a@q"));
        assert_eq!(models, [list("a@p a@q"), list("b@p")]);
    }

    #[test]
    fn the_lineup_of_a_vote() {
        for (voters, judges, wished, bench, expected) in [
            ("a b c d", "d c b a", 3, Bench::Unnamed, ("a b c", "d")),
            ("a b c d e", "d e a", 3, Bench::Unnamed, ("a b c", "d e")),
            ("a b c", "a b c", 3, Bench::Unnamed, ("a b", "c")),
            ("a b c", "a b", 3, Bench::Unnamed, ("a c", "b")),
            ("a b c", "a b c", 9, Bench::Unnamed, ("a b", "c")),
            ("a b c d", "a", 3, Bench::Unnamed, ("b c d", "a")),
            ("a b c", "a", 2, Bench::Unnamed, ("b c", "a")),
            ("a b c", "a", 1, Bench::Unnamed, ("a", "a")),
            ("a b", "b a", 3, Bench::Unnamed, ("a b", "b a")),
            ("a", "a", 3, Bench::Unnamed, ("a", "a")),
            ("a b c", "x", 3, Bench::Named, ("a b c", "x")),
            ("a b c", "b", 3, Bench::Named, ("a c", "b")),
            ("a b c d", "b", 3, Bench::Named, ("a c d", "b")),
            ("b", "b", 3, Bench::Named, ("b", "b")),
            ("a b c", "b", 3, Bench::MayVote, ("a b c", "b")),
        ] {
            let lineup = for_vote(list(voters), list(judges), wished, bench);
            assert_eq!(names(&lineup), (expected.0.to_owned(), expected.1.to_owned()), "{voters} / {judges} {bench:?}");
        }
    }

    #[test]
    fn candidates_go_round_the_models_and_the_judge_wrote_none_if_possible() {
        for (authors, judges, wished, bench, expected) in [
            ("a b", "c a b", 5, Bench::Unnamed, ("a b a b a", "c")),
            ("a b", "b a", 2, Bench::Unnamed, ("a b", "b a")),
            ("a b c", "c b a", 2, Bench::Unnamed, ("a b", "c")),
            ("a", "a", 3, Bench::Named, ("a a a", "a")),
        ] {
            let lineup = for_best_of_n(list(authors), list(judges), wished, bench);
            assert_eq!(names(&lineup), (expected.0.to_owned(), expected.1.to_owned()), "{authors} / {judges}");
        }
    }
}
