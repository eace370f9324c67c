//! A template as a model: every chat protocol, whole and streamed, with the protocol's own errors.

use std::{path::PathBuf, time::Duration};

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use tokenhub_demo::{Reply, Rule};
use tokenhub_domain::Dialect;

use super::{delete, installation, put, refining};
use crate::{
    dialogue::{beginnings, events, is_end, path, text_of, told_error},
    harness::{Disturbance, TestHub, exchange},
};

const PATIENCE: Duration = Duration::from_mins(2);

fn request(client: Dialect, model: &str, stream: bool) -> Value {
    let turns = json!([{"role": "user", "content": "which colour?"}]);
    match client {
        Dialect::Chat => json!({"model": model, "messages": turns, "stream": stream}),
        Dialect::Responses => json!({"model": model, "input": turns, "stream": stream}),
        Dialect::Messages => json!({"model": model, "messages": turns, "stream": stream, "max_tokens": 90}),
    }
}

/// Where a whole answer has its text, its input tokens and why it ended.
fn places(client: Dialect) -> [&'static str; 3] {
    match client {
        Dialect::Chat => ["/choices/0/message/content", "/usage/prompt_tokens", "/choices/0/finish_reason"],
        Dialect::Responses => ["/output/0/content/0/text", "/usage/input_tokens", "/status"],
        Dialect::Messages => ["/content/0/text", "/usage/input_tokens", "/stop_reason"],
    }
}

