//! Three demo models with canned answers, so that a hub without any provider can show what it does.
//!
//! The answers say that they are scripted. They quote the request, so that one can see which prompt reached the model,
//! and they play every part of an orchestration: planner, critic, reviser, refiner, judge, examiner and analyst, told
//! apart by the wording of the system message. The same request always gets the same answer.

use crate::judging::{Verdict, answers_in, verdict, verdict_asked};
use crate::reply::Reply;
use crate::request::Message;

/// A demo model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DemoModel {
    /// Its name.
    pub id: &'static str,
    /// Its window.
    pub context_tokens: u64,
    manner: Manner,
}

/// The demo models.
pub const DEMO_MODELS: [DemoModel; 3] = [
    DemoModel { id: "demo/concise", context_tokens: 32_768, manner: Manner::Concise },
    DemoModel { id: "demo/thorough", context_tokens: 32_768, manner: Manner::Thorough },
    DemoModel { id: "demo/skeptic", context_tokens: 32_768, manner: Manner::Skeptic },
];

/// Pause between the words of a stream: fast enough to read along, slow enough to see.
const WORD_GAP_MS: u64 = 15;
/// Characters of a request that an answer quotes.
const QUOTED_CHARS: usize = 160;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    Concise,
    Thorough,
    Skeptic,
}

/// The part that a request asks a model to play.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Answer,
    Planner,
    Critic,
    Reviser,
    Refiner,
}

/// What the model named `model` replies to `messages`.
pub(crate) fn reply(model: &str, messages: &[Message]) -> Reply {
    match words(model, messages) {
        Some(text) => Reply::text(text).gap_ms(WORD_GAP_MS),
        None => Reply::error(404, "model_not_found", &format!("the demo provider has no model {model}")),
    }
}

/// The words of the model named `model`, if there is one.
pub(crate) fn words(model: &str, messages: &[Message]) -> Option<String> {
    let model = DEMO_MODELS.iter().find(|known| known.id == model)?;
    let last = messages.last().map_or("", |message| message.text.as_str());
    Some(match verdict_asked(messages) {
        Some(asked) => judge(model.manner, asked, last),
        None => speak(*model, part_in(messages), &quotation(asked_in(messages))),
    })
}

fn judge(manner: Manner, asked: Verdict, text: &str) -> String {
    let length_points = |answer: &str| answer.chars().count().min(1_000) as u64 / 20;
    verdict(asked, &answers_in(text), |answer| match manner {
        Manner::Concise => 90 - length_points(answer),
        Manner::Thorough => 40 + length_points(answer),
        // Prefers whoever names a doubt.
        Manner::Skeptic if answer.contains("doubt") || answer.contains("risk") => 80,
        Manner::Skeptic => 55,
    })
    .to_string()
}

fn part_in(messages: &[Message]) -> Part {
    let system: String = messages.iter().filter(|message| message.role == "system").map(|m| m.text.as_str()).collect();
    let system = system.to_ascii_lowercase();
    if system.contains("critical reviewer") {
        Part::Critic
    } else if system.contains("planning assistant") && system.contains("critique") {
        Part::Reviser
    } else if system.contains("planning assistant") {
        Part::Planner
    } else if system.contains("improved answer") {
        Part::Refiner
    } else {
        Part::Answer
    }
}

/// The caller's own words: the first user message, without the heading under which a reviewer gets it.
fn asked_in(messages: &[Message]) -> &str {
    let user = messages.iter().find(|message| message.role == "user").or(messages.last());
    let text = user.map_or("", |message| message.text.as_str());
    text.strip_prefix("The request:\n\n").unwrap_or(text)
}

fn quotation(text: &str) -> String {
    let line = text.lines().find(|line| !line.trim().is_empty()).unwrap_or("").trim();
    match line.char_indices().nth(QUOTED_CHARS) {
        Some((end, _)) => format!("\u{201c}{}\u{2026}\u{201d}", &line[..end]),
        None => format!("\u{201c}{line}\u{201d}"),
    }
}

