//! Requests that never become a run: no call, and an answer that says what is wrong with which field.

use reqwest::Method;
use serde_json::{Value, json};

use super::{assert_openai_error, chat, installation};
use crate::harness::{Answer, Disturbance, exchange};

const COMPLETIONS: &str = "/v1/chat/completions";
const MIB: usize = 1024 * 1024;

fn plan(model: Option<&str>) -> Value {
    let request = json!({"messages": [{"role": "user", "content": "a question"}]});
    json!({"request": request, "orchestration": {"mode": "planning", "primary_model_id": model}})
}

/// A problem document, on the plan route.
#[track_caller]
fn assert_problem(answer: &Answer, status: u16, code: &str) {
    assert_eq!(answer.status.as_u16(), status, "{}", answer.text);
    assert_eq!(answer.header("content-type"), "application/problem+json");
    assert_eq!(answer.body["status"], status, "{}", answer.text);
    assert_eq!(answer.body["code"], code, "{}", answer.text);
    assert!(answer.body["type"].is_string() && answer.body["title"].is_string() && answer.body["detail"].is_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_model_is_404_on_every_route_and_nobody_is_called() {
    let hub = installation().start().await;
    for model in ["gpt-9", "scripted/gpt-9", "alpha ", "Alpha"] {
        let answer = hub.post(COMPLETIONS, &chat(Some(model), "unknown")).await;
        if model.trim() == "alpha" {
            answer.expect(200);
            continue;
        }
        let error = assert_openai_error(&answer, 404);
        assert_eq!((&error["code"], &error["param"]), (&json!("model_not_found"), &json!("model")), "{model}");
        assert_eq!(error["type"], "invalid_request_error");
        assert_eq!(answer.header("x-should-retry"), "false");
        let mut streamed = chat(Some(model), "unknown");
        streamed["stream"] = true.into();
        let answer = hub.post(COMPLETIONS, &streamed).await;
        assert_eq!(assert_openai_error(&answer, 404)["code"], "model_not_found");
        let answer = hub.post("/v1/plan", &plan(Some(model))).await;
        assert_problem(&answer, 404, "model_not_found");
        assert_eq!(answer.body["param"], "orchestration.primary_model_id");
        let mut native = plan(None);
        native["request"]["model_hint"] = model.into();
        let answer = hub.post("/v1/chat", &native).await.expect(404);
        assert_eq!(answer.body["code"], "model_not_found", "{}", answer.text);
        assert!(answer.body["error"].is_string(), "{}", answer.text);
    }
    assert_eq!(hub.provider.count(), 1, "only the one whose name had a space behind it");
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_is_refused_before_anything_happens() {
    let hub = installation().start().await;
    let raw = async |path: &str, body: String| {
        exchange(hub.request(Method::POST, path).header("content-type", "application/json").body(body)).await.unwrap()
    };
    for body in ["", "{", "[]", "\"text\"", "{\"messages\": [}", "\u{fffd}"] {
        let answer = raw(COMPLETIONS, body.to_owned()).await;
        assert_eq!(assert_openai_error(&answer, 400)["code"], "invalid_json", "{body}");
        assert_problem(&raw("/v1/plan", body.to_owned()).await, 400, "invalid_json");
        let answer = raw("/v1/chat", body.to_owned()).await.expect(400);
        assert_eq!(answer.body["code"], "invalid_json");
    }
    for (body, param) in [
        (json!({"model": "alpha"}), "messages"),
        (json!({"model": "alpha", "messages": []}), "messages"),
        (json!({"model": "alpha", "messages": "hi"}), "messages"),
        (json!({"model": "alpha", "messages": ["hi"]}), "messages[0]"),
        (json!({"model": 7, "messages": [{}]}), "model"),
        (json!({"model": "alpha", "messages": [{}], "stream": "yes"}), "stream"),
    ] {
        let answer = hub.post(COMPLETIONS, &body).await;
        assert_eq!(assert_openai_error(&answer, 400)["param"], param, "{body}");
        assert_eq!(answer.header("x-should-retry"), "false");
    }
    let mut unknown = plan(None);
    unknown["orchestration"]["itterations"] = 3.into();
    let answer = hub.post("/v1/plan", &unknown).await;
    assert_problem(&answer, 400, "unknown_parameter");
    assert_eq!(answer.body["param"], "orchestration.itterations");
    assert_eq!(hub.provider.count(), 0);
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_above_the_limit_of_its_route_is_413() {
    let hub = installation().temporal_off().start().await;
    let of_size = |bytes: usize| {
        let mut body = plan(None);
        body["messages"] = json!([{"role": "user", "content": "x".repeat(bytes)}]);
        body
    };
    let answer = hub.post(COMPLETIONS, &of_size(33 * MIB)).await;
    assert_eq!(assert_openai_error(&answer, 413)["code"], "request_too_large");
    assert_problem(&hub.post("/v1/plan", &of_size(9 * MIB)).await, 413, "request_too_large");
    // No length is announced: the limit is found while reading.
    let chunks = (0..40).map(|_| Ok::<_, std::io::Error>("x".repeat(MIB)));
    let body = reqwest::Body::wrap_stream(futures_util::stream::iter(chunks));
    let answer = exchange(hub.request(Method::POST, COMPLETIONS).body(body)).await.unwrap();
    assert_eq!(assert_openai_error(&answer, 413)["code"], "request_too_large");
    assert_eq!(hub.provider.count(), 0);
    hub.post("/v1/plan", &of_size(7 * MIB)).await.expect(200);
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn durability_is_asked_for_in_three_words_and_in_no_other_way() {
    let hub = installation().start().await;
    for word in ["always", "durable", "yes", "", "required,none"] {
        let answer = hub.post_with(COMPLETIONS, &[("x-tokenhub-durability", word)], &chat(None, "words")).await;
        let error = assert_openai_error(&answer, 400);
        assert_eq!(error["code"], "invalid_header", "{word}");
        assert_eq!(error["param"], "X-TokenHub-Durability", "{word}");
        let answer = hub.post_with("/v1/plan", &[("x-tokenhub-durability", word)], &plan(None)).await;
        assert_problem(&answer, 400, "invalid_header");
    }
    let mut streamed = chat(Some("alpha"), "words");
    streamed["stream"] = true.into();
    let answer = hub.post_with(COMPLETIONS, &[("x-tokenhub-durability", "required")], &streamed).await;
    assert_eq!(assert_openai_error(&answer, 400)["code"], "invalid_header");
    assert_eq!(hub.provider.count(), 0);
    for (word, mark) in [("required", "durable"), ("preferred", "durable"), ("none", "none")] {
        let answer = hub.post_with(COMPLETIONS, &[("x-tokenhub-durability", word)], &chat(None, "words")).await;
        assert_eq!(answer.expect(200).header("x-tokenhub-durability"), mark, "{word}");
    }
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn required_durability_without_temporal_is_503_and_says_when_to_come_back() {
    let hub = installation().temporal_off().start().await;
    let required = [("x-tokenhub-durability", "required")];
    let answer = hub.post_with(COMPLETIONS, &required, &chat(None, "required")).await;
    assert_eq!(assert_openai_error(&answer, 503)["code"], "durability_unavailable");
    assert!(answer.header("retry-after").parse::<u64>().is_ok_and(|seconds| seconds > 0), "{:?}", answer.headers);
    let answer = hub.post_with("/v1/plan", &required, &plan(None)).await;
    assert_problem(&answer, 503, "durability_unavailable");
    assert_eq!(hub.provider.count(), 0);
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_key_or_the_right_path_there_is_nothing() {
    let hub = installation().temporal_off().start().await;
    let url = &hub.apis[0].1;
    for path in [COMPLETIONS, "/v1/chat", "/v1/plan"] {
        let request = reqwest::Client::builder().no_proxy().build().unwrap().post(format!("{url}{path}"));
        let answer = exchange(request.bearer_auth("sk-wrong").json(&chat(None, "key"))).await.unwrap().expect(401);
        assert_eq!(answer.header("www-authenticate"), "Bearer", "{path}");
        if path == COMPLETIONS {
            assert_eq!(assert_openai_error(&answer, 401)["code"], "invalid_api_key");
        }
    }
    let answer = hub.post("/v1/chat/completion", &chat(None, "path")).await;
    assert_openai_error(&answer, 404);
    let answer = hub.get(COMPLETIONS).await.unwrap();
    assert_openai_error(&answer, 405);
    assert_problem(&hub.get("/v1/plan/plan_nobody").await.unwrap(), 404, "run_not_found");
    assert_eq!(hub.provider.count(), 0);
    hub.finish(Disturbance::None).await;
}
