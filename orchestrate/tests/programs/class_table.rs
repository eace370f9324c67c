//! What a scripted run does after a failure.

use tokenhub_domain::{ClassifyRequest, ErrorClass, NextMove};

/// A class table small enough to see through: transient failures are tried three times, a rate limit waits for its hint.
pub(crate) fn class_table(request: &ClassifyRequest) -> NextMove {
    let next =
        || request.untried.first().map_or(NextMove::Stop, |it| NextMove::Next { deployment: it.deployment.clone() });
    let delay_ms = request.failure.retry_after_ms.unwrap_or(500);
    match request.failure.class {
        ErrorClass::ServerError | ErrorClass::RateLimited | ErrorClass::Overloaded | ErrorClass::Transport
            if request.tries < 3 && delay_ms < request.time_left_ms =>
        {
            NextMove::Retry { delay_ms }
        }
        ErrorClass::ContextTooLong if request.tries == 1 => NextMove::Shrink { max_output_tokens: 100 },
        ErrorClass::BadRequest | ErrorClass::ContentFiltered | ErrorClass::Cancelled => NextMove::Stop,
        ErrorClass::RateLimited
        | ErrorClass::QuotaExhausted
        | ErrorClass::Overloaded
        | ErrorClass::ServerError
        | ErrorClass::Transport
        | ErrorClass::StreamBroken
        | ErrorClass::FirstTokenTimeout
        | ErrorClass::StepDeadline
        | ErrorClass::AuthFailed
        | ErrorClass::ContextTooLong
        | ErrorClass::BadOutput
        | ErrorClass::ResultTooLarge
        | ErrorClass::BudgetExhausted => next(),
    }
}
