//! What clients of the three protocols find at the door: their routes, their lists, their refusals and their headers.

use std::net::SocketAddr;

use reqwest::Method;
use serde_json::{Value, json};
use tokenhub_demo::{Reply, Rule};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::harness::{Disturbance, TestHub, exchange, http};

/// One more than a protocol route takes.
const TOO_MANY_BYTES: usize = 32 * 1024 * 1024 + 1;
const CHUNK_BYTES: usize = 1024 * 1024;

fn turn() -> Value {
    json!([{"role": "user", "content": "hi"}])
}

#[tokio::test(flavor = "multi_thread")]
async fn every_protocol_is_refused_in_its_own_form_at_each_of_its_addresses() {
    let hub = TestHub::builder().temporal_off().start().await;
    let messages = json!({"model": "no-such", "max_tokens": 5, "messages": turn()});
    let responses = json!({"model": "no-such", "input": "hi"});
    for prefix in ["", "/openai", "/anthropic"] {
        let refused = hub.post(&format!("{prefix}/v1/messages?beta=true"), &messages).await.expect(404);
        assert_eq!(
            (&refused.body["type"], &refused.body["error"]["type"]),
            (&json!("error"), &json!("not_found_error"))
        );
        assert_eq!(refused.body["request_id"], refused.header("request-id"));
        assert_eq!(refused.header("request-id"), refused.header("x-tokenhub-request-id"));
        assert_eq!(refused.header("x-request-id"), "");
        assert_eq!(refused.header("x-should-retry"), "false");
        let refused = hub.post(&format!("{prefix}/v1/responses"), &responses).await.expect(404);
        assert_eq!(
            (&refused.body["error"]["code"], &refused.body["error"]["param"]),
            (&json!("model_not_found"), &json!("model"))
        );
        assert!(refused.header("x-request-id").starts_with("req_"), "{:?}", refused.headers);
        assert!(refused.header("openai-processing-ms").parse::<u64>().is_ok());
        let chat = json!({"model": "alpha", "messages": turn()});
        hub.post(&format!("{prefix}/v1/chat/completions"), &chat).await.expect(200);
    }
    assert_eq!(hub.provider.calls().len(), 3, "no refusal called a provider");
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_field_that_is_wrong_is_named_and_broken_json_is_placed() {
    let hub = TestHub::builder().temporal_off().start().await;
    let refused = hub.post("/v1/messages", &json!({"model": "alpha", "messages": turn()})).await.expect(400);
    assert_eq!(refused.body["error"], json!({"type": "invalid_request_error", "message": "max_tokens is required"}));
    assert_eq!(refused.header("x-tokenhub-error-code"), "missing_required_parameter");
    let refused = hub.post("/v1/responses", &json!({"model": "alpha", "input": [{}, 1]})).await.expect(400);
    assert_eq!(refused.body["error"]["param"], "input[1]");
    let broken = hub.request(Method::POST, "/v1/responses").body("{\"model\":\n \"a\",,}");
    let refused = exchange(broken).await.unwrap().expect(400);
    assert!(refused.body["error"]["message"].as_str().unwrap().ends_with("at line 2 column 6"), "{}", refused.text);
    let no_text = hub.request(Method::POST, "/v1/messages").body(&b"{\"model\":\"\xff\"}"[..]);
    let refused = exchange(no_text).await.unwrap().expect(400);
    assert_eq!(refused.header("x-tokenhub-error-code"), "invalid_json");
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_taken_from_either_header_and_its_lack_is_told_in_the_protocols_form() {
    let hub = TestHub::builder().temporal_off().start().await;
    let url = &hub.apis[0].1;
    let refused = exchange(http().post(format!("{url}/v1/messages")).body("{}")).await.unwrap().expect(401);
    assert_eq!(refused.body["error"]["type"], "authentication_error");
    let refused =
        exchange(http().post(format!("{url}/v1/responses")).header("x-api-key", "no")).await.unwrap().expect(401);
    assert_eq!(refused.body["error"]["code"], "invalid_api_key");
    let key = &hub.environment()["TOKENHUB_CLIENT_KEY"];
    let asked = http().post(format!("{url}/v1/messages/count_tokens")).header("x-api-key", key);
    exchange(asked.json(&json!({"model": "alpha", "messages": turn()}))).await.unwrap().expect(200);
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_counted_with_the_tools_and_without_a_call() {
    let hub = TestHub::builder().temporal_off().start().await;
    let count = async |body: Value| {
        let counted = hub.post("/v1/messages/count_tokens?beta=true", &body).await.expect(200);
        assert_eq!(counted.header("x-tokenhub-estimate"), "true");
        counted.body["input_tokens"].as_u64().unwrap()
    };
    let tools: Vec<Value> = (0..30)
        .map(|index| json!({"name": format!("tool_{index}"), "description": "Finds a thing.", "input_schema": {"type": "object"}}))
        .collect();
    let bare = count(json!({"model": "alpha", "messages": turn()})).await;
    let with_tools = count(json!({"model": "alpha", "messages": turn(), "tools": tools})).await;
    assert!(bare > 0 && with_tools > bare + 300, "{bare} and {with_tools}");
    let unknown = json!({"model": "no-such", "messages": turn()});
    hub.post("/v1/messages/count_tokens", &unknown).await.expect(404);
    assert_eq!(hub.provider.calls().len(), 0);
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn models_are_listed_in_the_form_that_is_asked_for() {
    let hub = TestHub::builder().temporal_off().start().await;
    let ids = |list: &Value| {
        list["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|model| model["id"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let openai = hub.get("/openai/v1/models").await.unwrap().expect(200).body;
    assert_eq!(openai["object"], "list");
    let versioned = hub.request(Method::GET, "/v1/models?limit=1000").header("anthropic-version", "2023-06-01");
    let anthropic = exchange(versioned).await.unwrap().expect(200).body;
    assert_eq!((ids(&openai), &anthropic["has_more"]), (ids(&anthropic), &json!(false)));
    assert_eq!(anthropic["data"][0]["type"], "model");
    let first = hub.get("/anthropic/v1/models?limit=1").await.unwrap().expect(200).body;
    assert_eq!((ids(&first).len(), &first["has_more"]), (1, &json!(true)));
    let rest = hub.get(&format!("/anthropic/v1/models?after_id={}", first["last_id"].as_str().unwrap())).await.unwrap();
    assert_eq!(ids(&rest.expect(200).body), ids(&openai)[1..]);
    let one = hub.get("/anthropic/v1/models/alpha").await.unwrap().expect(200).body;
    assert_eq!((&one["display_name"], &one["type"]), (&json!("alpha"), &json!("model")));
    assert_eq!(hub.get("/anthropic/v1/models/none").await.unwrap().expect(404).body["type"], "error");
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_roots_answer_anybody_and_a_page_may_ask_before_it_sends() {
    let hub = TestHub::builder().temporal_off().start().await;
    let url = &hub.apis[0].1;
    for path in ["/", "/openai", "/anthropic/", "/health/liveliness", "/health/readiness"] {
        for method in [Method::HEAD, Method::GET] {
            exchange(http().request(method, format!("{url}{path}"))).await.unwrap().expect(200);
        }
    }
    let preflight = http()
        .request(Method::OPTIONS, format!("{url}/v1/messages"))
        .header("origin", "https://page.example")
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "authorization,anthropic-version,x-anything");
    let allowed = exchange(preflight).await.unwrap().expect(204);
    assert_eq!(allowed.header("access-control-allow-origin"), "*");
    assert!(allowed.header("access-control-allow-headers").contains("authorization"));
    assert!(allowed.header("access-control-allow-methods").contains("POST"));
    let refused = http().post(format!("{url}/v1/messages")).header("origin", "https://page.example");
    let refused = exchange(refused).await.unwrap().expect(401);
    assert_eq!(refused.header("access-control-allow-origin"), "*", "a page reads refusals, too");
    let exposed = refused.header("access-control-expose-headers");
    for header in ["request-id", "x-request-id", "retry-after", "x-tokenhub-run-id", "x-ratelimit-remaining-tokens"] {
        assert!(exposed.split(',').any(|name| name.trim() == header), "{header} in {exposed}");
    }
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_pages_that_the_operator_lists_are_told_that_they_may_read() {
    let hub = TestHub::builder()
        .temporal_off()
        .environment("TOKENHUB_CORS_ORIGINS", "https://page.example, http://localhost:5173")
        .start()
        .await;
    for (origin, told) in [
        ("https://page.example", "https://page.example"),
        ("http://localhost:5173", "http://localhost:5173"),
        ("https://elsewhere.example", ""),
    ] {
        let body = json!({"model": "alpha", "messages": turn()});
        let answer = hub.post_with("/v1/chat/completions", &[("origin", origin)], &body).await.expect(200);
        assert_eq!(answer.header("access-control-allow-origin"), told);
    }
    hub.finish(Disturbance::None).await;
}

/// Sends a body of pieces without telling its length; the answer up to the end of its head and body.
async fn send_in_pieces(address: SocketAddr, key: &str, path: &str, bytes: usize) -> String {
    let mut connection = TcpStream::connect(address).await.unwrap();
    let head = format!("POST {path} HTTP/1.1\r\nhost: x\r\nx-api-key: {key}\r\ntransfer-encoding: chunked\r\n\r\n");
    connection.write_all(head.as_bytes()).await.unwrap();
    let piece = [format!("{CHUNK_BYTES:x}\r\n").as_bytes(), &vec![b' '; CHUNK_BYTES], b"\r\n"].concat();
    for _ in 0..bytes.div_ceil(CHUNK_BYTES) {
        connection.write_all(&piece).await.unwrap();
    }
    connection.write_all(b"0\r\n\r\n").await.unwrap();
    let mut answer = vec![0; 16 * 1024];
    let length = connection.read(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer[..length]).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_too_large_is_refused_in_the_protocols_form_whether_or_not_it_says_so() {
    let hub = TestHub::builder().temporal_off().start().await;
    let declared = hub.request(Method::POST, "/v1/messages").body(vec![b' '; TOO_MANY_BYTES]);
    let refused = exchange(declared).await.unwrap().expect(413);
    assert_eq!(refused.body["error"]["type"], "request_too_large");
    let address = hub.apis[0].1.strip_prefix("http://").unwrap().parse().unwrap();
    let key = &hub.environment()["TOKENHUB_CLIENT_KEY"];
    let refused = send_in_pieces(address, key, "/v1/messages", TOO_MANY_BYTES).await;
    assert!(refused.starts_with("HTTP/1.1 413") && refused.contains("\"request_too_large\""), "{refused}");
    let refused = send_in_pieces(address, key, "/v1/responses", TOO_MANY_BYTES).await;
    assert!(refused.starts_with("HTTP/1.1 413") && refused.contains("\"code\":\"request_too_large\""), "{refused}");
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_trace_tells_whom_was_asked_for_a_stream_and_for_a_whole_answer() {
    let hub = TestHub::builder().temporal_off().start().await;
    // The best ranked model refuses for good, so another one answers.
    let best = hub.post("/v1/chat/completions", &json!({"messages": turn()})).await.expect(200);
    let best = best.header("x-tokenhub-model").to_owned();
    hub.provider.script(Rule::model(&best, [Reply::error(401, "invalid_api_key", "no")]));
    let asked = [("x-tokenhub-trace", "1")];
    let body = json!({"messages": turn(), "stream": true});
    let streamed = hub.post_with("/v1/chat/completions", &asked, &body).await.expect(200);
    let trace: Value = serde_json::from_str(streamed.header("x-tokenhub-trace")).unwrap();
    assert_eq!((&trace[0]["model"], &trace[0]["class"]), (&json!(best), &json!("auth_failed")), "{trace}");
    assert_eq!(
        (&trace[1]["model"], &trace[1]["class"]),
        (&json!(streamed.header("x-tokenhub-model")), &json!("answered"))
    );
    let whole = hub.post_with("/v1/chat/completions", &asked, &json!({"messages": turn()})).await.expect(200);
    let trace: Value = serde_json::from_str(whole.header("x-tokenhub-trace")).unwrap();
    assert_eq!((&trace[0]["class"], &trace[0]["attempts"]), (&json!("answered"), &json!(2)), "{trace}");
    let silent = hub.post("/v1/chat/completions", &json!({"messages": turn()})).await.expect(200);
    assert_eq!(silent.header("x-tokenhub-trace"), "");
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_provider_gets_every_field_of_the_body() {
    let hub = TestHub::builder().temporal_off().start().await;
    let sent = r#"{ "vendor": {"a":1.0}, "messages":[{"role":"user","content":"hi"}], "seed":7, "model":"beta" }"#;
    let answered = exchange(hub.request(Method::POST, "/v1/chat/completions").body(sent)).await.unwrap().expect(200);
    assert_eq!(answered.header("x-tokenhub-model"), "beta");
    let seen = &hub.provider.calls()[0].body;
    assert_eq!(*seen, serde_json::from_str::<Value>(sent).unwrap());
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_response_that_is_not_kept_is_not_found_in_openais_form() {
    let hub = TestHub::builder().temporal_off().start().await;
    let missing = hub.get("/v1/responses/resp_1").await.unwrap().expect(404);
    assert_eq!(missing.body["error"]["code"], "response_not_found");
    hub.post("/openai/v1/responses/resp_1/cancel", &json!({})).await.expect(404);
    let chat = hub.post("/v1/chat/completions", &json!({"model": "alpha", "messages": turn()})).await.expect(200);
    let run = chat.header("x-tokenhub-run-id");
    hub.get(&format!("/v1/responses/{run}")).await.unwrap().expect(404);
    hub.finish(Disturbance::None).await;
}
