//! A strict client: it puts a stream together and refuses every event that is not where its protocol wants it.

use serde_json::{Value, json};
use tokenhub_domain::Dialect;

use crate::call::EventKind;
use crate::convert::stream::OutEvent;

/// A call of a tool, as a client sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Call {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) arguments: String,
}

impl Call {
    pub(super) fn of(id: &str, name: &str, arguments: &str) -> Self {
        Self { id: id.to_owned(), name: name.to_owned(), arguments: arguments.to_owned() }
    }
}

/// A reply, put together.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Whole {
    pub(super) text: String,
    pub(super) refusal: String,
    pub(super) reasoning: String,
    pub(super) signatures: Vec<String>,
    pub(super) calls: Vec<Call>,
    /// Reason, and for Responses its detail.
    pub(super) finish: String,
    pub(super) usage: Value,
}

pub(super) fn whole(dialect: Dialect, events: &[OutEvent]) -> Whole {
    let (last, rest) = events.split_last().unwrap();
    assert_eq!(last.kind, EventKind::Done);
    assert!(rest.iter().all(|event| event.kind != EventKind::Done), "one end, at the end");
    assert!(events.iter().all(|event| !event.data.contains(['\n', '\r'])), "data is one line");
    match dialect {
        Dialect::Chat => chat(rest, last),
        Dialect::Messages => messages(events),
        Dialect::Responses => responses(events),
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no string"))
}

fn chat(chunks: &[OutEvent], last: &OutEvent) -> Whole {
    assert_eq!((last.name, last.data.as_str()), ("", "[DONE]"));
    let mut reply = Whole::default();
    for (position, event) in chunks.iter().enumerate() {
        assert_eq!(event.name, "");
        let chunk: Value = serde_json::from_str(&event.data).unwrap();
        let head = (&chunk["id"], &chunk["object"], &chunk["created"], &chunk["model"]);
        let wanted = (json!("chatcmpl-7"), json!("chat.completion.chunk"), json!(1_700_000_000), json!("asked-for"));
        assert_eq!(head, (&wanted.0, &wanted.1, &wanted.2, &wanted.3));
        let Some(choice) = chunk["choices"].get(0) else {
            assert_eq!(event.kind, EventKind::UsageOnly);
            assert_eq!(position + 1, chunks.len(), "counts come last");
            reply.usage = chunk["usage"].clone();
            continue;
        };
        assert_eq!(reply.finish, "", "nothing comes behind the finish reason");
        assert_eq!((&choice["index"], &chunk["usage"]), (&json!(0), &Value::Null));
        let delta = choice["delta"].as_object().unwrap();
        assert_eq!(delta.contains_key("role"), position == 0);
        for (field, value) in delta {
            match field.as_str() {
                "role" => assert_eq!(value, "assistant"),
                "content" => reply.text.push_str(text(value)),
                "refusal" => reply.refusal.push_str(text(value)),
                "reasoning_content" => reply.reasoning.push_str(text(value)),
                "tool_calls" => chat_call(&value[0], &mut reply.calls),
                other => panic!("{other} is no field of a delta"),
            }
        }
        if let Some(reason) = choice["finish_reason"].as_str() {
            assert_eq!((event.kind, delta.len()), (EventKind::Finish, 0));
            reply.finish = reason.to_owned();
        }
    }
    assert_ne!(reply.finish, "");
    reply
}

fn chat_call(delta: &Value, calls: &mut Vec<Call>) {
    if let Some(id) = delta["id"].as_str() {
        assert_eq!(delta["index"], calls.len(), "calls are counted");
        let form = &delta[text(&delta["type"])];
        calls.push(Call::of(id, text(&form["name"]), ""));
    }
    assert_eq!(delta["index"], calls.len() - 1);
    let arguments = delta["function"]["arguments"].as_str().or(delta["custom"]["input"].as_str()).unwrap();
    calls.last_mut().unwrap().arguments.push_str(arguments);
}

fn messages(events: &[OutEvent]) -> Whole {
    let mut reply = Whole::default();
    let mut open: Option<String> = None;
    let mut blocks = 0;
    for (position, event) in events.iter().enumerate() {
        let data: Value = serde_json::from_str(&event.data).unwrap();
        assert_eq!(data["type"], event.name);
        assert!(reply.finish.is_empty() || event.name == "message_stop", "nothing comes behind message_delta");
        assert_eq!(event.name == "message_start", position == 0);
        match event.name {
            "message_start" => {
                let message = &data["message"];
                assert_eq!((&message["id"], &message["model"]), (&json!("msg_7"), &json!("asked-for")));
                assert!(message["usage"]["input_tokens"].is_u64() && message["usage"]["output_tokens"].is_u64());
            }
            "content_block_start" => {
                assert_eq!((open.as_deref(), &data["index"]), (None, &json!(blocks)), "one block at a time, counted");
                blocks += 1;
                let block = &data["content_block"];
                open = Some(text(&block["type"]).to_owned());
                match text(&block["type"]) {
                    "tool_use" => reply.calls.push(Call::of(text(&block["id"]), text(&block["name"]), "")),
                    "redacted_thinking" => reply.signatures.push(text(&block["data"]).to_owned()),
                    "text" => assert_eq!(block["text"], ""),
                    "thinking" => assert_eq!((&block["thinking"], &block["signature"]), (&json!(""), &json!(""))),
                    other => panic!("{other} is no block"),
                }
            }
            "content_block_delta" => {
                assert_eq!(data["index"], blocks - 1);
                messages_delta(open.as_deref().unwrap(), &data["delta"], &mut reply);
            }
            "content_block_stop" => {
                assert_eq!(data["index"], blocks - 1);
                assert!(open.take().is_some());
            }
            "message_delta" => {
                assert_eq!(open, None);
                reply.finish = text(&data["delta"]["stop_reason"]).to_owned();
                assert_ne!(data["delta"]["stop_sequence"], "");
                reply.usage = data["usage"].clone();
            }
            "message_stop" => assert_ne!(reply.finish, ""),
            other => panic!("{other} is no event"),
        }
    }
    reply
}

fn messages_delta(block: &str, delta: &Value, reply: &mut Whole) {
    match (block, text(&delta["type"])) {
        ("text", "text_delta") => reply.text.push_str(text(&delta["text"])),
        ("thinking", "thinking_delta") => reply.reasoning.push_str(text(&delta["thinking"])),
        ("thinking", "signature_delta") => reply.signatures.push(text(&delta["signature"]).to_owned()),
        ("tool_use", "input_json_delta") => {
            reply.calls.last_mut().unwrap().arguments.push_str(text(&delta["partial_json"]));
        }
        (block, delta) => panic!("{delta} in a block of {block}"),
    }
}

fn responses(events: &[OutEvent]) -> Whole {
    let mut reply = Whole::default();
    let mut done: Vec<Value> = Vec::new();
    let mut open: Option<Item> = None;
    for (position, event) in events.iter().enumerate() {
        let data: Value = serde_json::from_str(&event.data).unwrap();
        assert_eq!((&data["type"], &data["sequence_number"]), (&json!(event.name), &json!(position)));
        match event.name {
            "response.created" | "response.in_progress" => {
                assert_eq!(position, usize::from(event.name == "response.in_progress"));
                assert_eq!(data["response"]["status"], "in_progress");
            }
            "response.output_item.added" => {
                assert_eq!((open.is_none(), &data["output_index"]), (true, &json!(done.len())));
                open = Some(Item { begun: data["item"].clone(), pieces: String::new(), parts: Vec::new() });
            }
            "response.output_item.done" => {
                let (item, told) = (data["item"].clone(), open.take().unwrap());
                assert_eq!((&item["id"], &item["type"]), (&told.begun["id"], &told.begun["type"]));
                assert_eq!(data["output_index"], done.len());
                assert_eq!(texts_of(&item), told.parts, "the item is what its pieces were");
                done.push(item);
            }
            "response.completed" | "response.incomplete" => {
                let response = &data["response"];
                assert_eq!(response["output"], json!(done), "the output is what was sent");
                assert_eq!(format!("response.{}", text(&response["status"])), event.name);
                reply = whole_response(response);
            }
            name => open.as_mut().unwrap().take(name, &data, done.len()),
        }
    }
    assert!(open.is_none());
    reply
}

/// An item that is being sent.
struct Item {
    begun: Value,
    pieces: String,
    parts: Vec<String>,
}

impl Item {
    fn take(&mut self, name: &str, data: &Value, output_index: usize) {
        assert_eq!((&data["item_id"], &data["output_index"]), (&self.begun["id"], &json!(output_index)), "{name}");
        let is_call = self.begun.get("call_id").is_some();
        let ending = name.rsplit_once('.').unwrap().1;
        // The event that ends a part comes behind the one that repeats its text.
        let part = self.parts.len() - usize::from(name.contains("_part.done"));
        let place = if name.contains("summary") { "summary_index" } else { "content_index" };
        assert_eq!(data.get(place), if is_call { None } else { Some(json!(part)) }.as_ref(), "{name}");
        let told = |field: &str| data[field].as_str().or(data["part"][field].as_str()).map(str::to_owned);
        let whole = ["text", "refusal", "arguments", "input"].into_iter().find_map(told);
        match ending {
            "added" => assert_eq!(whole.as_deref(), Some("")),
            "delta" => self.pieces.push_str(text(&data["delta"])),
            "done" if name.contains("_part.") => assert_eq!(whole.as_ref(), self.parts.last()),
            "done" => {
                assert_eq!(whole.as_ref(), Some(&self.pieces), "{name} repeats the pieces");
                self.parts.push(std::mem::take(&mut self.pieces));
            }
            other => panic!("{other} is no event"),
        }
    }
}

fn texts_of(item: &Value) -> Vec<String> {
    let parts = ["content", "summary"].into_iter().find_map(|list| item[list].as_array());
    match parts {
        Some(parts) => {
            parts.iter().map(|part| text(part.get("text").or(part.get("refusal")).unwrap()).to_owned()).collect()
        }
        None => vec![text(item.get("arguments").or(item.get("input")).unwrap()).to_owned()],
    }
}

/// A reply that comes in one body.
pub(super) fn whole_body(dialect: Dialect, body: &Value) -> Whole {
    match dialect {
        Dialect::Chat => whole_completion(body),
        Dialect::Messages => whole_message(body),
        Dialect::Responses => whole_response(body),
    }
}

fn whole_completion(body: &Value) -> Whole {
    let message = &body["choices"][0]["message"];
    let said = |field: &str| message[field].as_str().unwrap_or_default().to_owned();
    let calls = message["tool_calls"].as_array().into_iter().flatten().map(|call| {
        let form = &call[text(&call["type"])];
        let arguments = form.get("arguments").or(form.get("input")).unwrap();
        Call::of(text(&call["id"]), text(&form["name"]), text(arguments))
    });
    Whole {
        text: said("content"),
        refusal: said("refusal"),
        reasoning: said("reasoning_content"),
        signatures: Vec::new(),
        calls: calls.collect(),
        finish: text(&body["choices"][0]["finish_reason"]).to_owned(),
        usage: body["usage"].clone(),
    }
}

fn whole_message(body: &Value) -> Whole {
    let finish = text(&body["stop_reason"]).to_owned();
    let mut reply = Whole { finish, usage: body["usage"].clone(), ..Whole::default() };
    for block in body["content"].as_array().unwrap() {
        match text(&block["type"]) {
            "text" => reply.text.push_str(text(&block["text"])),
            "thinking" => {
                reply.reasoning.push_str(text(&block["thinking"]));
                reply.signatures.extend(block["signature"].as_str().filter(|text| !text.is_empty()).map(str::to_owned));
            }
            "redacted_thinking" => reply.signatures.push(text(&block["data"]).to_owned()),
            _ => reply.calls.push(Call::of(text(&block["id"]), text(&block["name"]), &block["input"].to_string())),
        }
    }
    reply
}

fn whole_response(body: &Value) -> Whole {
    assert_eq!((&body["id"], &body["model"]), (&json!("resp_7"), &json!("asked-for")));
    let detail = body["incomplete_details"]["reason"].as_str();
    let finish = [text(&body["status"])].into_iter().chain(detail).collect::<Vec<_>>().join(" ");
    let mut reply = Whole { finish, usage: body["usage"].clone(), ..Whole::default() };
    for item in body["output"].as_array().unwrap() {
        let texts = texts_of(item).concat();
        match text(&item["type"]) {
            "message" => {
                for part in item["content"].as_array().unwrap() {
                    reply.text.push_str(part["text"].as_str().unwrap_or_default());
                    reply.refusal.push_str(part["refusal"].as_str().unwrap_or_default());
                }
            }
            "reasoning" => {
                reply.reasoning.push_str(&texts);
                reply.signatures.extend(item["encrypted_content"].as_str().map(str::to_owned));
            }
            _ => reply.calls.push(Call::of(text(&item["call_id"]), text(&item["name"]), &texts)),
        }
    }
    reply
}
