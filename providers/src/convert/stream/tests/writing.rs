//! An upstream that says a given reply in any protocol, cut into any pieces.

use serde_json::{Value, json};
use tokenhub_domain::Dialect;

use super::{InEvent, call_delta, chat_delta};

/// A part of what the upstream says.
#[derive(Clone, Debug)]
pub(super) enum Part {
    Text(String),
    Reasoning(String),
    /// Arguments, as JSON.
    Call(String),
}

/// A reply and the way it is cut.
#[derive(Clone, Debug)]
pub(super) struct Told {
    pub(super) parts: Vec<Part>,
    /// Whether the output limit cut it.
    pub(super) limited: bool,
    /// Characters in each piece, over and over.
    pub(super) cuts: Vec<usize>,
    /// Which of the open calls goes on, over and over.
    pub(super) turns: Vec<usize>,
    /// What a Responses upstream leaves out: the pieces, the whole texts, the whole items.
    pub(super) left_out: [bool; 3],
}

impl Told {
    pub(super) fn events(&self, dialect: Dialect) -> Vec<InEvent> {
        match dialect {
            Dialect::Chat => self.chat(),
            Dialect::Messages => self.messages(),
            Dialect::Responses => self.responses(),
        }
    }

    /// The same reply in one body.
    pub(super) fn body(&self, dialect: Dialect) -> Value {
        let last = |events: &[InEvent], back: usize| -> Value {
            serde_json::from_str(&events[events.len() - back].1).unwrap()
        };
        match dialect {
            Dialect::Chat => {
                let said = |pick: fn(&Part) -> Option<&String>| self.parts.iter().filter_map(pick).cloned().collect();
                let content: String = said(|part| if let Part::Text(text) = part { Some(text) } else { None });
                let thought: String = said(|part| if let Part::Reasoning(text) = part { Some(text) } else { None });
                let calls: Vec<Value> = self
                    .parts
                    .iter()
                    .filter_map(|part| match part {
                        Part::Call(arguments) => Some(arguments),
                        Part::Text(_) | Part::Reasoning(_) => None,
                    })
                    .enumerate()
                    .map(|(index, arguments)| {
                        json!({"id": format!("call_{index}"), "type": "function",
                        "function": {"name": "f", "arguments": arguments}})
                    })
                    .collect();
                let message = json!({"content": content, "reasoning_content": thought, "tool_calls": calls});
                let reason = if self.limited { "length" } else { "stop" };
                let usage = last(&self.chat(), 2)["usage"].clone();
                json!({"choices": [{"index": 0, "message": message, "finish_reason": reason}], "usage": usage})
            }
            Dialect::Messages => {
                let content: Vec<Value> = self
                    .parts
                    .iter()
                    .enumerate()
                    .map(|(index, part)| match part {
                        Part::Text(text) => json!({"type": "text", "text": text}),
                        Part::Reasoning(text) => json!({"type": "thinking", "thinking": text, "signature": "sig"}),
                        Part::Call(arguments) => {
                            let input: Value = serde_json::from_str(arguments).unwrap();
                            json!({"type": "tool_use", "id": format!("call_{index}"), "name": "f", "input": input})
                        }
                    })
                    .collect();
                let reason = last(&self.messages(), 2)["delta"]["stop_reason"].clone();
                let usage = json!({"input_tokens": 60, "cache_read_input_tokens": 40, "output_tokens": 10});
                json!({"content": content, "stop_reason": reason, "usage": usage})
            }
            Dialect::Responses => last(&self.responses(), 1)["response"].clone(),
        }
    }

    fn pieces(&self, text: &str) -> Vec<String> {
        let mut sizes = self.cuts.iter().copied().cycle();
        let mut rest: Vec<char> = text.chars().collect();
        let mut pieces = Vec::new();
        while !rest.is_empty() {
            let size = sizes.next().unwrap().clamp(1, rest.len());
            pieces.push(rest.drain(..size).collect());
        }
        pieces
    }

    fn calls(&self) -> usize {
        self.parts.iter().filter(|part| matches!(part, Part::Call(_))).count()
    }

