//! Limits hold and names mean what they say.

use serde_json::json;
use tokenhub_demo::{Reply, Rule};

use super::{body, chat, installation, with};
use crate::harness::{Disturbance, TestHub, model};

fn native(model: &str, policy: &serde_json::Value) -> serde_json::Value {
    let messages = json!([{"role": "user", "content": "a question"}]);
    json!({"policy": policy, "request": {"messages": messages, "model_hint": model}})
}

async fn ask(hub: &TestHub, body: &serde_json::Value, status: u16) -> serde_json::Value {
    hub.post_with("/v1/chat", &[("x-tokenhub-durability", "none")], body).await.expect(status).body
}

pub async fn a_named_model_is_never_replaced() {
    let dear = json!({"id": "dear", "provider_id": "scripted", "input_per_1k": 1.0, "output_per_1k": 10.0});
    let models = vec![model("alpha", 9), with(model("off", 9), &json!({"enabled": false})), dear];
    let hub = installation().models(models).start().await;
    for (name, status, code) in [("nobody", 404, "model_not_found"), ("off", 400, "model_refused")] {
        let refused = chat(&hub, &body(name)).await.expect(status);
        assert_eq!((&refused.body["error"]["code"], &refused.body["error"]["param"]), (&json!(code), &json!("model")));
    }
    let refused = ask(&hub, &native("dear", &json!({"max_budget_usd": 0.05})), 400).await;
    assert!(refused.to_string().contains("budget exceeded"), "{refused}");
    assert_eq!(hub.provider.count(), 0, "nobody is called in place of a model that was named");
    hub.finish(Disturbance::None).await;
}

pub async fn no_limit_gives_way_to_a_failure() {
    let narrow = with(model("narrow", 9), &json!({"max_context_tokens": 20}));
    let dear = with(model("dear", 9), &json!({"input_per_1k": 5.0}));
    let hub = installation().models(vec![model("good", 8), model("light", 1), narrow, dear]).start().await;
    hub.provider.script(Rule::model("good", [Reply::failure(401, "not you")]));
    let policy = json!({"min_weight": 5, "max_budget_usd": 0.01});
    let long = "word ".repeat(40);
    let asked = json!({"policy": policy, "request": {"messages": [{"role": "user", "content": long}]}});
    ask(&hub, &asked, 502).await;
    let called: Vec<String> = hub.provider.calls().into_iter().map(|call| call.model).collect();
    assert_eq!(called, ["good"], "light, narrow and dear stay left out when good fails");
    hub.finish(Disturbance::None).await;
}

pub async fn nothing_is_capped_unless_somebody_says_so() {
    let dear = || vec![json!({"id": "dear", "provider_id": "scripted", "input_per_1k": 1.0, "output_per_1k": 10.0})];
    let free = installation().models(dear()).start().await;
    chat(&free, &body("dear")).await.expect(200);
    free.finish(Disturbance::None).await;
    let capped = installation().models(dear()).environment("TOKENHUB_DEFAULT_MAX_BUDGET_USD", "0.05").start().await;
    chat(&capped, &body("dear")).await.expect(400);
    assert_eq!(capped.provider.count(), 0);
    capped.finish(Disturbance::None).await;
}