fn normal_end(client: Dialect) -> &'static str {
    match client {
        Dialect::Chat => "stop",
        Dialect::Responses => "completed",
        Dialect::Messages => "end_turn",
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_template_answers_every_protocol_below_every_prefix_whole_and_streamed() {
    let hub = installation().start().await;
    hub.provider.script(Rule::any([Reply::text("red").usage(11, 3)]));
    put(&hub, "review", &refining("brief")).await.expect(201);
    put(&hub, "one", &json!({"strategy": {"type": "single", "model": "beta"}})).await.expect(201);
    for (model, calls) in [("plan/review", 2), ("plan/review@1", 2), ("plan/one", 1)] {
        for client in Dialect::ALL {
            let at = |prefix: &str| format!("{prefix}{}", path(client));
            let prefix = if client == Dialect::Messages { "/anthropic" } else { "/openai" };
            for path in [at(""), at(prefix)] {
                let before = hub.provider.count();
                let whole = hub.post(&path, &request(client, model, false)).await.expect(200);
                let [text, tokens, reason] = places(client).map(|place| whole.body.pointer(place).cloned());
                assert_eq!((text, tokens), (Some(json!("red")), Some(json!(11 * calls))), "{path}: {}", whole.text);
                assert_eq!(reason, Some(json!(normal_end(client))), "{path}: {}", whole.text);
                let shown = format!("{}@1", model.trim_end_matches("@1"));
                assert_eq!(whole.body["model"], json!(shown), "{path}");
                assert_eq!(whole.header("x-tokenhub-plan-status"), "completed");
                assert_eq!(whole.header("x-tokenhub-durability"), "durable");
                assert_eq!(hub.provider.count() - before, calls, "{path} {model}");
                let id = whole.header("x-tokenhub-run-id");
                let plan = hub.get(&format!("/v1/plan/{id}")).await.unwrap().expect(200).body;
                assert_eq!((&plan["template"]["version"], &plan["usage"]["calls"]), (&json!(1), &json!(calls)));

                let streamed = hub.post(&path, &request(client, model, true)).await.expect(200);
                assert_eq!(streamed.header("content-type"), "text/event-stream");
                assert!(streamed.header("x-tokenhub-run-id").starts_with("plan_"));
                let told = events(&streamed.text);
                assert_eq!(
                    (text_of(client, &told).as_str(), beginnings(client, &told)),
                    ("red", 1),
                    "{}",
                    streamed.text
                );
                assert!(is_end(client, told.last().unwrap()), "{}", streamed.text);
            }
        }
    }
    let native = json!({"request": {"messages": [{"role": "user", "content": "hi"}], "model_hint": "plan/review"}});
    let native = hub.post("/v1/chat", &native).await.expect(200);
    assert_eq!(native.body["response"]["choices"][0]["message"]["content"], "red", "{}", native.text);
    let mut counted = request(Dialect::Chat, "plan/review", true);
    counted["stream_options"] = json!({"include_usage": true});
    let counted = hub.post(path(Dialect::Chat), &counted).await.expect(200);
    let told = events(&counted.text);
    let usage = told.iter().find_map(|(_, event)| event.get("usage").filter(|usage| !usage.is_null()));
    assert_eq!(usage.unwrap()["prompt_tokens"], 22, "{}", counted.text);
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_plan_gives_signs_of_life_and_then_its_answer() {
    let hub = installation().start().await;
    // Longer than proxies and clients wait in silence.
    hub.provider.script(Rule::any([Reply::text("red").delay_ms(9_000)]));
    put(&hub, "review", &refining("brief")).await.expect(201);
    let asked = Dialect::ALL.map(|client| {
        let hub = &hub;
        async move { (client, hub.post(path(client), &request(client, "plan/review", true)).await.expect(200)) }
    });
    for (client, answer) in join_all(asked).await {
        let sign = if client == Dialect::Messages { "event: ping\n" } else { ": ping\n\n" };
        assert!(answer.text.contains(sign), "{client:?}: {}", answer.text);
        let told: Vec<_> = events(&answer.text).into_iter().filter(|(name, _)| *name != "ping").collect();
        assert_eq!((text_of(client, &told).as_str(), beginnings(client, &told)), ("red", 1), "{}", answer.text);
        assert!(is_end(client, told.last().unwrap()), "{}", answer.text);
    }
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_no_answer_is_an_error_of_the_protocol() {
    let hub = installation().temporal_off().start().await;
    put(&hub, "review", &refining("brief")).await.expect(201);
    let mut poor = refining("brief");
    poor["bounds"] = json!({"max_tokens": 1});
    put(&hub, "poor", &poor).await.expect(201);
    let mut asking = refining("brief");
    asking["approval"] = json!({"timeout_ms": 60_000, "on_timeout": "fail"});
    put(&hub, "asking", &asking).await.expect(201);
    put(&hub, "gone", &refining("brief")).await.expect(201);
    delete(&hub, "gone", &[]).await.expect(204);
    hub.provider.script(Rule::any([Reply::failure(400, "no")]));
    for client in Dialect::ALL {
        let code = |answer: &crate::harness::Answer| answer.header("x-tokenhub-error-code").to_owned();
        for stream in [false, true] {
            for model in ["plan/nobody", "plan/gone", "plan/review@2", "plan/review@x", "plan/"] {
                let refused = hub.post(path(client), &request(client, model, stream)).await.expect(404);
                assert_eq!(code(&refused), "model_not_found", "{client:?} {model}: {}", refused.text);
                assert!(refused.body["error"]["message"].as_str().unwrap().contains(model), "{}", refused.text);
            }
            hub.post(path(client), &request(client, "plan/asking", stream)).await.expect(400);
            let (spent, kind) =
                (hub.post(path(client), &request(client, "plan/poor", stream)).await, "insufficient_quota");
            let status = if client == Dialect::Messages { 402 } else { 429 };
            assert_eq!(code(&spent.expect(status)), kind, "{client:?}");
            let failed = hub.post(path(client), &request(client, "plan/review", stream)).await.expect(400);
            assert!(failed.header("x-tokenhub-run-id").starts_with("plan_"), "{}", failed.text);
        }
        let mut tools = request(client, "plan/review", false);
        let function = json!({"name": "look", "parameters": {"type": "object"}});
        tools["tools"] = match client {
            Dialect::Chat => json!([{"type": "function", "function": function}]),
            Dialect::Responses => json!([{"type": "function", "name": "look", "parameters": {"type": "object"}}]),
            Dialect::Messages => json!([{"name": "look", "input_schema": {"type": "object"}}]),
        };
        hub.post(path(client), &tools).await.expect(400);
    }
    let mut background = request(Dialect::Responses, "plan/review", false);
    background["background"] = json!(true);
    hub.post(path(Dialect::Responses), &background).await.expect(400);
    let mut mode = request(Dialect::Chat, "plan/review", false);
    mode["messages"][0]["content"] = json!("hi\n@@tokenhub mode=vote");
    assert_eq!(hub.post(path(Dialect::Chat), &mode).await.expect(400).body["error"]["param"], "model");

    // Once the stream has begun, the error is its last event.
    hub.provider.clear_script();
    hub.provider.script(Rule::any([Reply::error(400, "bad_thing", "no").delay_ms(3_000)]));
    let asked = Dialect::ALL.map(|client| {
        let hub = &hub;
        async move { (client, hub.post(path(client), &request(client, "plan/review", true)).await.expect(200)) }
    });
    for (client, answer) in join_all(asked).await {
        let told = events(&answer.text);
        assert!(told_error(client, told.last().unwrap()).is_some(), "{client:?}: {}", answer.text);
        assert!(!told.iter().any(|event| is_end(client, event)), "{}", answer.text);
    }
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repetition_with_its_key_joins_the_plan_and_buys_nothing_streamed_or_not() {
    let hub = installation().apis(2).start().await;
    hub.provider.script(Rule::any([Reply::text("red").delay_ms(800)]));
    put(&hub, "review", &refining("brief")).await.expect(201);
    for (client, stream) in [(Dialect::Chat, true), (Dialect::Messages, false), (Dialect::Responses, true)] {
        let before = hub.provider.count();
        let keyed = |api: usize| {
            let request = hub.request_to(api, Method::POST, path(client)).header("idempotency-key", "one");
            exchange(request.json(&request_of(client, stream)))
        };
        let (first, second) = tokio::join!(keyed(0), keyed(1));
        let third = keyed(1).await;
        let ids: Vec<String> = [first, second, third]
            .into_iter()
            .map(|answer| answer.unwrap().expect(200).header("x-tokenhub-run-id").to_owned())
            .collect();
        assert!(ids.iter().all(|id| *id == ids[0] && id.starts_with("plan_")), "{ids:?}");
        assert_eq!(hub.provider.count() - before, 2, "{client:?}");
    }
    hub.finish(Disturbance::None).await;
}

fn request_of(client: Dialect, stream: bool) -> Value {
    request(client, "plan/review", stream)
}

#[tokio::test(flavor = "multi_thread")]
async fn templates_are_among_the_models_of_whoever_shows_a_key() {
    let hub = installation().temporal_off().start().await;
    put(&hub, "review", &refining("brief")).await.expect(201);
    for prefix in ["", "/openai", "/anthropic"] {
        let path = format!("{prefix}/v1/models?limit=1000");
        let listed = hub.get(&path).await.unwrap().expect(200).body;
        let ids: Vec<&str> = listed["data"].as_array().unwrap().iter().map(|it| it["id"].as_str().unwrap()).collect();
        assert_eq!(ids.last(), Some(&"plan/review"), "{listed}");
        let one = hub.get(&format!("{prefix}/v1/models/plan/review")).await.unwrap().expect(200).body;
        assert_eq!(one["id"], "plan/review");
        hub.get(&format!("{prefix}/v1/models/plan/other")).await.unwrap().expect(404);
        let open = exchange(crate::harness::http().get(format!("{}{path}", hub.apis[0].1))).await.unwrap().expect(200);
        assert!(!open.text.contains("plan/review") && open.text.contains("alpha"), "{}", open.text);
    }
    hub.finish(Disturbance::None).await;
}

const SCRIPT: &str = r#"
import os
import anthropic, openai
url, key = os.environ["HUB_URL"], os.environ["HUB_KEY"]
turns = [{"role": "user", "content": "which colour?"}]
client = openai.OpenAI(base_url=url + "/openai/v1", api_key=key, max_retries=0)
whole = client.chat.completions.create(model="plan/review", messages=turns)
print(whole.choices[0].message.content, whole.choices[0].finish_reason, whole.usage.prompt_tokens, whole.model)
with client.chat.completions.stream(model="plan/review", messages=turns) as stream:
    stream.until_done()
    print(stream.get_final_completion().choices[0].message.content)
print(client.responses.create(model="plan/review", input=turns).output_text)
with client.responses.stream(model="plan/review", input=turns) as stream:
    print(stream.get_final_response().output_text)
try:
    client.chat.completions.create(model="plan/nobody", messages=turns)
except openai.NotFoundError as error:
    print(error.code)
print("plan/review" in [model.id for model in client.models.list()])
client = anthropic.Anthropic(base_url=url + "/anthropic", api_key=key, max_retries=0)
asked = {"model": "plan/review", "messages": turns, "max_tokens": 90}
whole = client.messages.create(**asked)
print(whole.content[0].text, whole.stop_reason, whole.usage.input_tokens)
with client.messages.stream(**asked) as stream:
    final = stream.get_final_message()
    print(final.content[0].text, final.stop_reason, final.usage.output_tokens)
try:
    client.messages.create(**{**asked, "model": "plan/nobody"})
except anthropic.NotFoundError as error:
    print(error.status_code)
"#;

#[tokio::test(flavor = "multi_thread")]
async fn the_official_sdks_ask_for_a_template_as_for_a_model() {
    let hub = installation().start().await;
    // Slow enough that a stream begins before its plan has ended.
    hub.provider.script(Rule::any([Reply::text("red").usage(11, 3).delay_ms(900)]));
    put(&hub, "review", &refining("brief")).await.expect(201);
    let output = run_script(&hub).await;
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{stdout}\n{stderr}");
    let printed: Vec<&str> = stdout.lines().collect();
    let expected = [
        "red stop 22 plan/review@1",
        "red",
        "red",
        "red",
        "model_not_found",
        "True",
        "red end_turn 22",
        "red end_turn 6",
        "404",
    ];
    assert_eq!(printed, expected, "{stderr}");
    hub.finish(Disturbance::None).await;
}

async fn run_script(hub: &TestHub) -> std::process::Output {
    let python = std::env::var_os("TOKENHUB_TEST_PYTHON")
        .map(PathBuf::from)
        .expect("TOKENHUB_TEST_PYTHON names a Python with tests/clients/requirements.txt installed: use `make test`");
    let child = tokio::process::Command::new(python)
        .args(["-c", SCRIPT])
        .env_clear()
        .env("HOME", hub.dir())
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("HUB_URL", &hub.apis[0].1)
        .env("HUB_KEY", &hub.environment()["TOKENHUB_CLIENT_KEY"])
        .kill_on_drop(true)
        .output();
    tokio::time::timeout(PATIENCE, child).await.expect("the script ends").unwrap()
}
