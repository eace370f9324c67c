//! A vote that stops when it is decided: who wins stays the same to the last script, and what it costs is exact.
//!
//! Every script of n voters is played through the program itself, weighted by its probability: no sampling, no tolerance
//! beyond rounding.

use tokenhub_domain::{Answer, Outcome, PlanSpec, RunStatus, StopRule, VoteMethod, VoteSpec};

use crate::script::{Play, Scripted, permutations, vote};

const MODELS: [&str; 9] = ["m1", "m2", "m3", "m4", "m5", "m6", "m7", "m8", "m9"];
const STEPS: [&str; 9] =
    ["ballot/1", "ballot/2", "ballot/3", "ballot/4", "ballot/5", "ballot/6", "ballot/7", "ballot/8", "ballot/9"];

fn majority(voters: usize, parallelism: Option<u32>, stop: StopRule) -> PlanSpec {
    let voters = u32::try_from(voters).unwrap();
    PlanSpec::Vote(VoteSpec { method: VoteMethod::Majority, parallelism, stop, ..vote(voters) })
}

/// Plays one script; what was said, by whom it was won, and how many were asked.
fn played(said: &[&'static str], spec: PlanSpec, order: &[&str]) -> (Outcome, usize) {
    let plays: Vec<[Play; 1]> = said.iter().map(|text| [Play::Says(text)]).collect();
    let script: Vec<(&'static str, &[Play])> = STEPS.into_iter().zip(plays.iter().map(|plays| &plays[..])).collect();
    let steps = Scripted::new(&MODELS[..said.len()], &script);
    let outcome = match steps.play_in(spec, order) {
        tokenhub_orchestrate::Finished::Outcome(outcome) => *outcome,
        tokenhub_orchestrate::Finished::ClaimLost => panic!("the claim was lost"),
    };
    let asked = steps.sent().len();
    (outcome, asked)
}

fn elected(outcome: &Outcome) -> String {
    match &outcome.answer {
        Some(Answer::Vote(answer)) => answer.ballots[answer.selected].content.as_inline().unwrap().to_owned(),
        other => panic!("no vote: {other:?}"),
    }
}

/// Scripts of right and wrong answers, with how many are right.
fn scripts(voters: usize) -> impl Iterator<Item = (Vec<&'static str>, i32)> {
    (0_u32..1 << voters).map(move |bits| {
        let said: Vec<_> = (0..voters).map(|voter| if bits >> voter & 1 == 1 { "right" } else { "wrong" }).collect();
        (said, i32::try_from(bits.count_ones()).unwrap())
    })
}

#[test]
fn one_at_a_time_the_accuracy_is_that_of_everybody_and_the_calls_are_as_computed() {
    // Binomial sums, by accuracy of a voter and number of voters: accuracy of the majority, expected calls.
    let table = [
        (0.55, [(3, 0.574_750, 2.4950), (5, 0.593_127, 4.1100), (7, 0.608_288, 5.7833)]),
        (0.7, [(3, 0.784_000, 2.4200), (5, 0.836_920, 3.8946), (7, 0.873_964, 5.3780)]),
        (0.9, [(3, 0.972_000, 2.1800), (5, 0.991_440, 3.3186), (7, 0.997_272, 4.4394)]),
    ];
    for (p, rows) in table {
        for (voters, accuracy, calls) in rows {
            let (mut right, mut asked) = (0.0, 0.0);
            for (said, good) in scripts(voters) {
                let bad = i32::try_from(voters).unwrap() - good;
                let chance = f64::powi(p, good) * f64::powi(1.0 - p, bad);
                let (outcome, calls) = played(&said, majority(voters, Some(1), StopRule::Decided), &[]);
                right += chance * f64::from(u8::from(elected(&outcome) == "right"));
                asked += chance * f64::from(u32::try_from(calls).unwrap());
            }
            assert!((right - accuracy).abs() < 5e-7, "p {p}, n {voters}: {right}");
            assert!((asked - calls).abs() < 5e-5, "p {p}, n {voters}: {asked} calls");
        }
    }
}

#[test]
fn stopping_never_changes_the_winner_whoever_answers_first() {
    for code in 0..3_u32.pow(5) {
        let said: Vec<&'static str> =
            (0..5).map(|voter| ["red", "green", "blue"][(code / 3_u32.pow(voter) % 3) as usize]).collect();
        let (whole, _) = played(&said, majority(5, None, StopRule::All), &[]);
        let winner = elected(&whole);
        // All orders of every script would be 29,160 runs at once and as many one at a time; a third of them is each.
        for order in permutations(&STEPS[..5]).into_iter().skip(code as usize % 3).step_by(3) {
            let (stopped, _) = played(&said, majority(5, None, StopRule::Decided), &order);
            assert_eq!(elected(&stopped), winner, "{said:?} in the order {order:?}");
            assert_eq!(stopped.status, RunStatus::Completed, "{said:?} in the order {order:?}");
        }
        for width in 1..=4 {
            let (stopped, asked) = played(&said, majority(5, Some(width), StopRule::Decided), &[]);
            assert_eq!(elected(&stopped), winner, "{said:?}, {width} at a time");
            let Some(Answer::Vote(answer)) = &stopped.answer else { panic!("no vote") };
            assert_eq!(asked + answer.calls_avoided as usize, 5, "{said:?}, {width} at a time");
        }
    }
}

#[test]
fn who_was_withdrawn_is_no_failure_and_is_counted() {
    let said = ["red", "red", "red", "blue", "blue"];
    let (outcome, asked) = played(&said, majority(5, None, StopRule::Decided), &["ballot/3", "ballot/1", "ballot/2"]);
    let Some(Answer::Vote(answer)) = &outcome.answer else { panic!("no vote") };
    assert_eq!((outcome.status, outcome.failure.is_none(), asked), (RunStatus::Completed, true, 5));
    assert_eq!((answer.ballots.len(), answer.calls_withdrawn, answer.calls_avoided), (3, 2, 0));
    let ids: Vec<&str> = outcome.steps.iter().map(|step| step.id.as_str()).collect();
    assert_eq!(ids, STEPS[..5], "who was called is told");
    assert_eq!(outcome.usage.calls, 5, "a withdrawn call was a call");
    // Two may still make three: nothing is decided.
    let (open, _) = played(&["red", "red", "blue", "blue", "blue"], majority(5, None, StopRule::Decided), &[]);
    let Some(Answer::Vote(answer)) = &open.answer else { panic!("no vote") };
    assert_eq!((elected(&open).as_str(), answer.calls_withdrawn), ("blue", 0));
}

#[test]
fn a_posterior_and_a_margin_stop_a_clear_vote_before_it_is_decided() {
    let said = ["red"; 9];
    for (rule, calls) in [
        (StopRule::Decided, 5),
        (StopRule::Posterior { per_mille: 950 }, 4),
        (StopRule::Margin { votes: 2 }, 2),
        (StopRule::All, 9),
    ] {
        let (outcome, asked) = played(&said, majority(9, Some(1), rule), &[]);
        assert_eq!((asked, elected(&outcome).as_str()), (calls, "red"), "{rule:?}");
    }
}
