//! A long prompt goes where its beginning is cached already, and away from there when that deployment is not well.

use serde_json::{Value, json};
use tokenhub_demo::{Reply, Rule};

use crate::harness::{Answer, Disturbance, TestHub, model};

const CHAT: &str = "/v1/chat/completions";

/// A conversation with a long beginning of its own.
fn conversation(topic: &str, turns: usize, is_stream: bool) -> Value {
    let mut messages = vec![json!({"role": "system", "content": format!("{topic}. ").repeat(800)})];
    messages.extend((0..turns).map(|turn| json!({"role": "user", "content": format!("turn {turn}")})));
    json!({"model": "m", "messages": messages, "stream": is_stream})
}

async fn ask(hub: &TestHub, body: &Value) -> Answer {
    hub.post_with(CHAT, &[("x-tokenhub-durability", "none")], body).await.expect(200)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_stays_with_the_provider_that_has_read_its_beginning() {
    let at = |provider: &str| {
        let mut entry = model("m", 5);
        entry["provider_id"] = json!(provider);
        entry
    };
    let hub = TestHub::builder()
        .temporal_off()
        .upstreams(vec![
            json!({"id": "first", "api_key": "key of first"}),
            json!({"id": "second", "api_key": "key of second"}),
        ])
        .models(vec![at("first"), at("second")])
        .environment("TOKENHUB_PENALTIES", "false")
        .start()
        .await;
    for (topic, is_stream) in [("Of the sea", false), ("Of the hills", true)] {
        let mut named = conversation(topic, 1, is_stream);
        named["model"] = json!("second/m");
        ask(&hub, &named).await;
    }
    for turns in 2..5 {
        for (topic, is_stream) in [("Of the sea", false), ("Of the hills", true)] {
            let answer = ask(&hub, &conversation(topic, turns, is_stream)).await;
            assert_eq!(answer.header("x-tokenhub-provider"), "second", "{topic}, {turns} turns");
        }
    }
    let other = ask(&hub, &conversation("Of the moon", 1, false)).await;
    assert_eq!(other.header("x-tokenhub-provider"), "first", "another beginning goes where the ranking says");

    hub.provider.script(Rule::any([Reply::failure(500, "broken")]).credential("key of second"));
    let moved = ask(&hub, &conversation("Of the sea", 5, false)).await;
    assert_eq!(moved.header("x-tokenhub-provider"), "first", "health comes first");
    let before = hub.provider.count();
    let stays = ask(&hub, &conversation("Of the sea", 6, false)).await;
    assert_eq!((stays.header("x-tokenhub-provider"), hub.provider.count()), ("first", before + 1));
    hub.finish(Disturbance::None).await;
}
