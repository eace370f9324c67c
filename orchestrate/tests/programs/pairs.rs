//! A best-of-n whose candidates are compared in pairs, each pair in both orders.
//!
//! What a judge says is scripted by the bracket that the run's id gives, so whole distributions of judges are played
//! through the program, weighted by their probability, without sampling.

use std::collections::BTreeMap;

use tokenhub_domain::{Answer, BestOfNAnswer, ErrorClass, MatchResult, Outcome, PlanSpec, RankMethod, RunStatus};
use tokenhub_orchestrate::ballot_order;

use crate::script::{Play, RUN_ID, Scripted, best_of_n, permutations};

const MODELS: [&str; 9] = ["a", "b", "c", "d", "e", "f", "g", "h", "judge-model"];
const STEPS: [[&str; 2]; 7] = [
    ["judge/1/ab", "judge/1/ba"],
    ["judge/2/ab", "judge/2/ba"],
    ["judge/3/ab", "judge/3/ba"],
    ["judge/4/ab", "judge/4/ba"],
    ["judge/5/ab", "judge/5/ba"],
    ["judge/6/ab", "judge/6/ba"],
    ["judge/7/ab", "judge/7/ba"],
];

fn pairwise(candidates: usize) -> PlanSpec {
    let mut spec = best_of_n(u32::try_from(candidates).unwrap());
    spec.method = RankMethod::Pairwise;
    spec.judge_model = Some("judge-model".into());
    PlanSpec::BestOfN(spec)
}

fn best(outcome: &Outcome) -> &BestOfNAnswer {
    match &outcome.answer {
        Some(Answer::BestOfN(answer)) => answer,
        other => panic!("no best-of-n: {other:?}"),
    }
}

