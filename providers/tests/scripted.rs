//! Calls over real sockets to the scripted provider: what passes through, and how each way of failing is read.

#![expect(clippy::unwrap_used, reason = "a failing set-up is a failing test")]

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::StreamExt;
use secrecy::SecretString;
use serde_json::{Value, json};
use tokenhub_demo::{Finished, Reply, Rule, ScriptedProvider};
use tokenhub_domain::{AttemptId, CredentialId, Dialect, ErrorClass, ModelId, Provider, ProviderFailure, ProviderKind};
use tokenhub_providers::{Call, Completion, EventKind, Providers, StreamEvent, Timeouts, Upstream};

static UNNAMED: LazyLock<CredentialId> = LazyLock::new(CredentialId::default);
const SECRET: &str = "sesame-open-42";

struct Setup {
    provider: ScriptedProvider,
    providers: Providers,
}

fn upstream(base_url: &str, timeouts: Timeouts) -> Upstream {
    Upstream {
        provider: Provider::new("p", ProviderKind::Openai, base_url),
        credentials: BTreeMap::from([(CredentialId::default(), SecretString::from(SECRET))]),
        timeouts,
        quirks: BTreeMap::new(),
    }
}

async fn setup_with(timeouts: Timeouts) -> Setup {
    let provider = ScriptedProvider::start().await;
    let base_url = format!("{}/v1/", provider.base_url());
    let providers = Providers::new(vec![upstream(&base_url, timeouts)]).unwrap();
    Setup { provider, providers }
}

async fn setup() -> Setup {
    setup_with(Timeouts::default()).await
}

fn call<'a>(
    attempt: &'a AttemptId,
    model: &'a ModelId,
    body: Bytes,
    max_output_tokens: Option<u64>,
    timeout: Duration,
) -> Call<'a> {
    Call {
        attempt,
        model,
        credential: &UNNAMED,
        dialect: Dialect::Chat,
        body,
        forwarded: &[],
        max_output_tokens,
        model_output_tokens: None,
        timeout,
        first_token_timeout: None,
    }
}

impl Setup {
    fn reply(&self, reply: Reply) {
        self.provider.script(Rule::any([reply]));
    }

    async fn complete_body(&self, body: Value, timeout: Duration) -> Result<Completion, ProviderFailure> {
        let (attempt, model) = (AttemptId::from("att_1"), ModelId::from("m/x:1"));
        let body = body.to_string().into();
        let call = call(&attempt, &model, body, None, timeout);
        self.providers.complete(&"p".into(), call).await
    }

    async fn complete(&self) -> Result<Completion, ProviderFailure> {
        let body = json!({"messages": [{"role": "user", "content": "hi there"}]});
        self.complete_body(body, Duration::from_secs(20)).await
    }

    async fn fails_with(&self, reply: Reply) -> ProviderFailure {
        self.reply(reply);
        self.complete().await.unwrap_err()
    }

    async fn stream_within(&self, timeout: Duration) -> Result<Vec<StreamEvent>, (Vec<StreamEvent>, ProviderFailure)> {
        let (attempt, model) = (AttemptId::from("att_2"), ModelId::from("m"));
        let body = json!({"messages": [{"role": "user", "content": "hi"}]}).to_string().into();
        let call = call(&attempt, &model, body, Some(9), timeout);
        let mut streaming = self.providers.stream(&"p".into(), call).await.map_err(|failure| (Vec::new(), failure))?;
        let mut events = Vec::new();
        while let Some(item) = streaming.events.next().await {
            match item {
                Ok(event) => events.push(event),
                Err(failure) => return Err((events, failure)),
            }
        }
        Ok(events)
    }

    async fn stream(&self) -> Result<Vec<StreamEvent>, (Vec<StreamEvent>, ProviderFailure)> {
        self.stream_within(Duration::from_secs(20)).await
    }
}

fn streamed_text(events: &[StreamEvent]) -> String {
    let contents = events.iter().filter_map(|event| {
        let chunk: Value = serde_json::from_slice(&event.raw).ok()?;
        chunk.pointer("/choices/0/delta/content")?.as_str().map(str::to_owned)
    });
    contents.collect()
}

fn quick() -> Timeouts {
    Timeouts { headers_ms: 400, first_token_ms: 600, idle_ms: 300, ..Timeouts::default() }
}

