//! A provider that may only be called so often is not called more often, however many workers there are and however many
//! calls are wanted at once; and every call gets its turn.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};
use temporalio_common::protos::temporal::api::history::v1::history_event::Attributes;
use tokenhub_demo::{Reply, Rule};

use crate::harness::{Disturbance, Operator, TestHub, TestHubBuilder, eventually};

const RATE: usize = 5;
const CALLS: usize = 20;
/// What Temporal hands out at once after a pause.
const BURST: usize = RATE;
/// Calls that a loaded machine lets bunch together.
const SLACK: usize = 4;
const PATIENCE: Duration = Duration::from_mins(1);
const QUEUE: &str = "tokenhub.provider.limited";

fn installation() -> TestHubBuilder {
    let limited = json!({"id": "limited", "type": "openai", "max_requests_per_second": RATE});
    let on_limited = json!({"id": "slow", "provider_id": "limited", "weight": 5, "max_context_tokens": 100_000});
    TestHub::builder()
        .upstreams(vec![limited])
        .models(vec![on_limited, crate::harness::model("free", 7)])
        .environment("TOKENHUB_START_DEADLINE_MS", "15000")
}

fn chat(model: &str, stream: bool) -> Value {
    json!({"model": model, "stream": stream, "messages": [{"role": "user", "content": "which colour?"}]})
}

/// Asks `CALLS` times at once, and gives the durability of each answer.
async fn ask_all(hub: &TestHub, headers: &[(&str, &str)], stream: bool) -> Vec<String> {
    let body = chat("slow", stream);
    let asking = (0..CALLS).map(|_| hub.post_with("/v1/chat/completions", headers, &body));
    let answers = join_all(asking).await.into_iter().map(|answer| answer.expect(200));
    answers.map(|answer| answer.header("x-tokenhub-durability").to_owned()).collect()
}

/// Asserts that no second had more than `most` of the calls that the provider has seen since `before`.
#[track_caller]
fn assert_paced(hub: &TestHub, before: usize, most: usize) {
    let mut at: Vec<u64> = hub.provider.calls()[before..].iter().map(|call| call.at_micros).collect();
    at.sort_unstable();
    assert_eq!(at.len(), CALLS, "each was called once");
    let busiest = at.iter().map(|from| at.iter().filter(|it| (*from..from + 1_000_000).contains(*it)).count()).max();
    let took = Duration::from_micros(at[CALLS - 1] - at[0]);
    println!("{CALLS} calls in {took:?}, at most {busiest:?} in a second");
    assert!(busiest.unwrap() <= most, "{busiest:?} calls in one second: {at:?}");
    // All but those that may leave at once.
    assert!(took >= Duration::from_millis(((CALLS - RATE - BURST) * 1_000 / RATE) as u64), "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_workers_together_keep_to_the_rate_of_a_provider_and_every_call_gets_its_turn() {
    let hub = installation().workers(2).start().await;
    hub.provider.script(Rule::any([Reply::text("red").delay_ms(10)]));
    for worker in &hub.workers {
        eventually("the provider's queue is polled", PATIENCE, || async {
            worker.output().contains("a provider's own queue").then_some(())
        })
        .await;
    }
    let durability = ask_all(&hub, &[("X-TokenHub-Durability", "required")], false).await;
    assert!(durability.iter().all(|mark| mark == "durable"), "{durability:?}");
    assert_paced(&hub, 0, RATE + BURST + SLACK);

    // The calls of other providers go by the common queue, as ever.
    let operator = Operator::connect(&hub.temporal).await;
    for (model, queue) in [("slow", QUEUE), ("free", "tokenhub")] {
        let answer = hub.post("/v1/chat/completions", &chat(model, false)).await.expect(200);
        let history = operator.history(answer.header("x-tokenhub-workflow-id")).await;
        let queues: Vec<String> = history
            .into_iter()
            .filter_map(|event| match event.attributes {
                Some(Attributes::ActivityTaskScheduledEventAttributes(scheduled)) => Some(scheduled.task_queue?.name),
                _ => None,
            })
            .collect();
        assert_eq!(queues, [queue], "{model}");
    }
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_keeps_to_the_rate_for_streams_and_for_what_it_carries_itself() {
    let hub = installation().temporal_off().start().await;
    hub.provider.script(Rule::any([Reply::text("red").delay_ms(10)]));
    for stream in [false, true] {
        let before = hub.provider.calls().len();
        ask_all(&hub, &[], stream).await;
        // One may have waited in a queue of the system before it was seen.
        assert_paced(&hub, before, RATE + SLACK);
    }
    hub.finish(Disturbance::None).await;
}
