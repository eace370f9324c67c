//! What a step sends: the caller's own request, or one that an orchestration derives from it.
//!
//! A derived request names its parts instead of containing them, so that a history holds each long text once. The send
//! step loads the parts and calls [`render`], the one place that decides which of the caller's messages, parameters and
//! tools go along.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::{Dialect, Text};

/// Parameters of the caller that shape an answer and make no sense for a critic or a judge.
const AUTHOR_ONLY: [&str; 18] = [
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "functions",
    "function_call",
    "response_format",
    "n",
    "stop",
    "max_tokens",
    "max_completion_tokens",
    "logprobs",
    "top_logprobs",
    "logit_bias",
    "modalities",
    "audio",
    "prediction",
    "reasoning_effort",
    "verbosity",
];

/// A request body in the making.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Prompt {
    /// The caller's request body as it came, a JSON object.
    Original(Text),
    /// A request made from it.
    Derived(Derived),
    /// A request to write an answer anew.
    Repair(Box<Repair>),
}

/// The caller's conversation, carried on by an answer that will not do and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repair {
    /// What the answer was given to.
    pub question: Prompt,
    /// The answer.
    pub answer: Text,
    /// What is to be done about it, as a user message.
    pub complaint: String,
}

/// A request derived from the caller's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Derived {
    /// The caller's request body.
    pub original: Text,
    /// What the model is to do, as a system message.
    pub instruction: String,
    /// Whether the model writes for the caller or about somebody's writing.
    pub voice: Voice,
    /// The user message, part by part.
    #[serde(default)]
    pub parts: Vec<Segment>,
}

/// For whom a derived step writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Voice {
    /// For the caller: the whole conversation, every parameter and the tools are kept.
    Author,
    /// About an answer: the conversation is quoted, and what shapes an answer is left out.
    Reviewer,
}

/// A part of a derived user message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Segment {
    /// Words of our own.
    Literal(String),
    /// The caller's conversation, quoted.
    OriginalRequest,
    /// An earlier answer.
    Answer(Text),
}

/// A prompt that cannot be rendered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PromptError {
    /// The original is not a JSON object.
    #[error("the original request is not a JSON object")]
    NotAnObject,
    /// A stored text was not given to the renderer.
    #[error("a stored part of the prompt was not loaded")]
    PartNotLoaded,
}

/// The request body that `prompt` stands for, as JSON text: the caller's own to the byte, its conversation carried on in
/// its own `dialect`, or a new one in the form of Chat Completions. Every [`Text`] in it must be inline by now.
pub fn render(prompt: &Prompt, dialect: Dialect) -> Result<String, PromptError> {
    match prompt {
        Prompt::Original(original) => original.as_inline().map(str::to_owned).ok_or(PromptError::PartNotLoaded),
        Prompt::Derived(derived) => render_derived(derived).map(|body| Value::Object(body).to_string()),
        Prompt::Repair(repair) => render_repair(repair, dialect),
    }
}

fn render_repair(repair: &Repair, dialect: Dialect) -> Result<String, PromptError> {
    let question = render(&repair.question, dialect)?;
    let mut body: Map<String, Value> = serde_json::from_str(&question).map_err(|_| PromptError::NotAnObject)?;
    let conversation = match dialect {
        Dialect::Chat | Dialect::Messages => "messages",
        Dialect::Responses => "input",
    };
    let mut turns = match body.get_mut(conversation).map(Value::take) {
        Some(Value::Array(turns)) => turns,
        Some(Value::String(text)) => vec![json!({"role": "user", "content": text})],
        _ => Vec::new(),
    };
    let answer = repair.answer.as_inline().ok_or(PromptError::PartNotLoaded)?;
    // Providers refuse a turn without a text.
    if !answer.trim().is_empty() {
        turns.push(json!({"role": "assistant", "content": answer.trim_end()}));
    }
    turns.push(json!({"role": "user", "content": repair.complaint}));
    body.insert(conversation.to_owned(), Value::Array(turns));
    Ok(Value::Object(body).to_string())
}

