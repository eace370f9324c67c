//! What passes between a client and its provider: the client's bytes and headers on the way out, and the end of a call
//! whose client has gone.

use std::time::{Duration, Instant};

use futures_util::{StreamExt, future::join_all};
use reqwest::Method;
use serde_json::{Value, json};
use tokenhub_demo::{Finished, Part, Reasoning, Reply, Rule, ScriptedProvider, SeenCall};
use tokenhub_domain::{Dialect, ErrorClass, TenantId};
use tokenhub_store::LedgerState;

use crate::{
    dialogue,
    evidence::Evidence,
    harness::{Disturbance, TestHub, TestHubBuilder, eventually, exchange, http},
};

/// An upstream learns within this that nobody listens any more.
const ABORT_LIMIT: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(20);
const KEY: &str = "sk-up";

fn pairs() -> Vec<(Dialect, Dialect)> {
    Dialect::ALL.into_iter().flat_map(|client| Dialect::ALL.map(|upstream| (client, upstream))).collect()
}

/// One provider for each protocol, named after it, with the models that `models` says.
fn installation(models: impl Iterator<Item = (Dialect, String)>) -> TestHubBuilder {
    let upstreams = Dialect::ALL.map(|dialect| dialogue::upstream(dialect.as_str(), dialect, KEY));
    let models = models.map(|(dialect, model)| dialogue::model_at(dialect.as_str(), &model, 1));
    TestHub::builder().temporal_off().upstreams(upstreams.to_vec()).models(models.collect())
}

/// The model of a pair.
fn name((client, upstream): (Dialect, Dialect)) -> String {
    format!("{}-{}", client.as_str(), upstream.as_str())
}

fn is_aborted(model: &str) -> impl Fn(&[SeenCall]) -> bool {
    move |calls| call_for(calls, model).is_some_and(|call| call.finished == Finished::Aborted)
}

fn call_for(calls: &[SeenCall], model: &str) -> Option<SeenCall> {
    calls.iter().find(|call| call.model == model).cloned()
}

