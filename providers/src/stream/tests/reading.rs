//! Whole streams through the reader: what passes, what is billed, and how each way of ending is read.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{iter, unfold};
use reqwest::{Body, Response};
use tokenhub_domain::{Dialect, ErrorClass, ProviderFailure};
use tokio::time::{Instant, sleep};

use crate::call::EventKind::{Content, Done, Finish, Preamble, UsageOnly};
use crate::call::{EventKind, StreamEvent};
use crate::convert::{Issuer, ReplyContext};
use crate::stream::{Clocks, Reading, open};

const CHAT: &str = r#"data: {"id":"c","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}

data: {"id":"c","choices":[{"index":0,"delta":{"content":"hé"},"finish_reason":null}]}

data: {"id":"c","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}

data: {"id":"c","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2}}

data: [DONE]

"#;

const MESSAGES: &str = r#"event: message_start
data: {"type":"message_start","message":{"usage":{"input_tokens":5,"cache_read_input_tokens":100,"output_tokens":1}}}

event: ping
data: {"type": "ping"}

event: content_block_start
data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}   }

event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"hé"}}

event: content_block_stop
data: {"type":"content_block_stop","index":0}

event: message_delta
data: {"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"input_tokens":null,"output_tokens":7}}

event: message_stop
data: {"type":"message_stop"}

"#;

const RESPONSES: &str = r#"event: response.created
data: {"type":"response.created","sequence_number":0,"response":{"status":"in_progress","error":null}}

event: response.output_text.delta
data: {"type":"response.output_text.delta","sequence_number":1,"output_index":0,"content_index":0,"delta":"hé"}

event: response.added_later
data: {"type":"response.added_later","sequence_number":2,"x":[]}

event: response.completed
data: {"type":"response.completed","sequence_number":3,"response":{"status":"completed","usage":{"input_tokens":3,"output_tokens":2}}}

"#;

fn stream_of(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Chat => CHAT,
        Dialect::Messages => MESSAGES,
        Dialect::Responses => RESPONSES,
    }
}

fn clocks(first_token_ms: u64, idle_ms: u64) -> Clocks {
    let now = Instant::now();
    Clocks {
        first_token: now + Duration::from_millis(first_token_ms),
        end: now + Duration::from_secs(20),
        idle: Duration::from_millis(idle_ms),
    }
}

fn reading(upstream: Dialect, client: Dialect) -> Reading {
    if upstream == client {
        return Reading::Same(upstream);
    }
    let context = ReplyContext {
        attempt: "att_7".into(),
        model: "asked-for".to_owned(),
        created_secs: 1,
        issuer: Issuer { provider: "p".into(), model: "m".into() },
        tool_names: std::collections::BTreeMap::new(),
        free_form_tools: std::collections::BTreeSet::new(),
    };
    Reading::Converted { upstream, client, context: Box::new(context) }
}

async fn collect(body: Body, clocks: Clocks, reading: Reading) -> (Vec<StreamEvent>, Option<ProviderFailure>) {
    let mut streaming = open(Response::from(http::Response::new(body)), clocks, None, (reading, None));
    let mut events = Vec::new();
    while let Some(item) = streaming.events.next().await {
        match item {
            Ok(event) => events.push(event),
            Err(failure) => {
                assert!(streaming.events.next().await.is_none(), "a failure ends the stream");
                return (events, Some(failure));
            }
        }
    }
    (events, None)
}

async fn read(stream: &str, upstream: Dialect, client: Dialect) -> (Vec<StreamEvent>, Option<ProviderFailure>) {
    collect(Body::from(stream.to_owned()), clocks(10_000, 10_000), reading(upstream, client)).await
}

fn kinds(events: &[StreamEvent]) -> Vec<EventKind> {
    events.iter().map(|event| event.kind).collect()
}

#[tokio::test]
async fn the_same_protocol_passes_byte_for_byte_in_chunks_of_any_size() {
    for dialect in Dialect::ALL {
        let stream = stream_of(dialect);
        for size in [1, 2, 3, 7, 64, stream.len()] {
            let chunks: Vec<Result<Bytes, Infallible>> =
                stream.as_bytes().chunks(size).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
            let body = Body::wrap_stream(iter(chunks));
            let (events, failure) = collect(body, clocks(10_000, 10_000), reading(dialect, dialect)).await;
            assert_eq!(failure, None);
            let frames: Vec<u8> = events.iter().flat_map(StreamEvent::frame).collect();
            assert_eq!(String::from_utf8(frames).unwrap(), stream);
        }
    }
}

