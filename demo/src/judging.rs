//! Finds out what a judge is asked for and which answers lie before him.
//!
//! Goes by wording alone: a system message that names the reply form, and answers under lines that begin with
//! `Answer 1`, `Answer 2` and so on.

use serde_json::{Value, json};

use crate::request::Message;

/// What a judge is to reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// `{"winner": k}`
    Winner,
    /// `{"scores": [..]}`
    Scores,
    /// `{"accept": b}`
    Acceptance,
    /// `{"consensus": [..], "contradictions": [..], "gaps": [..]}`
    Analysis,
}

/// Answers of this score and above are accepted.
const ACCEPTED_SCORE: u64 = 60;
/// Each form of a reply, and how a prompt names it.
const FORMS: [(&str, Verdict); 4] = [
    ("{\"winner\":", Verdict::Winner),
    ("{\"scores\":", Verdict::Scores),
    ("{\"accept\":", Verdict::Acceptance),
    ("{\"consensus\":", Verdict::Analysis),
];

/// What `messages` ask a judge for, if they ask one. System messages count first, then the last message.
pub(crate) fn verdict_asked(messages: &[Message]) -> Option<Verdict> {
    let asked = |text: &str| FORMS.iter().find(|(form, _)| text.contains(form)).map(|(_, verdict)| *verdict);
    let system = messages.iter().filter(|message| message.role == "system").find_map(|message| asked(&message.text));
    system.or_else(|| messages.last().and_then(|message| asked(&message.text)))
}

/// The answers in `text`, in the order of their numbers.
pub(crate) fn answers_in(text: &str) -> Vec<&str> {
    let mut starts = Vec::new();
    let mut offset = 0;
    for line in text.split_inclusive('\n') {
        if is_label(line, starts.len() + 1) {
            starts.push((offset, offset + line.len()));
        }
        offset += line.len();
    }
    let ends = starts.iter().skip(1).map(|(label, _)| *label).chain([text.len()]);
    starts.iter().zip(ends).map(|((_, start), end)| text[*start..end].trim()).collect()
}

fn is_label(line: &str, number: usize) -> bool {
    let rest = line.strip_prefix("Answer ").and_then(|rest| rest.strip_prefix(&number.to_string()));
    rest.is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_digit()))
}

/// The reply of a judge who values each answer by `score`, from 0 to 100; the first of the best wins.
pub(crate) fn verdict(asked: Verdict, answers: &[&str], score: impl Fn(&str) -> u64) -> Value {
    let scores: Vec<u64> = answers.iter().map(|answer| score(answer)).collect();
    match asked {
        Verdict::Scores => json!({ "scores": scores }),
        Verdict::Winner => {
            let best = scores.iter().max();
            let place = scores.iter().position(|score| Some(score) == best).unwrap_or(0);
            json!({"winner": place + 1})
        }
        Verdict::Acceptance => json!({"accept": scores.first().is_some_and(|score| *score >= ACCEPTED_SCORE)}),
        Verdict::Analysis => {
            let consensus = format!("all {} answers keep to the request", answers.len());
            json!({"consensus": [consensus], "contradictions": [], "gaps": []})
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(role: &str, text: &str) -> Message {
        Message { role: role.to_owned(), text: text.to_owned() }
    }

    #[test]
    fn the_form_of_the_reply_is_read_from_the_system_message_first() {
        let ask = |system: &str, user: &str| verdict_asked(&[message("system", system), message("user", user)]);
        assert_eq!(ask("reply {\"winner\": k}", "{\"scores\": [1]}"), Some(Verdict::Winner));
        assert_eq!(ask("reply {\"scores\": [..]}", ""), Some(Verdict::Scores));
        assert_eq!(ask("be brief", "reply {\"winner\": k}"), Some(Verdict::Winner));
        assert_eq!(ask("be brief", "hello"), None);
        assert_eq!(ask("reply {\"accept\": true} or {\"accept\": false}", ""), Some(Verdict::Acceptance));
        assert_eq!(ask("reply {\"consensus\": [\"...\"]}", ""), Some(Verdict::Analysis));
    }

    #[test]
    fn answers_are_cut_at_their_numbers_in_sequence() {
        let text = "The request:\n\nwhy\n\nAnswer 1:\n\nblue\nAnswer 3 is wrong\n\nAnswer 2:\n\nred\nAnswer 10: no\n";
        assert_eq!(answers_in(text), ["blue\nAnswer 3 is wrong", "red\nAnswer 10: no"]);
        assert!(answers_in("no labels, Answer 1").is_empty());
    }

    #[test]
    fn the_first_of_the_best_wins() {
        let by_length = |answer: &str| answer.len() as u64;
        assert_eq!(verdict(Verdict::Winner, &["a", "bbb", "ccc"], by_length), json!({"winner": 2}));
        assert_eq!(verdict(Verdict::Scores, &["a", "bbb"], by_length), json!({"scores": [1, 3]}));
        assert_eq!(verdict(Verdict::Winner, &[], by_length), json!({"winner": 1}));
    }

    #[test]
    fn an_examiner_accepts_what_scores_well_and_an_analyst_lists_points() {
        let accepts = |score: u64| verdict(Verdict::Acceptance, &["an answer"], |_| score)["accept"] == true;
        assert!(accepts(60) && !accepts(59));
        let listed = verdict(Verdict::Analysis, &["a", "b"], |_| 0);
        assert_eq!(listed["consensus"][0], "all 2 answers keep to the request");
        assert_eq!((&listed["contradictions"], &listed["gaps"]), (&json!([]), &json!([])));
    }
}
