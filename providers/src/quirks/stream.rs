//! A streamed answer of a model with quirks, as a usual stream: chunk by chunk, nothing held longer than it is uncertain.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{BoxStream, unfold};
use serde_json::{Map, Value};
use tokenhub_domain::{AttemptId, ModelQuirks, ProviderFailure};

use super::gemma4::{Gemma4, Said};
use super::reply::{TOOL_CALLS, call_of, end_with_calls};
use super::tool_names::restore;
use crate::call::{EventKind, StreamEvent};

type Item = Result<StreamEvent, ProviderFailure>;

/// `events` of Chat Completions with the quirks of the model taken out.
pub(crate) fn stream(
    quirks: Arc<ModelQuirks>,
    attempt: AttemptId,
    events: BoxStream<'static, Item>,
) -> BoxStream<'static, Item> {
    let chunks = Chunks { quirks, attempt, choices: BTreeMap::new(), calls: 0, head: Map::new() };
    let state = (events, chunks, VecDeque::new());
    unfold(state, |(mut events, mut chunks, mut ready)| async move {
        loop {
            if let Some(event) = ready.pop_front() {
                return Some((Ok(event), (events, chunks, ready)));
            }
            match events.next().await? {
                Ok(event) => ready.extend(chunks.take(event)),
                Err(failure) => return Some((Err(failure), (events, chunks, ready))),
            }
        }
    })
    .boxed()
}

/// One choice of the answer.
#[derive(Default)]
struct Choice {
    text: Gemma4,
    has_calls: bool,
}

struct Chunks {
    quirks: Arc<ModelQuirks>,
    attempt: AttemptId,
    choices: BTreeMap<u64, Choice>,
    /// Calls that were found in texts.
    calls: usize,
    /// What every chunk has beside its choices.
    head: Map<String, Value>,
}

impl Chunks {
    fn take(&mut self, event: StreamEvent) -> Vec<StreamEvent> {
        if event.kind == EventKind::Done {
            let mut events = self.leftovers();
            events.push(event);
            return events;
        }
        let Ok(mut chunk) = serde_json::from_slice::<Map<String, Value>>(&event.raw) else { return vec![event] };
        let Some(Value::Array(choices)) = chunk.remove("choices") else { return vec![event] };
        if choices.is_empty() {
            return vec![event];
        }
        let usage = chunk.remove("usage");
        self.head = chunk;
        let mut written: Vec<Map<String, Value>> = Vec::new();
        for choice in choices {
            match choice {
                Value::Object(choice) => self.write(choice, &mut written),
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {}
            }
        }
        let written = written.into_iter().filter(|choice| usage.is_some() || says_something(choice));
        let mut events: Vec<StreamEvent> = written.map(|choice| self.event(choice)).collect();
        // The model speaks, though nothing can be shown of it yet: whoever waits for its first word need not any more.
        if events.is_empty() && event.kind == EventKind::Content {
            events.push(StreamEvent { raw: Bytes::new(), ..event.clone() });
        }
        if let Some(last) = events.last_mut() {
            if usage.is_some() {
                let mut chunk: Map<String, Value> = serde_json::from_slice(&last.raw).unwrap_or_default();
                chunk.extend(usage.map(|usage| ("usage".to_owned(), usage)));
                last.raw = Value::Object(chunk).to_string().into();
            }
            (last.usage, last.usage_json, last.finish_reason) = (event.usage, event.usage_json, event.finish_reason);
        }
        events
    }

    /// The chunks of one choice: as many as the order of what was said demands.
    fn write(&mut self, mut choice: Map<String, Value>, written: &mut Vec<Map<String, Value>>) {
        let index = choice.get("index").and_then(Value::as_u64).unwrap_or_default();
        let mut delta = match choice.remove("delta") {
            Some(Value::Object(delta)) => delta,
            Some(_) | None => Map::new(),
        };
        restore(&self.quirks, &mut delta);
        let is_last =
            choice.get("finish_reason").is_some_and(|reason| reason.as_str().is_some_and(|it| !it.is_empty()));
        let mut deltas = vec![delta];
        if self.quirks.gemma4_output {
            let said = self.said(index, &mut deltas, is_last);
            self.say(index, said, &mut deltas);
        }
        let state = self.choices.entry(index).or_default();
        if is_last && state.has_calls {
            end_with_calls(&mut choice);
        }
        let last = deltas.len() - 1;
        for (place, delta) in deltas.into_iter().enumerate() {
            let mut piece = choice.clone();
            piece.insert("delta".to_owned(), delta.into());
            if place < last {
                piece.insert("finish_reason".to_owned(), Value::Null);
            }
            written.push(piece);
        }
    }

