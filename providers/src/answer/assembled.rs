//! The chunks of a Chat Completions stream, put together to the body that a whole answer would have had.
//!
//! Pure. A text is what its pieces are, one behind the other, halves of characters included; of everything that comes once
//! the last word counts. Must not know why a stream ended: whoever read it has judged that.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use tokenhub_domain::RawFields;

use crate::convert::stream::{Joiner, JsonEnd, Part, Wire};

/// Fields of a message that come in pieces of text.
const TEXTS: [&str; 4] = ["content", "refusal", "reasoning_content", "reasoning"];

/// An answer as far as it has come.
#[derive(Debug, Default)]
pub(crate) struct Assembled {
    /// What chunks say beside their choices.
    head: Map<String, Value>,
    choices: BTreeMap<u64, Choice>,
}

#[derive(Debug, Default)]
struct Choice {
    texts: BTreeMap<&'static str, Text>,
    calls: Vec<ToolCall>,
    /// The older form of a call.
    function: Option<ToolCall>,
    others: Map<String, Value>,
    logprobs: Map<String, Value>,
    finish_reason: Option<String>,
}

/// A text and the half character at its end.
#[derive(Debug, Default)]
struct Text {
    joiner: Joiner,
    text: String,
}

#[derive(Debug, Default)]
struct ToolCall {
    index: Option<u64>,
    fields: Map<String, Value>,
    /// `function` or `custom`, as the provider calls it.
    kind: Option<&'static str>,
    name: Option<String>,
    /// Arguments, or the input of a custom tool.
    input: Text,
    end: JsonEnd,
}

impl Text {
    /// The new text, without half a character at its end.
    fn add(&mut self, piece: Wire<'_>) -> &str {
        let before = self.text.len();
        self.text.push_str(&self.joiner.add(piece));
        &self.text[before..]
    }

    fn end(&mut self) -> &str {
        let before = self.text.len();
        self.text.push_str(self.joiner.rest());
        &self.text[before..]
    }
}

impl Assembled {
    /// Adds the payload of an event; `on_text` is told what the first choice says. The end mark adds nothing.
    pub(crate) fn add(&mut self, payload: &[u8], on_text: &mut dyn FnMut(&str)) -> Result<(), serde_json::Error> {
        let payload = payload.trim_ascii();
        if payload.is_empty() || payload == b"[DONE]" {
            return Ok(());
        }
        // Somebody's sign of life, and no chunk.
        let Ok(chunk) = serde_json::from_slice(payload) else { return Ok(()) };
        for (name, value) in fields(chunk) {
            match name.as_str() {
                "choices" => self.add_choices(value, on_text)?,
                "object" => {}
                // Some servers repeat whole lists, of sources for one, in every chunk.
                _ => self.head.extend(plain(value.get()).filter(says_something).map(|value| (name, value))),
            }
        }
        Ok(())
    }

    /// Whether every choice that was begun has said why it ended.
    pub(crate) fn has_ended(&self) -> bool {
        self.choices.values().all(|choice| choice.finish_reason.is_some())
    }

    fn add_choices(&mut self, choices: &RawValue, on_text: &mut dyn FnMut(&str)) -> Result<(), serde_json::Error> {
        let choices: Option<Vec<RawFields<'_>>> = serde_json::from_str(choices.get())?;
        for choice in choices.into_iter().flatten() {
            let index = choice.get("index").and_then(plain).unwrap_or(0);
            let mut unheard = |_: &str| {};
            let on_text: &mut dyn FnMut(&str) = if index == 0 { &mut *on_text } else { &mut unheard };
            self.choices.entry(index).or_default().add(choice, on_text)?;
        }
        Ok(())
    }

    /// The body. `on_text` is told what was still missing of the text.
    pub(crate) fn finish(self, on_text: &mut dyn FnMut(&str)) -> Value {
        let mut body = self.head;
        body.insert("object".to_owned(), json!("chat.completion"));
        let mut unheard = |_: &str| {};
        let choices = self.choices.into_iter().map(|(index, choice)| {
            let on_text: &mut dyn FnMut(&str) = if index == 0 { &mut *on_text } else { &mut unheard };
            choice.finish(index, on_text)
        });
        let choices = choices.collect();
        body.insert("choices".to_owned(), Value::Array(choices));
        Value::Object(body)
    }
}

