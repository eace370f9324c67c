//! The worker dies at an exact place in the code, where it was made to stop.

use std::{path::Path, time::Duration};

use serde_json::Value;
use tokenhub_demo::{Finished, SeenCall};

use super::{assert_recovered, replace_worker};
use crate::{
    evidence::Evidence,
    harness::{Disturbance, TestHub, eventually},
    scripted::{ADVERSARIAL, BEST_OF_THREE, Case, FIVE_VOTERS, Program, REFINE, installation},
};

const PATIENCE: Duration = Duration::from_secs(30);
/// A step in which a worker stops.
struct Stop {
    step: &'static str,
    /// Steps that come one after the other from this one on, itself included.
    left: u64,
    /// Calls of other steps that are made before this one or beside it.
    others: u64,
}

const fn stop(step: &'static str, left: u64, others: u64) -> Stop {
    Stop { step, left, others }
}

/// Every program, and the steps that a `Place` means.
static PROGRAMS: [(&Program, [Stop; 3]); 4] = [
    (&FIVE_VOTERS, [stop("ballot/1", 2, 4), stop("ballot/4", 2, 4), stop("judge", 1, 5)]),
    (&BEST_OF_THREE, [stop("candidate/1", 3, 2), stop("judge/1/ba", 2, 4), stop("judge/2/ab", 1, 6)]),
    (&ADVERSARIAL, [stop("plan", 5, 0), stop("revision/1", 3, 2), stop("revision/2", 1, 4)]),
    (&REFINE, [stop("answer", 3, 0), stop("improvement/1", 2, 1), stop("improvement/2", 1, 2)]),
];

/// Where the worker stops.
#[derive(Clone, Copy, Debug)]
enum Place {
    /// Once in each plan.
    Run(&'static str),
    /// In one step of each plan: the first, a middle or the last one.
    Step(&'static str, usize),
}

/// One plan of each program runs into `place`; the worker is killed there and another started. No call was in flight, so
/// every step is called once in all.
async fn kill_at(hub: &mut TestHub, evidence: &Evidence, undisturbed: &[Value], place: Place, first_number: usize) {
    let (list, arrivals) = faults(hub.dir(), place, first_number);
    for worker in &mut hub.workers {
        worker.kill();
    }
    hub.workers.clear();
    hub.start_worker(&[("TOKENHUB_FAULT_POINTS", &list)]);
    let mut running = Vec::new();
    for (index, (program, _)) in PROGRAMS.iter().enumerate() {
        let case = Case::new(program, first_number + index);
        case.script_stuck(hub, &[]);
        running.push((case, case.ask(hub)));
    }
    for (marker, expected) in &arrivals {
        eventually(&format!("{place:?} is reached"), PATIENCE, || async {
            let arrived = std::fs::read_to_string(marker).ok()?;
            (arrived.lines().count() >= *expected).then_some(())
        })
        .await;
    }
    // The other voters may still be at work, or not have been asked yet.
    let are_answered = |index: usize, case: Case| {
        let answered =
            case.calls(hub).into_iter().filter(|(_, call)| call.finished == Finished::Answered).count() as u64;
        answered == calls_by_then(place, index)
    };
    let rest = |_: &[SeenCall]| running.iter().enumerate().all(|(index, (case, _))| are_answered(index, *case));
    assert!(hub.provider.wait_until(PATIENCE, rest).await, "{place:?}: all other calls are answered");
    evidence.wait_until_answers_are_journaled(hub).await;
    let killed_at = replace_worker(hub);
    for (index, (case, asked)) in running.into_iter().enumerate() {
        let ended = asked.await.unwrap().unwrap();
        let steps_left = steps_left(place, index);
        let what = format!("killed at {place:?}");
        let ended = assert_recovered(case, &what, &undisturbed[index], ended, killed_at, steps_left);
        case.assert_calls(hub, &ended.answer, &[]);
    }
}

/// The list of fault points for `place`, and how many arrivals each marker file must show.
fn faults(dir: &Path, place: Place, number: usize) -> (String, Vec<(std::path::PathBuf, usize)>) {
    let marker = |index: usize| dir.join(format!("arrived-{number}-{index}"));
    match place {
        Place::Run(point) => (format!("{point}={}", marker(0).display()), vec![(marker(0), PROGRAMS.len())]),
        Place::Step(point, which) => {
            let list: Vec<String> = PROGRAMS
                .iter()
                .enumerate()
                .map(|(index, (_, stops))| format!("{point}@{}={}", stops[which].step, marker(index).display()))
                .collect();
            (list.join(","), (0..PROGRAMS.len()).map(|index| (marker(index), 1)).collect())
        }
    }
}

/// How many steps are left when the next worker takes over, one after the other.
fn steps_left(place: Place, program: usize) -> u64 {
    let stops = &PROGRAMS[program].1;
    match place {
        Place::Run("log") => 0,
        Place::Run(_) => stops[0].left,
        Place::Step("journaled", which) => stops[which].left - 1,
        Place::Step(_, which) => stops[which].left,
    }
}

/// How many calls of the plan the provider has answered when its worker dies.
fn calls_by_then(place: Place, program: usize) -> u64 {
    let (program, stops) = &PROGRAMS[program];
    match place {
        Place::Run("log") => program.calls(),
        Place::Run(_) => 0,
        Place::Step("journaled", which) => stops[which].others + 1,
        Place::Step(_, which) => stops[which].others,
    }
}

async fn kill_at_each(places: &[Place]) {
    let mut hub = installation().start().await;
    let evidence = Evidence::of(&hub).await;
    let mut undisturbed = Vec::new();
    for (index, (program, _)) in PROGRAMS.iter().enumerate() {
        undisturbed.push(Case::new(program, index).undisturbed(&hub).await);
    }
    for (round, place) in places.iter().enumerate() {
        kill_at(&mut hub, &evidence, &undisturbed, *place, (round + 1) * PROGRAMS.len()).await;
    }
    hub.finish(Disturbance::Kills).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_dies_around_the_program_costs_no_call() {
    kill_at_each(&[Place::Run("claim"), Place::Run("select"), Place::Run("log")]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_dies_before_the_bytes_leave_costs_no_call() {
    kill_at_each(&[Place::Step("send", 0), Place::Step("send", 1), Place::Step("send", 2)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_in_the_journal_is_never_bought_again() {
    kill_at_each(&[Place::Step("journaled", 0), Place::Step("journaled", 1), Place::Step("journaled", 2)]).await;
}
