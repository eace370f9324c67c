//! How an answer is written in `OpenAI` Responses.
//!
//! Every event is numbered, and the last one repeats the whole answer.

use serde_json::{Map, Value, json};

use crate::reply::{ErrorBody, Finish, Part, Reasoning};
use crate::speech::{Ended, Speech, Usage, pieces_of};
use crate::wire::CREATED;
use crate::wire::sse::{Role, Sentence, named_event};

const ID: &str = "resp_scripted";
/// What a request must include to be given the encrypted form of reasoning.
const ENCRYPTED: &str = "reasoning.encrypted_content";

/// As one body.
pub(crate) fn whole(speech: &Speech<'_>) -> Value {
    let output: Vec<Value> = items(speech).iter().map(|item| item.done(speech)).collect();
    response(speech, State::of(speech), &output)
}

/// As the events of a stream.
pub(crate) fn stream(speech: &Speech<'_>) -> Vec<Sentence> {
    let mut writer = Writer::default();
    let begun = response(speech, State::InProgress, &[]);
    writer.write(Role::Frame, "response.created", json!({"response": begun}));
    writer.write(Role::Frame, "response.in_progress", json!({"response": begun}));
    let items = items(speech);
    for (output_index, item) in items.iter().enumerate() {
        let added = json!({"output_index": output_index, "item": item.added(speech)});
        writer.write(Role::Frame, "response.output_item.added", added);
        match item {
            Item::Message { id, contents } => write_contents(&mut writer, id, output_index, contents),
            Item::Reasoning { id, reasoning } => write_summary(&mut writer, id, output_index, &reasoning.text),
            Item::Call { id, pieces, .. } => {
                let place = json!({"item_id": id, "output_index": output_index});
                for piece in *pieces {
                    let delta = with(&place, &json!({"delta": piece}));
                    writer.write(Role::Token, "response.function_call_arguments.delta", delta);
                }
                let done = with(&place, &json!({"arguments": pieces.concat()}));
                writer.write(Role::Frame, "response.function_call_arguments.done", done);
            }
        }
        let done = json!({"output_index": output_index, "item": item.done(speech)});
        writer.write(Role::Frame, "response.output_item.done", done);
    }
    let output: Vec<Value> = items.iter().map(|item| item.done(speech)).collect();
    let state = State::of(speech);
    let last = match state {
        State::InProgress | State::Completed | State::Failed(_) => "response.completed",
        State::Incomplete(_) => "response.incomplete",
    };
    writer.write(Role::FinishAndTerminal, last, json!({"response": response(speech, state, &output)}));
    writer.sentences
}

/// The event that ends a stream in an error, after `sequence_number` others.
pub(crate) fn failed(speech: &Speech<'_>, error: &ErrorBody, sequence_number: usize) -> Value {
    let response = response(speech, State::Failed(error), &[]);
    json!({"type": "response.failed", "sequence_number": sequence_number, "response": response})
}

/// The bare error event.
pub(crate) fn error_event(error: &ErrorBody, sequence_number: usize) -> Value {
    json!({"type": "error", "code": error.code, "message": error.message, "param": error.param,
        "sequence_number": sequence_number})
}

#[derive(Clone, Copy, Debug)]
enum State<'a> {
    InProgress,
    Completed,
    Incomplete(&'static str),
    Failed(&'a ErrorBody),
}

impl State<'_> {
    fn of(speech: &Speech<'_>) -> Self {
        match &speech.ended {
            None => Self::InProgress,
            Some(Ended::Known(Finish::Length)) => Self::Incomplete("max_output_tokens"),
            Some(Ended::Known(Finish::ContentFilter)) => Self::Incomplete("content_filter"),
            Some(Ended::Known(Finish::Stop | Finish::ToolCalls | Finish::StopSequence(_)) | Ended::Other(_)) => {
                Self::Completed
            }
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::InProgress => "in_progress",
            Self::Completed => "completed",
            Self::Incomplete(_) => "incomplete",
            Self::Failed(_) => "failed",
        }
    }
}

