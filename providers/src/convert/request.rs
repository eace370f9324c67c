//! The neutral form of a request: what every protocol can say, with the boundaries and order that the source gave.
//!
//! Decoders fill it, encoders read it, `pairing` puts its tool calls and results in order. Cache marks are not
//! in it: only Messages has them, and Messages to Messages is no conversion.

use serde_json::{Number, Value};
use tokenhub_domain::Dialect;

use super::read::invalid;
use super::{ConvertError, Effort};

/// A request.
#[derive(Debug, Default)]
pub(crate) struct Request {
    /// The protocol that it came in, for the names of its fields.
    pub(crate) from: Dialect,
    pub(crate) model: Option<Value>,
    /// System and developer blocks before the conversation.
    pub(crate) system: Vec<String>,
    pub(crate) turns: Vec<Turn>,
    pub(crate) tools: Vec<Tool>,
    pub(crate) tool_choice: Option<ToolChoice>,
    /// Whether the model may call several tools at once.
    pub(crate) parallel_tools: Option<bool>,
    pub(crate) output: Option<OutputFormat>,
    pub(crate) max_output_tokens: Option<u64>,
    pub(crate) sampling: Sampling,
    pub(crate) stop: Vec<String>,
    pub(crate) thinking: Thinking,
    pub(crate) user: Option<String>,
    pub(crate) service_tier: Option<String>,
    pub(crate) stream: Option<Value>,
    /// Fields that Chat and Responses share by name and meaning, and Messages lacks.
    pub(crate) open_ai: Vec<(&'static str, Value)>,
    pub(crate) verbosity: Option<Value>,
}

impl Request {
    /// A system message: part of the system prompt before the conversation, and in its place inside it.
    pub(crate) fn push_system(&mut self, turn: Turn) -> Result<(), ConvertError> {
        let mut texts = Vec::new();
        for part in &turn.parts {
            let Part::Text(text) = part else { return Err(invalid(turn.path, "a system message holds text only")) };
            texts.push(text.clone());
        }
        if self.turns.is_empty() {
            self.system.extend(texts);
        } else {
            self.turns.push(turn);
        }
        Ok(())
    }
}

/// How tokens are drawn.
#[derive(Debug, Default)]
pub(crate) struct Sampling {
    pub(crate) temperature: Option<Number>,
    pub(crate) top_p: Option<Number>,
    pub(crate) top_k: Option<Number>,
}

/// How the model is asked to think.
#[derive(Debug, Default)]
pub(crate) struct Thinking {
    pub(crate) ask: Option<ThinkingAsk>,
    /// Beside `ask`: Messages may give an effort with any of them.
    pub(crate) effort: Option<Effort>,
    /// Responses' form of a reasoning summary.
    pub(crate) summary: Option<Value>,
}

/// The switch itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ThinkingAsk {
    Off,
    Budget(u64),
    Adaptive,
}

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    System,
    Developer,
    /// Tool results are parts of a user turn.
    User,
    Assistant,
}

/// What one side says before the other does.
#[derive(Clone, Debug)]
pub(crate) struct Turn {
    pub(crate) role: Role,
    pub(crate) parts: Vec<Part>,
    /// Where it stands in the source.
    pub(crate) path: String,
}

/// A part of a turn.
#[derive(Clone, Debug)]
pub(crate) enum Part {
    Text(String),
    Refusal(String),
    Image(Image),
    Document(Document),
    Audio(Audio),
    Reasoning(Reasoning),
    ToolCall(ToolCall),
    ToolResult(ToolResult),
}

#[derive(Clone, Debug)]
pub(crate) struct Image {
    pub(crate) source: Source,
    pub(crate) detail: Option<String>,
    pub(crate) path: String,
}

#[derive(Clone, Debug)]
pub(crate) struct Document {
    pub(crate) source: Source,
    pub(crate) name: Option<String>,
    pub(crate) path: String,
}

#[derive(Clone, Debug)]
pub(crate) struct Audio {
    /// The `input_audio` object that Chat and Responses share.
    pub(crate) input: Value,
    pub(crate) path: String,
}

/// Where the bytes of an image or a document are.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    Data {
        media_type: String,
        /// Standard base64, checked.
        base64: String,
    },
    Url(String),
    /// An id at the provider that issued it; it means nothing elsewhere.
    FileId,
}

#[derive(Clone, Debug)]
pub(crate) struct Reasoning {
    pub(crate) text: String,
    /// The signature, encrypted content or redacted data as it came.
    pub(crate) opaque: Option<String>,
    pub(crate) path: String,
}

#[derive(Clone, Debug)]
pub(crate) struct ToolCall {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) input: ToolInput,
    pub(crate) path: String,
}

/// What a tool is called with.
#[derive(Clone, Debug)]
pub(crate) enum ToolInput {
    /// JSON as text, as the model wrote it.
    Json(String),
    /// The text of a free-form tool.
    Text(String),
}

#[derive(Clone, Debug)]
pub(crate) struct ToolResult {
    pub(crate) id: String,
    pub(crate) content: Vec<Part>,
    pub(crate) outcome: ToolOutcome,
    pub(crate) path: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ToolOutcome {
    Done,
    Failed,
}

/// A tool that the client runs. Tools that a provider runs do not cross and are not here.
#[derive(Debug)]
pub(crate) enum Tool {
    Function(Function),
    FreeForm(FreeForm),
}

impl Tool {
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Function(function) => &function.name,
            Self::FreeForm(tool) => &tool.name,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Function {
    pub(crate) name: String,
    pub(crate) description: Option<String>,
    /// Always an object schema.
    pub(crate) schema: Value,
    pub(crate) strict: Option<bool>,
}

#[derive(Debug)]
pub(crate) struct FreeForm {
    pub(crate) name: String,
    pub(crate) description: Option<String>,
    /// The grammar of its input, as Responses writes it.
    pub(crate) format: Option<Value>,
    pub(crate) path: String,
}

/// Which tools the model may or must call.
#[derive(Debug)]
pub(crate) enum ToolChoice {
    Auto,
    None,
    Required,
    Named(String),
    Allowed { required: bool, names: Vec<String> },
}

/// The form of the answer.
#[derive(Debug)]
pub(crate) enum OutputFormat {
    Text,
    /// Any JSON object.
    AnyObject,
    Schema {
        name: Option<String>,
        description: Option<String>,
        schema: Value,
        strict: Option<bool>,
    },
}

/// The name of a schema whose source has none.
pub(crate) const SCHEMA_NAME: &str = "structured_output";
