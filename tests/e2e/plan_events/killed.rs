//! Processes are killed at exact places, and each event is told once all the same.

use std::time::Duration;

use tokenhub_demo::{Finished, Reply, Rule};

use super::{
    PATIENCE,
    reading::{assert_numbered, names},
    refine, resume, start, streamed, undisturbed, without_penalties,
};
use crate::{
    harness::{Disturbance, eventually},
    scripted::{Case, REFINE, installation},
};

/// Where the worker stops, and where an event more than usual is told then.
const PLACES: [(&str, Option<usize>); 5] =
    [("claim", None), ("select", None), ("send@answer", Some(3)), ("journaled@answer", None), ("log", None)];

#[tokio::test(flavor = "multi_thread")]
async fn wherever_a_worker_dies_each_event_is_told_once() {
    let mut hub = installation().start().await;
    for (number, (place, restarted)) in PLACES.into_iter().enumerate() {
        let marker = hub.dir().join(format!("reached-{number}"));
        for worker in &mut hub.workers {
            worker.kill();
        }
        hub.workers.clear();
        hub.start_worker(&[("TOKENHUB_FAULT_POINTS", &format!("{place}={}", marker.display()))]);
        let case = Case::new(&REFINE, number);
        case.script_stuck(&hub, &[]);
        let stream = start(&hub, &streamed(case)).await;
        eventually(place, PATIENCE, || async { marker.exists().then_some(()) }).await;
        hub.workers.remove(0).kill();
        hub.start_worker(&[]);
        let seen = stream.rest().await;
        assert_numbered(&seen);
        let mut expected = undisturbed(&["answer", "improvement/1", "improvement/2"]);
        if let Some(at) = restarted {
            expected.insert(at, "step.restarted answer".to_owned());
        }
        assert_eq!(names(&seen), expected, "{place}");
        assert_eq!(case.calls(&hub).len(), 3, "{place}");
    }
    hub.finish(Disturbance::Kills).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_of_a_dead_api_goes_on_in_another_one_and_so_do_its_events() {
    let mut hub = without_penalties().temporal_off().apis(2).start().await;
    hub.provider.script(Rule::any([Reply::hang(), Reply::text("red"), Reply::text("blue")]));
    let mut stream = start(&hub, &refine()).await;
    let mut seen = stream.until(|event| event.name == "step.started").await;
    let called = |calls: &[tokenhub_demo::SeenCall]| calls.iter().any(|call| call.finished == Finished::Pending);
    assert!(hub.provider.wait_until(PATIENCE, called).await);
    hub.apis.remove(0).0.kill();
    let id = seen[0].data["plan_id"].as_str().unwrap().to_owned();
    let going_on = resume(&hub, 0, &id, seen.last().unwrap().id).await.rest();
    seen.extend(tokio::time::timeout(Duration::from_mins(1), going_on).await.expect("another process carries on"));
    assert_numbered(&seen);
    let mut expected = undisturbed(&["answer", "improvement/1"]);
    expected.insert(3, "step.restarted answer".to_owned());
    assert_eq!(names(&seen), expected);
    assert_eq!(hub.provider.count(), 3);
    hub.finish(Disturbance::Kills).await;
}