fn render_derived(derived: &Derived) -> Result<Map<String, Value>, PromptError> {
    let mut body = object_of(&derived.original)?;
    let messages = take_messages(&mut body);
    let mut content = String::new();
    for part in &derived.parts {
        match part {
            Segment::Literal(text) => content.push_str(text),
            Segment::OriginalRequest => content.push_str(&transcript(&messages)),
            Segment::Answer(text) => content.push_str(text.as_inline().ok_or(PromptError::PartNotLoaded)?),
        }
    }
    let mut rendered = Vec::with_capacity(messages.len() + 2);
    match derived.voice {
        Voice::Author => {
            let system_count = messages.iter().take_while(|message| is_system(message)).count();
            let (system, conversation) = messages.split_at(system_count);
            rendered.extend_from_slice(system);
            rendered.push(json!({"role": "system", "content": derived.instruction}));
            rendered.extend_from_slice(conversation);
        }
        Voice::Reviewer => {
            for parameter in AUTHOR_ONLY {
                body.shift_remove(parameter);
            }
            rendered.push(json!({"role": "system", "content": derived.instruction}));
        }
    }
    if !content.is_empty() {
        rendered.push(json!({"role": "user", "content": content}));
    }
    for parameter in ["stream", "stream_options"] {
        body.shift_remove(parameter);
    }
    body.insert("messages".to_owned(), Value::Array(rendered));
    Ok(body)
}

/// The conversation of a request as one text: the bare text of a single user message, else every message with its role.
pub fn user_text(body: &Map<String, Value>) -> String {
    body.get("messages").and_then(Value::as_array).map_or_else(String::new, |messages| transcript(messages))
}

/// The text of a Chat Completions answer: the first choice's content, its text parts joined; the tool calls as JSON
/// when there is no text.
pub fn answer_text(body: &Value) -> String {
    let Some(message) = body.pointer("/choices/0/message") else { return String::new() };
    let text = content_text(message.get("content"));
    if !text.is_empty() {
        return text;
    }
    if let Some(refusal) = message.get("refusal").and_then(Value::as_str) {
        return refusal.to_owned();
    }
    message.get("tool_calls").filter(|calls| calls.is_array()).map(Value::to_string).unwrap_or_default()
}

fn object_of(text: &Text) -> Result<Map<String, Value>, PromptError> {
    let json = text.as_inline().ok_or(PromptError::PartNotLoaded)?;
    serde_json::from_str(json).map_err(|_| PromptError::NotAnObject)
}

fn take_messages(body: &mut Map<String, Value>) -> Vec<Value> {
    match body.shift_remove("messages") {
        Some(Value::Array(messages)) => messages,
        _ => Vec::new(),
    }
}

fn is_system(message: &Value) -> bool {
    matches!(message.get("role").and_then(Value::as_str), Some("system" | "developer"))
}

fn transcript(messages: &[Value]) -> String {
    if let [only] = messages {
        return content_text(only.get("content"));
    }
    let turns: Vec<String> = messages
        .iter()
        .map(|message| {
            let role = message.get("role").and_then(Value::as_str).unwrap_or("user");
            format!("[{role}]\n{}", content_text(message.get("content")))
        })
        .collect();
    turns.join("\n\n")
}