    /// Neighbouring calls are woven into each other; their starts keep their order.
    fn chat(&self) -> Vec<InEvent> {
        let mut deltas: Vec<String> = vec![r#"{"role":"assistant","content":""}"#.to_owned()];
        let mut open: Vec<Vec<String>> = Vec::new();
        let mut turns = self.turns.iter().copied().cycle();
        let mut calls = 0;
        for part in &self.parts {
            let (field, text) = match part {
                Part::Text(text) => ("content", text),
                Part::Reasoning(text) => ("reasoning_content", text),
                Part::Call(arguments) => {
                    deltas.push(call_delta(calls, Some("f"), ""));
                    let rest = self.pieces(arguments).iter().map(|piece| call_delta(calls, None, piece)).collect();
                    open.push(rest);
                    calls += 1;
                    let turn = turns.next().unwrap() % open.len();
                    let half = open[turn].len() / 2;
                    deltas.extend(open[turn].drain(..half));
                    continue;
                }
            };
            drain(&mut open, &mut turns, &mut deltas);
            deltas.extend(self.pieces(text).into_iter().map(|piece| json!({field: piece}).to_string()));
        }
        drain(&mut open, &mut turns, &mut deltas);
        let finish = if self.limited { "length" } else { "stop" };
        let mut events: Vec<InEvent> = deltas.iter().map(|delta| ("", chat_delta(delta))).collect();
        events.push(("", json!({"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]}).to_string()));
        let usage =
            json!({"prompt_tokens": 100, "completion_tokens": 10, "prompt_tokens_details": {"cached_tokens": 40}});
        events.push(("", json!({"choices": [], "usage": usage}).to_string()));
        events.push(("", "[DONE]".to_owned()));
        events
    }

    fn messages(&self) -> Vec<InEvent> {
        let usage = json!({"input_tokens": 60, "cache_read_input_tokens": 40, "output_tokens": 1});
        let mut events = vec![messages_event("message_start", json!({"message": {"usage": usage}}))];
        for (index, part) in self.parts.iter().enumerate() {
            let (block, kind, field, text) = match part {
                Part::Text(text) => (json!({"type": "text", "text": ""}), "text_delta", "text", text),
                Part::Reasoning(text) => {
                    let block = json!({"type": "thinking", "thinking": "", "signature": ""});
                    (block, "thinking_delta", "thinking", text)
                }
                Part::Call(arguments) => {
                    let block = json!({"type": "tool_use", "id": format!("call_{index}"), "name": "f", "input": {}});
                    (block, "input_json_delta", "partial_json", arguments)
                }
            };
            events.push(messages_event("content_block_start", json!({"index": index, "content_block": block})));
            for piece in self.pieces(text) {
                let delta = json!({"type": kind, field: piece});
                events.push(messages_event("content_block_delta", json!({"index": index, "delta": delta})));
            }
            if matches!(part, Part::Reasoning(_)) {
                let delta = json!({"type": "signature_delta", "signature": "sig"});
                events.push(messages_event("content_block_delta", json!({"index": index, "delta": delta})));
            }
            events.push(messages_event("content_block_stop", json!({"index": index})));
        }
        let reason = match (self.limited, self.calls()) {
            (true, _) => "max_tokens",
            (false, 0) => "end_turn",
            (false, _) => "tool_use",
        };
        let end = json!({"delta": {"stop_reason": reason, "stop_sequence": null}, "usage": {"output_tokens": 10}});
        events.push(messages_event("message_delta", end));
        events.push(messages_event("message_stop", json!({})));
        events
    }

    fn responses(&self) -> Vec<InEvent> {
        let mut events = vec![messages_event("response.created", json!({"response": {"status": "in_progress"}}))];
        let [no_pieces, no_texts, no_items] = self.left_out;
        let mut output = Vec::new();
        for (index, part) in self.parts.iter().enumerate() {
            let (item, kind, text) = match part {
                Part::Text(text) => {
                    let part = json!({"type": "output_text", "text": text, "annotations": []});
                    (json!({"type": "message", "content": [part]}), "response.output_text", text)
                }
                Part::Reasoning(text) => {
                    let part = json!({"type": "summary_text", "text": text});
                    let item = json!({"type": "reasoning", "summary": [part], "encrypted_content": "sig"});
                    (item, "response.reasoning_summary_text", text)
                }
                Part::Call(arguments) => {
                    let call_id = format!("call_{index}");
                    let item =
                        json!({"type": "function_call", "call_id": call_id, "name": "f", "arguments": arguments});
                    (item, "response.function_call_arguments", arguments)
                }
            };
            let mut begun = item.clone();
            for (field, empty) in [("content", json!([])), ("summary", json!([])), ("arguments", json!(""))] {
                if begun.get(field).is_some() {
                    begun[field] = empty;
                }
            }
            events.push(messages_event("response.output_item.added", json!({"output_index": index, "item": begun})));
            if !no_pieces {
                for piece in self.pieces(text) {
                    let (name, fields) = (format!("{kind}.delta"), json!({"output_index": index, "delta": piece}));
                    events.push(messages_event(&name, fields));
                }
            }
            if !no_texts {
                let fields = json!({"output_index": index, "text": text, "arguments": text});
                events.push(messages_event(&format!("{kind}.done"), fields));
            }
            if !no_items {
                events.push(messages_event("response.output_item.done", json!({"output_index": index, "item": item})));
            }
            output.push(item);
        }
        let usage = json!({"input_tokens": 100, "input_tokens_details": {"cached_tokens": 40}, "output_tokens": 10});
        let mut response = json!({"status": "completed", "output": output, "usage": usage});
        if self.limited {
            response["status"] = json!("incomplete");
            response["incomplete_details"] = json!({"reason": "max_output_tokens"});
        }
        let name = if self.limited { "response.incomplete" } else { "response.completed" };
        events.push(messages_event(name, json!({"response": response})));
        events
    }
}

fn drain(open: &mut Vec<Vec<String>>, turns: &mut impl Iterator<Item = usize>, deltas: &mut Vec<String>) {
    while !open.is_empty() {
        let turn = turns.next().unwrap() % open.len();
        if open[turn].is_empty() {
            open.remove(turn);
        } else {
            deltas.push(open[turn].remove(0));
        }
    }
}

/// The name is in the data only, as some gateways have it.
fn messages_event(name: &str, mut fields: Value) -> InEvent {
    fields["type"] = json!(name);
    ("", fields.to_string())
}
