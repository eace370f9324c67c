//! When two answers are the same answer.
//!
//! Owns the table of a majority vote: case, spaces, compatibility forms of Unicode, `1,000` and `1000`, `0.50` and `.5`,
//! boxed LaTeX, "the answer is", a JSON field `answer`, yes and no in their usual forms. Nothing left is an abstention.

use serde_json::Value;
use unicode_normalization::UnicodeNormalization;

use crate::verdict;

/// What introduces the answer proper; the last occurrence counts.
const INTRODUCTIONS: [&str; 5] = ["the final answer is", "the answer is", "final answer:", "answer is:", "answer:"];
const YES: [&str; 7] = ["yes", "y", "yeah", "yep", "true", "correct", "affirmative"];
const NO: [&str; 7] = ["no", "n", "nope", "nah", "false", "incorrect", "negative"];
/// Marks around an answer that carry no meaning. No full stop at the front: `.5` is a number.
const LEADING_MARKS: [char; 10] = ['*', '_', '`', '"', '\'', '$', '#', ':', '\u{201c}', '\u{2018}'];
const TRAILING_MARKS: [char; 13] = ['*', '_', '`', '"', '\'', '$', '.', '!', ',', ';', ':', '\u{201d}', '\u{2019}'];

/// The form under which `text` is counted; `None` is an abstention.
pub(crate) fn normalise(text: &str) -> Option<String> {
    let composed: String = text.nfkc().collect();
    let field = json_answer(&composed);
    let told = field.as_deref().unwrap_or(&composed);
    let said = boxed(told).map_or_else(|| introduced(&told.to_lowercase()).to_owned(), str::to_lowercase);
    let bare = unmarked(&said);
    let spaced = bare.split_whitespace().collect::<Vec<_>>().join(" ");
    if spaced.is_empty() {
        return None;
    }
    Some(number(&spaced).unwrap_or_else(|| synonym(spaced)))
}

/// The field `answer` of a reply that is, or contains only, one JSON object.
fn json_answer(text: &str) -> Option<String> {
    match verdict::only_object(text)?.get("answer")? {
        Value::String(answer) => Some(answer.clone()),
        Value::Number(answer) => Some(answer.to_string()),
        Value::Bool(answer) => Some(answer.to_string()),
        Value::Null => Some(String::new()),
        Value::Array(_) | Value::Object(_) => None,
    }
}

/// The content of the last `\boxed{…}`, braces inside it balanced.
fn boxed(text: &str) -> Option<&str> {
    const COMMAND: &str = "\\boxed{";
    let content = &text[text.rfind(COMMAND)? + COMMAND.len()..];
    let mut depth = 1_u32;
    for (at, character) in content.char_indices() {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(&content[..at]);
        }
    }
    None
}

/// What follows the last introduction, to the end of its sentence; the whole text without one.
fn introduced(lower: &str) -> &str {
    let found = INTRODUCTIONS
        .iter()
        .filter_map(|introduction| lower.rfind(introduction).map(|at| at + introduction.len()))
        .max();
    let Some(start) = found else { return lower };
    let rest = lower[start..].trim_start();
    let line = rest.split('\n').next().unwrap_or(rest);
    line.find(". ").map_or(line, |end| &line[..end])
}

fn unmarked(text: &str) -> &str {
    let trimmed = text
        .trim_matches(char::is_whitespace)
        .trim_start_matches(|it: char| LEADING_MARKS.contains(&it) || it.is_whitespace())
        .trim_end_matches(|it: char| TRAILING_MARKS.contains(&it) || it.is_whitespace());
    let inner = trimmed.strip_prefix('(').and_then(|rest| rest.strip_suffix(')'));
    inner.filter(|rest| !rest.contains(['(', ')'])).unwrap_or(trimmed)
}

