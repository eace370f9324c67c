//! What a case is, and how one is written down.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tokenhub_demo::{Reply, Rule};

/// The window of the small model: room for a prompt and an answer, and little more.
pub const DELTA_WINDOW_TOKENS: u64 = 2_000;

/// A request, the script of its provider and what must come of it.
pub struct Case {
    /// Unique within its table.
    pub name: &'static str,
    /// The route.
    pub path: &'static str,
    /// The request.
    pub body: Value,
    scripts: Vec<(&'static str, Vec<Reply>)>,
    status: u16,
    calls: BTreeMap<String, usize>,
    facts: Vec<(&'static str, Value)>,
}

impl Case {
    /// A plan; `orchestration` says which.
    #[expect(clippy::needless_pass_by_value, reason = "called with a literal")]
    pub fn plan(name: &'static str, orchestration: Value) -> Self {
        let body = json!({"request": request(name), "orchestration": orchestration});
        Self::new(name, "/v1/plan", body)
    }

    /// A chat in OpenAI's form; without a name routing chooses the model.
    pub fn completion(name: &'static str, model: Option<&str>) -> Self {
        let mut body = json!({"messages": messages(name), "temperature": 0.5, "max_tokens": 400, "vendor_field": [1]});
        if let Some(model) = model {
            body["model"] = model.into();
        }
        Self::new(name, "/v1/chat/completions", body)
    }

    /// A chat in the native form.
    pub fn native(name: &'static str) -> Self {
        Self::new(name, "/v1/chat", json!({"request": request(name)}))
    }

    fn new(name: &'static str, path: &'static str, body: Value) -> Self {
        Self { name, path, body, scripts: Vec::new(), status: 200, calls: BTreeMap::new(), facts: Vec::new() }
    }

    /// The request with one more field, by its path.
    pub fn with(mut self, pointer: &str, value: impl Into<Value>) -> Self {
        let (parent, field) = pointer.rsplit_once('/').unwrap();
        let parent = self.body.pointer_mut(parent).unwrap();
        parent[field] = value.into();
        self
    }

    /// What `model` replies, in turn, the last one for ever.
    pub fn replies(mut self, model: &'static str, replies: impl IntoIterator<Item = Reply>) -> Self {
        self.scripts.push((model, replies.into_iter().collect()));
        self
    }

    /// What `model` says, whatever it is asked.
    pub fn says(self, model: &'static str, text: &str) -> Self {
        self.replies(model, [Reply::text(text)])
    }

    /// The status of the answer; 200 without this.
    pub fn status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    /// How often each model is called; the others are not.
    pub fn calls<const N: usize>(mut self, calls: [(&str, usize); N]) -> Self {
        self.calls = calls.into_iter().map(|(model, count)| (model.to_owned(), count)).collect();
        self
    }

    /// What the result has at a path.
    pub fn fact(mut self, pointer: &'static str, value: impl Into<Value>) -> Self {
        self.facts.push((pointer, value.into()));
        self
    }

    /// The part of the prompt that no other case has.
    pub fn tag(&self) -> String {
        tag(self.name)
    }

    /// Fresh rules for this case's calls alone.
    pub fn rules(&self) -> impl Iterator<Item = Rule> {
        self.scripts.iter().map(|(model, replies)| Rule::model(*model, replies.clone()).containing(self.tag()))
    }

    /// Asserts what the table says.
    pub fn check(&self, status: u16, result: &Value, calls: &[(String, String)]) {
        assert_eq!(status, self.status, "{}: {result:#}", self.name);
        let mut counts = BTreeMap::new();
        for (model, _) in calls {
            *counts.entry(model.clone()).or_insert(0_usize) += 1;
        }
        assert_eq!(counts, self.calls, "{}: {result:#}", self.name);
        for (pointer, value) in &self.facts {
            assert_eq!(result.pointer(pointer), Some(value), "{} at {pointer}: {result:#}", self.name);
        }
    }
}

fn tag(name: &str) -> String {
    format!("({name})")
}

fn request(name: &str) -> Value {
    json!({"messages": messages(name), "parameters": {"temperature": 0.5, "max_tokens": 400}})
}

fn messages(name: &str) -> Value {
    json!([{"role": "system", "content": "Be brief."}, {"role": "user", "content": format!("A question {}", tag(name))}])
}

/// A provider's own fault: worth two more tries.
pub fn boom() -> Reply {
    Reply::error(500, "server_error", "boom")
}

/// Too fast: come back after a second.
pub fn slow_down() -> Reply {
    Reply::error(429, "rate_limit_exceeded", "slow down").header("retry-after", "1")
}

/// The window is too small.
pub fn too_long() -> Reply {
    Reply::error(400, "context_length_exceeded", "maximum context length exceeded")
}