    /// What the text of the first delta, which it loses, says by now.
    fn said(&mut self, index: u64, deltas: &mut [Map<String, Value>], is_last: bool) -> Vec<Said> {
        let state = self.choices.entry(index).or_default();
        let content = deltas.first_mut().and_then(|delta| match delta.get("content") {
            Some(Value::String(text)) if !text.is_empty() => delta.remove("content"),
            Some(_) | None => None,
        });
        let mut said = content.as_ref().and_then(Value::as_str).map_or_else(Vec::new, |text| state.text.push(text));
        if is_last {
            said.extend(state.text.finish());
        }
        said
    }

    fn say(&mut self, index: u64, said: Vec<Said>, deltas: &mut Vec<Map<String, Value>>) {
        for (place, one) in said.into_iter().enumerate() {
            let (field, value): (&str, Value) = match one {
                Said::Text(text) => ("content", text.into()),
                Said::Thought(text) => ("reasoning_content", text.into()),
                Said::Call { name, arguments } => {
                    let mut call = call_of(&self.quirks, &self.attempt, self.calls, &name, &arguments);
                    call["index"] = self.calls.into();
                    self.calls += 1;
                    self.choices.entry(index).or_default().has_calls = true;
                    (TOOL_CALLS, vec![call].into())
                }
            };
            match deltas.first_mut().filter(|first| place == 0 && !first.contains_key(field)) {
                Some(first) => drop(first.insert(field.to_owned(), value)),
                None => deltas.push(Map::from_iter([(field.to_owned(), value)])),
            }
        }
    }

    /// What an answer without a finish reason still held when it ended.
    fn leftovers(&mut self) -> Vec<StreamEvent> {
        let mut events = Vec::new();
        for index in self.choices.keys().copied().collect::<Vec<_>>() {
            let said = self.choices.entry(index).or_default().text.finish();
            let mut deltas = vec![Map::new()];
            self.say(index, said, &mut deltas);
            for delta in deltas.into_iter().filter(|delta| !delta.is_empty()) {
                let fields = [("index", index.into()), ("delta", delta.into()), ("finish_reason", Value::Null)];
                let choice = fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
                events.push(self.event(choice));
            }
        }
        events
    }

    fn event(&self, choice: Map<String, Value>) -> StreamEvent {
        let shows = |value: &Value| match value {
            Value::Null => false,
            Value::String(text) => !text.is_empty(),
            Value::Array(list) => !list.is_empty(),
            Value::Object(fields) => !fields.is_empty(),
            Value::Bool(_) | Value::Number(_) => true,
        };
        let delta = choice.get("delta").and_then(Value::as_object);
        let has_content = delta.is_some_and(|delta| delta.iter().any(|(name, value)| name != "role" && shows(value)));
        let kind = match choice.get("finish_reason") {
            _ if has_content => EventKind::Content,
            Some(Value::String(reason)) if !reason.is_empty() => EventKind::Finish,
            Some(_) | None => EventKind::Preamble,
        };
        let mut chunk = self.head.clone();
        chunk.insert("choices".to_owned(), Value::Array(vec![choice.into()]));
        let raw = Value::Object(chunk).to_string().into();
        StreamEvent { name: Bytes::new(), raw, kind, usage: None, usage_json: None, finish_reason: None }
    }
}