impl Choice {
    fn add(&mut self, choice: RawFields<'_>, on_text: &mut dyn FnMut(&str)) -> Result<(), serde_json::Error> {
        for (name, value) in fields(choice) {
            match name.as_str() {
                "delta" => {
                    let delta: Option<RawFields<'_>> = serde_json::from_str(value.get())?;
                    if let Some(delta) = delta {
                        self.add_delta(delta, on_text)?;
                    }
                }
                "finish_reason" => {
                    // Some servers send an empty reason with every chunk.
                    let reason = plain::<String>(value.get()).filter(|reason| !reason.is_empty());
                    self.finish_reason = reason.or(self.finish_reason.take());
                }
                "logprobs" => {
                    let logprobs = serde_json::from_str::<Option<RawFields<'_>>>(value.get())?;
                    for (name, value) in logprobs.into_iter().flat_map(fields) {
                        put(&mut self.logprobs, name, value);
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn add_delta(&mut self, delta: RawFields<'_>, on_text: &mut dyn FnMut(&str)) -> Result<(), serde_json::Error> {
        for (name, value) in fields(delta) {
            if value.get() == "null" {
                continue;
            }
            match (name.as_str(), TEXTS.into_iter().find(|text| *text == name)) {
                ("content", _) if value.get().starts_with('[') => {
                    self.add_parts(serde_json::from_str(value.get())?, on_text);
                }
                (_, Some(text)) => self.say(text, serde_json::from_str(value.get())?, on_text),
                ("role", _) => {}
                ("tool_calls", _) => {
                    for call in serde_json::from_str::<Vec<RawFields<'_>>>(value.get())? {
                        self.add_call(call)?;
                    }
                }
                ("function_call", _) => {
                    let function = self.function.get_or_insert_default();
                    function.add_function("function", serde_json::from_str(value.get())?)?;
                }
                _ => put(&mut self.others, name, value),
            }
        }
        Ok(())
    }

    fn say(&mut self, field: &'static str, piece: Wire<'_>, on_text: &mut dyn FnMut(&str)) {
        let said = self.texts.entry(field).or_default().add(piece);
        if field == "content" && !said.is_empty() {
            on_text(said);
        }
    }

    fn add_parts(&mut self, parts: Vec<Part<'_>>, on_text: &mut dyn FnMut(&str)) {
        for part in parts {
            for thought in part.thinking.into_iter().flatten().filter_map(|thought| thought.text) {
                self.say("reasoning_content", thought, on_text);
            }
            if let Some(text) = part.text {
                self.say("content", text, on_text);
            }
            if let Some(refusal) = part.refusal {
                self.say("refusal", refusal, on_text);
            }
        }
    }

    fn add_call(&mut self, call: RawFields<'_>) -> Result<(), serde_json::Error> {
        let index = call.get("index").and_then(plain);
        let id = call.get("id").and_then(plain::<String>).filter(|id| !id.is_empty());
        let position = self.position_of(index, id.as_deref());
        let known = &mut self.calls[position];
        for (name, value) in fields(call) {
            match name.as_str() {
                "index" => {}
                _ if value.get() == "null" => {}
                "function" => known.add_function("function", serde_json::from_str(value.get())?)?,
                "custom" => known.add_function("custom", serde_json::from_str(value.get())?)?,
                _ => put(&mut known.fields, name, value),
            }
        }
        Ok(())
    }

    /// The call that a piece belongs to. Some servers number none of their calls, or all of them 0: then a new id is a new
    /// call once the one before is complete.
    fn position_of(&mut self, index: Option<u64>, id: Option<&str>) -> usize {
        let known = match index {
            Some(_) => self.calls.iter().rposition(|call| call.index == index),
            None => self.calls.len().checked_sub(1),
        };
        let is_another = |call: &ToolCall| {
            let before = call.fields.get("id").and_then(Value::as_str);
            call.end.is_complete() && before.zip(id).is_some_and(|(before, now)| before != now)
        };
        match known {
            Some(position) if !is_another(&self.calls[position]) => position,
            Some(_) | None => {
                self.calls.push(ToolCall { index, ..ToolCall::default() });
                self.calls.len() - 1
            }
        }
    }

    fn finish(mut self, index: u64, on_text: &mut dyn FnMut(&str)) -> Value {
        for (field, text) in &mut self.texts {
            let rest = text.end();
            if *field == "content" && !rest.is_empty() {
                on_text(rest);
            }
        }
        let mut message = Map::from_iter([("role".to_owned(), json!("assistant"))]);
        let said = |texts: &mut BTreeMap<&'static str, Text>, field| {
            texts.remove(field).map(|text| text.text).filter(|text| !text.is_empty())
        };
        let (content, refusal) = (said(&mut self.texts, "content"), said(&mut self.texts, "refusal"));
        let is_silent = refusal.is_none() && self.calls.is_empty() && self.function.is_none();
        message.insert("content".to_owned(), content.or(is_silent.then(String::new)).into());
        message.extend(refusal.map(|refusal| ("refusal".to_owned(), refusal.into())));
        message.extend(self.texts.into_iter().map(|(field, text)| (field.to_owned(), text.text.into())));
        message.extend(self.others);
        if !self.calls.is_empty() {
            message.insert("tool_calls".to_owned(), self.calls.into_iter().map(ToolCall::finish).collect());
        }
        if let Some(function) = self.function {
            message.insert("function_call".to_owned(), function.finish_function());
        }
        let logprobs = if self.logprobs.is_empty() { Value::Null } else { Value::Object(self.logprobs) };
        json!({"index": index, "message": message, "logprobs": logprobs, "finish_reason": self.finish_reason})
    }
}

impl ToolCall {
    fn add_function(&mut self, kind: &'static str, function: RawFields<'_>) -> Result<(), serde_json::Error> {
        self.kind = Some(kind);
        for (name, value) in fields(function) {
            match (name.as_str(), value.get()) {
                (_, "null") => {}
                ("name", _) => {
                    let name = plain::<String>(value.get()).filter(|name| !name.is_empty());
                    self.name = self.name.take().or(name);
                }
                ("arguments" | "input", text) => {
                    let piece = if text.starts_with('"') { serde_json::from_str(text)? } else { Wire::from(text) };
                    self.end.add(self.input.add(piece));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn finish(mut self) -> Value {
        let mut call = std::mem::take(&mut self.fields);
        let kind = self.kind.unwrap_or("function");
        call.entry("type").or_insert_with(|| json!(kind));
        call.insert(kind.to_owned(), self.finish_function());
        Value::Object(call)
    }

    fn finish_function(mut self) -> Value {
        self.input.end();
        let input = if self.kind == Some("custom") { "input" } else { "arguments" };
        json!({"name": self.name.unwrap_or_default(), input: self.input.text})
    }
}

fn says_something(value: &Value) -> bool {
    !value.is_null() && value.as_str() != Some("")
}

/// A field that comes once, or again and again: lists grow, of everything else the last word counts.
fn put(into: &mut Map<String, Value>, name: String, value: &RawValue) {
    // Half a character in a field that is no text is nothing to lose an answer for.
    let Some(value) = plain::<Value>(value.get()) else { return };
    match (into.get_mut(&name), value) {
        (_, Value::Null) => {}
        (Some(Value::Array(known)), Value::Array(more)) => known.extend(more),
        (Some(_), Value::String(text)) if text.is_empty() => {}
        (_, value) => {
            into.insert(name, value);
        }
    }
}

fn plain<T: DeserializeOwned>(json: &str) -> Option<T> {
    serde_json::from_str(json).ok()
}

fn fields(object: RawFields<'_>) -> impl Iterator<Item = (String, &RawValue)> {
    object.into_fields().map(|(name, value)| (name.into_owned(), value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answer::read_completion;
    use tokenhub_domain::{Dialect, ErrorClass};

    /// The body of these payloads, and the text that was told.
    fn assembled<T: AsRef<str>>(payloads: &[T]) -> (Value, String) {
        let (mut answer, mut told) = (Assembled::default(), String::new());
        for payload in payloads {
            answer.add(payload.as_ref().as_bytes(), &mut |text| told.push_str(text)).unwrap();
        }
        let body = answer.finish(&mut |text| told.push_str(text));
        (body, told)
    }

    fn delta(delta: &Value) -> String {
        json!({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m",
            "choices": [{"index": 0, "delta": delta, "finish_reason": null}], "usage": null})
        .to_string()
    }

    fn finish(reason: &str) -> String {
        json!({"id": "c", "choices": [{"index": 0, "delta": {}, "finish_reason": reason}]}).to_string()
    }

    #[test]
    fn a_text_in_pieces_is_the_body_of_a_whole_answer() {
        let usage = json!({"prompt_tokens": 3, "completion_tokens": 2, "z": {"y": 1}});
        let payloads = [
            delta(&json!({"role": "assistant", "content": ""})),
            delta(&json!({"content": "one "})),
            delta(&json!({"content": "two"})),
            finish("length"),
            json!({"id": "c", "model": "", "system_fingerprint": "fp", "choices": [], "usage": usage}).to_string(),
            "[DONE]".to_owned(),
        ];
        let (body, told) = assembled(&payloads);
        let expected = json!({"id": "c", "created": 1, "model": "m", "system_fingerprint": "fp", "usage": usage,
            "object": "chat.completion", "choices": [{"index": 0, "logprobs": null, "finish_reason": "length",
            "message": {"role": "assistant", "content": "one two"}}]});
        assert_eq!((body.clone(), told.as_str()), (expected, "one two"));
        let read = read_completion(Dialect::Chat, body.to_string().into_bytes(), None).unwrap();
        assert_eq!((read.text.as_str(), read.finish_reason.as_deref()), ("one two", Some("length")));
        assert_eq!((read.usage.input_tokens, read.usage.output_tokens), (3, 2));
    }

    #[test]
    fn a_character_that_comes_in_halves_is_told_once_it_is_whole() {
        let half = |text: &str| format!(r#"{{"choices":[{{"delta":{{"content":"{text}"}}}}]}}"#);
        let (body, told) = assembled(&[half(r"a\ud83d"), half(r"\ude00b"), half(r"\ud83d")]);
        assert_eq!(told, "a\u{1F600}b\u{FFFD}");
        assert_eq!(body["choices"][0]["message"]["content"], told);
    }

    #[test]
    fn tool_calls_come_in_pieces_in_turn_and_without_numbers() {
        let piece = |call: Value| delta(&json!({"tool_calls": [call]}));
        let opened = |index: Value, id: &str| {
            piece(json!({"index": index, "id": id, "type": "function", "function": {"name": "f", "arguments": ""}}))
        };
        let more = |index: Value, text: &str| piece(json!({"index": index, "function": {"arguments": text}}));
        let call = |id: &str, arguments: &str| json!({"id": id, "type": "function", "function": {"name": "f", "arguments": arguments}});
        let expected = json!([call("a", r#"{"x":1}"#), call("b", "{}")]);
        let in_turn = [
            opened(json!(0), "a"),
            opened(json!(1), "b"),
            more(json!(0), r#"{"x""#),
            more(json!(1), "{"),
            more(json!(0), ":1}"),
            more(json!(1), "}"),
        ];
        let unnumbered = [
            opened(json!(null), "a"),
            more(json!(null), r#"{"x":1}"#),
            opened(json!(null), "b"),
            more(json!(null), "{}"),
        ];
        for payloads in [&in_turn[..], &unnumbered] {
            let (body, told) = assembled(payloads);
            let message = &body["choices"][0]["message"];
            assert_eq!((&message["tool_calls"], &message["content"]), (&expected, &Value::Null));
            assert_eq!(told, "");
        }
        let custom = [
            piece(json!({"index": 0, "id": "c", "type": "custom", "custom": {"name": "g", "input": "a"}})),
            piece(json!({"index": 0, "custom": {"input": "b"}})),
        ];
        let whole = json!({"id": "c", "type": "custom", "custom": {"name": "g", "input": "ab"}});
        assert_eq!(assembled(&custom).0["choices"][0]["message"]["tool_calls"], json!([whole]));
        let older = [
            delta(&json!({"function_call": {"name": "f", "arguments": "{"}})),
            delta(&json!({"function_call": {"arguments": "}"}})),
        ];
        let function = json!({"name": "f", "arguments": "{}"});
        assert_eq!(assembled(&older).0["choices"][0]["message"]["function_call"], function);
    }

    #[test]
    fn thoughts_and_refusals_are_no_text_and_a_refusal_is_one_by_the_same_rule() {
        let payloads = [
            delta(&json!({"reasoning_content": "hm"})),
            delta(&json!({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "m"}]}]})),
            delta(&json!({"refusal": "I "})),
            delta(&json!({"refusal": "cannot"})),
            finish("stop"),
        ];
        let (body, told) = assembled(&payloads);
        let message = json!({"role": "assistant", "content": null, "refusal": "I cannot", "reasoning_content": "hmm"});
        assert_eq!((&body["choices"][0]["message"], told.as_str()), (&message, ""));
        let read = read_completion(Dialect::Chat, body.to_string().into_bytes(), None).unwrap();
        assert_eq!(read.refusal.unwrap().class, ErrorClass::ContentFiltered);
    }

    #[test]
    fn the_first_choice_alone_is_told_and_what_is_not_known_is_kept() {
        let of = |index: u64, text: &str| {
            json!({"choices": [{"index": index, "delta": {"content": text, "annotations": [index], "x": text},
                "logprobs": {"content": [{"token": text}]}}]})
            .to_string()
        };
        let (body, told) = assembled(&[of(0, "a"), of(1, "b"), of(0, "c"), r#"{"choices":null}"#.to_owned()]);
        assert_eq!(told, "ac");
        let first = &body["choices"][0];
        assert_eq!((&first["message"]["annotations"], &first["message"]["x"]), (&json!([0, 0]), &json!("c")));
        assert_eq!(first["logprobs"], json!({"content": [{"token": "a"}, {"token": "c"}]}));
        assert_eq!(body["choices"][1]["message"]["content"], "b");
    }

    #[test]
    fn what_is_no_chunk_is_nothing_and_what_is_none_of_ours_is_an_error() {
        for wrong in [r#"{"choices":7}"#, r#"{"choices":[{"delta":{"content":7}}]}"#] {
            assert!(Assembled::default().add(wrong.as_bytes(), &mut |_| {}).is_err(), "{wrong}");
        }
        let (body, told) = assembled(&["[]", "7", r#""ping""#]);
        assert_eq!((&body["choices"], told.as_str()), (&json!([]), ""));
    }

    #[test]
    fn what_every_chunk_repeats_is_there_once_and_a_null_says_nothing() {
        let chunk = |call: &Value| {
            json!({"id": "c", "citations": ["u", "v"], "choices": [{"index": 0, "delta": {"tool_calls": [call]}}]})
                .to_string()
        };
        let first = json!({"index": 0, "id": "a", "type": "custom", "function": null,
            "custom": {"name": "g", "input": "x"}});
        let (body, _) = assembled(&[chunk(&first), chunk(&json!({"index": 0, "custom": null, "function": null}))]);
        assert_eq!(body["citations"], json!(["u", "v"]));
        let call = &body["choices"][0]["message"]["tool_calls"][0];
        assert_eq!((&call["custom"], call.get("function")), (&json!({"name": "g", "input": "x"}), None));
    }

    #[test]
    fn an_answer_has_ended_when_each_of_its_choices_has() {
        let mut answer = Assembled::default();
        let mut add = |index: u64, reason: Option<&str>| {
            let chunk = json!({"choices": [{"index": index, "delta": {"content": "a"}, "finish_reason": reason}]});
            answer.add(chunk.to_string().as_bytes(), &mut |_| {}).unwrap();
            answer.has_ended()
        };
        assert_eq!([add(0, None), add(1, Some("stop")), add(0, Some("length"))], [false, false, true]);
    }
}
