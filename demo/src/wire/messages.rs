//! How an answer is written in Anthropic Messages.

use serde_json::{Map, Value, json};

use crate::reply::{Finish, Part, Reasoning};
use crate::speech::{Ended, Speech, Usage, pieces_of};
use crate::wire::sse::{Role, Sentence, named_event};

const ID: &str = "msg_scripted";

/// As one body.
pub(crate) fn whole(speech: &Speech<'_>) -> Value {
    let content: Vec<Value> = speech.parts.iter().filter_map(block).collect();
    let mut message = envelope(speech, &content);
    message.extend(stop(speech));
    if let Some(usage) = speech.usage {
        message.insert("usage".to_owned(), usage_at_start(usage, usage.completion_tokens));
    }
    Value::Object(message)
}

/// As the events of a stream.
pub(crate) fn stream(speech: &Speech<'_>) -> Vec<Sentence> {
    let mut message = envelope(speech, &[]);
    let nothing = json!({"stop_reason": null, "stop_sequence": null, "stop_details": null});
    message.extend(nothing.as_object().cloned().unwrap_or_default());
    if let Some(usage) = speech.usage {
        message.insert("usage".to_owned(), usage_at_start(usage, 1));
    }
    let mut sentences = vec![sentence(Role::Frame, &json!({"type": "message_start", "message": message}))];
    let ping = sentence(Role::Frame, &json!({"type": "ping"}));
    let spoken = speech.parts.iter().filter_map(|part| Some((part, opening_block(part)?)));
    for (index, (part, opening)) in spoken.enumerate() {
        let start = json!({"type": "content_block_start", "index": index, "content_block": opening});
        sentences.push(sentence(Role::Frame, &start));
        if index == 0 {
            sentences.push(ping.clone());
        }
        for delta in block_deltas(part) {
            let delta = json!({"type": "content_block_delta", "index": index, "delta": delta});
            sentences.push(sentence(Role::Token, &delta));
        }
        sentences.push(sentence(Role::Frame, &json!({"type": "content_block_stop", "index": index})));
    }
    if sentences.len() == 1 {
        sentences.push(ping);
    }
    let mut delta = json!({"type": "message_delta", "delta": stop(speech)});
    if let Some(usage) = speech.usage {
        delta["usage"] = usage_at_end(usage);
    }
    sentences.push(sentence(Role::Finish, &delta));
    sentences.push(sentence(Role::Terminal, &json!({"type": "message_stop"})));
    sentences
}

fn sentence(role: Role, payload: &Value) -> Sentence {
    Sentence { bytes: named_event(payload), role }
}

fn envelope(speech: &Speech<'_>, content: &[Value]) -> Map<String, Value> {
    let envelope = json!({"model": speech.model, "id": speech.id.unwrap_or(ID), "type": "message", "role": "assistant",
        "content": content});
    envelope.as_object().cloned().unwrap_or_default()
}

/// The three fields that say why it ended.
fn stop(speech: &Speech<'_>) -> Map<String, Value> {
    let refusal = speech.parts.iter().find_map(|part| match part {
        Part::Refusal(text) => Some(text.as_str()),
        Part::Text(_) | Part::Reasoning(_) | Part::ToolCall(_) => None,
    });
    let (reason, sequence) = match &speech.ended {
        None => (None, None),
        Some(Ended::Known(Finish::Stop)) if refusal.is_some() => (Some("refusal"), None),
        Some(Ended::Known(Finish::Stop)) => (Some("end_turn"), None),
        Some(Ended::Known(Finish::Length)) => (Some("max_tokens"), None),
        Some(Ended::Known(Finish::ToolCalls)) => (Some("tool_use"), None),
        Some(Ended::Known(Finish::ContentFilter)) => (Some("refusal"), None),
        Some(Ended::Known(Finish::StopSequence(sequence))) => (Some("stop_sequence"), Some(sequence.as_str())),
        Some(Ended::Other(reason)) => (Some(*reason), None),
    };
    let details = refusal.map(|text| json!({"type": "refusal", "category": null, "explanation": text}));
    let fields = json!({"stop_reason": reason, "stop_sequence": sequence, "stop_details": details});
    fields.as_object().cloned().unwrap_or_default()
}

