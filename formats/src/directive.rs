//! The grammar of directives: `@@tokenhub key=value …` on a line, or a block from a line `@@tokenhub` to a line `@@end`.
//!
//! Owns the keys, their values and what is cut out of a text. Must not know JSON bodies or what a directive brings about.
//!
//! A marker counts where white space or nothing stands before it, and where the rest of its line is empty or begins with
//! `key=`. Anything else is text that speaks about TokenHub, and stays.

use std::fmt;

use memchr::memmem;
use serde_json::Value;
use tokenhub_domain::{RoutingProfile, TextFormat, limits};

/// What a directive begins with.
pub const MARKER: &str = "@@tokenhub";
/// What a block ends with.
const END: &str = "@@end";

/// A program that a directive asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// Plan, critique, revision.
    Adversarial,
    /// Several answers, one chosen.
    Vote,
    /// One answer, improved.
    Refine,
    /// Several candidates, scored.
    BestOfN,
}

impl Program {
    const ALL: [Self; 4] = [Self::Adversarial, Self::Vote, Self::Refine, Self::BestOfN];

    /// The stable name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Adversarial => "adversarial",
            Self::Vote => "vote",
            Self::Refine => "refine",
            Self::BestOfN => "best_of_n",
        }
    }
}

/// Whose text it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The caller's: what it says counts.
    User,
    /// Anybody else's. A model's answer or a file that a tool read must not steer the gateway.
    Other,
}

/// What a request's directives say.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Directives {
    /// `mode`, when it names a profile.
    pub profile: Option<RoutingProfile>,
    /// `mode`, when it names a program.
    pub program: Option<Program>,
    /// `budget`, in dollars.
    pub budget_usd: Option<f64>,
    /// `latency`, in milliseconds.
    pub latency_ms: Option<u64>,
    /// `min_weight`
    pub min_weight: Option<u32>,
    /// `output_schema`
    pub output_schema: Option<Value>,
    /// `output_format`
    pub output_format: Option<TextFormat>,
    /// `strip_think`
    pub strip_think: Option<bool>,
    /// `max_tokens`
    pub max_tokens: Option<u64>,
}

impl Directives {
    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What `later` says wins, key by key.
    pub fn merge(&mut self, later: Self) {
        // One key with two meanings: the last one counts, whichever it is.
        if later.profile.is_some() || later.program.is_some() {
            (self.profile, self.program) = (later.profile, later.program);
        }
        self.budget_usd = later.budget_usd.or(self.budget_usd);
        self.latency_ms = later.latency_ms.or(self.latency_ms);
        self.min_weight = later.min_weight.or(self.min_weight);
        self.output_schema = later.output_schema.or(self.output_schema.take());
        self.output_format = later.output_format.or(self.output_format);
        self.strip_think = later.strip_think.or(self.strip_think);
        self.max_tokens = later.max_tokens.or(self.max_tokens);
    }
}

/// A directive that cannot be followed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct DirectiveError {
    /// The key, empty when there is none.
    pub key: String,
    /// What is wrong.
    pub reason: String,
}

impl DirectiveError {
    fn new(key: &str, reason: impl fmt::Display) -> Self {
        Self { key: key.to_owned(), reason: reason.to_string() }
    }
}

/// A text without its directives.
#[derive(Clone, Debug, PartialEq)]
pub struct Taken {
    /// What is left.
    pub rest: String,
    /// What they say; nothing for any other role than the user's.
    pub directives: Directives,
}

/// Whether the bytes of a body may hold a directive; most do not, and are not looked into any further.
pub fn mentions_marker(bytes: &[u8]) -> bool {
    memmem::find(bytes, MARKER.as_bytes()).is_some()
}

/// Cuts the directives out of `text`. `None` when there is none.
///
/// Fails for the first one of a user that cannot be followed.
pub fn take(text: &str, role: Role) -> Result<Option<Taken>, DirectiveError> {
    let mut taken = Taken { rest: String::new(), directives: Directives::default() };
    let (mut kept, mut looked) = (0, 0);
    while let Some(found) = memmem::find(&text.as_bytes()[looked..], MARKER.as_bytes()) {
        let start = looked + found;
        let Some(span) = span_at(text, start, role)? else {
            looked = start + MARKER.len();
            continue;
        };
        if role == Role::User {
            taken.directives.merge(read_pairs(span.pairs)?);
        }
        let (from, to) = cut(text, kept, start, span.end);
        taken.rest.push_str(&text[kept..from]);
        (kept, looked) = (to, to);
    }
    if kept == 0 {
        return Ok(None);
    }
    taken.rest.push_str(&text[kept..]);
    Ok(Some(taken))
}

/// A directive in a text.
struct Span<'a> {
    pairs: &'a str,
    end: usize,
}

/// The directive whose marker is at `start`, unless it is only text.
fn span_at(text: &str, start: usize, role: Role) -> Result<Option<Span<'_>>, DirectiveError> {
    let is_free = text[..start].chars().next_back().is_none_or(char::is_whitespace);
    let after = &text[start + MARKER.len()..];
    if !is_free {
        return Ok(None);
    }
    let line = after.split('\n').next().unwrap_or(after);
    let line = another_marker(line).map_or(line, |at| &line[..at]);
    if line.trim().is_empty() {
        return match block(text, start + MARKER.len() + line.len()) {
            Some(span) => Ok(Some(span)),
            None if role == Role::User => {
                Err(DirectiveError::new("", format!("a block that begins with {MARKER} must end with a line {END}")))
            }
            None => Ok(None),
        };
    }
    let is_directive = line.starts_with([' ', '\t']) && first_key(line).is_some();
    Ok(is_directive.then(|| Span { pairs: line, end: start + MARKER.len() + line.len() }))
}

