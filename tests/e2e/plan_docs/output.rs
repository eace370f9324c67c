//! Whether what was printed is what a document says. `…` stands for what varies.
//!
//! In text it stands for anything. In JSON it stands for a whole value, for a part of a string, as the last element of a list
//! for any further ones, and as the name of a field for any others.

use serde_json::{Value, json};

use super::document::Output;

const VARIES: &str = "…";

/// The difference, in words.
pub fn compare(expected: &Output, printed: &str) -> Result<(), String> {
    if !expected.is_json {
        let is_same = is_like(expected.text.trim_end(), printed.trim_end());
        return if is_same { Ok(()) } else { Err(format!("should print:\n{}", expected.text)) };
    }
    let pattern = serde_json::from_str(&expected.text).map_err(|error| format!("the document's JSON: {error}"))?;
    let value = serde_json::from_str(printed).map_err(|error| format!("what is printed is no JSON: {error}"))?;
    difference("", &pattern, &value).map_or(Ok(()), Err)
}

fn is_like(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('…');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

/// Where and how `value` is not as `pattern` says.
fn difference(place: &str, pattern: &Value, value: &Value) -> Option<String> {
    let differs = || Some(format!("{place} should be {pattern} and is {value}"));
    match (pattern, value) {
        (Value::String(varies), _) if varies == VARIES => None,
        (Value::String(pattern), Value::String(text)) => {
            if is_like(pattern, text) {
                None
            } else {
                differs()
            }
        }
        (Value::Array(patterns), Value::Array(values)) => {
            let has_more = patterns.len() > 1 && patterns.last() == Some(&json!(VARIES));
            let patterns = if has_more { &patterns[..patterns.len() - 1] } else { patterns.as_slice() };
            if values.len() < patterns.len() || (values.len() > patterns.len() && !has_more) {
                return differs();
            }
            let mut pairs = patterns.iter().zip(values).enumerate();
            pairs.find_map(|(index, (pattern, value))| difference(&format!("{place}/{index}"), pattern, value))
        }
        (Value::Object(patterns), Value::Object(values)) => {
            let unknown = values.keys().find(|name| !patterns.contains_key(*name));
            if let Some(unknown) = unknown.filter(|_| !patterns.contains_key(VARIES)) {
                return Some(format!("{place}/{unknown} is not in the document"));
            }
            let mut named = patterns.iter().filter(|(name, _)| *name != VARIES);
            named.find_map(|(name, pattern)| match values.get(name) {
                Some(value) => difference(&format!("{place}/{name}"), pattern, value),
                None => Some(format!("{place}/{name} is not printed")),
            })
        }
        (pattern, value) => {
            if pattern == value {
                None
            } else {
                differs()
            }
        }
    }
}

/// A comparison that lets everything pass would prove nothing.
pub fn check_itself() {
    assert!(is_like("a…c…e", "abcde") && is_like("a", "a") && is_like("…", ""));
    assert!(!is_like("a…c", "abcd") && !is_like("a", "ab") && !is_like("ab…ba", "aba"));
    let differs = |pattern: Value, value: Value| difference("", &pattern, &value).is_some();
    let shown = json!({"id": "plan_1", "steps": [1, 2], "more": 0});
    assert!(!differs(json!({"id": "plan_…", "steps": [1, "…"], "…": "…"}), shown.clone()));
    assert!(!differs(json!({"id": "…", "steps": "…", "more": 0}), shown.clone()));
    for wrong in [
        json!({"id": "run_…", "steps": [1, 2], "more": 0}),
        json!({"id": "plan_1", "steps": [1], "more": 0}),
        json!({"id": "plan_1", "steps": [2, "…"], "more": 0}),
        json!({"id": "plan_1", "steps": [1, 2]}),
        json!({"id": "plan_1", "steps": [1, 2], "more": 0, "absent": "…"}),
    ] {
        assert!(differs(wrong.clone(), shown.clone()), "{wrong}");
    }
}
