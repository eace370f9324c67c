//! Streams without a fault: the order of events, their numbers, and that they say what the whole answer says.

use serde_json::{Value, json};
use tokenhub_demo::{Finish, Part, Reasoning, Reply, Rule, ScriptedProvider, TokenDetails};

use crate::client::{CHAT, MESSAGES, RESPONSES, ask, ask_stream};

async fn scripted(reply: Reply) -> ScriptedProvider {
    let provider = ScriptedProvider::start().await;
    provider.script(Rule::any([reply]));
    provider
}

fn thought_text_and_call() -> Reply {
    Reply::parts([
        Part::reasoning("hm", Some("sig")),
        Part::Text("one two".into()),
        Part::tool_call("call_1", "weather", ["{\"a\":", "1}"]),
    ])
}

#[tokio::test]
async fn messages_sends_its_events_in_the_order_of_the_real_one() {
    let details = TokenDetails { cached_tokens: 4, ..TokenDetails::default() };
    let provider = scripted(thought_text_and_call().usage(10, 5).token_details(details)).await;
    let answer = ask_stream(&provider, MESSAGES);
    assert_eq!(answer.header("content-type"), Some("text/event-stream; charset=utf-8"));
    let events = answer.events();
    assert!(events.iter().all(|(name, payload)| payload["type"] == name.as_str()));
    let kinds: Vec<String> = events
        .iter()
        .map(|(name, payload)| match payload.pointer("/delta/type").and_then(Value::as_str) {
            Some(delta) => format!("{delta} {}", payload["index"]),
            None => name.replace("content_block_", ""),
        })
        .collect();
    let expected = "message_start, start, ping, thinking_delta 0, signature_delta 0, stop, start, text_delta 1, \
        text_delta 1, stop, start, input_json_delta 2, input_json_delta 2, input_json_delta 2, stop, message_delta, message_stop";
    assert_eq!(kinds.join(", "), expected);
    assert_eq!(events[0].1["message"]["usage"]["input_tokens"], 6);
    assert_eq!(events[0].1["message"]["content"], json!([]));
    let delta = &events[events.len() - 2].1;
    assert_eq!(delta["delta"]["stop_reason"], "tool_use");
    assert_eq!((&delta["usage"]["output_tokens"], &delta["usage"]["cache_read_input_tokens"]), (&json!(5), &json!(4)));
}

#[tokio::test]
async fn responses_numbers_its_events_and_repeats_the_answer_at_the_end() {
    let provider = scripted(thought_text_and_call().usage(10, 5)).await;
    let events = ask_stream(&provider, RESPONSES).events();
    for (number, (name, payload)) in events.iter().enumerate() {
        assert_eq!((&payload["type"], &payload["sequence_number"]), (&json!(name), &json!(number)));
    }
    let names: Vec<&str> = events.iter().map(|(name, _)| name.trim_start_matches("response.")).collect();
    let expected = "created, in_progress, output_item.added, reasoning_summary_part.added, reasoning_summary_text.delta, \
        reasoning_summary_text.done, reasoning_summary_part.done, output_item.done, output_item.added, content_part.added, \
        output_text.delta, output_text.delta, output_text.done, content_part.done, output_item.done, output_item.added, \
        function_call_arguments.delta, function_call_arguments.delta, function_call_arguments.done, output_item.done, completed";
    assert_eq!(names.join(", "), expected);
    let last = &events.last().unwrap().1["response"];
    assert_eq!(*last, ask(&provider, RESPONSES).json());
    let done: Vec<&Value> = events
        .iter()
        .filter(|(name, _)| name == "response.output_item.done")
        .map(|(_, payload)| &payload["item"])
        .collect();
    assert_eq!(json!(done), last["output"]);
}

#[tokio::test]
async fn the_pieces_of_a_chat_stream_add_up_to_the_whole_answer() {
    let calls = [Part::tool_call("a", "f", ["{\"x\"", ":1}"]), Part::tool_call("b", "g", ["{}"])];
    let provider = scripted(Reply::parts(calls).interleaved()).await;
    let events = ask_stream(&provider, CHAT).events();
    let deltas: Vec<&Value> =
        events.iter().filter_map(|(_, payload)| payload.pointer("/choices/0/delta/tool_calls/0")).collect();
    let indices: Vec<&Value> = deltas.iter().map(|delta| &delta["index"]).collect();
    assert_eq!(indices, [0, 1, 0, 1, 0]);
    let arguments = |index: u64| -> String {
        let of_call = deltas.iter().filter(|delta| delta["index"] == index);
        of_call.map(|delta| delta["function"]["arguments"].as_str().unwrap()).collect()
    };
    assert_eq!((arguments(0).as_str(), arguments(1).as_str()), ("{\"x\":1}", "{}"));
    assert_eq!((&deltas[0]["id"], &deltas[1]["function"]["name"]), (&json!("a"), &json!("g")));
    assert_eq!(events[events.len() - 3].1["choices"][0]["finish_reason"], "tool_calls");
    assert_eq!(events.last().unwrap().1, json!("[DONE]"));
}

#[tokio::test]
async fn a_limit_ends_a_stream_as_incomplete() {
    let provider = scripted(Reply::text("a b").finish(Finish::Length)).await;
    let (name, last) = ask_stream(&provider, RESPONSES).events().pop().unwrap();
    assert_eq!(name, "response.incomplete");
    assert_eq!(last["response"]["incomplete_details"], json!({"reason": "max_output_tokens"}));
    assert_eq!(last["response"]["output"][0]["status"], "incomplete");
}

#[tokio::test]
async fn redacted_reasoning_is_a_block_without_a_delta() {
    let thought = Reasoning { encrypted: Some("enc".into()), ..Reasoning::default() };
    let provider = scripted(Reply::parts([Part::Reasoning(thought)])).await;
    let events = ask_stream(&provider, MESSAGES).events();
    assert_eq!(events[1].1["content_block"], json!({"type": "redacted_thinking", "data": "enc"}));
    assert!(events.iter().all(|(name, _)| name != "content_block_delta"));
}