#[tokio::test]
async fn every_protocol_tells_kinds_counts_and_finish_reason() {
    let (chat, _) = read(CHAT, Dialect::Chat, Dialect::Chat).await;
    assert_eq!(kinds(&chat), [Preamble, Content, Finish, UsageOnly, Done]);
    let (messages, _) = read(MESSAGES, Dialect::Messages, Dialect::Messages).await;
    assert_eq!(kinds(&messages), [Preamble, Preamble, Preamble, Content, Preamble, Finish, Done]);
    let (responses, _) = read(RESPONSES, Dialect::Responses, Dialect::Responses).await;
    assert_eq!(kinds(&responses), [Preamble, Content, Preamble, Done]);

    for (events, counts, finish) in
        [(chat, (3, 2), "stop"), (messages, (105, 7), "end_turn"), (responses, (3, 2), "completed")]
    {
        let usage = events.iter().rev().find_map(|event| event.usage).unwrap();
        assert_eq!((usage.input_tokens, usage.output_tokens), counts);
        assert_eq!(events.iter().find_map(|event| event.finish_reason.as_deref()), Some(finish));
    }
}

#[tokio::test]
async fn messages_counts_add_up_to_one_object_and_the_first_are_told_at_once() {
    let (events, _) = read(MESSAGES, Dialect::Messages, Dialect::Messages).await;
    assert_eq!(events[0].usage.unwrap().input_tokens, 105);
    let last = events[5].usage_json.as_deref().unwrap();
    assert_eq!(last, r#"{"input_tokens":5,"cache_read_input_tokens":100,"output_tokens":7}"#);
}

#[tokio::test]
async fn a_stream_that_says_nothing_is_broken() {
    for stream in ["", ": ping\n\n", "\n\n"] {
        for dialect in Dialect::ALL {
            let (events, failure) = read(stream, dialect, Dialect::Chat).await;
            let failure = failure.unwrap();
            assert_eq!((events.len(), failure.class), (0, ErrorClass::StreamBroken));
            assert_eq!(failure.message, "the stream was empty");
        }
    }
}

#[tokio::test]
async fn an_end_mark_behind_nothing_is_no_answer_and_an_empty_answer_is_one() {
    let role = "data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\"},\"finish_reason\":null}]}\n\n";
    let finish = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
    let start = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{}}\n\n";
    let reason =
        "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"}}\n\n";
    let stop = "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";
    let done = "data: [DONE]\n\n";
    for client in Dialect::ALL {
        let empty =
            [(Dialect::Chat, format!("{role}{finish}{done}")), (Dialect::Messages, format!("{start}{reason}{stop}"))];
        for (upstream, stream) in empty {
            let (events, failure) = read(&stream, upstream, client).await;
            assert_eq!((events.last().map(|event| event.kind), failure), (Some(Done), None));
        }
        let nothing = [
            (Dialect::Chat, done.to_owned()),
            (Dialect::Chat, format!("{role}{done}")),
            (Dialect::Messages, format!("{start}{stop}")),
        ];
        for (upstream, stream) in nothing {
            let (events, failure) = read(&stream, upstream, client).await;
            assert_eq!(failure.unwrap().class, ErrorClass::StreamBroken, "{stream} for {client:?}");
            assert!(events.iter().all(|event| event.kind == Preamble));
        }
    }
}

#[tokio::test]
async fn a_stream_without_its_last_event_is_broken_for_every_client() {
    for upstream in Dialect::ALL {
        let stream = stream_of(upstream);
        let cut = stream.find("hé").map(|start| start + stream[start..].find("\n\n").unwrap() + 2).unwrap();
        for client in Dialect::ALL {
            let (events, failure) = read(&stream[..cut], upstream, client).await;
            assert_eq!(failure.unwrap().class, ErrorClass::StreamBroken, "{upstream:?} to {client:?}");
            assert!(events.iter().any(StreamEvent::has_content) && !events.iter().any(StreamEvent::is_done));
        }
    }
}

#[tokio::test]
async fn a_chat_stream_without_its_mark_is_complete_once_it_has_a_finish_reason() {
    let stream = CHAT.strip_suffix("data: [DONE]\n\n").unwrap();
    let (events, failure) = read(stream, Dialect::Chat, Dialect::Chat).await;
    assert_eq!((kinds(&events), failure), (vec![Preamble, Content, Finish, UsageOnly], None));
    let (events, failure) = read(stream, Dialect::Chat, Dialect::Messages).await;
    assert_eq!((events.last().unwrap().kind, failure), (Done, None));
}

#[tokio::test]
async fn an_error_of_the_provider_ends_the_stream_for_every_client() {
    let error =
        "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"m\"}}\n\n";
    let stream = MESSAGES.replace("event: content_block_stop\n", &format!("{error}event: content_block_stop\n"));
    for client in Dialect::ALL {
        let (events, failure) = read(&stream, Dialect::Messages, client).await;
        assert_eq!(failure.unwrap().class, ErrorClass::Overloaded);
        assert!(events.iter().any(StreamEvent::has_content));
    }
}

