//! What accepts an answer beside the models: a schema, a pattern, or a server that the caller names.
//!
//! Only what is asked and what was said. Schema and pattern are judged with the step that bought the answer; a server is
//! asked in a step of its own.

use serde::{Deserialize, Serialize};

use crate::{ModelId, StepId, Text};

/// What accepts an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum OutsideCheck {
    /// It matches the schema of the request.
    Schema,
    /// The pattern is found in it.
    Regex {
        /// A regular expression that needs linear time.
        pattern: String,
    },
    /// A verifier says so.
    Http {
        /// Where it is asked.
        url: String,
    },
}

/// What a check said about an answer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// Whether it will do. What could not be checked will not.
    pub passed: bool,
    /// How good it is, in the verifier's own measure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<f64>,
    /// What is to be better; whoever improves the answer reads it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub feedback: Option<String>,
    /// Why it could not be checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl Verdict {
    /// It passes.
    pub fn passed() -> Self {
        Self { passed: true, ..Self::default() }
    }

    /// It does not, for this reason.
    pub fn rejected(feedback: String) -> Self {
        Self { feedback: Some(feedback), ..Self::default() }
    }

    /// Nobody could say.
    pub fn unchecked(error: impl Into<String>) -> Self {
        Self { error: Some(error.into()), ..Self::default() }
    }
}

/// An answer that was checked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Checked {
    /// The step that wrote it.
    pub step: StepId,
    /// Who wrote it.
    #[serde(default)]
    pub model: Option<ModelId>,
    /// What was said about it.
    #[serde(flatten)]
    pub verdict: Verdict,
}

/// Asks a verifier about an answer. It may be asked again after a crash: what it says changes nothing outside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifyRequest {
    /// The step that wrote the answer.
    pub step: StepId,
    /// Where the verifier is.
    pub url: String,
    /// The answer.
    pub answer: Text,
    /// All tries together must end within this.
    pub timeout_ms: u64,
}
