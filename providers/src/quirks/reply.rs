//! A whole answer of a model with quirks, as a usual answer.

use serde_json::{Map, Value, json};
use tokenhub_domain::{AttemptId, ModelQuirks};

use super::gemma4::{Gemma4, Said};
use super::tool_names::{callers_name, objects_of, restore};
use crate::convert::made_tool_id;

/// The reason of an answer that ends with calls.
pub(super) const TOOL_CALLS: &str = "tool_calls";
/// The reason that a server gives which does not see the calls.
pub(super) const STOP: &str = "stop";

/// The body with text, thoughts and calls told apart and tools named as the caller names them. What is no answer stays.
pub(crate) fn reply(quirks: &ModelQuirks, attempt: &AttemptId, body: Vec<u8>) -> Vec<u8> {
    let Ok(mut answer) = serde_json::from_slice::<Map<String, Value>>(&body) else { return body };
    let mut calls = 0;
    for choice in objects_of(answer.get_mut("choices")) {
        let Some(Value::Object(message)) = choice.get_mut("message") else { continue };
        restore(quirks, message);
        if quirks.gemma4_output && take_apart(quirks, attempt, message, &mut calls) {
            end_with_calls(choice);
        }
    }
    Value::Object(answer).to_string().into_bytes()
}

/// True when the text held calls.
fn take_apart(quirks: &ModelQuirks, attempt: &AttemptId, message: &mut Map<String, Value>, calls: &mut usize) -> bool {
    let Some(Value::String(content)) = message.get("content") else { return false };
    let mut reader = Gemma4::default();
    let mut said = reader.push(content);
    said.extend(reader.finish());
    let (mut text, mut thoughts, mut made) = (String::new(), String::new(), Vec::new());
    for one in said {
        match one {
            Said::Text(more) => text.push_str(&more),
            Said::Thought(more) => thoughts.push_str(&more),
            Said::Call { name, arguments } => {
                made.push(call_of(quirks, attempt, *calls, &name, &arguments));
                *calls += 1;
            }
        }
    }
    let has_calls = !made.is_empty();
    message.insert("content".to_owned(), if text.is_empty() { Value::Null } else { text.into() });
    if !thoughts.is_empty() {
        message.insert("reasoning_content".to_owned(), thoughts.into());
    }
    if has_calls {
        match message.get_mut(TOOL_CALLS).and_then(Value::as_array_mut) {
            Some(known) => known.append(&mut made),
            None => drop(message.insert(TOOL_CALLS.to_owned(), made.into())),
        }
    }
    has_calls
}

/// A call in the form of Chat Completions.
pub(super) fn call_of(quirks: &ModelQuirks, attempt: &AttemptId, index: usize, name: &str, arguments: &str) -> Value {
    let function = json!({"name": callers_name(quirks, name), "arguments": arguments});
    json!({"id": made_tool_id(attempt, index), "type": "function", "function": function})
}

/// A client that is told to stop would not look at the calls.
pub(super) fn end_with_calls(choice: &mut Map<String, Value>) {
    if choice.get("finish_reason").is_some_and(|reason| reason == STOP) {
        choice.insert("finish_reason".to_owned(), TOOL_CALLS.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replied(quirks: &ModelQuirks, message: &Value) -> Value {
        let body = json!({"id": "c", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": {"x": 1}});
        serde_json::from_slice(&reply(quirks, &"att_1".into(), body.to_string().into_bytes())).unwrap()
    }

    fn gemma() -> ModelQuirks {
        ModelQuirks { gemma4_output: true, tool_names: [("get_weather".to_owned(), "Weather".to_owned())].into() }
    }

    #[test]
    fn calls_in_the_text_become_calls_and_the_answer_ends_with_them() {
        let content =
            "<|channel>thought\nhm<channel|>I look.<|tool_call>call:get_weather{city:<|\"|>Oslo<|\"|>}<tool_call|>";
        let answer = replied(&gemma(), &json!({"role": "assistant", "content": content}));
        assert_eq!(
            answer["choices"][0],
            json!({"index": 0, "finish_reason": "tool_calls", "message": {"role": "assistant", "content": "I look.",
                "reasoning_content": "hm", "tool_calls": [{"id": "call_1_0", "type": "function",
                    "function": {"name": "Weather", "arguments": "{\"city\":\"Oslo\"}"}}]}})
        );
        assert_eq!(answer["usage"], json!({"x": 1}));
    }

    #[test]
    fn an_answer_without_text_is_null_and_a_plain_one_keeps_its_words() {
        let silent = replied(&gemma(), &json!({"content": "<|tool_call>call:now{}<tool_call|>"}));
        assert_eq!(silent["choices"][0]["message"]["content"], Value::Null);
        let plain = replied(&gemma(), &json!({"content": " hello \n"}));
        assert_eq!(
            plain["choices"][0],
            json!({"index": 0, "message": {"content": " hello \n"}, "finish_reason": "stop"})
        );
    }

    #[test]
    fn calls_that_the_server_found_itself_get_the_callers_names_and_no_answer_stays_as_it_is() {
        let call = |name: &str| json!({"content": null, "tool_calls": [{"id": "c", "function": {"name": name, "arguments": "{}"}}]});
        let named = replied(&gemma(), &call("get_weather"));
        assert_eq!(named["choices"][0]["message"], call("Weather"));
        let attempt = AttemptId::from("att_1");
        assert_eq!(reply(&gemma(), &attempt, b"no JSON".to_vec()), b"no JSON");
    }
}
