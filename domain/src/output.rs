//! What a caller wants of the text of an answer beyond what the model says, and how an answer can fall short of it.
//!
//! Only the wish: how a text is brought into a format, and how a schema is checked, is the business of `formats`.

use serde::{Deserialize, Serialize};

use crate::Text;

/// The form that the text of an answer is brought into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TextFormat {
    /// The JSON in it, without fences and words around.
    Json,
    /// Markdown, without white space around.
    Markdown,
    /// Without the marks of Markdown.
    Text,
    /// The XML in it, without fences and words around.
    Xml,
}

impl TextFormat {
    /// Every one.
    pub const ALL: [Self; 4] = [Self::Json, Self::Markdown, Self::Text, Self::Xml];

    /// The stable name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Markdown => "markdown",
            Self::Text => "text",
            Self::Xml => "xml",
        }
    }

    /// The format named `name`.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.as_str() == name)
    }
}

/// What becomes of an answer that does not match its schema after it was repaired.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnMismatch {
    /// The run fails: whoever asks for a schema reads the answer with a program.
    #[default]
    Fail,
    /// The answer goes out as it is, and the run is partial.
    Keep,
}

/// What is wanted of every text that is written for the caller.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct OutputWish {
    /// Its form.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<TextFormat>,
    /// Whether what stands between `<think>` and `</think>` is left out.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub strip_think: bool,
    /// The JSON Schema that it must match.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schema: Option<Text>,
    /// The regular expression that is to be found in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
    /// What becomes of a text that does not match its schema.
    pub on_mismatch: OnMismatch,
}

impl OutputWish {
    /// Whether an answer may go out as it came.
    pub fn is_empty(&self) -> bool {
        self.format.is_none() && !self.strip_think && self.schema.is_none() && self.pattern.is_none()
    }
}

/// How an answer falls short of its schema.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mismatch {
    /// What the model said.
    pub text: Text,
    /// What is wrong with it, a line each.
    pub violations: String,
}
