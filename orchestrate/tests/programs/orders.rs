//! Whatever order parallel steps complete in, the same steps are requested and the same outcome comes out.

use tokenhub_domain::{Answer, ErrorClass, PlanSpec};
use tokenhub_orchestrate::Finished;

use crate::script::{Play, Scripted, best_of_n, permutations, vote};

const MODELS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

type Script<'s> = &'s [(&'static str, &'s [Play])];

fn outcomes_in_every_order(spec: &PlanSpec, script: Script<'_>, parallel: &[&str]) -> Vec<(Finished, Vec<String>)> {
    permutations(parallel)
        .iter()
        .map(|order| {
            let steps = Scripted::new(&MODELS, script);
            let finished = steps.play_in(spec.clone(), order);
            let commands = steps.0.borrow().commands.clone();
            (finished, commands)
        })
        .collect()
}

fn answer_of(finished: &Finished) -> &Answer {
    match finished {
        Finished::Outcome(outcome) => outcome.answer.as_ref().unwrap(),
        Finished::ClaimLost => panic!("the claim was lost"),
    }
}

#[test]
fn a_vote_of_five_requests_and_decides_the_same_in_all_120_orders() {
    let ballots = ["ballot/1", "ballot/2", "ballot/3", "ballot/4", "ballot/5"];
    let script: Script<'_> = &[("judge", &[Play::Says("{\"winner\": 2}")])];
    let runs = outcomes_in_every_order(&PlanSpec::Vote(vote(5)), script, &ballots);
    assert_eq!(runs.len(), 120);
    assert!(runs.iter().all(|run| run == &runs[0]));
    let commands = &runs[0].1;
    assert_eq!(commands.len(), 1 + 5 + 1 + 1, "select, voters, judge, record");
    assert!(commands[1..6].iter().all(|command| command.starts_with("send")), "all voters before any answer");
    let Answer::Vote(answer) = answer_of(&runs[0].0) else { panic!("not a vote") };
    let models: Vec<&str> = answer.ballots.iter().map(|ballot| ballot.model.as_str()).collect();
    assert_eq!(models, ["a", "b", "c", "d", "e"]);
}

#[test]
fn a_vote_with_failing_and_retried_voters_has_one_outcome_in_all_120_orders() {
    let ballots = ["ballot/1", "ballot/2", "ballot/3", "ballot/4", "ballot/5"];
    let script: Script<'_> = &[
        ("ballot/1", &[Play::Fails(ErrorClass::ServerError)]),
        ("ballot/3", &[Play::Fails(ErrorClass::Overloaded), Play::Says("third")]),
        ("ballot/4", &[Play::Fails(ErrorClass::BadRequest)]),
        ("judge", &[Play::Says("rubbish"), Play::Says("rubbish")]),
    ];
    let runs = outcomes_in_every_order(&PlanSpec::Vote(vote(5)), script, &ballots);
    assert!(runs.iter().all(|(finished, _)| finished == &runs[0].0));
}

#[test]
fn a_best_of_four_requests_and_decides_the_same_in_all_24_orders() {
    let candidates = ["candidate/1", "candidate/2", "candidate/3", "candidate/4"];
    let script: Script<'_> = &[("judge", &[Play::Says("{\"scores\": [10, 90, 90, 20]}")])];
    let runs = outcomes_in_every_order(&PlanSpec::BestOfN(best_of_n(4)), script, &candidates);
    assert_eq!(runs.len(), 24);
    assert!(runs.iter().all(|run| run == &runs[0]));
    assert_eq!(runs[0].1.len(), 1 + 4 + 1 + 1);
    assert!(runs[0].1[1..5].iter().all(|command| command.starts_with("send")));
}
