//! Golden histories: what workflows once did, replayed against the code that there is now.
//!
//! A failure means that a program asks for its steps in another order than runs that are still open. Such a change needs
//! `patched` and a history of its own; the old ones stay. `records_the_golden_histories` in `e2e/compatibility.rs`
//! makes new ones.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::{collections::BTreeSet, fs, path::PathBuf};

use serde_json::Value;
use temporalio_client::WorkflowHistory;
use temporalio_sdk::workflow_replayer::{
    WorkflowReplayError, WorkflowReplayFailure, WorkflowReplayer, WorkflowReplayerOptions,
    WorkflowReplayerOptionsBuilder,
};
use tokenhub_domain::RunKind;
use tokenhub_workflows::{
    AdversarialWorkflow, BestOfNWorkflow, CascadeWorkflow, ChatWorkflow, FuseWorkflow, RefineWorkflow,
    StreamLogWorkflow, VoteWorkflow, workflow_type,
};

const PROVIDER_CALL: &str = "send_to_provider";
const VERIFIER_CALL: &str = "verify_answer";
const SCHEDULED: &str = "ActivityTaskScheduledEventAttributes";

fn replayer() -> WorkflowReplayer {
    let options = WorkflowReplayerOptions::new()
        .register_workflow::<ChatWorkflow>()
        .and_then(WorkflowReplayerOptionsBuilder::register_workflow::<AdversarialWorkflow>)
        .and_then(WorkflowReplayerOptionsBuilder::register_workflow::<VoteWorkflow>)
        .and_then(WorkflowReplayerOptionsBuilder::register_workflow::<RefineWorkflow>)
        .and_then(WorkflowReplayerOptionsBuilder::register_workflow::<BestOfNWorkflow>)
        .and_then(WorkflowReplayerOptionsBuilder::register_workflow::<CascadeWorkflow>)
        .and_then(WorkflowReplayerOptionsBuilder::register_workflow::<FuseWorkflow>)
        .and_then(WorkflowReplayerOptionsBuilder::register_workflow::<StreamLogWorkflow>)
        .unwrap();
    WorkflowReplayer::new(options.build()).unwrap()
}

async fn replay(history: &Value) -> Result<(), WorkflowReplayError> {
    let history = WorkflowHistory::from_json(history.to_string().as_bytes()).unwrap();
    replayer().replay_workflow(history).await
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("replay/histories")
}

fn golden(name: &str) -> Value {
    let path = folder().join(format!("{name}.json"));
    serde_json::from_slice(&fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))).unwrap()
}

/// The names of all histories.
fn goldens() -> Vec<String> {
    let files = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    let mut names: Vec<String> = files.map(|path| path.file_stem().unwrap().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// The attributes of the events that have `attributes`, in order.
fn attributes<'a>(history: &'a Value, attributes: &str) -> Vec<&'a Value> {
    history["events"].as_array().unwrap().iter().filter_map(|event| event["attributes"].get(attributes)).collect()
}

/// The positions of the events that ask for a provider call.
fn calls(history: &Value) -> Vec<usize> {
    scheduled(history, PROVIDER_CALL)
}

/// The positions of the events that ask a verifier.
fn checks(history: &Value) -> Vec<usize> {
    scheduled(history, VERIFIER_CALL)
}

fn scheduled(history: &Value, activity: &str) -> Vec<usize> {
    let events = history["events"].as_array().unwrap();
    let is_asked = |index: &usize| events[*index]["attributes"][SCHEDULED]["activity_type"]["name"] == activity;
    (0..events.len()).filter(is_asked).collect()
}

fn activity_id(history: &Value, position: usize) -> &str {
    history["events"][position]["attributes"][SCHEDULED]["activity_id"].as_str().unwrap()
}

fn set_activity_id(history: &mut Value, position: usize, id: &str) {
    history["events"][position]["attributes"][SCHEDULED]["activity_id"] = id.into();
}