/// Whether a client learns anything by it.
fn says_something(choice: &Map<String, Value>) -> bool {
    let delta = choice.get("delta").and_then(Value::as_object);
    delta.is_some_and(|delta| !delta.is_empty()) || choice.get("finish_reason").is_some_and(|reason| !reason.is_null())
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tokenhub_domain::TokenUsage;

    use super::*;

    fn chunk(choice: &Value) -> StreamEvent {
        let raw = json!({"id": "c", "object": "chat.completion.chunk", "choices": [choice]}).to_string();
        let finish_reason = choice["finish_reason"].as_str().map(str::to_owned);
        let kind = if finish_reason.is_some() { EventKind::Finish } else { EventKind::Content };
        StreamEvent { name: Bytes::new(), raw: raw.into(), kind, usage: None, usage_json: None, finish_reason }
    }

    fn said(text: &str) -> StreamEvent {
        chunk(&json!({"index": 0, "delta": {"content": text}, "finish_reason": null}))
    }

    fn stop() -> StreamEvent {
        chunk(&json!({"index": 0, "delta": {}, "finish_reason": "stop"}))
    }

    fn chunks() -> Chunks {
        let tool_names = [("get_weather".to_owned(), "Weather".to_owned())].into();
        Chunks {
            quirks: Arc::new(ModelQuirks { gemma4_output: true, tool_names }),
            attempt: "att_1".into(),
            choices: BTreeMap::new(),
            calls: 0,
            head: Map::new(),
        }
    }

    /// The choices that come out, with what they are to the gateway.
    fn out(events: Vec<StreamEvent>) -> Vec<(Value, EventKind)> {
        let mut chunks = chunks();
        let events = events.into_iter().flat_map(|event| chunks.take(event));
        events
            .filter(|event| !event.raw.is_empty())
            .map(|event| {
                let chunk: Value = serde_json::from_slice(&event.raw).unwrap();
                assert_eq!(chunk["id"], "c");
                (chunk["choices"][0].clone(), event.kind)
            })
            .collect()
    }

    #[test]
    fn marks_over_several_chunks_become_reasoning_text_and_calls_in_their_order() {
        let role = chunk(&json!({"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": null}));
        let pieces = ["<|chan", "nel>thought\nhm<channel|>I look.<|tool_call>call:get_wea", "ther{days:2}<tool_call|>"];
        let shown = out([vec![role], pieces.map(said).to_vec(), vec![stop()]].concat());
        let choice = |delta: Value, finish: Value| json!({"index": 0, "delta": delta, "finish_reason": finish});
        let call = json!({"id": "call_1_0", "type": "function", "index": 0,
            "function": {"name": "Weather", "arguments": "{\"days\":2}"}});
        assert_eq!(
            shown,
            [
                (choice(json!({"role": "assistant", "content": ""}), Value::Null), EventKind::Preamble),
                (choice(json!({"reasoning_content": "hm"}), Value::Null), EventKind::Content),
                (choice(json!({"content": "I look."}), Value::Null), EventKind::Content),
                (choice(json!({"tool_calls": [call]}), Value::Null), EventKind::Content),
                (choice(json!({}), json!("tool_calls")), EventKind::Finish),
            ]
        );
    }

    #[test]
    fn counts_and_the_upstreams_own_reason_stay_with_the_last_chunk() {
        let mut last = stop();
        let counts = TokenUsage { input_tokens: 3, output_tokens: 2 };
        (last.usage, last.usage_json) = (Some(counts), Some("{}".to_owned()));
        let mut chunks = chunks();
        assert_eq!(chunks.take(said("a <")).len(), 1);
        let events = chunks.take(last);
        let end = events.last().unwrap();
        assert_eq!((end.usage, end.finish_reason.as_deref()), (Some(counts), Some("stop")));
        assert!(String::from_utf8_lossy(&events[0].raw).contains(r#""content":" <""#), "{events:?}");
    }

    #[test]
    fn a_long_call_is_no_silence_and_costs_no_chunks() {
        let mut chunks = chunks();
        chunks.take(said("<|tool_call>call:get_weather{text:<|\"|>"));
        for _ in 0..2_000 {
            let events = chunks.take(said("word "));
            let seen: Vec<_> = events.iter().map(|event| (event.raw.len(), event.kind)).collect();
            assert_eq!(seen, [(0, EventKind::Content)]);
        }
        let call = chunks.take(said("<|\"|>}<tool_call|>"));
        assert!(String::from_utf8_lossy(&call[0].raw).contains("word word"), "{call:?}");
    }

    #[test]
    fn what_is_held_is_told_before_the_end_mark() {
        let done = StreamEvent { raw: Bytes::from_static(b"[DONE]"), kind: EventKind::Done, ..said("") };
        let mut chunks = chunks();
        chunks.take(said("x <|tool"));
        let events = chunks.take(done);
        assert!(String::from_utf8_lossy(&events[0].raw).contains("<|tool"), "{events:?}");
        assert_eq!((events.len(), events[1].kind), (2, EventKind::Done));
    }
}