#[tokio::test]
async fn a_call_carries_every_field_the_attempt_and_the_credential() {
    let setup = setup().await;
    let body =
        json!({"messages": [{"role": "user", "content": "naïve 😀"}], "vendor": {"z": 1, "a": [null]}, "seed": 7});
    let completion = setup.complete_body(body.clone(), Duration::from_secs(20)).await.unwrap();
    assert_eq!(completion.text, "naïve 😀");
    assert_eq!((completion.usage.input_tokens, completion.usage.output_tokens), (2, 2));
    assert_eq!(completion.finish_reason.as_deref(), Some("stop"));
    assert_eq!(completion.model_reported.as_deref(), Some("m/x:1"));

    let calls = setup.provider.calls();
    assert_eq!(calls.len(), 1);
    assert_eq!(calls[0].attempt_id.as_deref(), Some("att_1"));
    assert_eq!(calls[0].authorization.as_deref(), Some("Bearer sesame-open-42"));
    assert_eq!(calls[0].finished, Finished::Answered);
    let sent = calls[0].body.as_object().unwrap();
    assert_eq!(sent.keys().next().map(String::as_str), Some("model"));
    assert_eq!(sent["vendor"], body["vendor"]);
    assert_eq!(sent.len(), 4);
}

#[tokio::test]
async fn without_a_credential_no_authorization_is_sent() {
    let provider = ScriptedProvider::start().await;
    let open = Upstream { credentials: BTreeMap::new(), ..upstream(provider.base_url(), Timeouts::default()) };
    let setup = Setup { providers: Providers::new(vec![open]).unwrap(), provider };
    setup.complete().await.unwrap();
    assert_eq!(setup.provider.calls()[0].authorization, None);
}

#[tokio::test]
async fn the_answer_comes_back_byte_for_byte() {
    let setup = setup().await;
    let body = json!({"x_vendor": {"k": [1.50]}, "choices": [{"message": {"content": "a"}, "new": true}]});
    setup.reply(Reply::status(200, body.clone()));
    assert_eq!(setup.complete().await.unwrap().raw, body.to_string());

    setup.reply(Reply::big(3_000_000));
    assert_eq!(setup.complete().await.unwrap().text.len(), 3_000_000);
}

#[tokio::test]
async fn every_error_status_is_classified_and_its_hint_kept() {
    let setup = setup().await;
    for (status, code, class) in [
        (400, "invalid_value", ErrorClass::BadRequest),
        (401, "invalid_api_key", ErrorClass::AuthFailed),
        (402, "billing_error", ErrorClass::QuotaExhausted),
        (403, "forbidden", ErrorClass::AuthFailed),
        (404, "model_not_found", ErrorClass::BadRequest),
        (408, "timeout", ErrorClass::ServerError),
        (413, "too_big", ErrorClass::ContextTooLong),
        (429, "rate_limit_exceeded", ErrorClass::RateLimited),
        (429, "insufficient_quota", ErrorClass::QuotaExhausted),
        (500, "x", ErrorClass::ServerError),
        (503, "x", ErrorClass::Overloaded),
        (529, "x", ErrorClass::Overloaded),
        (302, "x", ErrorClass::ServerError),
    ] {
        let reply =
            Reply::error(status, code, "no").header("retry-after", "2").header("location", "http://127.0.0.1:9/");
        let failure = setup.fails_with(reply).await;
        assert_eq!((failure.class, failure.status), (class, Some(status)), "{status} {code}");
        assert_eq!((failure.code.as_deref(), failure.retry_after_ms), (Some(code), Some(2_000)));
    }
    let exact =
        setup.fails_with(Reply::error(429, "x", "no").header("retry-after-ms", "150").header("retry-after", "9")).await;
    assert_eq!(exact.retry_after_ms, Some(150));
    // One call for each: nothing is retried and no redirect is followed.
    assert_eq!(setup.provider.count(), 14);
}

#[tokio::test]
async fn a_credential_that_the_provider_repeats_is_masked() {
    let setup = setup().await;
    let failure =
        setup.fails_with(Reply::error(401, SECRET, &format!("bad key {SECRET} or Bearer abcdef or sk-12345678"))).await;
    assert!(!format!("{failure:?}").contains(SECRET), "{failure:?}");
    assert_eq!(failure.message, "bad key [redacted] or Bearer [redacted] or [redacted]");
    let payload = json!({"error": {"message": format!("no {SECRET}")}}).to_string();
    setup.reply(Reply::events([payload]));
    let (_, failure) = setup.stream().await.unwrap_err();
    assert_eq!(failure.message, "no [redacted]");
}

#[tokio::test]
async fn an_error_inside_a_200_is_a_failure() {
    let setup = setup().await;
    let failure = setup.fails_with(Reply::status(200, json!({"error": {"message": "x", "code": 429}}))).await;
    assert_eq!(failure.class, ErrorClass::RateLimited);
    let failure = setup.fails_with(Reply::status(200, json!("text"))).await;
    assert_eq!(failure.class, ErrorClass::ServerError);
    setup.reply(Reply::status(200, json!({"error": {"message": "x", "code": "overloaded_error"}})));
    let (_, failure) = setup.stream().await.unwrap_err();
    assert_eq!(failure.class, ErrorClass::Overloaded);
}