#[track_caller]
fn assert_nondeterministic(replayed: &Result<(), WorkflowReplayError>) {
    assert!(
        matches!(replayed, Err(WorkflowReplayError::Replay(WorkflowReplayFailure::Nondeterminism { .. }))),
        "{replayed:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn every_golden_history_replays() {
    let names = goldens();
    for name in &names {
        replay(&golden(name)).await.unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    let types: BTreeSet<String> = names
        .iter()
        .map(|name| attributes(&golden(name), "WorkflowExecutionStartedEventAttributes")[0].clone())
        .map(|started| started["workflow_type"]["name"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(types, RunKind::ALL.into_iter().map(|kind| workflow_type(kind).to_owned()).collect(), "every type");
}

#[test]
fn the_golden_histories_show_what_they_are_named_for() {
    let retried = golden("chat_retried");
    assert_eq!(calls(&retried).len(), 2);
    assert_eq!(attributes(&retried, "TimerFiredEventAttributes").len(), 1, "the wait before the second try");
    assert_eq!(calls(&golden("chat")).len(), 1);
    let hedged = golden("chat_hedged");
    assert_eq!((calls(&hedged).len(), attributes(&hedged, "TimerFiredEventAttributes").len()), (2, 1));
    assert_eq!(
        attributes(&hedged, "ActivityTaskCancelRequestedEventAttributes").len(),
        1,
        "the slow call is withdrawn"
    );
    assert_eq!(calls(&golden("chat_repaired")).len(), 2, "an answer that misses its schema, and its repair");
    assert_eq!(calls(&golden("vote")).len(), 3, "two ballots and a verdict");
    let decided = golden("vote_decided");
    assert_eq!(calls(&decided).len(), 3, "three ballots, of which two are enough");
    assert_eq!(attributes(&decided, "ActivityTaskCancelRequestedEventAttributes").len(), 1);
    let answered = golden("vote_answered_now");
    assert_eq!(
        attributes(&answered, "WorkflowExecutionSignaledEventAttributes").len(),
        1,
        "somebody did not want to wait"
    );
    assert_eq!(attributes(&answered, "ActivityTaskCancelRequestedEventAttributes").len(), 2, "who had not answered");
    assert_eq!(calls(&golden("vote_repaired")).len(), 4, "and a repair");
    assert_eq!(calls(&golden("adversarial")).len(), 5, "a plan and two rounds");
    assert_eq!(calls(&golden("refine")).len(), 3, "an answer and two improvements");
    let approved = golden("refine_approved");
    assert_eq!(attributes(&approved, "WorkflowExecutionSignaledEventAttributes").len(), 1, "somebody decided");
    assert_eq!(attributes(&approved, "TimerCanceledEventAttributes").len(), 1, "the wait is over");
    assert!(!attributes(&golden("refine_expired"), "TimerFiredEventAttributes").is_empty(), "nobody decided");
    assert!(calls(&golden("best_of_n")).len() >= 3, "two candidates and scores");
    let checked = golden("refine_checked");
    assert_eq!(
        (calls(&checked).len(), checks(&checked).len()),
        (2, 2),
        "an answer that does not pass, and one that does"
    );
    let first = golden("best_of_n_first_pass");
    assert_eq!((calls(&first).len(), checks(&first).len()), (2, 2), "and no third candidate");
    let grace = golden("vote_grace");
    assert_eq!(
        (calls(&grace).len(), attributes(&grace, "TimerFiredEventAttributes").len()),
        (3, 1),
        "nobody waits longer"
    );
    assert_eq!(attributes(&grace, "ActivityTaskCancelRequestedEventAttributes").len(), 1);
    assert_eq!(attributes(&golden("stream_log"), "MarkerRecordedEventAttributes").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_history_whose_steps_came_in_another_order_does_not_replay() {
    for name in [
        "adversarial",
        "refine",
        "vote",
        "vote_repaired",
        "vote_decided",
        "vote_answered_now",
        "best_of_n",
        "chat_retried",
        "chat_repaired",
        "chat_hedged",
        "refine_checked",
        "best_of_n_first_pass",
        "vote_grace",
    ] {
        let mut reordered = golden(name);
        for pair in calls(&golden(name)).windows(2) {
            let (first, second) =
                (activity_id(&reordered, pair[0]).to_owned(), activity_id(&reordered, pair[1]).to_owned());
            assert_ne!(first, second, "{name}");
            set_activity_id(&mut reordered, pair[0], &second);
            set_activity_id(&mut reordered, pair[1], &first);
            assert_nondeterministic(&replay(&reordered).await);
            set_activity_id(&mut reordered, pair[0], &first);
            set_activity_id(&mut reordered, pair[1], &second);
        }
        assert_eq!(reordered, golden(name));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_history_with_another_activity_type_or_without_a_wait_does_not_replay() {
    let mut renamed = golden("chat");
    let call = calls(&renamed)[0];
    renamed["events"][call]["attributes"][SCHEDULED]["activity_type"]["name"] = "send".into();
    assert_nondeterministic(&replay(&renamed).await);

    // The order of a wait and a call: the timer's event is where the second call's was.
    let mut swapped = golden("chat_retried");
    let events = swapped["events"].as_array().unwrap();
    let timer =
        events.iter().position(|event| event["attributes"].get("TimerStartedEventAttributes").is_some()).unwrap();
    let second_call = calls(&swapped)[1];
    let (timer_event, call_event) = (events[timer].clone(), events[second_call].clone());
    for (position, mut event) in [(timer, call_event), (second_call, timer_event)] {
        event["event_id"] = swapped["events"][position]["event_id"].clone();
        swapped["events"][position] = event;
    }
    assert_nondeterministic(&replay(&swapped).await);
}
