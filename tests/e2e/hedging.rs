//! A slow deployment is not waited for: the next one is asked as well, the first good answer wins, and who loses is
//! aborted and settled.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokenhub_demo::{Finished, Reply, Rule};
use tokenhub_domain::ErrorClass;
use tokenhub_store::LedgerState;

use crate::{
    evidence::Evidence,
    harness::{Answer, Disturbance, TestHub, TestHubBuilder, eventually, model},
};

const CHAT: &str = "/v1/chat/completions";
const PATIENCE: Duration = Duration::from_secs(30);
/// Nobody waits for a reply that takes this long.
const SLOW_MS: u64 = 20_000;

/// How a chat is carried.
#[derive(Clone, Copy, Debug)]
enum Way {
    Workflow,
    InProcess,
    Stream,
}

const WAYS: [Way; 3] = [Way::Workflow, Way::InProcess, Way::Stream];

/// The same model at three providers; the first is the best.
fn installation() -> TestHubBuilder {
    let at = |provider: &str, weight: u32| {
        let mut entry = model("m", weight);
        entry["provider_id"] = json!(provider);
        entry
    };
    let provider = |id: &str| json!({"id": id, "api_key": format!("key of {id}")});
    TestHub::builder()
        .upstreams(vec![provider("first"), provider("second"), provider("third")])
        .models(vec![at("first", 9), at("second", 5), at("third", 1)])
        .environment("TOKENHUB_START_DEADLINE_MS", "15000")
        .environment("TOKENHUB_PENALTIES", "false")
        .environment("TOKENHUB_LIVE_SIGNALS", "false")
}

async fn chat(hub: &TestHub, way: Way, after_ms: &str) -> Answer {
    let durability = if matches!(way, Way::InProcess) { "none" } else { "preferred" };
    let body = json!({"model": "m", "stream": matches!(way, Way::Stream),
        "messages": [{"role": "user", "content": "a question"}]});
    let headers = [("x-tokenhub-durability", durability), ("x-tokenhub-hedge-after-ms", after_ms)];
    hub.post_with(CHAT, &headers, &body).await
}

fn calls_of(hub: &TestHub, provider: &str) -> Vec<tokenhub_demo::SeenCall> {
    let bearer = format!("Bearer key of {provider}");
    hub.provider.calls().into_iter().filter(|call| call.authorization.as_deref() == Some(&bearer)).collect()
}

fn slow(hub: &TestHub, provider: &str, delay_ms: u64) {
    let key = format!("key of {provider}");
    hub.provider.script(Rule::any([Reply::text(format!("from {provider}")).delay_ms(delay_ms)]).credential(&key));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_second_answers_for_a_slow_first_who_is_aborted_and_settled() {
    let hub = installation().start().await;
    slow(&hub, "first", SLOW_MS);
    slow(&hub, "second", 0);
    let evidence = Evidence::of(&hub).await;
    for (round, way) in WAYS.into_iter().enumerate() {
        let asked = Instant::now();
        let answer = chat(&hub, way, "300").await.expect(200);
        let took = asked.elapsed();
        assert!((Duration::from_millis(300)..Duration::from_secs(5)).contains(&took), "{way:?} took {took:?}");
        assert_eq!(answer.header("x-tokenhub-provider"), "second", "{way:?}");
        assert_eq!((calls_of(&hub, "first").len(), calls_of(&hub, "second").len()), (round + 1, round + 1), "{way:?}");
        eventually("the loser is aborted", PATIENCE, || async {
            calls_of(&hub, "first").iter().all(|call| call.finished == Finished::Aborted).then_some(())
        })
        .await;
        let rows = evidence.ended(2 * (round + 1)).await;
        let lost = rows.iter().filter(|row| row.provider.as_str() == "first");
        assert!(lost.clone().all(|row| row.state == LedgerState::Void), "{rows:?}");
        assert!(lost.clone().all(|row| row.error_class == Some(ErrorClass::Cancelled)), "{rows:?}");
    }
    assert!(calls_of(&hub, "third").is_empty());
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_else_is_asked_while_the_first_is_in_time_and_everybody_when_nobody_is() {
    let hub = installation().start().await;
    for way in WAYS {
        slow(&hub, "first", 0);
        let answer = chat(&hub, way, "2000").await.expect(200);
        assert_eq!(answer.header("x-tokenhub-provider"), "first", "{way:?}");
        assert_eq!(hub.provider.count(), 1, "{way:?}");
        hub.provider.clear_script();
        for provider in ["first", "second"] {
            slow(&hub, provider, SLOW_MS);
        }
        slow(&hub, "third", 0);
        let answer = chat(&hub, way, "150").await.expect(200);
        assert_eq!((answer.header("x-tokenhub-provider"), hub.provider.count()), ("third", 4), "{way:?}");
        eventually("both losers are aborted", PATIENCE, || async {
            let aborted = hub.provider.count_where(|call| call.finished == Finished::Aborted);
            (aborted == 2).then_some(())
        })
        .await;
        hub.provider.clear_script();
        hub.provider.reset_counts();
    }
    hub.finish_uncounted().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_does_not_wait_for_the_clock_and_the_answer_says_what_was_called() {
    let hub = installation().start().await;
    hub.provider.script(Rule::any([Reply::failure(401, "not you")]).credential("key of first"));
    for way in WAYS {
        let asked = Instant::now();
        let answer = chat(&hub, way, "60000").await.expect(200);
        assert_eq!(answer.header("x-tokenhub-provider"), "second", "{way:?}");
        assert!(asked.elapsed() < Duration::from_secs(10), "{way:?}: {:?}", asked.elapsed());
    }
    // A request that is wrong itself is wrong everywhere.
    hub.provider.clear_script();
    hub.provider.script(Rule::any([Reply::failure(400, "no such thing")]));
    for way in WAYS {
        let before = hub.provider.count();
        chat(&hub, way, "60000").await.expect(400);
        assert_eq!(hub.provider.count() - before, 1, "{way:?}");
    }
    hub.provider.clear_script();
    slow(&hub, "first", SLOW_MS);
    let plan = json!({"request": {"messages": [{"role": "user", "content": "a question"}], "model_hint": "m"},
        "policy": {"hedge_after_ms": 200}});
    let plan = hub.post("/v1/plan", &plan).await.expect(200);
    let step = &plan.body["steps"][0];
    assert_eq!((&step["attempts"], &step["hedged"], &step["provider"]), (&json!(2), &json!(1), &json!("second")));
    assert_eq!(plan.body["usage"]["calls"], 2, "{}", plan.text);
    let refused = chat(&hub, Way::InProcess, "soon").await.expect(400);
    assert_eq!(refused.body["error"]["param"], Value::from("X-TokenHub-Hedge-After-Ms"));
    hub.finish(Disturbance::None).await;
}