fn content_text(content: Option<&Value>) -> String {
    match content {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(parts)) => {
            let texts: Vec<&str> = parts.iter().filter_map(|part| part.get("text").and_then(Value::as_str)).collect();
            texts.join("\n")
        }
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn original(body: &Value) -> Text {
        Text::Inline(body.to_string())
    }

    fn derived(body: &Value, voice: Voice) -> Map<String, Value> {
        let prompt = Prompt::Derived(Derived {
            original: original(body),
            instruction: "Improve it.".into(),
            voice,
            parts: vec![
                Segment::Literal("Request:\n".into()),
                Segment::OriginalRequest,
                Segment::Literal("\nAnswer:\n".into()),
                Segment::Answer("42".into()),
            ],
        });
        serde_json::from_str(&render(&prompt, Dialect::Chat).unwrap()).unwrap()
    }

    #[test]
    fn the_original_goes_out_byte_for_byte() {
        let body = r#"{ "messages":[{"role":"user"}],"x": 1e5 , "x":2 }"#;
        assert_eq!(render(&Prompt::Original(body.into()), Dialect::Messages).as_deref(), Ok(body));
    }

    #[test]
    fn an_author_keeps_system_messages_parameters_and_tools() {
        let body = json!({"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}],
            "temperature": 0.2, "tools": [{"type": "function"}], "stream": true});
        let rendered = derived(&body, Voice::Author);
        let roles: Vec<&str> =
            rendered["messages"].as_array().unwrap().iter().map(|m| m["role"].as_str().unwrap()).collect();
        assert_eq!(roles, ["system", "system", "user", "user"]);
        assert_eq!(rendered["messages"][0]["content"], "Be brief.");
        assert_eq!(rendered["temperature"], 0.2);
        assert!(rendered.contains_key("tools"));
        assert!(!rendered.contains_key("stream"));
    }

    #[test]
    fn a_reviewer_reads_the_conversation_as_a_quotation_and_has_no_tools() {
        let body = json!({"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}],
            "temperature": 0.2, "tools": [], "max_tokens": 5, "response_format": {"type": "json_object"}});
        let rendered = derived(&body, Voice::Reviewer);
        assert_eq!(rendered["messages"].as_array().unwrap().len(), 2);
        assert_eq!(rendered["messages"][1]["content"], "Request:\n[system]\nBe brief.\n\n[user]\nhi\nAnswer:\n42");
        assert_eq!(rendered["temperature"], 0.2);
        for absent in ["tools", "max_tokens", "response_format"] {
            assert!(!rendered.contains_key(absent), "{absent}");
        }
    }

    #[test]
    fn a_stored_part_must_be_loaded_first() {
        let stored = Text::Stored(crate::ContentRef { hash: crate::ContentHash::of("x"), bytes: 1 });
        assert_eq!(render(&Prompt::Original(stored), Dialect::Chat), Err(PromptError::PartNotLoaded));
    }

    #[test]
    fn a_repair_carries_the_conversation_on_in_its_own_protocol() {
        let repaired = |body: Value, answer: &str, dialect| -> Value {
            let question = Prompt::Original(original(&body));
            let repair = Repair { question, answer: answer.into(), complaint: "Again.".into() };
            serde_json::from_str(&render(&Prompt::Repair(Box::new(repair)), dialect).unwrap()).unwrap()
        };
        let turn = |role: &str, text: &str| json!({"role": role, "content": text});
        let carried_on = json!([turn("user", "hi"), turn("assistant", "{"), turn("user", "Again.")]);
        let body = json!({"model": "m", "messages": [turn("user", "hi")], "stop": ["x"]});
        let chat = repaired(body, "{ ", Dialect::Chat);
        assert_eq!(chat, json!({"model": "m", "messages": carried_on, "stop": ["x"]}));
        let responses = repaired(json!({"input": "hi", "max_output_tokens": 7}), "{", Dialect::Responses);
        assert_eq!(responses, json!({"input": carried_on, "max_output_tokens": 7}));
        let messages = repaired(json!({"system": "s", "messages": [turn("user", "hi")]}), " ", Dialect::Messages);
        assert_eq!(messages, json!({"system": "s", "messages": [turn("user", "hi"), turn("user", "Again.")]}));
    }

    #[test]
    fn the_text_of_an_answer_is_its_content_its_parts_or_its_tool_calls() {
        let of = |message: Value| answer_text(&json!({"choices": [{"message": message}]}));
        assert_eq!(of(json!({"content": "a"})), "a");
        assert_eq!(of(json!({"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]})), "a\nb");
        assert_eq!(of(json!({"content": null, "tool_calls": [{"id": "c"}]})), r#"[{"id":"c"}]"#);
        assert_eq!(answer_text(&json!({})), "");
    }
}
