//! What goes wrong in a stream, at the same place in every dialect.

use std::time::{Duration, Instant};

use serde_json::json;
use tokenhub_demo::{Ending, Finished, Noise, Omission, Reply, Rule, ScriptedProvider};

use crate::client::{CHAT, End, GENERATING, MESSAGES, RESPONSES, ask, ask_silent_stream, ask_stream};

async fn scripted(reply: Reply) -> ScriptedProvider {
    let provider = ScriptedProvider::start().await;
    provider.script(Rule::any([reply]));
    provider
}

/// The words that a text stream of a dialect carried.
fn words(path: &str, text: &str) -> usize {
    let mark = match path {
        CHAT => "\"delta\":{\"content\":\"w",
        RESPONSES => "response.output_text.delta\",",
        _ => "text_delta",
    };
    text.matches(mark).count()
}

fn speech() -> Reply {
    Reply::text("w1 w2 w3 w4")
}

#[tokio::test]
async fn a_stream_is_cut_before_the_first_token_or_after_some() {
    for path in GENERATING {
        for tokens in [0, 2] {
            let provider = scripted(speech().cut_after_tokens(tokens)).await;
            let answer = ask_stream(&provider, path);
            assert_eq!((answer.status, answer.end), (200, End::Cut), "{path} {tokens}");
            assert!(!answer.body.is_empty(), "the opening events come first");
            assert_eq!(words(path, &answer.text()), tokens, "{path}");
            assert_eq!(provider.calls()[0].finished, Finished::Cut);
        }
    }
}

#[tokio::test]
async fn a_stream_falls_silent_before_the_first_token_or_after_some() {
    for path in GENERATING {
        for tokens in [0, 3] {
            let provider = scripted(speech().stall_after_tokens(tokens)).await;
            let answer = ask_silent_stream(&provider, path);
            assert_eq!(answer.end, End::Silent, "{path} {tokens}");
            assert_eq!(words(path, &answer.text()), tokens, "{path}");
            let noticed = |calls: &[tokenhub_demo::SeenCall]| calls[0].finished == Finished::Aborted;
            assert!(provider.wait_until(Duration::from_secs(5), noticed).await);
        }
    }
}

#[tokio::test]
async fn keep_alives_go_on_for_ever() {
    for (path, mark) in [(CHAT, ": keep-alive\n\n"), (RESPONSES, ": keep-alive\n\n"), (MESSAGES, "event: ping\n")] {
        for (ending, tokens) in [(Ending::KeepAliveAfterBytes(0), 0), (Ending::KeepAliveAfterTokens(1), 1)] {
            let provider = scripted(speech().ending(ending)).await;
            let text = ask_stream(&provider, path).text();
            assert!(text.matches(mark).count() >= 4, "{path}: {text}");
            assert_eq!(words(path, &text), tokens);
        }
    }
}

#[tokio::test]
async fn an_error_inside_a_stream_ends_it_in_the_dialects_form() {
    for tokens in [0, 2] {
        let provider = scripted(speech().after_tokens(tokens, Noise::error("overloaded_error", "busy"))).await;
        let chat = ask_stream(&provider, CHAT);
        let error = json!({"message": "busy", "type": "overloaded_error", "param": null, "code": "overloaded_error"});
        assert_eq!(chat.events().pop().unwrap(), (String::new(), json!({ "error": error })));
        assert_eq!((chat.end, words(CHAT, &chat.text())), (End::Whole, tokens));

        let events = ask_stream(&provider, RESPONSES).events();
        let (name, last) = events.last().unwrap();
        assert_eq!((name.as_str(), &last["sequence_number"]), ("response.failed", &json!(events.len() - 1)));
        assert_eq!(last["response"]["error"], json!({"code": "overloaded_error", "message": "busy"}));
        assert_eq!(last["response"]["status"], "failed");

        let (name, last) = ask_stream(&provider, MESSAGES).events().pop().unwrap();
        assert_eq!((name.as_str(), &last["type"]), ("error", &json!("error")));
        assert_eq!(last["error"], json!({"type": "overloaded_error", "message": "busy"}));
    }
    let provider = scripted(speech().first(Noise::error("x", "first"))).await;
    for path in GENERATING {
        assert_eq!(ask_stream(&provider, path).events().len(), 1, "{path}");
    }
}

#[tokio::test]
async fn a_bare_error_event_is_another_form_in_responses() {
    let error = tokenhub_demo::ErrorBody { message: "m".into(), ..tokenhub_demo::ErrorBody::default() };
    let provider = scripted(speech().after_tokens(1, Noise::ErrorEvent(error))).await;
    let (name, last) = ask_stream(&provider, RESPONSES).events().pop().unwrap();
    assert_eq!((name.as_str(), &last["message"], &last["code"]), ("error", &json!("m"), &json!(null)));
}

