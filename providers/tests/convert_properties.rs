//! What holds for every conversation, not only for the written examples.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use serde_json::{Map, Value, json};
use tokenhub_domain::{AttemptId, Dialect};
use tokenhub_providers::convert::{self, Abilities, Issuer, ReplyContext, Target, UsageCounts};

fn issuer() -> Issuer {
    Issuer { provider: "p".into(), model: "m".into() }
}

fn target() -> Target {
    Target { issuer: issuer(), max_output_tokens: None, abilities: Abilities::default() }
}

fn context() -> ReplyContext {
    ReplyContext {
        attempt: AttemptId::new("att_1"),
        model: "m".to_owned(),
        created_secs: 1,
        issuer: issuer(),
        tool_names: BTreeMap::new(),
        free_form_tools: BTreeSet::new(),
    }
}

fn pair() -> impl Strategy<Value = (Dialect, Dialect)> {
    let dialect = || prop::sample::select(Dialect::ALL.to_vec());
    (dialect(), dialect()).prop_filter("a conversion has two ends", |(from, to)| from != to)
}

/// A text that is not blank, because blank ones are left out.
fn text() -> impl Strategy<Value = String> {
    "[a-z\u{e9}\u{1f600}\"\\\\\n ]{0,12}[a-z]"
}

/// One exchange: what the user says, what the assistant says, and its tool calls with their ids and results.
#[derive(Clone, Debug)]
struct Exchange {
    asked: String,
    answered: String,
    calls: Vec<(String, Option<String>)>,
}

fn exchange() -> impl Strategy<Value = Exchange> {
    // Few ids, so that they repeat; one that Messages does not allow.
    let id = prop::sample::select(vec!["call_1", "call_2", "functions.f:0"]);
    let call = (id.prop_map(str::to_owned), prop::option::of(text()));
    (text(), text(), prop::collection::vec(call, 0..4)).prop_map(|(asked, answered, calls)| Exchange {
        asked,
        answered,
        calls,
    })
}

fn written(dialect: Dialect, history: &[Exchange]) -> Map<String, Value> {
    let field = if dialect == Dialect::Responses { "input" } else { "messages" };
    let items: Vec<Value> = history.iter().flat_map(|exchange| write_exchange(dialect, exchange)).collect();
    let mut body = json!({"model": "m", field: items, "system": null});
    if dialect == Dialect::Messages {
        body["max_tokens"] = json!(100);
        body["system"] = json!([{"type": "text", "text": "s", "cache_control": {"type": "ephemeral"}}]);
    }
    body.as_object().unwrap().clone()
}

fn write_exchange(dialect: Dialect, exchange: &Exchange) -> Vec<Value> {
    let Exchange { asked, answered, calls } = exchange;
    let results = || calls.iter().filter_map(|(id, result)| result.as_ref().map(|result| (id, result)));
    let mark = json!({"type": "ephemeral"});
    match dialect {
        Dialect::Chat => {
            let call = |(id, _): &(String, Option<String>)| json!({"id": id, "type": "function", "function": {"name": "f", "arguments": "{}"}});
            let tool_calls: Vec<Value> = calls.iter().map(call).collect();
            let mut items = vec![
                json!({"role": "user", "content": [{"type": "text", "text": asked, "cache_control": mark}]}),
                json!({"role": "assistant", "content": answered, "tool_calls": tool_calls}),
            ];
            items.extend(results().map(|(id, text)| json!({"role": "tool", "tool_call_id": id, "content": text})));
            items
        }
        Dialect::Responses => {
            let mut items = vec![
                json!({"role": "user", "content": asked}),
                json!({"role": "assistant", "content": [{"type": "output_text", "text": answered}]}),
            ];
            items.extend(
                calls
                    .iter()
                    .map(|(id, _)| json!({"type": "function_call", "call_id": id, "name": "f", "arguments": "{}"})),
            );
            items.extend(
                results().map(|(id, text)| json!({"type": "function_call_output", "call_id": id, "output": text})),
            );
            items
        }
        Dialect::Messages => {
            let mut blocks = vec![json!({"type": "text", "text": answered, "cache_control": mark})];
            blocks.extend(calls.iter().map(|(id, _)| json!({"type": "tool_use", "id": id, "name": "f", "input": {}})));
            let mut items =
                vec![json!({"role": "user", "content": asked}), json!({"role": "assistant", "content": blocks})];
            let found: Vec<Value> = results()
                .map(|(id, text)| {
                    json!({"type": "tool_result", "tool_use_id": id, "content": text, "cache_control": mark})
                })
                .collect();
            if !found.is_empty() {
                items.push(json!({"role": "user", "content": found}));
            }
            items
        }
    }
}

