//! The page behind an approval link, as text. Everything that did not come from this file is escaped.

use tokenhub_domain::{Answer, Outcome, answer_text};
use tokenhub_store::{ApprovalRow, RunRow};

use crate::render::time;

/// The question, with a button for each decision. The forms post to the page's own address, which has the token.
pub(super) fn question(row: &RunRow, question: &ApprovalRow, outcome: &Outcome) -> String {
    let expires_at = time(question.expires_at).unwrap_or_default();
    let (run, kind, answer) = (escaped(row.run_id.as_str()), row.kind.as_str(), escaped(&answer_of(outcome)));
    let button = |value: &str, label: &str| {
        format!(
            "<form method=\"post\"><button type=\"submit\" name=\"decision\" value=\"{value}\">{label}</button></form>"
        )
    };
    let buttons = [button("approve", "Approve"), button("reject", "Reject")].join("\n");
    document(&format!(
        "<h1>Approve this answer?</h1>\n<p>Plan <code>{run}</code> ({kind}) waits for a decision until {expires_at}.</p>\n\
         <pre>{answer}</pre>\n{buttons}"
    ))
}

/// One sentence.
pub(super) fn notice(sentence: &str) -> String {
    document(&format!("<p>{}</p>", escaped(sentence)))
}

fn document(body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\"><meta name=\"robots\" content=\"noindex\">\
         <title>TokenHub</title></head>\n<body>\n{body}\n</body>\n</html>\n"
    )
}

/// The text that would go out.
fn answer_of(outcome: &Outcome) -> String {
    let answer = outcome.answer.as_ref();
    let text = answer.and_then(Answer::main_text).and_then(|text| text.as_inline()).unwrap_or_default();
    match answer {
        Some(Answer::Chat { .. }) => {
            serde_json::from_str(text).map_or_else(|_| text.to_owned(), |body| answer_text(&body))
        }
        Some(
            Answer::Adversarial(_)
            | Answer::Vote(_)
            | Answer::Refine(_)
            | Answer::BestOfN(_)
            | Answer::Cascade(_)
            | Answer::Fuse(_),
        )
        | None => text.to_owned(),
    }
}

fn escaped(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut escaped, one| {
        match one {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
        escaped
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_text_is_read_as_a_page() {
        let shown = notice("<script>alert('\"x\" & y')</script>");
        assert!(shown.contains("&lt;script&gt;alert(&#39;&quot;x&quot; &amp; y&#39;)&lt;/script&gt;"), "{shown}");
        assert!(!shown.contains("<script"), "{shown}");
    }
}
