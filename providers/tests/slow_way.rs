//! A provider that is slow on the way and not silent, over a raw socket: the pauses are within one event.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::StreamExt;
use secrecy::SecretString;
use tokenhub_domain::{AttemptId, CredentialId, Dialect, ModelId, Provider, ProviderKind};
use tokenhub_providers::{Call, Providers, StreamEvent, Timeouts, Upstream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

#[tokio::test]
async fn a_large_event_on_a_slow_way_is_no_silence() {
    const PIECES: usize = 6;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base_url = format!("http://{}/v1", listener.local_addr().unwrap());
    let serving = tokio::spawn(async move {
        let (mut connection, _) = listener.accept().await.unwrap();
        let mut request = [0; 4_096];
        let _ = connection.read(&mut request).await.unwrap();
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
        let chunk = |text: &str| format!(r#"data: {{"choices":[{{"index":0,"delta":{{"content":"{text}"}}"#);
        let first = format!("{head}{},\"finish_reason\":null}}]}}\n\n{}", chunk("a"), chunk("b"));
        connection.write_all(first.as_bytes()).await.unwrap();
        // The second event has begun; its rest is white space and comes slowly.
        for _ in 0..PIECES {
            connection.write_all(" ".repeat(20 * 1_024).as_bytes()).await.unwrap();
            tokio::time::sleep(Duration::from_millis(150)).await;
        }
        let end = ",\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";
        connection.write_all(end.as_bytes()).await.unwrap();
    });
    let upstream = Upstream {
        provider: Provider::new("p", ProviderKind::Openai, &base_url),
        credentials: BTreeMap::from([(CredentialId::default(), SecretString::from("sesame"))]),
        timeouts: Timeouts { idle_ms: 300, ..Timeouts::default() },
        quirks: BTreeMap::new(),
    };
    let providers = Providers::new(vec![upstream]).unwrap();
    let (attempt, model, credential) = (AttemptId::from("att_5"), ModelId::from("m"), CredentialId::default());
    let call = Call {
        attempt: &attempt,
        model: &model,
        credential: &credential,
        dialect: Dialect::Chat,
        body: "{}".into(),
        forwarded: &[],
        max_output_tokens: None,
        model_output_tokens: None,
        timeout: Duration::from_secs(20),
        first_token_timeout: None,
    };
    let streaming = providers.stream(&"p".into(), call).await.unwrap();
    let events: Vec<StreamEvent> = streaming.events.map(|event| event.unwrap()).collect().await;
    let raw: Vec<_> = events.iter().map(|event| String::from_utf8_lossy(&event.raw).into_owned()).collect();
    assert!(raw[0].contains(r#""content":"a""#) && raw[1].contains(r#""content":"b""#), "{} events", raw.len());
    serving.await.unwrap();
}