/// Where the next directive of the same line begins.
fn another_marker(line: &str) -> Option<usize> {
    memmem::find_iter(line.as_bytes(), MARKER.as_bytes()).find(|at| line[..*at].ends_with(char::is_whitespace))
}

/// The block whose first line ends at `from`.
fn block(text: &str, from: usize) -> Option<Span<'_>> {
    let mut at = from;
    for line in text[from..].split_inclusive('\n') {
        if line.trim() == END {
            let end = at + line.trim_end_matches(['\n', '\r']).len();
            return Some(Span { pairs: &text[from..at], end });
        }
        // Another marker: this one began no block.
        if line.trim_start().starts_with(MARKER) {
            return None;
        }
        at += line.len();
    }
    None
}

/// What goes with a directive from `start` to `end`, `floor` being where the text begins that is still there: its whole
/// lines when nothing else is on them.
fn cut(text: &str, floor: usize, start: usize, end: usize) -> (usize, usize) {
    let line_start = text[..start].rfind('\n').map_or(0, |at| at + 1).max(floor);
    let line_end = text[end..].find('\n').map_or(text.len(), |at| end + at);
    let (before, after) = (&text[line_start..start], &text[end..line_end]);
    if before.trim().is_empty() && after.trim().is_empty() {
        return (line_start, text.len().min(line_end + 1));
    }
    (line_start + before.trim_end().len(), end)
}

/// The key that `pairs` begins with.
fn first_key(pairs: &str) -> Option<&str> {
    let (key, _) = pairs.trim_start().split_once('=')?;
    let is_key = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    is_key.then_some(key)
}

fn read_pairs(pairs: &str) -> Result<Directives, DirectiveError> {
    let mut said = Directives::default();
    let mut rest = pairs.trim_start();
    while !rest.is_empty() {
        let Some(key) = first_key(rest) else {
            let word = rest.split_whitespace().next().unwrap_or(rest);
            return Err(DirectiveError::new("", format!("`{}` is no key=value", shortened(word))));
        };
        let value = &rest[key.len() + 1..];
        let used = if key == "output_schema" {
            let (schema, used) = read_schema(value)?;
            said.output_schema = Some(schema);
            used
        } else {
            let used = value.find(char::is_whitespace).unwrap_or(value.len());
            said.merge(read_value(key, &value[..used])?);
            used
        };
        rest = value[used..].trim_start();
    }
    Ok(said)
}

/// A schema is a JSON value and may hold white space. How much of `text` it takes.
fn read_schema(text: &str) -> Result<(Value, usize), DirectiveError> {
    let invalid = |reason: &dyn fmt::Display| DirectiveError::new("output_schema", format!("must be JSON: {reason}"));
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    match values.next() {
        Some(Ok(schema @ (Value::Object(_) | Value::Bool(_)))) => Ok((schema, values.byte_offset())),
        Some(Ok(_)) => Err(invalid(&"a schema is an object")),
        Some(Err(error)) => Err(invalid(&error)),
        None => Err(invalid(&"there is none")),
    }
}

fn read_value(key: &str, value: &str) -> Result<Directives, DirectiveError> {
    let refuse = |reason: String| DirectiveError::new(key, format!("{reason}, not `{}`", shortened(value)));
    let whole = |min: u64, max: u64| {
        let number = value.parse::<u64>().ok().filter(|number| (min..=max).contains(number));
        number.ok_or_else(|| refuse(format!("must be a whole number from {min} to {max}")))
    };
    let mut said = Directives::default();
    match key {
        "mode" => {
            said.profile = RoutingProfile::parse(value);
            // A word that is both means the program: in a message it always did.
            said.program = Program::ALL.into_iter().find(|program| program.as_str() == value);
            if said.program.is_some() {
                said.profile = None;
            } else if said.profile.is_none() {
                return Err(refuse(
                    "must be a routing mode (cheap, normal, high_confidence, planning, …) or a program (adversarial, \
                     vote, refine, best_of_n)"
                        .to_owned(),
                ));
            }
        }
        "budget" => {
            let usd = value.parse::<f64>().ok().filter(|usd| *usd > 0.0 && *usd <= limits::POLICY_BUDGET_USD_MAX);
            let max = limits::POLICY_BUDGET_USD_MAX;
            said.budget_usd = Some(usd.ok_or_else(|| refuse(format!("must be a number above 0 and at most {max}")))?);
        }
        "latency" => said.latency_ms = Some(whole(1, limits::POLICY_LATENCY_MS_MAX)?),
        "min_weight" => said.min_weight = u32::try_from(whole(0, u64::from(limits::WEIGHT_MAX))?).ok(),
        "output_format" => {
            let format = TextFormat::parse(value);
            said.output_format = Some(format.ok_or_else(|| refuse("must be json, markdown, text or xml".to_owned()))?);
        }
        "strip_think" => {
            let flag = value.parse::<bool>().ok();
            said.strip_think = Some(flag.ok_or_else(|| refuse("must be true or false".to_owned()))?);
        }
        "max_tokens" => said.max_tokens = Some(whole(1, u64::from(u32::MAX))?),
        _ => {
            let known = "mode, budget, latency, min_weight, output_schema, output_format, strip_think, max_tokens";
            return Err(DirectiveError::new(key, format!("there is no such key; there are {known}")));
        }
    }
    Ok(said)
}

/// What a refusal repeats of the caller's text.
fn shortened(text: &str) -> String {
    const CHARS_MAX: usize = 40;
    text.chars().take(CHARS_MAX).collect()
}
