//! What a conversion between protocols cannot express is told to the client, by the names of its own fields.

use serde_json::{Value, json};
use tokenhub_domain::Dialect;

use crate::{
    dialogue::{model_at, upstream},
    harness::{Disturbance, TestHub},
};

const HEADER: &str = "x-tokenhub-losses";

/// A Chat request with two fields that Messages has no words for.
fn request(model: &str, stream: bool) -> Value {
    json!({"model": model, "stream": stream, "seed": 7, "logit_bias": {"1": 2}, "messages": [{"role": "user", "content": "hi"}]})
}

#[tokio::test(flavor = "multi_thread")]
async fn what_got_lost_is_named_in_a_header_whoever_carries_the_answer_and_nothing_else_is() {
    let hub = TestHub::builder()
        .upstreams(vec![upstream("claude", Dialect::Messages, "sk-claude")])
        .models(vec![model_at("claude", "crossing", 5), model_at("scripted", "native", 5)])
        .start()
        .await;
    for (durability, stream) in [("required", false), ("none", false), ("preferred", true)] {
        let asked = [("x-tokenhub-durability", durability), ("origin", "https://page.example")];
        let answer = hub.post_with("/v1/chat/completions", &asked, &request("crossing", stream)).await.expect(200);
        let mut names: Vec<&str> = answer.header(HEADER).split(", ").collect();
        names.sort_unstable();
        assert_eq!(names, ["logit_bias", "seed"], "{durability} {stream}");
        assert!(answer.header("access-control-expose-headers").contains(HEADER));
        let kept = hub.post_with("/v1/chat/completions", &asked, &request("native", stream)).await.expect(200);
        assert_eq!(kept.header(HEADER), "", "the provider got every field");
    }
    // A request is as long as its sender likes; the header is not.
    let mut long = request("crossing", false);
    for index in 0..200 {
        long[format!("field_of_a_vendor_{index}_{}", "x".repeat(200))] = json!(index);
    }
    let answer = hub.post("/v1/chat/completions", &long).await.expect(200);
    assert!((100..2_000).contains(&answer.header(HEADER).len()), "{:?}", answer.headers);
    hub.finish(Disturbance::None).await;
}
