//! Whole answers that are read as streams: the same as those that come in one, and failed by the same rules.

#![expect(clippy::unwrap_used, reason = "a failing set-up is a failing test")]

use std::collections::BTreeMap;
use std::time::Duration;

use secrecy::SecretString;
use serde_json::{Value, json};
use tokenhub_demo::{Noise, Omission, Part, Reply, Rule, ScriptedProvider};
use tokenhub_domain::{AttemptId, CredentialId, Dialect, ErrorClass, ModelId, Provider, ProviderFailure, ProviderKind};
use tokenhub_providers::{Call, Completion, Providers, Timeouts, Upstream};

struct Setup {
    provider: ScriptedProvider,
    providers: Providers,
    /// What the body of a call has besides.
    also: Value,
}

/// One provider for each protocol, named after it.
async fn setup() -> Setup {
    let provider = ScriptedProvider::start().await;
    let upstreams = Dialect::ALL.map(|dialect| {
        let mut upstream = Provider::new(dialect.as_str(), ProviderKind::Openai, format!("{}/v1", provider.base_url()));
        upstream.dialects = vec![dialect];
        Upstream {
            provider: upstream,
            credentials: BTreeMap::from([(CredentialId::default(), SecretString::from("sesame"))]),
            timeouts: Timeouts { headers_ms: 2_000, first_token_ms: 800, idle_ms: 400, ..Timeouts::default() },
            quirks: BTreeMap::new(),
        }
    });
    let providers = Providers::new(upstreams.to_vec()).unwrap();
    Setup { provider, providers, also: json!({}) }
}

impl Setup {
    async fn ask(
        &self,
        upstream: Dialect,
        call: Dialect,
        told: Option<&mut String>,
    ) -> Result<Completion, ProviderFailure> {
        let (attempt, model, credential) = (AttemptId::from("att_1"), ModelId::from("m"), CredentialId::default());
        let mut body = json!({"max_tokens": 99, "messages": [{"role": "user", "content": "hi"}]});
        body.as_object_mut().unwrap().extend(self.also.as_object().unwrap().clone());
        let call = Call {
            attempt: &attempt,
            model: &model,
            credential: &credential,
            dialect: call,
            body: body.to_string().into(),
            forwarded: &[],
            max_output_tokens: None,
            model_output_tokens: None,
            timeout: Duration::from_secs(20),
            first_token_timeout: None,
        };
        let provider = upstream.as_str().into();
        match told {
            None => self.providers.complete(&provider, call).await,
            Some(told) => {
                let mut reported = None;
                let on_text = &mut |text: &str| told.push_str(text);
                self.providers.complete_streamed(&provider, call, on_text, &mut reported).await
            }
        }
    }

    /// The class of a failed stream, and what was told of it.
    async fn fails(&self, upstream: Dialect, reply: Reply) -> (ErrorClass, String) {
        self.provider.script(Rule::any([reply]));
        let mut told = String::new();
        let failure = self.ask(upstream, Dialect::Chat, Some(&mut told)).await.unwrap_err();
        (failure.class, told)
    }
}

/// Without what is new in every answer.
fn comparable(completion: Completion) -> Completion {
    let mut body: Value = serde_json::from_str(&completion.raw).unwrap();
    let fields = body.as_object_mut().unwrap();
    for field in ["id", "created"] {
        assert!(fields.remove(field).is_some());
    }
    // The scripted provider has it in whole answers only.
    fields.remove("system_fingerprint");
    let usage: Option<Value> = completion.usage_json.as_deref().map(|usage| serde_json::from_str(usage).unwrap());
    Completion {
        raw: sorted(&body).to_string(),
        usage_json: usage.map(|usage| usage.to_string()),
        // A stream names what the client asked for, and loses without a word what neither it nor a text needs.
        model_reported: None,
        losses: Vec::new(),
        ..completion
    }
}

/// Fields in the order of their names, and none without a value: a stream has them in another order.
fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let told = fields.iter().filter(|(_, value)| !value.is_null());
            let by_name: BTreeMap<&String, Value> = told.map(|(name, value)| (name, sorted(value))).collect();
            json!(by_name)
        }
        Value::Array(items) => items.iter().map(sorted).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
    }
}

#[tokio::test]
async fn an_answer_is_the_same_whichever_way_it_came() {
    let setup = setup().await;
    let text = || Part::Text("na\u{ef}ve \u{1F600} and so on".to_owned());
    let replies = [
        Reply::parts([text()]).usage(7, 9),
        Reply::parts([Part::reasoning("let me see", None), text()]).usage(7, 9),
        Reply::parts([Part::tool_call("call_a", "f", ["{\"x\"", ":1}"]), Part::tool_call("call_b", "g", ["{}"])])
            .interleaved(),
        Reply::parts([Part::Refusal("I cannot".to_owned())]),
        Reply::parts([text()]).finish_reason("length").split_inside_characters(),
    ];
    for (number, reply) in replies.into_iter().enumerate() {
        for upstream in Dialect::ALL {
            setup.provider.script(Rule::any([reply.clone()]));
            let mut told = String::new();
            let whole = comparable(setup.ask(upstream, Dialect::Chat, None).await.unwrap());
            let streamed = comparable(setup.ask(upstream, Dialect::Chat, Some(&mut told)).await.unwrap());
            assert_eq!(streamed, whole, "reply {number} in {upstream:?}");
            let says = serde_json::from_str::<Value>(&whole.raw).unwrap()["choices"][0]["message"]["content"].clone();
            assert_eq!(told, says.as_str().unwrap_or_default(), "reply {number} in {upstream:?}");
        }
    }
}

