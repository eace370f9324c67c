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
/// Most directives of a request; each key counts only once.
const DIRECTIVES_MAX: usize = 64;

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
    /// How many of them count.
    pub obeyed: usize,
}

/// Whether the bytes of a body may hold a directive; most do not, and are not looked into any further.
pub fn mentions_marker(bytes: &[u8]) -> bool {
    memmem::find(bytes, MARKER.as_bytes()).is_some()
}

/// Cuts the directives out of `text`. `None` when there is none.
///
/// Fails for the first one of a user that cannot be followed.
pub fn take(text: &str, role: Role) -> Result<Option<Taken>, DirectiveError> {
    let mut taken = Taken { rest: String::new(), directives: Directives::default(), obeyed: 0 };
    let mut lines = Lines { text, start: 0, end: 0, stop: None };
    let (mut kept, mut looked) = (0, 0);
    while let Some(found) = memmem::find(&text.as_bytes()[looked..], MARKER.as_bytes()) {
        let start = looked + found;
        lines.move_to(start);
        let Some(span) = span_at(&mut lines, start, role)? else {
            looked = start + MARKER.len();
            continue;
        };
        if role == Role::User {
            taken.obeyed += 1;
            at_most_max(taken.obeyed)?;
            taken.directives.merge(read_pairs(span.pairs)?);
        }
        let (from, to) = cut(text, lines.start.max(kept), start, &span);
        taken.rest.push_str(&text[kept..from]);
        (kept, looked) = (to, to);
    }
    if kept == 0 {
        return Ok(None);
    }
    taken.rest.push_str(&text[kept..]);
    Ok(Some(taken))
}

/// Refuses a request in which a user wrote so many directives.
pub(crate) fn at_most_max(directives: usize) -> Result<(), DirectiveError> {
    if directives <= DIRECTIVES_MAX {
        return Ok(());
    }
    Err(DirectiveError::new("", format!("there are more than {DIRECTIVES_MAX} directives that begin with {MARKER}")))
}

/// Where the search is. What was looked at is remembered: a text may be one long line, or hold a marker on each.
struct Lines<'a> {
    text: &'a str,
    /// The line of the marker.
    start: usize,
    end: usize,
    stop: Option<Stop>,
}

/// The first line behind a marker that ends a block or begins another directive, or the end of the text.
#[derive(Clone, Copy)]
struct Stop {
    at: usize,
    /// Where the line ends, when it ends a block.
    block_end: Option<usize>,
}

impl Lines<'_> {
    fn move_to(&mut self, marker: usize) {
        if marker < self.end {
            return;
        }
        if let Some(at) = self.text[self.end..marker].rfind('\n') {
            self.start = self.end + at + 1;
        }
        self.end = self.text[marker..].find('\n').map_or(self.text.len(), |at| marker + at);
    }

    /// Where the block ends that begins on this line.
    fn stop(&mut self) -> Stop {
        match self.stop {
            Some(stop) if self.end <= stop.at => stop,
            Some(_) | None => *self.stop.insert(stop_behind(self.text, self.end)),
        }
    }
}

fn stop_behind(text: &str, from: usize) -> Stop {
    let mut at = from;
    for line in text[from..].split_inclusive('\n') {
        if line.trim() == END {
            return Stop { at, block_end: Some(at + line.trim_end_matches(['\n', '\r']).len()) };
        }
        // Another marker: this one began no block.
        if line.trim_start().starts_with(MARKER) {
            break;
        }
        at += line.len();
    }
    Stop { at, block_end: None }
}

/// A directive in a text.
struct Span<'a> {
    pairs: &'a str,
    end: usize,
    line_end: usize,
}

/// The directive whose marker is at `start`, unless it is only text.
fn span_at<'a>(lines: &mut Lines<'a>, start: usize, role: Role) -> Result<Option<Span<'a>>, DirectiveError> {
    let text = lines.text;
    if !text[..start].chars().next_back().is_none_or(char::is_whitespace) {
        return Ok(None);
    }
    let from = start + MARKER.len();
    let line = &text[from..lines.end];
    let line = another_marker(line).map_or(line, |at| &line[..at]);
    let end = from + line.len();
    if line.trim_start().is_empty() {
        let stop = if end == lines.end { lines.stop() } else { Stop { at: end, block_end: None } };
        return match stop.block_end {
            Some(block_end) => {
                let line_end = text[block_end..].find('\n').map_or(text.len(), |at| block_end + at);
                Ok(Some(Span { pairs: &text[end..stop.at], end: block_end, line_end }))
            }
            None if role == Role::User => {
                Err(DirectiveError::new("", format!("a block that begins with {MARKER} must end with a line {END}")))
            }
            None => Ok(None),
        };
    }
    let is_directive = line.starts_with([' ', '\t']) && first_key(line).is_some();
    Ok(is_directive.then_some(Span { pairs: line, end, line_end: lines.end }))
}

/// Where the next directive of the same line begins.
fn another_marker(line: &str) -> Option<usize> {
    memmem::find_iter(line.as_bytes(), MARKER.as_bytes()).find(|at| line[..*at].ends_with(char::is_whitespace))
}

/// What goes with a directive that begins at `start`, `line_start` being where its line begins as far as it is still
/// there: its whole lines when nothing else is on them.
fn cut(text: &str, line_start: usize, start: usize, span: &Span<'_>) -> (usize, usize) {
    let (before, after) = (&text[line_start..start], &text[span.end..span.line_end]);
    let before = before.trim_end();
    if before.is_empty() && after.trim_start().is_empty() {
        return (line_start, text.len().min(span.line_end + 1));
    }
    (line_start + before.len(), span.end)
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
