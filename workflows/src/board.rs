//! The table of a run's steps that the Temporal UI shows, also while the run is under way.
//!
//! Owns its form and its size. It is made of ids, models, counts and costs: no word of a prompt or of an answer comes
//! here. It follows from the outcomes of steps alone, so a replay makes the same one, and it is no command.

use std::fmt::Write as _;

use tokenhub_domain::{NanoDollars, SendOutcome, SendRequest, StepError, StepId, TokenUsage};

/// Rows that are shown; the latest ones.
const ROWS_MAX: usize = 40;

enum State {
    Running,
    Answered,
    Kept,
    Failed(&'static str),
}

struct Row {
    step: StepId,
    role: &'static str,
    account: String,
    model: String,
    tries: u32,
    state: State,
    usage: TokenUsage,
    cost: NanoDollars,
}

/// What is known of the steps, in the order in which they were asked for.
#[derive(Default)]
pub(crate) struct Board {
    rows: Vec<Row>,
    waits: bool,
}

/// Which row a call belongs to.
#[derive(Clone, Copy)]
pub(crate) struct Place(usize);

impl Board {
    /// A call is asked for. Further tries of a step at the same deployment share a row.
    pub(crate) fn began(&mut self, request: &SendRequest) -> Place {
        let SendRequest { step, deployment, role, try_number, .. } = request;
        let (account, model) = (deployment.account(), deployment.model.to_string());
        let is_same = |row: &Row| row.step == *step && row.account == account && row.model == model;
        if let Some(index) = self.rows.iter().position(is_same) {
            let row = &mut self.rows[index];
            (row.tries, row.state) = (*try_number, State::Running);
            return Place(index);
        }
        self.rows.push(Row {
            step: step.clone(),
            role: role.as_str(),
            account,
            model,
            tries: *try_number,
            state: State::Running,
            usage: TokenUsage::default(),
            cost: NanoDollars::default(),
        });
        Place(self.rows.len() - 1)
    }

    /// It has ended.
    pub(crate) fn ended(&mut self, Place(index): Place, result: &Result<SendOutcome, StepError>) {
        let Some(row) = self.rows.get_mut(index) else { return };
        row.state = match result {
            Ok(SendOutcome::Answered(reply)) => {
                (row.usage, row.cost) = (reply.usage, reply.cost);
                if reply.is_kept { State::Kept } else { State::Answered }
            }
            Ok(SendOutcome::Failed { failure, .. }) => State::Failed(failure.class.as_str()),
            Err(StepError::Cancelled) => State::Failed("cancelled"),
            Err(StepError::TimedOut) => State::Failed("timed_out"),
            Err(StepError::Unavailable(_)) => State::Failed("unavailable"),
        };
    }

    /// Whether the run waits for a decision.
    pub(crate) fn waits(&mut self, waits: bool) {
        self.waits = waits;
    }

    /// The table, in Markdown.
    pub(crate) fn render(&self) -> String {
        let mut text = String::with_capacity(96 * (2 + self.rows.len().min(ROWS_MAX)));
        if self.waits {
            text.push_str("Waiting for a decision.\n\n");
        }
        text.push_str("| step | role | model | state | tokens | cost |\n|---|---|---|---|---|---|\n");
        let left_out = self.rows.len().saturating_sub(ROWS_MAX);
        for row in &self.rows[left_out..] {
            let state = match row.state {
                State::Running => "running",
                State::Answered => "answered",
                State::Kept => "kept",
                State::Failed(class) => class,
            };
            let tries = if row.tries > 1 { format!(", try {}", row.tries) } else { String::new() };
            let TokenUsage { input_tokens, output_tokens } = row.usage;
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "| {} | {} | {} | {state}{tries} | {input_tokens} + {output_tokens} | ${:.6} |",
                plain(row.step.as_str()),
                row.role,
                plain(&row.model),
                row.cost.as_usd(),
            );
        }
        if left_out > 0 {
            let _ = writeln!(text, "\n{left_out} earlier steps are left out.");
        }
        text
    }
}

/// `text` as it may stand in a cell.
fn plain(text: &str) -> String {
    text.replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tokenhub_domain::{ErrorClass, ProviderFailure};

    use super::*;

    fn request(step: &str, model: &str, try_number: u32) -> SendRequest {
        serde_json::from_value(json!({"step": step, "role": "voter", "try_number": try_number, "dialect": "chat",
            "deployment": {"model": model, "provider": "p"}, "prompt": {"original": {"inline": "canary"}},
            "form": "text", "timeout_ms": 1_000}))
        .unwrap()
    }

    fn answer() -> SendOutcome {
        let reply = json!({"attempt": "a", "content": {"inline": "canary"}, "usage": {"input_tokens": 7, "output_tokens": 5},
            "cost": 1_500_000, "latency_ms": 3});
        SendOutcome::Answered(serde_json::from_value(reply).unwrap())
    }

    #[test]
    fn a_step_has_a_row_for_each_deployment_with_what_became_of_it_and_no_text() {
        let mut board = Board::default();
        let first = board.began(&request("ballot/1", "a|b", 1));
        let failure = ProviderFailure::of(ErrorClass::RateLimited, "canary");
        board.ended(first, &Ok(SendOutcome::Failed { failure, duplicate_calls: 0, latency_ms: 0, wasted_tokens: 0 }));
        assert!(board.render().contains("| ballot/1 | voter | a\\|b | rate_limited | 0 + 0 | $0.000000 |\n"));
        let again = board.began(&request("ballot/1", "a|b", 2));
        board.ended(again, &Ok(answer()));
        board.began(&request("ballot/1", "c", 1));
        let text = board.render();
        assert!(text.contains("| ballot/1 | voter | a\\|b | answered, try 2 | 7 + 5 | $0.001500 |\n"), "{text}");
        assert!(text.contains("| ballot/1 | voter | c | running | 0 + 0 | $0.000000 |\n"), "{text}");
        assert!(!text.contains("canary"), "{text}");
    }

    #[test]
    fn a_long_run_shows_its_latest_steps_and_says_how_many_are_left_out() {
        let mut board = Board::default();
        for number in 0..ROWS_MAX + 3 {
            board.began(&request(&format!("ballot/{number}"), "m", 1));
        }
        let text = board.render();
        assert!(!text.contains("ballot/2 ") && text.contains("ballot/3 "), "{text}");
        assert!(text.ends_with("\n3 earlier steps are left out.\n"));
        assert!(text.len() < 4_096, "{}", text.len());
    }
}