#[tokio::test]
async fn what_breaks_off_is_no_answer_however_much_of_it_came() {
    let setup = setup().await;
    let text = || Reply::text("one two three four");
    for upstream in Dialect::ALL {
        let broken = (ErrorClass::StreamBroken, "one two ".to_owned());
        assert_eq!(setup.fails(upstream, text().cut_after_tokens(2)).await, broken, "{upstream:?}");
        assert_eq!(setup.fails(upstream, text().stall_after_tokens(2)).await, broken, "silence of {upstream:?}");
        let overloaded = text().after_tokens(2, Noise::error("overloaded_error", "too much"));
        assert_eq!(setup.fails(upstream, overloaded).await.1, "one two ", "{upstream:?}");
        let late = text().delay_ms(1_500);
        assert_eq!(setup.fails(upstream, late).await, (ErrorClass::FirstTokenTimeout, String::new()), "{upstream:?}");
        let refused = setup.fails(upstream, Reply::error(429, "rate_limit_exceeded", "slow")).await;
        assert_eq!(refused, (ErrorClass::RateLimited, String::new()), "{upstream:?}");
    }
    let endless = setup.fails(Dialect::Chat, text().without(Omission::Finish)).await;
    assert_eq!(endless, (ErrorClass::StreamBroken, "one two three four".to_owned()), "an end mark alone is no end");
    let whole =
        setup.fails(Dialect::Chat, Reply::raw("application/json", r#"{"error":{"code":"insufficient_quota"}}"#)).await;
    assert_eq!(whole, (ErrorClass::QuotaExhausted, String::new()));
}

#[tokio::test]
async fn an_answer_that_comes_whole_all_the_same_is_an_answer() {
    let setup = setup().await;
    let body = json!({"id": "c", "object": "chat.completion", "created": 1, "model": "m",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "at once"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 7, "completion_tokens": 9, "total_tokens": 16}});
    setup.provider.script(Rule::any([Reply::raw("application/json", body.to_string())]));
    let mut told = String::new();
    let completion = setup.ask(Dialect::Chat, Dialect::Chat, Some(&mut told)).await.unwrap();
    assert_eq!((completion.text.as_str(), told.as_str()), ("at once", "at once"));
    assert_eq!((completion.usage.input_tokens, completion.usage.output_tokens), (7, 9));
    assert_eq!(setup.provider.count(), 1);
}

#[tokio::test]
async fn a_request_for_sound_is_sent_as_it_was_meant() {
    let mut setup = setup().await;
    setup.provider.script(Rule::any([Reply::text("said aloud")]));
    let wishes = [(json!({"audio": {"voice": "alloy", "format": "wav"}}), None), (json!({"audio": null}), Some(true))];
    for (number, (also, streamed)) in wishes.into_iter().enumerate() {
        setup.also = also;
        let mut told = String::new();
        setup.ask(Dialect::Chat, Dialect::Chat, Some(&mut told)).await.unwrap();
        assert_eq!(told, "said aloud");
        assert_eq!(setup.provider.calls()[number].body["stream"].as_bool(), streamed);
    }
}

#[tokio::test]
async fn an_answer_of_which_a_choice_is_cut_is_none() {
    let setup = setup().await;
    let chunk = |index: u64, text: &str, reason: Option<&str>| {
        let delta = json!({"choices": [{"index": index, "delta": {"content": text}, "finish_reason": reason}]});
        format!("data: {delta}\n\n")
    };
    let of = |rest: &str| {
        let chunks = [chunk(0, "a", None), chunk(1, "b", Some("stop")), rest.to_owned(), "data: [DONE]\n\n".to_owned()];
        Reply::raw("text/event-stream", chunks.concat())
    };
    assert_eq!(setup.fails(Dialect::Chat, of("")).await, (ErrorClass::StreamBroken, "a".to_owned()));
    setup.provider.script(Rule::any([of(&chunk(0, "c", Some("length")))]));
    let mut told = String::new();
    let completion = setup.ask(Dialect::Chat, Dialect::Chat, Some(&mut told)).await.unwrap();
    assert_eq!((completion.text.as_str(), completion.finish_reason.as_deref()), ("ac", Some("length")));
}

#[tokio::test]
async fn a_call_in_another_protocol_is_answered_in_one() {
    let setup = setup().await;
    setup.provider.script(Rule::any([Reply::text("one two")]));
    let mut told = String::new();
    let completion = setup.ask(Dialect::Messages, Dialect::Messages, Some(&mut told)).await.unwrap();
    assert_eq!((completion.text.as_str(), told.as_str()), ("one two", ""));
    assert_ne!(setup.provider.calls()[0].body["stream"], true);
}