fn response(speech: &Speech<'_>, state: State<'_>, output: &[Value]) -> Value {
    let asked = |field: &str, otherwise: Value| speech.asked.get(field).cloned().unwrap_or(otherwise);
    let or_null = |field: &str| asked(field, Value::Null);
    let (error, incomplete, usage) = match state {
        State::InProgress => (Value::Null, Value::Null, None),
        State::Completed => (Value::Null, Value::Null, speech.usage),
        State::Incomplete(reason) => (Value::Null, json!({"reason": reason}), speech.usage),
        State::Failed(error) => {
            let code = error.code.as_deref().unwrap_or("server_error");
            (json!({"code": code, "message": error.message}), Value::Null, None)
        }
    };
    json!({"id": speech.id.unwrap_or(ID), "object": "response", "created_at": CREATED, "status": state.name(),
        "background": false, "error": error, "incomplete_details": incomplete, "instructions": or_null("instructions"),
        "max_output_tokens": or_null("max_output_tokens"), "max_tool_calls": or_null("max_tool_calls"),
        "model": speech.model, "output": output, "parallel_tool_calls": asked("parallel_tool_calls", json!(true)),
        "previous_response_id": or_null("previous_response_id"), "prompt_cache_key": or_null("prompt_cache_key"),
        "prompt_cache_retention": null, "reasoning": asked("reasoning", json!({"effort": null, "summary": null})),
        "safety_identifier": or_null("safety_identifier"), "service_tier": "default",
        "store": asked("store", json!(true)), "temperature": asked("temperature", json!(1.0)),
        "text": asked("text", json!({"format": {"type": "text"}, "verbosity": "medium"})),
        "tool_choice": asked("tool_choice", json!("auto")), "tools": asked("tools", json!([])), "top_logprobs": 0,
        "top_p": asked("top_p", json!(1.0)), "truncation": asked("truncation", json!("disabled")),
        "usage": usage.map(usage_object), "user": or_null("user"), "metadata": asked("metadata", json!({}))})
}

fn usage_object(usage: Usage) -> Value {
    let Usage { prompt_tokens, completion_tokens, details } = usage;
    let details = details.unwrap_or_default();
    json!({"input_tokens": prompt_tokens,
        "input_tokens_details": {"cached_tokens": details.cached_tokens, "cache_write_tokens": details.cache_write_tokens},
        "output_tokens": completion_tokens, "output_tokens_details": {"reasoning_tokens": details.reasoning_tokens},
        "total_tokens": prompt_tokens + completion_tokens})
}

/// An item of the output.
#[derive(Debug)]
enum Item<'a> {
    /// Neighbouring texts and refusals.
    Message {
        id: String,
        contents: Vec<Said<'a>>,
    },
    Reasoning {
        id: String,
        reasoning: &'a Reasoning,
    },
    Call {
        id: String,
        call_id: &'a str,
        name: &'a str,
        pieces: &'a [String],
    },
}

#[derive(Clone, Copy, Debug)]
enum Said<'a> {
    Text(&'a str),
    Refusal(&'a str),
}

fn items<'a>(speech: &'a Speech<'_>) -> Vec<Item<'a>> {
    let mut items: Vec<Item<'a>> = Vec::new();
    for part in &*speech.parts {
        let number = items.len();
        let said = match part {
            Part::Text(text) => Said::Text(text),
            Part::Refusal(text) => Said::Refusal(text),
            Part::Reasoning(reasoning) => {
                items.push(Item::Reasoning { id: format!("rs_scripted_{number}"), reasoning });
                continue;
            }
            Part::ToolCall(call) => {
                let id = format!("fc_scripted_{number}");
                items.push(Item::Call { id, call_id: &call.id, name: &call.name, pieces: &call.arguments });
                continue;
            }
        };
        match items.last_mut() {
            Some(Item::Message { contents, .. }) => contents.push(said),
            Some(Item::Reasoning { .. } | Item::Call { .. }) | None => {
                items.push(Item::Message { id: format!("msg_scripted_{number}"), contents: vec![said] });
            }
        }
    }
    items
}

impl Item<'_> {
    fn added(&self, speech: &Speech<'_>) -> Value {
        match self {
            Self::Message { id, .. } => message_item(id, "in_progress", &[]),
            Self::Reasoning { id, reasoning } => reasoning_item(id, reasoning, &[], speech),
            Self::Call { id, call_id, name, .. } => call_item(id, "in_progress", call_id, name, ""),
        }
    }

    fn done(&self, speech: &Speech<'_>) -> Value {
        let status = match State::of(speech) {
            State::Incomplete(_) => "incomplete",
            State::InProgress | State::Completed | State::Failed(_) => "completed",
        };
        match self {
            Self::Message { id, contents } => {
                let parts: Vec<Value> = contents.iter().map(|said| said.part()).collect();
                message_item(id, status, &parts)
            }
            Self::Reasoning { id, reasoning } => {
                let summary = (!reasoning.text.is_empty()).then(|| summary_part(&reasoning.text));
                reasoning_item(id, reasoning, summary.as_slice(), speech)
            }
            Self::Call { id, call_id, name, pieces } => call_item(id, status, call_id, name, &pieces.concat()),
        }
    }
}