/// Every string below a field named `text`, `content` or `output`, in order.
fn texts(value: &Value, into: &mut Vec<String>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| texts(item, into)),
        Value::Object(fields) => {
            for (name, inner) in fields {
                match inner {
                    Value::String(text) if ["text", "content", "output"].contains(&name.as_str()) => {
                        into.push(text.clone());
                    }
                    Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_) => {}
                    Value::Array(_) | Value::Object(_) => texts(inner, into),
                }
            }
        }
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// The ids of calls and of results, in order.
fn tool_ids(dialect: Dialect, body: &Map<String, Value>) -> (Vec<String>, Vec<String>) {
    fn collect(value: &Value, is_call: &dyn Fn(&Value) -> Option<bool>, found: &mut (Vec<String>, Vec<String>)) {
        let id = ["call_id", "tool_call_id", "tool_use_id", "id"].iter().find_map(|name| value.get(name)?.as_str());
        match (is_call(value), id) {
            (Some(true), Some(id)) => found.0.push(id.to_owned()),
            (Some(false), Some(id)) => found.1.push(id.to_owned()),
            _ => {}
        }
        match value {
            Value::Array(items) => items.iter().for_each(|item| collect(item, is_call, found)),
            Value::Object(fields) => fields.values().for_each(|inner| collect(inner, is_call, found)),
            Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
    let is_call = |value: &Value| match (dialect, value.get("type").and_then(Value::as_str)) {
        (Dialect::Chat, Some("function")) if value.get("id").is_some() => Some(true),
        (Dialect::Chat, _) if value.get("role").is_some_and(|role| role == "tool") => Some(false),
        (Dialect::Responses, Some("function_call")) | (Dialect::Messages, Some("tool_use")) => Some(true),
        (Dialect::Responses, Some("function_call_output")) | (Dialect::Messages, Some("tool_result")) => Some(false),
        _ => None,
    };
    let mut found = (Vec::new(), Vec::new());
    collect(&Value::Object(body.clone()), &is_call, &mut found);
    found
}

fn has_key(value: &Value, key: &str) -> bool {
    match value {
        Value::Array(items) => items.iter().any(|item| has_key(item, key)),
        Value::Object(fields) => fields.contains_key(key) || fields.values().any(|inner| has_key(inner, key)),
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

fn reply_in(dialect: Dialect, text: &str) -> Value {
    match dialect {
        Dialect::Chat => json!({"choices": [{"message": {"content": text}, "finish_reason": "stop"}]}),
        Dialect::Responses => json!({"status": "completed", "output": [{"type": "message", "role": "assistant",
            "content": [{"type": "output_text", "text": text}]}]}),
        Dialect::Messages => json!({"content": [{"type": "text", "text": text}], "stop_reason": "end_turn"}),
    }
}

proptest! {
    #[test]
    fn every_text_of_a_history_survives_a_round_trip(
        (from, to) in pair(),
        history in prop::collection::vec(exchange(), 1..4),
        last in text(),
    ) {
        let mut history = history;
        history.push(Exchange { asked: last, answered: "end".to_owned(), calls: Vec::new() });
        let body = written(from, &history);
        let there = convert::request(from, to, &body, &target()).unwrap().body;
        let back = convert::request(to, from, &there, &target()).unwrap().body;
        for converted in [there, back] {
            let mut found = Vec::new();
            texts(&Value::Object(converted), &mut found);
            let found = found.join("\u{0}");
            for exchange in &history {
                prop_assert!(found.contains(&exchange.asked), "{:?} is not in {:?}", exchange.asked, found);
                prop_assert!(found.contains(&exchange.answered));
                for result in exchange.calls.iter().filter_map(|(_, result)| result.as_ref()) {
                    prop_assert!(found.contains(result.as_str()), "{:?} is not in {:?}", result, found);
                }
            }
        }
    }

    #[test]
    fn every_call_has_an_id_of_its_own_and_exactly_one_result(
        (from, to) in pair(),
        history in prop::collection::vec(exchange(), 1..5),
    ) {
        let body = convert::request(from, to, &written(from, &history), &target()).unwrap().body;
        let (calls, results) = tool_ids(to, &body);
        let unique: BTreeSet<&String> = calls.iter().collect();
        prop_assert_eq!(calls.len(), history.iter().map(|exchange| exchange.calls.len()).sum::<usize>());
        prop_assert_eq!(unique.len(), calls.len());
        prop_assert_eq!(unique, results.iter().collect::<BTreeSet<_>>());
        prop_assert_eq!(results.len(), calls.len());
    }

    #[test]
    fn no_cache_mark_is_anywhere_in_a_converted_request(
        (from, to) in pair(),
        history in prop::collection::vec(exchange(), 1..3),
    ) {
        let body = convert::request(from, to, &written(from, &history), &target()).unwrap().body;
        prop_assert!(!has_key(&Value::Object(body), "cache_control"));
    }

    #[test]
    fn the_text_of_a_reply_survives_a_round_trip((from, to) in pair(), text in text()) {
        let there = convert::reply(from, to, &reply_in(from, &text), &context()).unwrap().body;
        prop_assert_eq!(&convert::facts(to, &Value::Object(there.clone())).text, &text);
        let back = convert::reply(to, from, &Value::Object(there), &context()).unwrap().body;
        prop_assert_eq!(&convert::facts(from, &Value::Object(back)).text, &text);
    }

    #[test]
    fn token_counts_survive_being_written_in_any_protocol(
        dialect in prop::sample::select(Dialect::ALL.to_vec()),
        fresh in 0_u64..1 << 40,
        cache_read in 0_u64..1 << 40,
        cache_write in 0_u64..1 << 40,
        answer in 0_u64..1 << 40,
        reasoning in 0_u64..1 << 40,
    ) {
        let input = fresh + cache_read + cache_write;
        let counts = UsageCounts { input, output: answer + reasoning, cache_read, cache_write, reasoning };
        prop_assert_eq!(convert::usage(dialect, &convert::render_usage(dialect, &counts)), counts);
    }

    #[test]
    fn no_json_makes_a_conversion_panic((from, to) in pair(), items in prop::collection::vec(any_json(), 0..5)) {
        let field = if from == Dialect::Responses { "input" } else { "messages" };
        let first = items.first().cloned().unwrap_or_default();
        let body = json!({"max_tokens": 5, field: items, "tools": [first], "system": first, "thinking": first,
            "choices": items, "content": items, "output": items, "usage": first, "status": "completed"});
        let _ = convert::request(from, to, body.as_object().unwrap(), &target());
        let _ = convert::estimate_input_tokens(from, body.as_object().unwrap());
        let _ = convert::reply(from, to, &body, &context());
        let _ = convert::facts(from, &body);
        let _ = convert::reply(from, to, &first, &context());
    }
}

/// JSON with the field names and kinds that the protocols use, in places where they do not belong.
fn any_json() -> impl Strategy<Value = Value> {
    let names = vec![
        "messages",
        "input",
        "content",
        "role",
        "type",
        "text",
        "tools",
        "tool_calls",
        "function",
        "name",
        "arguments",
        "choices",
        "message",
        "output",
        "usage",
        "id",
        "call_id",
        "source",
        "data",
        "system",
        "thinking",
    ];
    let words = vec![
        "user",
        "assistant",
        "system",
        "tool",
        "text",
        "tool_use",
        "tool_result",
        "function_call",
        "message",
        "reasoning",
        "thinking",
        "image",
        "base64",
        "input_text",
        "output_text",
        "{",
        "data:,",
        "",
    ];
    let word = prop::sample::select(words).prop_map(|word| json!(word));
    let leaf =
        prop_oneof![Just(Value::Null), any::<bool>().prop_map(Value::from), any::<i64>().prop_map(Value::from), word];
    leaf.prop_recursive(6, 60, 6, move |inner| {
        let name = prop::sample::select(names.clone()).prop_map(str::to_owned);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((name, inner), 0..6).prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}
