//! The majority vote against exact numbers: every script of right and wrong answers, weighted by its probability.

use tokenhub_domain::{Answer, PlanSpec, VoteMethod};

use crate::script::{Play, Scripted, vote};

const VOTERS: [(&str, &str); 5] =
    [("a", "ballot/1"), ("b", "ballot/2"), ("c", "ballot/3"), ("d", "ballot/4"), ("e", "ballot/5")];

/// Whether the vote elects a right answer when exactly the voters in the bits of `right` are right.
fn elects_right(voters: usize, right: u32) -> bool {
    let play = |voter: usize| {
        // Forms of one answer, so that counting needs the normalisation.
        let forms = if right >> voter & 1 == 1 { ["1,000", "1000."] } else { ["No", "the answer is no"] };
        [Play::Says(forms[voter % 2])]
    };
    let plays: Vec<[Play; 1]> = (0..voters).map(play).collect();
    let script: Vec<(&str, &[Play])> = (0..voters).map(|voter| (VOTERS[voter].1, plays[voter].as_slice())).collect();
    let models: Vec<&str> = VOTERS[..voters].iter().map(|(model, _)| *model).collect();
    let steps = Scripted::new(&models, &script);
    let mut spec = vote(u32::try_from(voters).unwrap());
    spec.method = VoteMethod::Majority;
    match steps.play(PlanSpec::Vote(spec)).answer {
        Some(Answer::Vote(answer)) => {
            assert_eq!(answer.ballots.len(), voters);
            answer.ballots[answer.selected].content.as_inline().unwrap().starts_with('1')
        }
        other => panic!("not a vote: {other:?}"),
    }
}

#[test]
fn accuracy_over_all_scripts_is_the_exact_one() {
    for (voters, p, expected) in [(3, 0.6, 0.648), (5, 0.6, 0.682_56), (3, 0.7, 0.784), (5, 0.7, 0.836_92)] {
        let accuracy: f64 = (0..1_u32 << voters)
            .filter(|right| elects_right(voters, *right))
            .map(|right| {
                let hits = i32::try_from(right.count_ones()).unwrap();
                f64::powi(p, hits) * f64::powi(1.0 - p, i32::try_from(voters).unwrap() - hits)
            })
            .sum();
        assert!((accuracy - expected).abs() < 1e-12, "n = {voters}, p = {p}: {accuracy}");
    }
}
