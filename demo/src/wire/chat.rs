//! How an answer is written in `OpenAI` Chat Completions.

use bytes::Bytes;
use serde_json::{Map, Value, json};

use crate::reply::{Finish, Part, ToolCall, ToolOrder};
use crate::request::Delivery;
use crate::speech::{Ended, Speech, Usage, pieces_of};
use crate::wire::CREATED;
use crate::wire::sse::{Role, Sentence, event};

const ID: &str = "chatcmpl-scripted";

/// As one body.
pub(crate) fn whole(speech: &Speech<'_>) -> Value {
    let mut message = json!({"role": "assistant", "content": null});
    if let Value::Object(message) = &mut message {
        match speech.message {
            Some(given) => message.extend(given.as_object().cloned().unwrap_or_default()),
            None => message.extend(assembled(&speech.parts)),
        }
    }
    let choice = json!({"index": 0, "message": message, "logprobs": null, "finish_reason": finish_reason(speech)});
    let mut body = json!({"id": speech.id.unwrap_or(ID), "object": "chat.completion", "created": CREATED,
        "model": speech.model, "choices": [choice]});
    if let Some(usage) = speech.usage {
        body["usage"] = usage_object(usage);
    }
    body["system_fingerprint"] = json!("scripted");
    body
}

/// As the events of a stream.
pub(crate) fn stream(speech: &Speech<'_>, delivery: Delivery) -> Vec<Sentence> {
    let with_usage = delivery == Delivery::StreamedWithUsage;
    let sentence = |role: Role, delta: Value, finish_reason: Option<&str>| {
        let mut chunk = chunk(speech, &json!([{"index": 0, "delta": delta, "finish_reason": finish_reason}]));
        if with_usage {
            chunk["usage"] = Value::Null;
        }
        Sentence { bytes: event(&chunk.to_string()), role }
    };
    let mut sentences = vec![sentence(Role::Frame, json!({"role": "assistant", "content": ""}), None)];
    let deltas = speech.message.map_or_else(|| deltas(speech), deltas_of_message);
    sentences.extend(deltas.into_iter().map(|delta| sentence(Role::Token, delta, None)));
    sentences.push(sentence(Role::Finish, json!({}), finish_reason(speech)));
    if let Some(usage) = speech.usage.filter(|_| with_usage) {
        let mut last = chunk(speech, &json!([]));
        last["usage"] = usage_object(usage);
        sentences.push(Sentence { bytes: event(&last.to_string()), role: Role::Usage });
    }
    sentences.push(Sentence { bytes: Bytes::from_static(b"data: [DONE]\n\n"), role: Role::Terminal });
    sentences
}

fn chunk(speech: &Speech<'_>, choices: &Value) -> Value {
    json!({"id": speech.id.unwrap_or(ID), "object": "chat.completion.chunk", "created": CREATED, "model": speech.model,
        "choices": choices})
}

fn finish_reason<'a>(speech: &Speech<'a>) -> Option<&'a str> {
    Some(match speech.ended.as_ref()? {
        Ended::Known(Finish::Stop | Finish::StopSequence(_)) => "stop",
        Ended::Known(Finish::Length) => "length",
        Ended::Known(Finish::ToolCalls) => "tool_calls",
        Ended::Known(Finish::ContentFilter) => "content_filter",
        Ended::Other(reason) => reason,
    })
}

