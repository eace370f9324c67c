//! Answers with a schema: shown to the model by its protocol's own means, checked, repaired once, billed.

use serde_json::{Value, json};
use tokenhub_demo::{Reply, Rule};
use tokenhub_domain::Dialect;

use crate::{
    dialogue::{model_at, path, upstream},
    harness::{Answer, Disturbance, TestHub, TestHubBuilder, exchange},
};

fn installation() -> TestHubBuilder {
    let upstreams =
        vec![upstream("claude", Dialect::Messages, "sk-claude"), upstream("gpt", Dialect::Responses, "sk-gpt")];
    let models = vec![model_at("scripted", "alpha", 7), model_at("claude", "opus", 6), model_at("gpt", "five", 5)];
    TestHub::builder().upstreams(upstreams).models(models).environment("TOKENHUB_START_DEADLINE_MS", "15000")
}

fn schema() -> Value {
    json!({"type": "object", "additionalProperties": false, "required": ["name", "size", "tags"], "properties": {
        "name": {"enum": ["red", "blue"]},
        "size": {"type": "number"},
        "tags": {"type": "array", "items": {"type": "object", "additionalProperties": false, "required": ["id"],
            "properties": {"id": {"type": "integer"}}}}}})
}

const GOOD: &str = r#"{"name": "red", "size": 1.5, "tags": [{"id": 1}]}"#;
const ENVELOPED: [&str; 3] = ["x-tokenhub-durability", "required", "none"];

fn native(model: &str, text: &str) -> Value {
    let messages = json!([{"role": "user", "content": text}]);
    json!({"request": {"messages": messages, "model_hint": model, "output_schema": schema()}})
}

/// A request of `client` with the schema in its protocol's own field.
fn own(client: Dialect, model: &str, text: &str) -> Value {
    let turns = json!([{"role": "user", "content": text}]);
    let format = json!({"type": "json_schema", "name": "thing", "strict": true, "schema": schema()});
    match client {
        Dialect::Chat => json!({"model": model, "messages": turns, "response_format": {"type": "json_schema",
            "json_schema": {"name": "thing", "strict": true, "schema": schema()}}}),
        Dialect::Responses => json!({"model": model, "input": turns, "text": {"format": format}}),
        Dialect::Messages => json!({"model": model, "max_tokens": 90, "messages": turns,
            "output_config": {"format": {"type": "json_schema", "schema": schema()}}}),
    }
}