fn message_item(id: &str, status: &str, content: &[Value]) -> Value {
    json!({"id": id, "type": "message", "status": status, "content": content, "role": "assistant"})
}

fn call_item(id: &str, status: &str, call_id: &str, name: &str, arguments: &str) -> Value {
    json!({"id": id, "type": "function_call", "status": status, "arguments": arguments, "call_id": call_id, "name": name})
}

fn reasoning_item(id: &str, reasoning: &Reasoning, summary: &[Value], speech: &Speech<'_>) -> Value {
    let mut item = json!({"id": id, "type": "reasoning", "summary": summary});
    let includes = speech.asked.get("include").and_then(Value::as_array);
    if includes.is_some_and(|list| list.iter().any(|included| included == ENCRYPTED)) {
        item["encrypted_content"] = json!(reasoning.encrypted);
    }
    item
}

fn summary_part(text: &str) -> Value {
    json!({"type": "summary_text", "text": text})
}

impl Said<'_> {
    fn part(self) -> Value {
        match self {
            Self::Text(text) => json!({"type": "output_text", "annotations": [], "logprobs": [], "text": text}),
            Self::Refusal(text) => json!({"type": "refusal", "refusal": text}),
        }
    }
}

fn write_contents(writer: &mut Writer, item_id: &str, output_index: usize, contents: &[Said<'_>]) {
    for (content_index, said) in contents.iter().enumerate() {
        let place = json!({"item_id": item_id, "output_index": output_index, "content_index": content_index});
        let (empty, text) = match said {
            Said::Text(text) => (Said::Text(""), *text),
            Said::Refusal(text) => (Said::Refusal(""), *text),
        };
        let part = |said: Said<'_>| with(&place, &json!({"part": said.part()}));
        writer.write(Role::Frame, "response.content_part.added", part(empty));
        for piece in pieces_of(text) {
            let (name, delta) = match said {
                Said::Text(_) => ("response.output_text.delta", json!({"delta": piece, "logprobs": []})),
                Said::Refusal(_) => ("response.refusal.delta", json!({"delta": piece})),
            };
            writer.write(Role::Token, name, with(&place, &delta));
        }
        let (name, done) = match said {
            Said::Text(text) => ("response.output_text.done", json!({"text": text, "logprobs": []})),
            Said::Refusal(text) => ("response.refusal.done", json!({"refusal": text})),
        };
        writer.write(Role::Frame, name, with(&place, &done));
        writer.write(Role::Frame, "response.content_part.done", part(*said));
    }
}

fn write_summary(writer: &mut Writer, item_id: &str, output_index: usize, text: &str) {
    if text.is_empty() {
        return;
    }
    let place = json!({"item_id": item_id, "output_index": output_index, "summary_index": 0});
    let part = |text: &str| with(&place, &json!({"part": summary_part(text)}));
    writer.write(Role::Frame, "response.reasoning_summary_part.added", part(""));
    for piece in pieces_of(text) {
        let delta = with(&place, &json!({"delta": piece}));
        writer.write(Role::Token, "response.reasoning_summary_text.delta", delta);
    }
    writer.write(Role::Frame, "response.reasoning_summary_text.done", with(&place, &json!({"text": text})));
    writer.write(Role::Frame, "response.reasoning_summary_part.done", part(text));
}

fn with(place: &Value, more: &Value) -> Value {
    let fields = |value: &Value| value.as_object().cloned().unwrap_or_default();
    let mut all = fields(place);
    all.extend(fields(more));
    Value::Object(all)
}

#[derive(Debug, Default)]
struct Writer {
    sentences: Vec<Sentence>,
}

impl Writer {
    fn write(&mut self, role: Role, name: &str, fields: Value) {
        let mut payload = Map::new();
        payload.insert("type".to_owned(), json!(name));
        payload.insert("sequence_number".to_owned(), json!(self.sentences.len()));
        if let Value::Object(fields) = fields {
            payload.extend(fields);
        }
        self.sentences.push(Sentence { bytes: named_event(&Value::Object(payload)), role });
    }
}
