//! What is refused, and by which name.

use serde_json::{Value, json};
use tokenhub_demo::{Reply, Rule};

use super::{SLOW_MS, begin, ended, installation, refine, seen, signal, stop};
use crate::harness::Disturbance;

#[tokio::test(flavor = "multi_thread")]
async fn each_wrong_field_is_named_and_what_the_plan_cannot_take_is_refused() {
    let hub = installation().start().await;
    hub.provider.script(Rule::any([Reply::text("late").delay_ms(SLOW_MS)]));
    let bounds = json!({"bounds": {"max_calls": 5, "deadline_ms": 60_000}});
    let id = begin(&hub, &refine(1), &bounds).await;
    seen(&hub, "it has begun", |calls| calls.len() == 1).await;
    for (body, param) in [
        (json!({"type": "answer_soon"}), "type"),
        (json!({"type": "answer_now", "when": 1}), "when"),
        (json!({"type": "add_budget", "max_calls": 0}), "max_calls"),
        (json!({"type": "add_budget", "calls": 1}), "calls"),
        (json!({"type": "add_budget", "max_tokens": 9}), "max_tokens"),
        (json!({"type": "add_budget", "max_calls": 1, "max_cost_usd": 1}), "max_cost_usd"),
        (json!({"type": "extend_deadline", "deadline_ms": 1_800_001}), "deadline_ms"),
        (json!({"type": "extend_deadline", "deadline_ms": 59_999}), "deadline_ms"),
        (json!({"type": "extend_deadline", "deadline_at": "2001-01-01T00:00:00Z"}), "deadline_at"),
        (json!({"type": "extend_deadline", "deadline_at": "2999-01-01T00:00:00Z"}), "deadline_at"),
    ] {
        let refused = signal(&hub, &id, &body).await.expect(400);
        assert_eq!(refused.body["param"], param, "{}", refused.text);
    }
    for (body, param) in [(json!({"mode": "later"}), "mode"), (json!({"how": "now"}), "how")] {
        let refused = hub.post(&format!("/v1/plan/{id}/cancel"), &body).await.expect(400);
        assert_eq!(refused.body["param"], param, "{}", refused.text);
    }
    let path = format!("/v1/plan/{id}/signal");
    let twice = json!({"type": "add_budget", "max_calls": 1, "id": "one"});
    assert_eq!(hub.post_with(&path, &[("idempotency-key", "other")], &twice).await.expect(400).body["param"], "id");
    signal(&hub, "plan_of_nobody", &json!({"type": "answer_now"})).await.expect(404);
    let kept = hub.get(&format!("/v1/plan/{id}")).await.unwrap().expect(200);
    assert_eq!(kept.body["signals"], Value::Null, "nothing of it was kept: {}", kept.text);
    stop(&hub, &id, "now").await;
    ended(&hub, 0, &id).await;
    for body in [
        json!({"type": "answer_now"}),
        json!({"type": "add_budget", "max_calls": 1}),
        json!({"type": "extend_deadline", "deadline_ms": 70_000}),
    ] {
        assert_eq!(signal(&hub, &id, &body).await.expect(409).body["code"], "plan_ended");
    }
    stop(&hub, &id, "after_step").await;

    hub.provider.clear_script();
    let chat = json!({"model": "m1", "messages": [{"role": "user", "content": "which colour?"}]});
    let chat = hub.post("/v1/chat/completions", &chat).await.expect(200);
    let run = chat.header("x-tokenhub-run-id");
    let refused = signal(&hub, run, &json!({"type": "answer_now"})).await.expect(409);
    assert_eq!(refused.body["code"], "plan_not_steerable", "{}", refused.text);
    hub.finish(Disturbance::None).await;
}