/// The shortest form of a decimal number; `None` when `text` is not one.
fn number(text: &str) -> Option<String> {
    let (sign, unsigned) = match text.strip_prefix(['-', '\u{2212}']) {
        Some(rest) => ("-", rest),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
    let whole = ungrouped(whole)?;
    let is_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if !is_digits(&whole) || !is_digits(fraction) || (whole.is_empty() && fraction.is_empty()) {
        return None;
    }
    let (whole, fraction) = (whole.trim_start_matches('0'), fraction.trim_end_matches('0'));
    let whole = if whole.is_empty() { "0" } else { whole };
    Some(match (whole, fraction) {
        ("0", "") => "0".to_owned(),
        (whole, "") => format!("{sign}{whole}"),
        (whole, fraction) => format!("{sign}{whole}.{fraction}"),
    })
}

/// `text` without its thousands separators; `None` when they stand in odd places.
fn ungrouped(text: &str) -> Option<String> {
    let mut groups = text.split(',');
    let first = groups.next()?;
    let rest: Vec<&str> = groups.collect();
    let is_grouped = (1..=3).contains(&first.len()) && rest.iter().all(|group| group.len() == 3);
    (rest.is_empty() || is_grouped).then(|| format!("{first}{}", rest.concat()))
}

fn synonym(text: String) -> String {
    if YES.contains(&text.as_str()) {
        "yes".to_owned()
    } else if NO.contains(&text.as_str()) {
        "no".to_owned()
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_equal_answers() {
        for (canonical, forms) in [
            (
                "paris",
                vec!["Paris", "  PARIS \n", "paris.", "**Paris**", "\"Paris\"", "(Paris)", "The answer is Paris."],
            ),
            ("new york", vec!["New   York", "new\nyork", "New\u{a0}York!"]),
            (
                "1000",
                vec!["1,000", "1000", "1000.0", "+1,000.", "$1,000$", "\u{ff11}\u{ff10}\u{ff10}\u{ff10}", "01000"],
            ),
            ("0.5", vec!["0.50", ".5", "0.5", "00.500", r"\boxed{.5}", r#"{"answer": 0.5}"#]),
            ("-3", vec!["-3", "\u{2212}3.0", "The answer is -3"]),
            ("0", vec!["0", "-0", "0.00", ".0"]),
            (
                "42",
                vec![
                    r"Thus $\boxed{42}$.",
                    r"\boxed{1} is wrong, \boxed{42} right",
                    "{\"answer\": \"42\"}",
                    "```json\n{\"answer\": 42, \"why\": \"x\"}\n```",
                    "Six times seven, so the answer is 42. Hope that helps!",
                    "Final answer: 42",
                    "The answer is: 42",
                    "answer:\n42",
                ],
            ),
            ("yes", vec!["Yes", "y", "TRUE", "yep!", "correct", r#"{"answer": true}"#, "The answer is yes."]),
            ("no", vec!["No.", "n", "false", "nope", "incorrect", r#"{"answer": false}"#]),
            ("\\frac{1}{2}", vec![r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"]),
            ("1,00", vec!["1,00"]),
            ("file", vec!["\u{fb01}le", "FILE"]),
        ] {
            for form in forms {
                assert_eq!(normalise(form).as_deref(), Some(canonical), "{form:?}");
            }
        }
    }

    #[test]
    fn nothing_is_an_abstention() {
        for empty in ["", " \n\t", "...", "\"\"", "**", r#"{"answer": ""}"#, r#"{"answer": null}"#, r"\boxed{}"] {
            assert_eq!(normalise(empty), None, "{empty:?}");
        }
    }

    #[test]
    fn different_answers_stay_different() {
        let forms =
            ["1", "10", "100", "-1", "0.1", "1.01", "yes", "no", "yesterday", "a b", "ab", "1 000", "f(x)", "x"];
        for (index, left) in forms.iter().enumerate() {
            for right in &forms[index + 1..] {
                assert_ne!(normalise(left), normalise(right), "{left:?} {right:?}");
            }
        }
    }
}