#[tokio::test]
async fn a_connection_that_fails_before_the_first_byte_is_transport() {
    let setup = setup().await;
    assert_eq!(setup.fails_with(Reply::echo().cut_before_bytes()).await.class, ErrorClass::Transport);
    assert_eq!(setup.provider.calls()[0].finished, Finished::Cut);
    assert_eq!(setup.provider.count(), 1);
    let (_, failure) = setup.stream().await.unwrap_err();
    assert_eq!(failure.class, ErrorClass::Transport);

    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let nobody = Providers::new(vec![upstream(&format!("http://{closed}"), Timeouts::default())]).unwrap();
    let setup = Setup { provider: setup.provider, providers: nobody };
    let failure = setup.complete().await.unwrap_err();
    assert_eq!(failure.class, ErrorClass::Transport);
    assert!(failure.message.starts_with("could not connect"), "{}", failure.message);
}

#[tokio::test]
async fn an_answer_that_breaks_off_after_its_first_byte_is_a_broken_stream() {
    let setup = setup().await;
    for bytes in [0, 1, 40] {
        let failure = setup.fails_with(Reply::text("a long enough answer").cut_after_bytes(bytes)).await;
        assert_eq!(failure.class, ErrorClass::StreamBroken, "{bytes}");
    }
}

#[tokio::test]
async fn a_call_that_takes_too_long_is_given_up_and_the_provider_notices() {
    let setup = setup().await;
    setup.reply(Reply::hang());
    let started = Instant::now();
    let failure = setup.complete_body(json!({"messages": []}), Duration::from_millis(150)).await.unwrap_err();
    assert_eq!(failure.class, ErrorClass::StepDeadline);
    assert!(started.elapsed() < Duration::from_secs(5));
    let noticed = |calls: &[tokenhub_demo::SeenCall]| calls[0].finished == Finished::Aborted;
    assert!(setup.provider.wait_until(Duration::from_secs(5), noticed).await);

    setup.reply(Reply::echo().stall_after_bytes(5));
    let failure = setup.complete_body(json!({"messages": []}), Duration::from_millis(150)).await.unwrap_err();
    assert_eq!(failure.class, ErrorClass::StepDeadline);
}

#[tokio::test]
async fn the_provider_total_bounds_a_longer_timeout() {
    let setup = setup_with(Timeouts { total_ms: 150, ..Timeouts::default() }).await;
    assert_eq!(setup.fails_with(Reply::hang()).await.class, ErrorClass::StepDeadline);
}

#[tokio::test]
async fn a_stream_asks_for_usage_and_gives_every_payload_as_it_came() {
    use EventKind::{Content, Done, Finish, Preamble, UsageOnly};

    let setup = setup().await;
    setup.reply(Reply::text("one two three").usage(5, 6));
    let events = setup.stream().await.unwrap();
    let kinds: Vec<EventKind> = events.iter().map(|event| event.kind).collect();
    assert_eq!(kinds, [Preamble, Content, Content, Content, Finish, UsageOnly, Done]);
    assert_eq!(streamed_text(&events), "one two three");
    assert_eq!(events[4].finish_reason.as_deref(), Some("stop"));
    assert_eq!(events[5].usage.map(|usage| (usage.input_tokens, usage.output_tokens)), Some((5, 6)));
    assert_eq!(events[6].raw, "[DONE]");

    let sent = &setup.provider.calls()[0].body;
    assert_eq!(sent["stream"], true);
    assert_eq!(sent["stream_options"], json!({"include_usage": true}));
    assert_eq!(sent["max_tokens"], 9);
}

#[tokio::test]
async fn one_byte_chunks_give_the_same_events() {
    let setup = setup().await;
    let text = "naïve 😀 été";
    setup.reply(Reply::text(text));
    let whole = setup.stream().await.unwrap();
    setup.reply(Reply::text(text).split_bytes(1));
    let split = setup.stream().await.unwrap();
    assert_eq!(whole, split);
    assert_eq!(streamed_text(&split), text);
}