#[tokio::test]
async fn scripted_payloads_have_the_names_of_their_types_and_can_end_in_an_error() {
    let payloads = [r#"{"type":"response.created","sequence_number":0}"#, r#"{"type":"odd"}"#];
    let provider = scripted(Reply::events(payloads).after_tokens(1, Noise::error("x", "m"))).await;
    assert_eq!(ask_stream(&provider, RESPONSES).event_names(), ["response.created", "response.failed"]);
    assert_eq!(ask_stream(&provider, MESSAGES).event_names(), ["response.created", "error"]);
    assert_eq!(ask_stream(&provider, CHAT).event_names(), ["", ""]);
}

#[tokio::test]
async fn a_malformed_event_stands_between_whole_ones() {
    let provider = scripted(speech().after_tokens(2, Noise::Malformed)).await;
    for path in GENERATING {
        let answer = ask_stream(&provider, path);
        let broken = answer.events().iter().filter(|(_, data)| data.is_string() && *data != json!("[DONE]")).count();
        assert_eq!((broken, words(path, &answer.text()), answer.end), (1, 4, End::Whole), "{path}: {}", answer.text());
    }
}

#[tokio::test]
async fn an_error_can_come_as_a_200_and_a_stream_without_an_event() {
    for path in GENERATING {
        let answer = ask_stream(&scripted(Reply::failure(200, "odd")).await, path);
        assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
        assert_eq!(answer.json()["error"]["message"], "odd");
        let answer = ask_stream(&scripted(Reply::empty_stream()).await, path);
        assert_eq!((answer.status, answer.body.len(), answer.end), (200, 0, End::Whole));
        assert!(answer.header("content-type").unwrap().starts_with("text/event-stream"));
    }
}

#[tokio::test]
async fn what_is_left_out_is_missing_and_nothing_else() {
    let streams = |omission| async move {
        let provider = scripted(speech().without(omission)).await;
        GENERATING.map(|path| ask_stream(&provider, path).text())
    };
    let [chat, responses, messages] = streams(Omission::Usage).await;
    assert!(!chat.contains("prompt_tokens") && chat.contains("\"finish_reason\":\"stop\"") && chat.contains("[DONE]"));
    assert!(responses.contains("response.completed") && !responses.contains("input_tokens"));
    assert!(messages.contains("end_turn") && !messages.contains("input_tokens"));
    let [chat, responses, messages] = streams(Omission::Finish).await;
    assert!(!chat.contains("\"finish_reason\":\"stop\"") && chat.contains("prompt_tokens") && chat.contains("[DONE]"));
    assert!(responses.contains("output_item.done") && !responses.contains("response.completed"));
    assert!(!messages.contains("message_delta") && messages.contains("message_stop"));
    let [chat, responses, messages] = streams(Omission::Terminal).await;
    assert!(chat.contains("\"finish_reason\":\"stop\"") && !chat.contains("[DONE]"));
    assert!(responses.contains("output_item.done") && !responses.contains("response.completed"));
    assert!(messages.contains("message_delta") && !messages.contains("message_stop"));
}

#[tokio::test]
async fn pieces_can_be_single_bytes_or_end_inside_characters() {
    for path in GENERATING {
        let reply = || Reply::text("é \u{1f980}");
        let whole = ask_stream(&scripted(reply()).await, path).body;
        let bytes = ask_stream(&scripted(reply().split_bytes(1)).await, path);
        assert!(bytes.body == whole && bytes.chunks.iter().all(|size| *size == 1), "{path}");
        let parts = ask_stream(&scripted(reply().split_inside_characters()).await, path);
        assert!(parts.body == whole && parts.chunks.len() > 1);
        let mut end = 0;
        for size in &parts.chunks[..parts.chunks.len() - 1] {
            end += size;
            assert!(std::str::from_utf8(&parts.body[..end]).is_err(), "{path}: a piece that ends between characters");
        }
    }
}

#[tokio::test]
async fn a_pause_and_gaps_take_their_time() {
    let provider = scripted(speech().after_tokens(0, Noise::PauseMs(120)).after_tokens(0, Noise::KeepAlive)).await;
    let start = Instant::now();
    assert_eq!(words(MESSAGES, &ask_stream(&provider, MESSAGES).text()), 4);
    assert!(start.elapsed() >= Duration::from_millis(120));
    let provider = scripted(speech().gap_ms(20)).await;
    let start = Instant::now();
    assert_eq!(words(RESPONSES, &ask_stream(&provider, RESPONSES).text()), 4);
    assert!(start.elapsed() >= Duration::from_millis(80));
}

#[tokio::test]
async fn headers_can_hang_in_their_middle() {
    let provider = scripted(speech().ending(Ending::HangInHeaders)).await;
    for path in GENERATING {
        let answer = ask_silent_stream(&provider, path);
        assert_eq!((answer.status, answer.end), (0, End::Silent));
        assert!(answer.raw.starts_with(b"HTTP/1.1 200 OK\r\n"), "{:?}", answer.raw);
    }
    let noticed = |calls: &[tokenhub_demo::SeenCall]| calls.iter().all(|call| call.finished == Finished::Aborted);
    assert!(provider.wait_until(Duration::from_secs(5), noticed).await);
}

#[tokio::test]
async fn a_whole_answer_is_cut_in_its_middle() {
    for path in GENERATING {
        let whole = ask(&scripted(speech()).await, path).body.len();
        let answer = ask(&scripted(speech().cut_after_tokens(1)).await, path);
        assert_eq!((answer.end, answer.body.len()), (End::Cut, whole / 2));
        let answer = ask(&scripted(speech().ending(Ending::CutBeforeBytes)).await, path);
        assert_eq!((answer.end, answer.raw.len()), (End::Cut, 0));
    }
}