fn usage_object(usage: Usage) -> Value {
    let Usage { prompt_tokens, completion_tokens, details } = usage;
    let mut object = json!({"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens});
    if let Some(details) = details {
        object["prompt_tokens_details"] = json!({"cached_tokens": details.cached_tokens,
            "cache_write_tokens": details.cache_write_tokens, "audio_tokens": 0});
        object["completion_tokens_details"] = json!({"reasoning_tokens": details.reasoning_tokens, "audio_tokens": 0,
            "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0});
    }
    object
}

/// The fields of a message that says `parts`; what was said between tool calls loses its place, as it does here.
fn assembled(parts: &[Part]) -> Map<String, Value> {
    let mut message = Map::new();
    let mut calls = Vec::new();
    let mut append = |field: &str, text: &str| match message.get_mut(field) {
        Some(Value::String(before)) => before.push_str(text),
        _ => {
            message.insert(field.to_owned(), json!(text));
        }
    };
    for part in parts {
        match part {
            Part::Text(text) => append("content", text),
            Part::Reasoning(reasoning) => append("reasoning_content", &reasoning.text),
            Part::Refusal(text) => append("refusal", text),
            Part::ToolCall(call) => calls.push(json!({"id": call.id, "type": "function",
                "function": {"name": call.name, "arguments": call.arguments.concat()}})),
        }
    }
    if !calls.is_empty() {
        message.insert("tool_calls".to_owned(), Value::Array(calls));
    }
    message
}

fn deltas(speech: &Speech<'_>) -> Vec<Value> {
    let texts =
        |field: &str, text: &str| -> Vec<Value> { pieces_of(text).map(|piece| json!({ field: piece })).collect() };
    let mut deltas = Vec::new();
    let mut calls: Vec<Vec<Value>> = Vec::new();
    for part in &*speech.parts {
        match part {
            Part::Text(text) => deltas.extend(texts("content", text)),
            Part::Reasoning(reasoning) => deltas.extend(texts("reasoning_content", &reasoning.text)),
            Part::Refusal(text) => deltas.extend(texts("refusal", text)),
            Part::ToolCall(call) => {
                let pieces = call_deltas(calls.len(), call);
                if speech.tool_order == ToolOrder::InSequence {
                    deltas.extend(pieces.iter().cloned());
                }
                calls.push(pieces);
            }
        }
    }
    match speech.tool_order {
        ToolOrder::InSequence => {}
        ToolOrder::Interleaved => {
            let longest = calls.iter().map(Vec::len).max().unwrap_or(0);
            let in_turn = (0..longest).flat_map(|turn| calls.iter().filter_map(move |pieces| pieces.get(turn)));
            deltas.extend(in_turn.cloned());
        }
    }
    deltas
}

fn call_deltas(index: usize, call: &ToolCall) -> Vec<Value> {
    let opening = json!({"tool_calls": [{"index": index, "id": call.id, "type": "function",
        "function": {"name": call.name, "arguments": ""}}]});
    let piece = |piece: &String| json!({"tool_calls": [{"index": index, "function": {"arguments": piece}}]});
    std::iter::once(opening).chain(call.arguments.iter().map(piece)).collect()
}

/// The fields of a scripted message, its text in pieces and every other field in one.
fn deltas_of_message(message: &Value) -> Vec<Value> {
    let mut deltas = Vec::new();
    for (field, value) in message.as_object().into_iter().flatten() {
        match (field.as_str(), value) {
            ("role", _) | (_, Value::Null) => {}
            ("content", Value::String(text)) => deltas.extend(pieces_of(text).map(|piece| json!({"content": piece}))),
            (_, other) => deltas.push(json!({ field: other })),
        }
    }
    deltas
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;

    fn speech<'a>(message: Option<&'a Value>, parts: &'a [Part]) -> Speech<'a> {
        Speech {
            id: None,
            model: "m",
            parts: Cow::Borrowed(parts),
            message,
            ended: Some(Ended::Known(Finish::Stop)),
            usage: Some(Usage { prompt_tokens: 1, completion_tokens: 2, details: None }),
            tool_order: ToolOrder::InSequence,
            asked: Map::new(),
        }
    }

    fn payloads(speech: &Speech<'_>, delivery: Delivery) -> Vec<String> {
        let text = |sentence: &Sentence| String::from_utf8(sentence.bytes.to_vec()).unwrap();
        stream(speech, delivery).iter().map(|one| text(one)["data: ".len()..].trim_end().to_owned()).collect()
    }

    #[test]
    fn a_stream_says_the_same_as_the_body() {
        let message = json!({"content": "one two", "tool_calls": [{"id": "c"}]});
        let speech = speech(Some(&message), &[]);
        let whole = whole(&speech);
        assert_eq!(whole["choices"][0]["message"]["content"], "one two");
        assert_eq!(whole["usage"]["total_tokens"], 3);

        let payloads = payloads(&speech, Delivery::StreamedWithUsage);
        assert_eq!(payloads.last().unwrap(), "[DONE]");
        let chunks: Vec<Value> =
            payloads[..payloads.len() - 1].iter().map(|payload| serde_json::from_str(payload).unwrap()).collect();
        let text: String =
            chunks.iter().filter_map(|chunk| chunk.pointer("/choices/0/delta/content")?.as_str()).collect();
        assert_eq!(text, "one two");
        assert_eq!(chunks.last().unwrap()["usage"]["total_tokens"], 3);
        assert_eq!(chunks.last().unwrap()["choices"], json!([]));
        assert_eq!(chunks[0]["usage"], Value::Null);
        assert!(chunks[0].get("usage").is_some());
        let (without, with) = (Delivery::Streamed, Delivery::StreamedWithUsage);
        assert_eq!(stream(&speech, without).len(), stream(&speech, with).len() - 1);
    }

    #[test]
    fn a_message_and_the_parts_that_say_the_same_are_the_same_bytes() {
        let message = json!({"content": "one two"});
        let parts = [Part::Text("one two".to_owned())];
        let (given, neutral) = (speech(Some(&message), &[]), speech(None, &parts));
        assert_eq!(whole(&given), whole(&neutral));
        assert_eq!(stream(&given, Delivery::Streamed), stream(&neutral, Delivery::Streamed));
    }

    #[test]
    fn tool_calls_come_in_sequence_or_in_turn() {
        let parts = [Part::tool_call("a", "f", ["{", "}"]), Part::tool_call("b", "g", ["{}"])];
        let indices = |tool_order| {
            let speech = Speech { tool_order, ..speech(None, &parts) };
            let index = |delta: &Value| delta.pointer("/tool_calls/0/index").and_then(Value::as_u64).unwrap();
            deltas(&speech).iter().map(index).collect::<Vec<_>>()
        };
        assert_eq!(indices(ToolOrder::InSequence), [0, 0, 0, 1, 1]);
        assert_eq!(indices(ToolOrder::Interleaved), [0, 1, 0, 1, 0]);
    }
}