/// Plays the bracket with a judge that says for each match, of its two candidates in order, which of them is better.
fn played(candidates: usize, mut better: impl FnMut(usize, usize, usize) -> usize) -> Outcome {
    let mut standing = ballot_order(&RUN_ID.into(), candidates);
    let mut script: BTreeMap<&'static str, [Play; 1]> = BTreeMap::new();
    let mut number = 0;
    while standing.len() > 1 {
        let mut next = Vec::new();
        for pair in standing.chunks(2) {
            let [one, other] = *pair else {
                next.push(pair[0]);
                continue;
            };
            let (left, right) = (one.min(other), one.max(other));
            let winner = better(number, left, right);
            let (ab, ba) = if winner == left { ("1", "2") } else { ("2", "1") };
            script.insert(STEPS[number][0], [Play::Says(ab)]);
            script.insert(STEPS[number][1], [Play::Says(ba)]);
            next.push(winner);
            number += 1;
        }
        standing = next;
    }
    let script: Vec<(&'static str, &[Play])> = script.iter().map(|(step, plays)| (*step, &plays[..])).collect();
    let outcome = Scripted::new(&MODELS, &script).play(pairwise(candidates));
    assert_eq!(best(&outcome).selected, standing[0]);
    assert_eq!(outcome.usage.calls as usize, candidates + 2 * (candidates - 1));
    outcome
}

#[test]
fn a_judge_that_is_never_wrong_finds_the_strongest_of_any_number() {
    for candidates in 2..=5 {
        for strength in permutations(&(0..candidates).collect::<Vec<_>>()) {
            let strongest = strength.iter().position(|it| *it == candidates - 1).unwrap();
            let outcome =
                played(candidates, |_, left, right| if strength[left] > strength[right] { left } else { right });
            assert_eq!(best(&outcome).selected, strongest, "{strength:?}");
            assert_eq!(outcome.status, RunStatus::Completed);
            assert!(best(&outcome).matches.iter().all(|one| one.result == MatchResult::Agreed));
        }
    }
}

#[test]
fn one_best_of_two_four_and_eight_wins_as_often_as_the_judge_is_right_in_every_round() {
    let q = 0.8_f64;
    for (candidates, expected) in [(2_usize, 0.8), (4, 0.64), (8, 0.512)] {
        let mut chance = 0.0;
        for bits in 0_u32..1 << (candidates - 1) {
            // Candidate 0 is the best one, and of two others any may be called better.
            let is_right = |number: usize| bits >> number & 1 == 1;
            let better = |number: usize, left: usize, right: usize| match (left, right, is_right(number)) {
                (0, other, false) | (other, 0, false) => other,
                (0, _, true) | (_, 0, true) => 0,
                (left, _, true) => left,
                (_, right, false) => right,
            };
            if best(&played(candidates, better)).selected == 0 {
                let right = i32::try_from(bits.count_ones()).unwrap();
                chance += q.powi(right) * (1.0 - q).powi(i32::try_from(candidates).unwrap() - 1 - right);
            }
        }
        assert!((chance - expected).abs() < 1e-9, "{candidates}: {chance}");
    }
}

#[test]
fn a_judge_that_prefers_the_first_place_is_caught_by_the_swap() {
    let q = 0.9;
    for (b, expected) in [(0.2, [0.6624, 0.0224, 0.3152]), (0.35, [0.547, 0.027, 0.426]), (1.0, [0.0, 0.0, 1.0])] {
        let first = 0;
        // The good candidate is shown first in the order `ab`; how likely it is named in each order.
        let named = [b + (1.0 - b) * q, (1.0 - b) * q];
        let mut sums = [0.0; 3];
        for (ab, ba) in [(true, true), (true, false), (false, true), (false, false)] {
            let chance = [(ab, named[0]), (ba, named[1])]
                .map(|(good, p)| if good { p } else { 1.0 - p })
                .iter()
                .product::<f64>();
            let says = [[Play::Says(if ab { "1" } else { "2" })], [Play::Says(if ba { "2" } else { "1" })]];
            let steps = Scripted::new(&MODELS, &[(STEPS[0][0], &says[0]), (STEPS[0][1], &says[1])]);
            let outcome = steps.play(pairwise(2));
            let answer = best(&outcome);
            let place = match (answer.matches[0].result, answer.selected == first) {
                (MatchResult::Agreed, true) => 0,
                (MatchResult::Agreed, false) => 1,
                (MatchResult::Flipped, _) => {
                    assert_eq!(answer.selected, 0, "the earlier candidate wins a tie");
                    2
                }
                other => panic!("{other:?}"),
            };
            sums[place] += chance;
        }
        for (sum, expected) in sums.iter().zip(expected) {
            assert!((sum - expected).abs() < 6e-4, "{b}: {sums:?}");
        }
    }
}

#[test]
fn one_order_is_enough_and_none_is_a_partial_run_that_the_earlier_candidate_wins() {
    let steps = Scripted::new(
        &MODELS,
        &[("judge/1/ab", &[Play::Fails(ErrorClass::BadRequest)]), ("judge/1/ba", &[Play::Says("1")])],
    );
    let outcome = steps.play(pairwise(2));
    let second = 1;
    assert_eq!((best(&outcome).matches[0].result, best(&outcome).selected), (MatchResult::OneOrder, second));
    assert_eq!(outcome.status, RunStatus::CompletedPartial);

    let rubbish = [Play::Says("hm"), Play::Says("still")];
    let steps = Scripted::new(
        &MODELS,
        &[
            ("judge/1/ab", &rubbish[..1]),
            ("judge/1/ab/repair", &rubbish[1..]),
            ("judge/1/ba", &rubbish[..1]),
            ("judge/1/ba/repair", &rubbish[1..]),
        ],
    );
    let outcome = steps.play(pairwise(2));
    assert_eq!((best(&outcome).matches[0].result, best(&outcome).selected), (MatchResult::Undecided, 0));
    assert_eq!((outcome.status, outcome.usage.calls), (RunStatus::CompletedPartial, 6));
}