#[tokio::test]
async fn a_converted_stream_keeps_the_bill_in_the_providers_words() {
    for upstream in Dialect::ALL {
        let (own, _) = read(stream_of(upstream), upstream, upstream).await;
        let bill = |events: &[StreamEvent]| {
            let usage = events.iter().rev().find_map(|event| Some((event.usage?, event.usage_json.clone()?)));
            (usage.unwrap(), events.iter().find_map(|event| event.finish_reason.clone()).unwrap())
        };
        for client in Dialect::ALL {
            let (converted, failure) = read(stream_of(upstream), upstream, client).await;
            assert_eq!(failure, None);
            assert_eq!(bill(&converted), bill(&own), "{upstream:?} to {client:?}");
            assert_eq!(converted.last().unwrap().kind, Done);
            assert!(converted.iter().all(|event| event.name.is_empty() == (client == Dialect::Chat)));
        }
    }
}

#[tokio::test]
async fn counts_that_the_client_is_not_told_are_billed_before_the_failure() {
    let (before, behind) = CHAT.split_once("data: {\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{},").unwrap();
    let no_reason = format!("{before}{}", behind.split_once("\n\n").unwrap().1);
    let broken_off = no_reason.replace("data: [DONE]\n\n", "");
    for stream in [no_reason, broken_off] {
        for client in [Dialect::Messages, Dialect::Responses] {
            let (events, failure) = read(&stream, Dialect::Chat, client).await;
            assert_eq!(failure.unwrap().class, ErrorClass::StreamBroken);
            let counts = events.iter().rev().find_map(|event| event.usage).unwrap();
            assert_eq!((counts.input_tokens, counts.output_tokens), (3, 2));
            assert!(events.iter().all(|event| event.kind != Done && event.finish_reason.is_none()));
        }
    }
}

#[tokio::test]
async fn pings_and_preambles_do_not_stop_the_clock_of_the_first_token() {
    for dialect in [Dialect::Messages, Dialect::Chat] {
        let chunks = unfold(0, |count| async move {
            sleep(Duration::from_millis(20)).await;
            let chunk = match count % 2 {
                0 => Bytes::from_static(b": wait\n\n"),
                _ => Bytes::from_static(b"data: {\"type\":\"ping\"}\n\n"),
            };
            Some((Ok::<_, Infallible>(chunk), count + 1))
        });
        let (events, failure) =
            collect(Body::wrap_stream(chunks), clocks(200, 10_000), reading(dialect, dialect)).await;
        assert_eq!(failure.unwrap().class, ErrorClass::FirstTokenTimeout);
        assert!(!events.is_empty());
    }
}

#[tokio::test]
async fn after_the_first_token_only_silence_counts() {
    let begun = Bytes::from_static(b"data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}]}\n\n");
    let chunks = unfold(0, move |count| {
        let begun = begun.clone();
        async move {
            // Ten pieces take longer than the first token may; then nothing more comes.
            sleep(if count < 10 { Duration::from_millis(40) } else { Duration::from_secs(30) }).await;
            Some((Ok::<_, Infallible>(begun), count + 1))
        }
    });
    let reading = reading(Dialect::Chat, Dialect::Messages);
    let (events, failure) = collect(Body::wrap_stream(chunks), clocks(300, 400), reading).await;
    assert_eq!(failure.unwrap().class, ErrorClass::StreamBroken);
    assert_eq!(events.iter().filter(|event| event.has_content()).count(), 10);
}

#[tokio::test]
async fn behind_the_first_token_keep_alives_are_silence_and_events_are_not() {
    for alive in [": wait\n\n", "data: {\"type\": \"ping\"}\n\n"] {
        let chunks = unfold(0, move |count| async move {
            sleep(Duration::from_millis(20)).await;
            let text = if count == 0 {
                "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}]}\n\n"
            } else {
                alive
            };
            Some((Ok::<_, Infallible>(Bytes::from_static(text.as_bytes())), count + 1))
        });
        let started = Instant::now();
        let reading = reading(Dialect::Chat, Dialect::Chat);
        let (events, failure) = collect(Body::wrap_stream(chunks), clocks(10_000, 300), reading).await;
        assert_eq!(failure.unwrap().class, ErrorClass::StreamBroken, "{alive}");
        assert!(events[0].has_content() && started.elapsed() < Duration::from_secs(5));
    }
    // An empty piece is something that the model did.
    let chunks = unfold(0, |count| async move {
        sleep(Duration::from_millis(60)).await;
        let text = match count {
            0 => "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}]}\n\n",
            1..10 => "data: {\"choices\":[{\"index\":0,\"delta\":{}}]}\n\n",
            10 => "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n",
            _ => return None,
        };
        Some((Ok::<_, Infallible>(Bytes::from_static(text.as_bytes())), count + 1))
    });
    let reading = reading(Dialect::Chat, Dialect::Chat);
    assert_eq!(collect(Body::wrap_stream(chunks), clocks(10_000, 300), reading).await.1, None);
}
