//! The codec that Temporal's UI and command line ask: who may, what is refused, and which pages.

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use super::{ADMIN_TOKEN, KEY_A, KEY_B, codec, installation, keys};
use crate::harness::{Answer, Disturbance, TestHub, exchange, http};

const UI: &str = "http://127.0.0.1:8233";

async fn hub() -> TestHub {
    installation(&keys(&[("a", KEY_A)])).environment("TOKENHUB_CODEC_CORS_ORIGIN", UI).temporal_off().start().await
}

fn request(hub: &TestHub, method: Method, path: &str) -> RequestBuilder {
    http().request(method, format!("{}/admin/v1/codec{path}", hub.apis[0].1))
}

async fn sent(request: RequestBuilder) -> Answer {
    exchange(request).await.unwrap()
}

/// A text as a payload.
fn plain() -> Value {
    json!({"metadata": {"encoding": "anNvbi9wbGFpbg=="}, "data": "InRleHQi"})
}

fn some() -> Value {
    json!({"payloads": [plain()]})
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_encoded_is_decoded_and_what_was_not_is_left_alone() {
    let hub = hub().await;
    let url = &hub.apis[0].1;
    let encoded = codec(url, "encode", &some()).await.expect(200);
    let payload = &encoded.body["payloads"][0];
    assert_eq!(payload["metadata"], json!({"encoding": "YmluYXJ5L2VuY3J5cHRlZA==", "encryption-key-id": "YQ=="}));
    assert_eq!(encoded.header("cache-control"), "no-store");
    let unknown = json!({"metadata": {"encoding": "anNvbi9wbGFpbg"}, "data": "e30", "externalPayloads": []});
    let decoded = codec(url, "decode", &json!({"payloads": [payload, unknown]})).await.expect(200);
    assert_eq!(decoded.body, json!({"payloads": [plain(), unknown]}));
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payload_that_cannot_be_read_is_named_with_its_reason() {
    let hub = hub().await;
    let url = &hub.apis[0].1;
    let bad = codec(url, "decode", &json!({"payloads": [plain(), {"data": "!"}]})).await.expect(400);
    assert_eq!((&bad.body["code"], &bad.body["param"]), (&json!("invalid_value"), &json!("payloads[1].data")));

    let mut payload = codec(url, "encode", &some()).await.expect(200).body["payloads"][0].take();
    let whole = payload.clone();
    payload["data"] = format!("AAAA{}", &payload["data"].as_str().unwrap()[4..]).into();
    let damaged = codec(url, "decode", &json!({"payloads": [plain(), payload]})).await.expect(400);
    assert_eq!(damaged.body["param"], "payloads[1]");
    assert!(damaged.text.contains("damaged"), "{}", damaged.text);

    payload = whole;
    payload["metadata"]["encryption-key-id"] = "bm93aGVyZQ==".into();
    let unknown = codec(url, "decode", &json!({"payloads": [payload]})).await.expect(400);
    assert!(unknown.text.contains("`nowhere`"), "{}", unknown.text);

    let large = json!({"payloads": [{"data": "A".repeat(8 * 1024 * 1024)}]});
    codec(url, "decode", &large).await.expect(413);
    sent(request(&hub, Method::GET, "/decode").bearer_auth(ADMIN_TOKEN)).await.expect(405);
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_admin_token_opens_it_and_a_browser_may_have_it_as_a_cookie() {
    let hub = hub().await;
    let decode = || request(&hub, Method::POST, "/decode").json(&some());
    let client_key = hub.environment()["TOKENHUB_CLIENT_KEY"].clone();
    for refused in [decode(), decode().bearer_auth("wrong"), decode().bearer_auth(client_key)] {
        assert_eq!(sent(refused).await.expect(401).body["code"], "invalid_admin_token");
    }
    let page = sent(request(&hub, Method::GET, "")).await.expect(200);
    assert!(page.header("content-type").starts_with("text/html") && page.text.contains("<form"), "{}", page.text);
    let sign_in = |token: &str| {
        let form = "application/x-www-form-urlencoded";
        request(&hub, Method::POST, "").header("content-type", form).body(format!("token={token}"))
    };
    assert_eq!(sent(sign_in("wrong")).await.expect(401).header("set-cookie"), "");
    let cookie = sent(sign_in(ADMIN_TOKEN)).await.expect(200).header("set-cookie").to_owned();
    assert!(cookie.contains("HttpOnly; SameSite=Strict") && cookie.contains("Path=/admin/v1/codec;"), "{cookie}");
    let pair = cookie.split(';').next().unwrap();
    assert!(!pair.contains(ADMIN_TOKEN), "{pair}");
    sent(decode().header("cookie", format!("other=1; {pair}"))).await.expect(200);
    sent(decode().header("cookie", format!("{pair}0"))).await.expect(401);
    let elsewhere = http().get(format!("{}/admin/v1/providers", hub.apis[0].1)).header("cookie", pair);
    sent(elsewhere).await.expect(401);
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_of_the_ui_may_ask_with_credentials_and_no_other_page_may() {
    let hub = hub().await;
    let question = |origin: &str| {
        request(&hub, Method::OPTIONS, "/decode")
            .header("origin", origin)
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "authorization,content-type,x-namespace")
    };
    let decode = |origin: &str| {
        request(&hub, Method::POST, "/decode").header("origin", origin).bearer_auth(ADMIN_TOKEN).json(&some())
    };
    let permitted = sent(question(UI)).await.expect(204);
    for wanted in ["content-type", "authorization", "x-namespace"] {
        assert!(permitted.header("access-control-allow-headers").contains(wanted), "{:?}", permitted.headers);
    }
    for answer in [permitted, sent(decode(UI)).await.expect(200)] {
        assert_eq!(answer.header("access-control-allow-origin"), UI);
        assert_eq!(answer.header("access-control-allow-credentials"), "true");
    }
    for stranger in ["http://127.0.0.1:8234", "https://evil.example", "null"] {
        for answer in [sent(question(stranger)).await, sent(decode(stranger)).await] {
            assert_eq!(answer.header("access-control-allow-origin"), "", "{stranger}");
            assert_eq!(answer.header("access-control-allow-credentials"), "", "{stranger}");
        }
    }
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn payloads_of_a_key_that_was_replaced_are_decoded_as_long_as_it_is_listed() {
    let mut hub = hub().await;
    let encoded = codec(&hub.apis[0].1, "encode", &some()).await.expect(200).body;
    hub.start_api_with(&[("TOKENHUB_PAYLOAD_KEYS", &keys(&[("b", KEY_B), ("a", KEY_A)]))]).await;
    hub.start_api_with(&[("TOKENHUB_PAYLOAD_KEYS", &keys(&[("b", KEY_B)]))]).await;
    assert_eq!(codec(&hub.apis[1].1, "decode", &encoded).await.expect(200).body, some());
    let refused = codec(&hub.apis[2].1, "decode", &encoded).await.expect(400);
    assert!(refused.text.contains("`a`"), "{}", refused.text);
    hub.finish(Disturbance::None).await;
}