/// Reads until the answer has begun, and goes.
async fn read_a_little(hub: &TestHub, client: Dialect, model: &str) {
    let (path, body) = dialogue::request(client, model);
    let response = hub.request(Method::POST, path).json(&body).send().await.unwrap();
    assert_eq!(response.status().as_u16(), 200);
    let mut chunks = response.bytes_stream();
    let mut read = String::new();
    while !read.contains("word") {
        read.push_str(&String::from_utf8_lossy(&chunks.next().await.unwrap().unwrap()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_ends_the_call_upstream_and_is_no_failure_of_the_provider() {
    let hub = installation(pairs().into_iter().map(|pair| (pair.1, name(pair)))).start().await;
    // Talks on for a minute; what ends it is the client.
    hub.provider.script(Rule::any([Reply::text("word ".repeat(600)).usage(9, 600).gap_ms(100)]));
    let left = pairs().into_iter().map(async |pair| {
        read_a_little(&hub, pair.0, &name(pair)).await;
        let since = Instant::now();
        assert!(
            hub.provider.wait_until(ABORT_LIMIT, is_aborted(&name(pair))).await,
            "{pair:?}: not within {ABORT_LIMIT:?}"
        );
        eprintln!("{pair:?}: aborted after {} ms", since.elapsed().as_millis());
    });
    join_all(left).await;
    let evidence = Evidence::of(&hub).await;
    for row in evidence.ended(pairs().len()).await {
        assert_eq!((row.state, row.error_class, row.status_code), (LedgerState::Settled, None, None), "{row:?}");
        assert_eq!(row.finish_reason.as_deref(), Some(ErrorClass::Cancelled.as_str()), "{row:?}");
        // Only Messages has told of the prompt by then.
        let told = row.provider.as_str() == Dialect::Messages.as_str();
        assert_eq!(row.input_tokens, if told { 9 } else { 0 }, "{row:?}");
    }
    let lines = eventually("every stream is in the log", PATIENCE, || async {
        let lines = evidence.log(&TenantId::default_tenant()).await;
        (lines.len() == pairs().len()).then_some(lines)
    });
    assert!(lines.await.iter().all(|line| line.error_class == Some(ErrorClass::Cancelled)));
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_before_the_first_token_ends_the_call_and_nothing_is_owed() {
    let hub = installation(pairs().into_iter().map(|pair| (pair.1, name(pair)))).start().await;
    hub.provider.script(Rule::any([Reply::text("never said").stall_after_tokens(0)]));
    let left = pairs().into_iter().map(async |pair| {
        let (path, body) = dialogue::request(pair.0, &name(pair));
        let asked = hub.request(Method::POST, path).json(&body).send();
        let called = hub.provider.wait_until(PATIENCE, |calls| call_for(calls, &name(pair)).is_some());
        tokio::select! {
            answer = asked => panic!("{pair:?}: {answer:?}"),
            is_called = called => assert!(is_called, "{pair:?}"),
        }
        // The request was dropped, and its connection with it.
        assert!(hub.provider.wait_until(ABORT_LIMIT, is_aborted(&name(pair))).await, "{pair:?}");
    });
    join_all(left).await;
    for row in Evidence::of(&hub).await.ended(pairs().len()).await {
        assert_eq!((row.state, row.error_class), (LedgerState::Void, Some(ErrorClass::Cancelled)), "{row:?}");
    }
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_the_providers_protocol_gets_the_providers_bytes_however_they_were_cut() {
    let hub =
        installation(Dialect::ALL.into_iter().map(|dialect| (dialect, dialect.as_str().to_owned()))).start().await;
    let direct = ScriptedProvider::start().await;
    let said = Reply::parts([
        Part::reasoning("hé 😀", Some("signed")),
        Part::Text("“naïve” 世界 😀 done".to_owned()),
        Part::tool_call("call_1", "look", ["{\"at\":", "\"世界\"}"]),
    ]);
    let cuts = [said.clone(), said.clone().split_bytes(1), said.clone().split_inside_characters(), said.split_bytes(7)];
    for dialect in Dialect::ALL {
        for stream in [true, false] {
            for (cut, reply) in cuts.iter().enumerate() {
                let (path, mut body) = dialogue::request(dialect, dialect.as_str());
                body["stream"] = json!(stream);
                if stream && dialect == Dialect::Chat {
                    body["stream_options"] = json!({"include_usage": true});
                }
                hub.provider.script(Rule::any([reply.clone()]));
                direct.script(Rule::any([reply.clone()]));
                let wanted = exchange(http().post(format!("{}{path}", direct.base_url())).json(&body)).await.unwrap();
                let got = exchange(hub.request(Method::POST, path).json(&body)).await.unwrap().expect(200);
                assert_eq!(got.text, wanted.text, "{dialect:?}, stream {stream}, cut {cut}");
                assert!(got.text.contains("世界"), "{}", got.text);
            }
        }
    }
    hub.finish(Disturbance::None).await;
}

/// A body that no printer would make: white space, forms of numbers, escapes and fields of nobody.
fn odd_body(dialect: Dialect, model: &str, stream: &str) -> String {
    let conversation = match dialect {
        Dialect::Chat => r#""messages" : [ {"role":"user","content":"h\u00e9 \ud83d\ude00 \/","name":"n"} ]"#,
        Dialect::Responses => r#""input" : [ {"role":"user","content":"h\u00e9 \ud83d\ude00 \/","x":null} ]"#,
        Dialect::Messages => {
            r#""max_tokens":100 , "messages" : [ {"role":"user","content":"h\u00e9 \ud83d\ude00 \/","x":null} ]"#
        }
    };
    format!(
        "\r\n {{ \"temperature\":1.0e0,\n\t\"model\" :\t\"{model}\" , \"big\":12345678901234567890123,\"vendor\": \
         {{\"b\":1.00, \"a\":[ ] , \"a\":-0.0}},  {conversation},\r\n\"stream\":{stream} ,\"last\":\"\\u0000 é\" }}\n "
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn case_19_a_provider_of_the_clients_protocol_gets_the_clients_bytes_and_another_model() {
    let odd = |dialect: Dialect| format!("odd-{}", dialect.as_str());
    let hub = installation(Dialect::ALL.into_iter().map(|dialect| (dialect, odd(dialect)))).start().await;
    for dialect in Dialect::ALL {
        for stream in ["false", "true"] {
            let asked = format!("{}/{}", dialect.as_str(), odd(dialect));
            let body = odd_body(dialect, &asked, stream);
            let request = hub.request(Method::POST, dialogue::path(dialect)).body(body);
            exchange(request).await.unwrap().expect(200);
            let call = hub.provider.calls().pop().unwrap();
            let mut wanted = odd_body(dialect, &odd(dialect), stream);
            if (dialect, stream) == (Dialect::Chat, "true") {
                wanted = wanted.replacen('{', "{\"stream_options\":{\"include_usage\":true},", 1);
            }
            assert_eq!(String::from_utf8_lossy(&call.raw_body.0), wanted, "{dialect:?}, stream {stream}");
            assert_eq!(call.path, dialogue::path(dialect));
        }
    }
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_of_messages_sees_version_and_betas_and_no_provider_sees_a_credential_of_the_caller() {
    let hub =
        installation(Dialect::ALL.into_iter().map(|dialect| (dialect, dialect.as_str().to_owned()))).start().await;
    let client_key = hub.environment()["TOKENHUB_CLIENT_KEY"].clone();
    for upstream in Dialect::ALL {
        for stream in [false, true] {
            let (path, mut body) = dialogue::request(Dialect::Messages, upstream.as_str());
            body["stream"] = json!(stream);
            let request = hub
                .request(Method::POST, path)
                .header("x-api-key", &client_key)
                .header("cookie", "session=canary")
                .header("proxy-authorization", "Basic canary")
                .header("anthropic-version", "2024-02-02")
                .header("anthropic-beta", "one,two")
                .header("anthropic-beta", "three")
                .json(&body);
            exchange(request).await.unwrap().expect(200);
            let call = hub.provider.calls().pop().unwrap();
            let of = |name: &str| -> Vec<&str> {
                let headers = call.headers.iter().filter(|(known, _)| known == name);
                headers.map(|(_, value)| value.as_str()).collect()
            };
            let leaked = call.headers.iter().find(|(_, value)| value.contains(&client_key) || value.contains("canary"));
            assert_eq!(leaked, None, "{upstream:?}");
            if upstream == Dialect::Messages {
                assert_eq!((of("anthropic-version"), of("x-api-key")), (vec!["2024-02-02"], vec![KEY]));
                assert_eq!((of("anthropic-beta"), of("authorization")), (vec!["one,two", "three"], vec![]));
            } else {
                assert_eq!(of("authorization"), [format!("Bearer {KEY}")]);
                assert!(!call.headers.iter().any(|(name, _)| name.starts_with("anthropic") || name == "x-api-key"));
            }
        }
    }
    hub.finish(Disturbance::None).await;
}

/// A conversation of one question and answer, and the next question.
fn conversation(answer: Option<&Value>, stream: bool) -> Value {
    let mut messages = vec![json!({"role": "user", "content": "how are you"})];
    if let Some(content) = answer {
        messages.push(json!({"role": "assistant", "content": content}));
        messages.push(json!({"role": "user", "content": "and now"}));
    }
    json!({"model": "thinker", "max_tokens": 3_000, "thinking": {"type": "enabled", "budget_tokens": 1_024},
        "messages": messages, "stream": stream})
}

#[tokio::test(flavor = "multi_thread")]
async fn case_25_sealed_reasoning_goes_back_to_its_issuer_and_to_nobody_else_not_even_in_a_failover() {
    const SEALED: &str = "sealed-by-the-issuer";
    for other in [Dialect::Messages, Dialect::Chat] {
        let issuer = dialogue::upstream("issuer", Dialect::Responses, "sk-issuer");
        let upstreams = vec![issuer, dialogue::upstream("other", other, "sk-other")];
        let models = vec![dialogue::model_at("issuer", "thinker", 9), dialogue::model_at("other", "thinker", 1)];
        // A penalty would keep the issuer out of the last question, which it has to answer.
        let builder = TestHub::builder().temporal_off().environment("TOKENHUB_PENALTIES", "false");
        let hub = builder.upstreams(upstreams).models(models).start().await;
        let thought = Reasoning { text: "hm".into(), encrypted: Some(SEALED.into()), ..Reasoning::default() };
        let thoughtful = Reply::parts([Part::Reasoning(thought), Part::Text("well".to_owned())]);
        let away = Reply::failure(401, "no");
        let replies = [thoughtful.clone(), away.clone(), away, thoughtful];
        hub.provider.script(Rule::any(replies).credential("sk-issuer"));
        hub.provider.script(Rule::any([Reply::text("from another one")]).credential("sk-other"));

        let first = hub.post("/v1/messages", &conversation(None, false)).await.expect(200);
        let said = &first.body["content"];
        let signature = said[0]["signature"].as_str().unwrap_or_else(|| panic!("not signed: {}", first.text));
        for stream in [false, true] {
            let answer = hub.post("/v1/messages", &conversation(Some(said), stream)).await.expect(200);
            assert!(answer.text.contains("from"), "{}", answer.text);
            let call = hub.provider.calls().pop().unwrap();
            let sent = call.body.to_string();
            assert!(call.headers.iter().any(|(_, value)| value.contains("sk-other")), "the other one answered");
            assert!(sent.contains("well"), "{sent}");
            for sealed in [SEALED, signature, "signature", "encrypted"] {
                assert!(!sent.contains(sealed), "{sealed} in {sent}");
            }
        }
        hub.post("/v1/messages", &conversation(Some(said), false)).await.expect(200);
        let back = hub.provider.calls().pop().unwrap().body;
        let sealed = back["input"].as_array().unwrap().iter().find_map(|item| item["encrypted_content"].as_str());
        assert_eq!(sealed, Some(SEALED), "{back}");
        hub.finish(Disturbance::None).await;
    }
}
