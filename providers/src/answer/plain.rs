//! The usual answer of Chat Completions, read without building a tree: one choice, a text, and nothing else to know.
//!
//! Everything that is not certainly so is left to the general way, which comes to the same for what is read here.

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use serde_json::value::RawValue;
use tokenhub_domain::{Dialect, RawText, TokenUsage};

use crate::call::Completion;
use crate::convert::usage;

#[derive(Deserialize)]
struct Plain<'a> {
    #[serde(borrow)]
    model: Option<RawText<'a>>,
    #[serde(borrow)]
    choices: [Choice<'a>; 1],
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
    error: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Choice<'a> {
    #[serde(borrow)]
    message: Message<'a>,
    #[serde(borrow)]
    finish_reason: Option<RawText<'a>>,
}

/// Any further field is something to know.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Message<'a> {
    #[serde(rename = "role")]
    _role: IgnoredAny,
    #[serde(borrow)]
    content: RawText<'a>,
    refusal: Option<IgnoredAny>,
    #[serde(rename = "annotations")]
    _annotations: Option<[IgnoredAny; 0]>,
}

/// The answer, if it is a plain one.
pub(super) fn read(raw: &str) -> Option<Completion> {
    let plain: Plain<'_> = serde_json::from_str(raw).ok()?;
    let [Choice { message, finish_reason }] = plain.choices;
    let text = message.content.0;
    if text.is_empty() || message.refusal.is_some() || plain.error.is_some() {
        return None;
    }
    let counted: Option<Value> = plain.usage.and_then(|usage| serde_json::from_str(usage.get()).ok());
    let counted = counted.filter(Value::is_object);
    let counts = counted.as_ref().map(|counted| usage(Dialect::Chat, counted)).unwrap_or_default();
    Some(Completion {
        text: text.into_owned(),
        refusal: None,
        usage: TokenUsage { input_tokens: counts.input, output_tokens: counts.output },
        usage_json: counted.as_ref().map(Value::to_string),
        finish_reason: finish_reason.map(|reason| reason.0.into_owned()),
        model_reported: plain.model.map(|model| model.0.into_owned()),
        losses: Vec::new(),
        raw: String::new(),
    })
}