/// What a whole answer shows of a part; a refusal is no block but a reason to stop.
fn block(part: &Part) -> Option<Value> {
    Some(match part {
        Part::Text(text) => json!({"type": "text", "text": text}),
        Part::Reasoning(Reasoning { text, encrypted: Some(data), .. }) if text.is_empty() => {
            json!({"type": "redacted_thinking", "data": data})
        }
        Part::Reasoning(Reasoning { text, signature, .. }) => {
            json!({"type": "thinking", "thinking": text, "signature": signature.as_deref().unwrap_or_default()})
        }
        Part::ToolCall(call) => {
            let arguments = call.arguments.concat();
            let input: Value = serde_json::from_str(&arguments).unwrap_or_else(|_| json!({}));
            json!({"type": "tool_use", "id": call.id, "name": call.name, "input": input})
        }
        Part::Refusal(_) => return None,
    })
}

/// The block as it is when it opens.
fn opening_block(part: &Part) -> Option<Value> {
    Some(match part {
        Part::Text(_) => json!({"type": "text", "text": ""}),
        Part::Reasoning(Reasoning { text, encrypted: Some(_), .. }) if text.is_empty() => block(part)?,
        Part::Reasoning(_) => json!({"type": "thinking", "thinking": "", "signature": ""}),
        Part::ToolCall(call) => json!({"type": "tool_use", "id": call.id, "name": call.name, "input": {}}),
        Part::Refusal(_) => return None,
    })
}

fn block_deltas(part: &Part) -> Vec<Value> {
    match part {
        Part::Text(text) => pieces_of(text).map(|piece| json!({"type": "text_delta", "text": piece})).collect(),
        Part::Reasoning(Reasoning { text, encrypted: Some(_), .. }) if text.is_empty() => Vec::new(),
        Part::Reasoning(Reasoning { text, signature, .. }) => {
            let thinking = pieces_of(text).map(|piece| json!({"type": "thinking_delta", "thinking": piece}));
            let signature = signature.iter().map(|text| json!({"type": "signature_delta", "signature": text}));
            thinking.chain(signature).collect()
        }
        Part::ToolCall(call) => {
            // A first piece without a letter comes from the real one as well.
            let pieces = std::iter::once("").chain(call.arguments.iter().map(String::as_str));
            pieces.map(|piece| json!({"type": "input_json_delta", "partial_json": piece})).collect()
        }
        Part::Refusal(_) => Vec::new(),
    }
}

/// Here the tokens from and for a cache are not among the input tokens.
fn input_counts(usage: Usage) -> Map<String, Value> {
    let details = usage.details.unwrap_or_default();
    let fresh = usage.prompt_tokens.saturating_sub(details.cached_tokens + details.cache_write_tokens);
    let counts = json!({"input_tokens": fresh, "cache_creation_input_tokens": details.cache_write_tokens,
        "cache_read_input_tokens": details.cached_tokens});
    counts.as_object().cloned().unwrap_or_default()
}

fn usage_at_start(usage: Usage, output_tokens: u64) -> Value {
    let written = usage.details.unwrap_or_default().cache_write_tokens;
    let mut counts = input_counts(usage);
    let rest = json!({"cache_creation": {"ephemeral_5m_input_tokens": written, "ephemeral_1h_input_tokens": 0},
        "output_tokens": output_tokens, "service_tier": "standard"});
    counts.extend(rest.as_object().cloned().unwrap_or_default());
    Value::Object(counts)
}

fn usage_at_end(usage: Usage) -> Value {
    let mut counts = input_counts(usage);
    counts.insert("output_tokens".to_owned(), json!(usage.completion_tokens));
    if let Some(details) = usage.details {
        counts.insert("output_tokens_details".to_owned(), json!({"thinking_tokens": details.reasoning_tokens}));
    }
    Value::Object(counts)
}