fn text_of(client: Dialect, answer: &Answer) -> String {
    let pointer = match client {
        Dialect::Chat => "/choices/0/message/content",
        Dialect::Responses => "/output/0/content/0/text",
        Dialect::Messages => "/content/0/text",
    };
    answer.body.pointer(pointer).and_then(Value::as_str).unwrap_or_else(|| panic!("{}", answer.text)).to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_of_ours_goes_by_the_means_of_each_protocol() {
    let hub = installation().temporal_off().start().await;
    hub.provider.script(Rule::any([Reply::text(GOOD)]));
    for (model, pointer) in [
        ("alpha", "/response_format/json_schema/schema"),
        ("five", "/text/format/schema"),
        ("opus", "/output_config/format/schema"),
    ] {
        hub.post("/v1/chat", &native(model, "hi")).await.expect(200);
        let call = hub.provider.calls().pop().unwrap();
        assert_eq!(call.body.pointer(pointer), Some(&schema()), "{model}: {}", call.body);
        for client in Dialect::ALL {
            let directive = format!("hi\n@@tokenhub output_schema={}", schema());
            let turns = json!([{"role": "user", "content": directive}]);
            let field = if client == Dialect::Responses { "input" } else { "messages" };
            let body = json!({"model": model, field: turns, "max_tokens": 90});
            let answer = hub.post(path(client), &body).await.expect(200);
            assert_eq!(text_of(client, &answer), GOOD);
            let call = hub.provider.calls().pop().unwrap();
            assert_eq!(call.body.pointer(pointer), Some(&schema()), "{client:?} {model}: {}", call.body);
        }
    }
    // What Messages cannot enforce is shown in words, whoever asks.
    for client in [Dialect::Chat, Dialect::Messages] {
        let directive = "hi\n@@tokenhub output_schema={\"type\": \"object\", \"title\": \"a loose one\"}";
        let body = json!({"model": "opus", "max_tokens": 90, "messages": [{"role": "user", "content": directive}]});
        hub.post(path(client), &body).await.expect(200);
        let call = hub.provider.calls().pop().unwrap();
        assert!(call.body["system"].to_string().contains("a loose one"), "{}", call.body);
        assert!(call.body.get("output_config").is_none(), "{}", call.body);
    }
    let plan = json!({"request": {"messages": [{"role": "user", "content": "hi"}]},
        "orchestration": {"mode": "refine", "iterations": 1, "output_schema": schema().to_string(), "primary_model_id": "alpha"}});
    hub.post("/v1/plan", &plan).await.expect(200);
    let improvement = hub.provider.calls().pop().unwrap();
    assert_eq!(improvement.body.pointer("/response_format/json_schema/schema"), Some(&schema()));
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_of_violation_is_repaired_in_a_billed_step_of_the_same_run_whoever_carries_it() {
    let hub = installation().start().await;
    let violations = [
        ("enum", r#"{"name": "green", "size": 1, "tags": []}"#, "/name"),
        ("number", r#"{"name": "red", "size": "1", "tags": []}"#, "/size"),
        ("items", r#"{"name": "red", "size": 1, "tags": ["x"]}"#, "/tags/0"),
        ("nested", r#"{"name": "red", "size": 1, "tags": [{"id": 1.5}]}"#, "/tags/0/id"),
        ("additional", r#"{"name": "red", "size": 1, "tags": [], "more": 1}"#, "more"),
        ("missing", r#"{"name": "red", "size": 1}"#, "tags"),
        ("prose", "Sure, here you are!", "not JSON"),
    ];
    for durability in &ENVELOPED[1..] {
        for (name, bad, place) in violations {
            let tag = format!("({name} {durability})");
            hub.provider
                .script(Rule::any([Reply::text(bad), Reply::text(format!("```json\n{GOOD}\n```"))]).containing(&tag));
            let plan = native("alpha", &tag);
            let answer = hub.post_with("/v1/plan", &[(ENVELOPED[0], durability)], &plan).await.expect(200);
            assert_eq!(answer.body["response"]["choices"][0]["message"]["content"], GOOD, "{}", answer.text);
            let steps = &answer.body["steps"];
            let ids: Vec<&Value> = steps.as_array().unwrap().iter().map(|step| &step["id"]).collect();
            assert_eq!(ids, ["answer", "answer/repair"]);
            assert_eq!((&steps[0]["error_class"], &steps[1]["error_class"]), (&json!("bad_output"), &Value::Null));
            assert_eq!(answer.body["usage"]["calls"], 2);
            let sum = steps[0]["input_tokens"].as_u64().unwrap() + steps[1]["input_tokens"].as_u64().unwrap();
            assert_eq!(answer.body["usage"]["input_tokens"], sum);
            let read = hub.get(&format!("/v1/plan/{}", answer.body["id"].as_str().unwrap())).await.unwrap().expect(200);
            assert_eq!(read.body, answer.body);
            let repair = hub.provider.calls().pop().unwrap();
            let turns = repair.body["messages"].as_array().unwrap();
            assert_eq!(turns[1], json!({"role": "assistant", "content": bad}));
            assert!(turns[2]["content"].as_str().unwrap().contains(place), "{turns:?}");
            assert!(repair.body.pointer("/response_format/json_schema/schema").is_some());
        }
    }
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_protocol_is_checked_when_it_asks_for_it_and_the_repair_goes_on_in_its_own_form() {
    let hub = installation().start().await;
    for client in Dialect::ALL {
        for model in ["alpha", "opus", "five"] {
            for durability in &ENVELOPED[1..] {
                let tag = format!("({client:?} {model} {durability})");
                hub.provider.script(Rule::any([Reply::text("{}"), Reply::text(GOOD)]).containing(&tag));
                let headers = [(ENVELOPED[0], *durability), ("x-tokenhub-validate", "true")];
                let answer = hub.post_with(path(client), &headers, &own(client, model, &tag)).await.expect(200);
                assert_eq!(text_of(client, &answer), GOOD, "{tag}");
                let calls: Vec<_> =
                    hub.provider.calls().into_iter().filter(|call| call.body.to_string().contains(&tag)).collect();
                assert_eq!(calls.len(), 2, "{tag}");
                assert!(calls[1].body.to_string().contains("required property"), "{}", calls[1].body);
            }
        }
    }
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_being_asked_nothing_is_checked_and_the_body_keeps_its_bytes() {
    let hub = installation().temporal_off().start().await;
    hub.provider.script(Rule::any([Reply::text("{}")]));
    for (client, model) in [(Dialect::Chat, "alpha"), (Dialect::Responses, "five"), (Dialect::Messages, "opus")] {
        let body = own(client, model, "hi").to_string();
        let request = hub.request(reqwest::Method::POST, path(client)).header("content-type", "application/json");
        let answer = exchange(request.body(body.clone())).await.unwrap().expect(200);
        assert_eq!(text_of(client, &answer), "{}");
        assert_eq!(hub.provider.calls().pop().unwrap().raw_body.0, body);
    }
    let shown =
        hub.post_with("/v1/chat", &[("x-tokenhub-validate", "false")], &native("alpha", "hi")).await.expect(200);
    assert_eq!(shown.body["response"]["choices"][0]["message"]["content"], "{}");
    assert_eq!(hub.provider.calls().len(), 4, "no repair");
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_does_not_match_after_the_repair_is_502_or_kept_as_the_caller_wants_it() {
    let hub = installation().start().await;
    hub.provider.script(Rule::any([Reply::text("{\"a\": 1}"), Reply::text("{\"a\": 2}")]).containing("(no)"));
    for durability in &ENVELOPED[1..] {
        let wish = (ENVELOPED[0], *durability);
        hub.provider.reset_counts();
        let failed = hub
            .post_with(
                path(Dialect::Chat),
                &[wish, ("x-tokenhub-validate", "true")],
                &own(Dialect::Chat, "alpha", "(no)"),
            )
            .await;
        let failed = failed.expect(502);
        assert_eq!(failed.body["error"]["code"], "bad_output");
        assert_eq!(failed.header("x-should-retry"), "false", "two answers were paid for");
        let message = failed.body["error"]["message"].as_str().unwrap();
        assert!(message.contains("does not match the schema") && message.contains("required property"), "{message}");
        assert_eq!(hub.provider.calls().len(), 2);
        hub.provider.reset_counts();
        let kept = hub
            .post_with(
                path(Dialect::Chat),
                &[wish, ("x-tokenhub-validate", "keep")],
                &own(Dialect::Chat, "alpha", "(no)"),
            )
            .await;
        let kept = kept.expect(200);
        assert_eq!(text_of(Dialect::Chat, &kept), "{\"a\": 2}");
        assert_eq!(kept.header("x-tokenhub-schema"), "mismatch");
        hub.provider.reset_counts();
        let plan = hub.post_with("/v1/plan", &[wish, ("x-tokenhub-validate", "keep")], &native("alpha", "(no)")).await;
        let plan = plan.expect(200);
        assert_eq!(
            (&plan.body["status"], &plan.body["stop_reason"]),
            (&json!("completed_partial"), &json!("schema_mismatch"))
        );
        hub.provider.reset_counts();
        let document = hub.post_with("/v1/plan", &[wish], &native("alpha", "(no)")).await.expect(502);
        assert_eq!((&document.body["code"], &document.body["usage"]["calls"]), (&json!("bad_output"), &json!(2)));
    }
    hub.finish_uncounted().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_response_in_the_background_is_checked_and_repaired_too() {
    let hub = installation().start().await;
    hub.provider.script(Rule::any([Reply::text("{}"), Reply::text(GOOD)]));
    let mut body = own(Dialect::Responses, "five", "hi");
    body["background"] = json!(true);
    let begun = hub.post_with(path(Dialect::Responses), &[("x-tokenhub-validate", "true")], &body).await.expect(200);
    let address = format!("/v1/responses/{}", begun.body["id"].as_str().unwrap());
    let ended = crate::harness::eventually("the response ends", std::time::Duration::from_secs(30), || async {
        let read = hub.get(&address).await.unwrap().expect(200);
        (read.body["status"] == "completed").then_some(read)
    });
    assert_eq!(text_of(Dialect::Responses, &ended.await), GOOD);
    assert_eq!(hub.provider.calls().len(), 2);
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_that_is_none_and_a_check_that_cannot_be_made_are_refused_by_name() {
    let hub = installation().temporal_off().start().await;
    let mut wrong = native("alpha", "hi");
    wrong["request"]["output_schema"] = json!({"type": "objekt"});
    let refused = hub.post("/v1/chat", &wrong).await.expect(400);
    assert!(refused.body["error"].as_str().unwrap().starts_with("request.output_schema: "), "{}", refused.text);
    wrong["request"]["output_schema"] = json!({"$ref": "https://schema.example/thing.json"});
    hub.post("/v1/chat", &wrong).await.expect(400);
    let mut own_wrong = own(Dialect::Chat, "alpha", "hi");
    own_wrong["response_format"]["json_schema"]["schema"]["type"] = json!("objekt");
    let validate = [("x-tokenhub-validate", "true")];
    let refused = hub.post_with(path(Dialect::Chat), &validate, &own_wrong).await.expect(400);
    assert_eq!(refused.body["error"]["param"], "response_format.json_schema.schema");
    let none = json!({"model": "alpha", "messages": [{"role": "user", "content": "hi"}]});
    let refused = hub.post_with(path(Dialect::Chat), &validate, &none).await.expect(400);
    assert_eq!(refused.body["error"]["param"], "X-TokenHub-Validate");
    let unknown = hub.post_with(path(Dialect::Chat), &[("x-tokenhub-validate", "maybe")], &none).await.expect(400);
    assert_eq!(unknown.body["error"]["code"], "invalid_header");
    let mut streamed = own(Dialect::Chat, "alpha", "hi");
    streamed["stream"] = json!(true);
    let refused = hub.post_with(path(Dialect::Chat), &validate, &streamed).await.expect(400);
    assert_eq!(refused.body["error"]["param"], "stream");
    assert!(hub.provider.calls().is_empty());
    hub.post(path(Dialect::Chat), &streamed).await.expect(200);
    hub.finish(Disturbance::None).await;
}