#[tokio::test]
async fn a_stream_that_is_cut_gives_what_came_and_then_fails() {
    let setup = setup().await;
    setup.reply(Reply::text("one two three").cut_after_bytes(420));
    let (events, failure) = setup.stream().await.unwrap_err();
    assert_eq!(failure.class, ErrorClass::StreamBroken);
    assert_eq!(streamed_text(&events), "one ");

    // A polite end without a finish reason is no better, and nothing at all is no answer.
    setup.reply(Reply::events([r#"{"choices":[{"delta":{"content":"a"}}]}"#]));
    let (events, failure) = setup.stream().await.unwrap_err();
    assert_eq!((events.len(), failure.class), (1, ErrorClass::StreamBroken));
    setup.reply(Reply::events(Vec::<String>::new()));
    assert_eq!(setup.stream().await.unwrap_err().1.class, ErrorClass::StreamBroken);
}

#[tokio::test]
async fn a_stream_without_the_end_mark_is_whole_when_it_has_a_finish_reason() {
    let setup = setup().await;
    let last = r#"{"choices":[{"delta":{},"finish_reason":"stop"}]}"#;
    setup.reply(Reply::events([r#"{"choices":[{"delta":{"content":"a"}}]}"#, last]));
    assert_eq!(setup.stream().await.unwrap().len(), 2);
}

#[tokio::test]
async fn an_error_event_ends_the_stream() {
    let setup = setup().await;
    let content = r#"{"choices":[{"delta":{"content":"a"}}]}"#;
    setup.reply(Reply::events([content, r#"{"error":{"message":"m","code":"rate_limit_exceeded"}}"#, content]));
    let (events, failure) = setup.stream().await.unwrap_err();
    assert_eq!((events.len(), failure.class), (1, ErrorClass::RateLimited));
}

#[tokio::test]
async fn each_clock_of_a_stream_has_its_own_class() {
    let setup = setup_with(quick()).await;
    setup.reply(Reply::hang());
    assert_eq!(setup.stream().await.unwrap_err().1.class, ErrorClass::FirstTokenTimeout);

    // The role event is no token, and it comes at once.
    setup.reply(Reply::text("one two").gap_ms(60_000));
    let (events, failure) = setup.stream().await.unwrap_err();
    assert_eq!((events.len(), failure.class), (1, ErrorClass::FirstTokenTimeout));

    setup.reply(Reply::text("one two three").stall_after_bytes(420));
    let (events, failure) = setup.stream().await.unwrap_err();
    assert_eq!((streamed_text(&events).as_str(), failure.class), ("one ", ErrorClass::StreamBroken));

    // Slow but alive: every pause is under the idle limit, the whole is above it.
    setup.reply(Reply::text("one two three four five six").gap_ms(60));
    assert_eq!(streamed_text(&setup.stream().await.unwrap()), "one two three four five six");

    setup.reply(Reply::text("one two three four five six").gap_ms(60));
    let (_, failure) = setup.stream_within(Duration::from_millis(200)).await.unwrap_err();
    assert_eq!(failure.class, ErrorClass::StepDeadline);
}

#[tokio::test]
async fn dropping_a_stream_closes_the_connection() {
    let setup = setup().await;
    setup.reply(Reply::text("one two three").gap_ms(60_000));
    let (attempt, model) = (AttemptId::from("att_3"), ModelId::from("m"));
    let timeout = Duration::from_secs(20);
    let call = call(&attempt, &model, "{}".into(), None, timeout);
    let mut streaming = setup.providers.stream(&"p".into(), call).await.unwrap();
    assert!(streaming.events.next().await.unwrap().is_ok());
    drop(streaming);
    let noticed = |calls: &[tokenhub_demo::SeenCall]| calls[0].finished == Finished::Aborted;
    assert!(setup.provider.wait_until(Duration::from_secs(5), noticed).await);
}

#[tokio::test]
async fn models_are_listed_and_an_unknown_provider_is_not_called() {
    let setup = setup().await;
    setup.provider.models(["m1", "org/m2:free@x"]);
    let models = setup.providers.list_models(&"p".into()).await.unwrap();
    let ids: Vec<&str> = models.iter().map(|model| model.id.as_str()).collect();
    assert_eq!(ids, ["m1", "org/m2:free@x"]);
    let failure = setup.providers.list_models(&"other".into()).await.unwrap_err();
    assert_eq!(failure.class, ErrorClass::AuthFailed);
}

#[test]
fn set_ups_that_cannot_work_are_refused_by_name() {
    let error = |upstreams| Providers::new(upstreams).unwrap_err().to_string();
    let timeouts = Timeouts::default();
    assert!(error(vec![upstream("http://169.254.169.254", timeouts)]).contains("provider p: the base url"));
    let twice = vec![upstream("http://127.0.0.1:1", timeouts), upstream("http://127.0.0.1:2", timeouts)];
    assert!(error(twice).contains("twice"));
    let key = BTreeMap::from([(CredentialId::default(), SecretString::from("a\nb"))]);
    let broken = Upstream { credentials: key, ..upstream("http://127.0.0.1:1", timeouts) };
    assert!(error(vec![broken]).contains("credential"));
}