fn speak(model: DemoModel, part: Part, quote: &str) -> String {
    let body = match (part, model.manner) {
        (Part::Answer, Manner::Concise) => {
            format!("In short, about {quote}: start with the simplest thing that works.")
        }
        (Part::Answer, Manner::Thorough) => format!(
            "You asked {quote}. First, say what a good result looks like. Second, take the smallest step towards it and \
             look at what happens. Third, keep what worked and write down why. Fourth, repeat until the result is reached."
        ),
        (Part::Answer, Manner::Skeptic) => format!(
            "Before answering {quote}, one doubt: is this the right question? If it is, test the riskiest assumption first."
        ),
        (Part::Planner, _) => format!(
            "Plan for {quote}:\n1. State the goal and how to measure it.\n2. List assumptions and risks.\n3. Build the \
             smallest version.\n4. Measure, then decide how to go on."
        ),
        (Part::Critic, _) => format!(
            "Critique of the plan for {quote}:\n- It names no owner for each step; name one.\n- It has no way back when \
             step 3 fails; add one.\n- The measure of success is vague; give a number."
        ),
        (Part::Reviser, _) => format!(
            "Revised plan for {quote}:\n1. State the goal as a number.\n2. List assumptions and risks, each with an \
             owner.\n3. Build the smallest version behind a switch that turns it off.\n4. Measure against the number and \
             decide."
        ),
        (Part::Refiner, _) => format!(
            "Improved answer to {quote}: start with the simplest thing that works, measure it against a number named \
             beforehand, and change one thing at a time."
        ),
    };
    format!("[{}, a scripted demo model] {body}", model.id)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::reply::Content;

    fn message(role: &str, text: &str) -> Message {
        Message { role: role.to_owned(), text: text.to_owned() }
    }

    fn text(model: &str, messages: &[Message]) -> String {
        let Content::Text(text) = reply(model, messages).content else { panic!("a reply without text") };
        text
    }

    #[test]
    fn every_model_answers_differently_and_quotes_the_request() {
        let asked = [message("user", "How do I sort a list?")];
        let answers: Vec<String> = DEMO_MODELS.iter().map(|model| text(model.id, &asked)).collect();
        for (model, answer) in DEMO_MODELS.iter().zip(&answers) {
            assert!(answer.contains("How do I sort a list?") && answer.contains(model.id), "{answer}");
            assert_eq!(*answer, text(model.id, &asked));
        }
        assert!(answers[0] != answers[1] && answers[1] != answers[2]);
    }

    #[test]
    fn a_judge_gives_a_verdict_and_a_score_for_each_answer() {
        let answers = "The request:\n\nq\n\nAnswer 1:\n\nshort\n\nAnswer 2:\n\na much longer answer with a risk";
        for model in DEMO_MODELS {
            let ask = |form: &str| {
                let messages = [message("system", form), message("user", answers)];
                serde_json::from_str::<Value>(&text(model.id, &messages)).unwrap()
            };
            let winner = ask("Reply ONLY with {\"winner\": k}")["winner"].as_u64().unwrap();
            assert!((1..=2).contains(&winner));
            let scores = ask("Reply ONLY with {\"scores\": [s1, s2]}");
            let scores = scores["scores"].as_array().unwrap();
            assert_eq!(scores.len(), 2);
            assert!(scores.iter().all(|score| score.as_u64().unwrap() <= 100));
        }
        let winner = |model| text(model, &[message("system", "{\"winner\": k}"), message("user", answers)]);
        assert_eq!(winner("demo/concise"), r#"{"winner":1}"#);
        assert_eq!(winner("demo/skeptic"), r#"{"winner":2}"#);
    }

    #[test]
    fn each_part_of_an_orchestration_has_its_own_reply() {
        let play =
            |system: &str, user: &str| text("demo/thorough", &[message("system", system), message("user", user)]);
        assert!(play("You are a planning assistant.", "build it").contains("Plan for \u{201c}build it\u{201d}"));
        let critique = play("You are a critical reviewer.", "The request:\n\nbuild it\n\nThe proposed plan:\n\nx");
        assert!(critique.contains("Critique of the plan for \u{201c}build it\u{201d}"), "{critique}");
        assert!(play("You are a planning assistant. You get a critique.", "build it").contains("Revised plan"));
        assert!(play("write an improved answer", "build it").contains("Improved answer"));
    }

    #[test]
    fn an_unknown_model_is_refused() {
        assert_eq!(reply("gpt-9", &[]).status, 404);
    }
}
