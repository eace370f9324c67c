//! Reading a judge: what counts as a verdict and what does not.
//!
//! Owns the reply forms, `{"winner": k}`, `{"scores": [..]}`, `{"accept": b}` and the lists of an analysis. A reply is JSON, alone, fenced or as the only JSON
//! object in a text; a winner may also be a bare number. A number somewhere in a sentence is not a verdict: "2 is better
//! than 3" and "I pick 1 (3/10)" would each be read two ways.

use serde_json::{Map, Value};
use tokenhub_domain::Analysis;

/// The best score a judge may give.
const SCORE_MAX: u64 = 100;
/// Points of one list of an analysis, and the length of each: a writer reads no more.
const POINTS_MAX: usize = 32;
const POINT_CHARS_MAX: usize = 1_000;

/// The winner as an index into the list shown to the judge.
pub(crate) fn winner(reply: &str, answers: usize) -> Option<usize> {
    let number = strict_number(reply).or_else(|| {
        let object = only_object(reply)?;
        match object.get("winner")? {
            Value::Number(number) => number.as_u64(),
            Value::String(text) => strict_number(text),
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
        }
    })?;
    let index = usize::try_from(number).ok()?.checked_sub(1)?;
    (index < answers).then_some(index)
}

/// The scores, one for each answer shown to the judge.
pub(crate) fn scores(reply: &str, answers: usize) -> Option<Vec<u32>> {
    let object = only_object(reply)?;
    let listed = object.get("scores")?.as_array()?;
    if listed.len() != answers {
        return None;
    }
    listed.iter().map(score).collect()
}

/// Whether an answer will do.
pub(crate) fn acceptance(reply: &str) -> Option<bool> {
    only_object(reply)?.get("accept")?.as_bool()
}

/// What several answers agree on, contradict each other in and lack. Each list is bounded: it goes into a prompt.
pub(crate) fn analysis(reply: &str) -> Option<Analysis> {
    let object = only_object(reply)?;
    let list = |name: &str| -> Option<Vec<String>> {
        let points = object.get(name)?.as_array()?.iter();
        points.take(POINTS_MAX).map(|point| Some(point.as_str()?.chars().take(POINT_CHARS_MAX).collect())).collect()
    };
    Some(Analysis { consensus: list("consensus")?, contradictions: list("contradictions")?, gaps: list("gaps")? })
}

fn score(value: &Value) -> Option<u32> {
    let whole = value.as_u64().filter(|score| *score <= SCORE_MAX)?;
    u32::try_from(whole).ok()
}

/// The number that is the whole reply, a final full stop apart.
fn strict_number(reply: &str) -> Option<u64> {
    let trimmed = reply.trim();
    let digits = trimmed.strip_suffix('.').unwrap_or(trimmed);
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| digits.parse().ok()).flatten()
}

/// The only JSON object in `reply`, fences and words around it apart; `None` when there is none or more than one.
pub(crate) fn only_object(reply: &str) -> Option<Map<String, Value>> {
    let mut found = None;
    let mut rest = reply;
    while let Some(start) = rest.find('{') {
        let candidate = &rest[start..];
        let mut values = serde_json::Deserializer::from_str(candidate).into_iter::<Map<String, Value>>();
        if let Some(Ok(object)) = values.next() {
            if found.is_some() {
                return None;
            }
            found = Some(object);
            rest = &candidate[values.byte_offset()..];
        } else {
            rest = &candidate[1..];
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_and_strict_numbers_are_verdicts() {
        for reply in [
            r#"{"winner": 2}"#,
            r#" {"winner":"2", "reason":"{clear}"} "#,
            "```json\n{\"winner\": 2}\n```",
            "The best one is:\n{\"winner\": 2}\nbecause of its {clarity}.",
            "2",
            " 2.\n",
        ] {
            assert_eq!(winner(reply, 3), Some(1), "{reply:?}");
        }
    }

    #[test]
    fn prose_several_objects_and_numbers_out_of_range_are_not() {
        for reply in [
            "Response 2 is better than response 3",
            "I pick 1 (score 3/10)",
            "Answer 2",
            "2 or 3",
            "2.5",
            "-1",
            "",
            ".",
            r#"{"winner": 1} or rather {"winner": 2}"#,
            r#"{"winner": 0}"#,
            r#"{"winner": 4}"#,
            r#"{"winner": 2.5}"#,
            r#"{"winner": [2]}"#,
            r#"{"best": 2}"#,
            "0",
            "4",
            "99999999999999999999999",
            "{\"winner\": 2",
        ] {
            assert_eq!(winner(reply, 3), None, "{reply:?}");
        }
    }

    #[test]
    fn scores_are_one_whole_number_for_each_answer() {
        assert_eq!(scores(r#"{"scores": [0, 100, 55]}"#, 3), Some(vec![0, 100, 55]));
        assert_eq!(scores("```\n{\"scores\":[1,2]}\n```", 2), Some(vec![1, 2]));
        for reply in [
            r#"{"scores": [1, 2]}"#,
            r#"{"scores": [1, 2, 3, 4]}"#,
            r#"{"scores": [1, 2, 101]}"#,
            r#"{"scores": [1, 2, -3]}"#,
            r#"{"scores": [1, 2, "3"]}"#,
            r#"{"scores": [1, 2, 3.5]}"#,
            r#"{"scores": 3}"#,
            "1, 2, 3",
            "[1, 2, 3]",
        ] {
            assert_eq!(scores(reply, 3), None, "{reply:?}");
        }
    }

    #[test]
    fn acceptance_is_a_yes_or_no_and_an_analysis_has_all_three_lists() {
        assert_eq!(acceptance("Well: {\"accept\": false, \"why\": \"wrong\"}"), Some(false));
        assert_eq!(acceptance(r#"{"accept": "yes"}"#), None);
        let read = analysis(r#"{"consensus": ["a"], "contradictions": [], "gaps": ["b", "c"]}"#).unwrap();
        assert_eq!((read.consensus.len(), read.contradictions.len(), read.gaps.len()), (1, 0, 2));
        assert_eq!(analysis(r#"{"consensus": ["a"], "gaps": []}"#), None);
        assert_eq!(analysis(r#"{"consensus": [1], "contradictions": [], "gaps": []}"#), None);
    }

    #[test]
    fn hostile_nesting_is_no_verdict_and_no_stack_overflow() {
        assert_eq!(winner(&"{\"a\":".repeat(3_000), 3), None);
        assert_eq!(winner(&"{".repeat(16_000), 3), None);
    }
}
