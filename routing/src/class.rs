//! The class table: what follows a failed call, for every class of failure.
//!
//! The only retry policy of the product; HTTP clients and executors retry nothing. Waits and limits are computed here
//! and carried out by the caller. A provider's Retry-After is a floor for every wait.
//!
//! | class | same deployment | then |
//! |---|---|---|
//! | rate limited | 2 more tries after the hint (backoff without one), if the wait fits | next |
//! | overloaded, server error, transport | 2 more tries, backoff and jitter | next |
//! | stream broken | 1 more try | next |
//! | quota exhausted, auth failed | no | next credential of the provider, then next |
//! | first token timeout, step deadline | no | next |
//! | context too long | once with a smaller output limit, where the input fits | larger window only |
//! | bad request, content filtered, bad output, result too large, budget exhausted, cancelled | no | stop |

use tokenhub_domain::{Candidate, ClassifyRequest, Deployment, ErrorClass, NextMove};

/// Tries at one deployment after a failure that passes by itself: the first and two more.
const TRIES_TRANSIENT: u32 = 3;
/// Tries at one deployment when answers break off: each may have been paid for.
const TRIES_BROKEN_STREAM: u32 = 2;
/// The wait before the second try; it doubles with each further one.
const BACKOFF_MS: u64 = 500;
/// Output tokens below which a shortened answer is not worth a call.
const OUTPUT_TOKENS_MIN: u64 = 64;
/// Tokens left free for what the estimate misses: message framing and the tokenizer's own view.
const WINDOW_MARGIN_TOKENS: u64 = 256;

/// A share of the jitter range, drawn by the caller, because this crate has no random source.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Jitter(f64);

impl Jitter {
    /// No jitter, for tests and for callers that run alone.
    pub const NONE: Self = Self(0.0);

    /// `share` of the range, held to 0..=1; not a number counts as 0.
    pub fn new(share: f64) -> Self {
        Self(if share.is_nan() { 0.0 } else { share.clamp(0.0, 1.0) })
    }

    /// `wait_ms` and up to half of it more.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a backoff is a few seconds; its fraction of a millisecond does not matter"
    )]
    fn added_to(self, wait_ms: u64) -> u64 {
        wait_ms + (wait_ms as f64 * 0.5 * self.0) as u64
    }
}

/// What to do after the failed try that `request` describes.
pub fn next_move(request: &ClassifyRequest, jitter: Jitter) -> NextMove {
    match request.failure.class {
        ErrorClass::RateLimited | ErrorClass::Overloaded | ErrorClass::ServerError | ErrorClass::Transport => {
            retry_then_next(request, jitter, TRIES_TRANSIENT)
        }
        ErrorClass::StreamBroken => retry_then_next(request, jitter, TRIES_BROKEN_STREAM),
        ErrorClass::QuotaExhausted | ErrorClass::AuthFailed => next_credential(request),
        ErrorClass::FirstTokenTimeout | ErrorClass::StepDeadline => next_where(request, |_| true),
        ErrorClass::ContextTooLong => shrink_or_larger(request),
        ErrorClass::BadRequest
        | ErrorClass::ContentFiltered
        | ErrorClass::BadOutput
        | ErrorClass::ResultTooLarge
        | ErrorClass::BudgetExhausted
        | ErrorClass::Cancelled => NextMove::Stop,
    }
}

fn retry_then_next(request: &ClassifyRequest, jitter: Jitter, tries_max: u32) -> NextMove {
    let delay_ms = wait_ms(request, jitter);
    if request.tries < tries_max && delay_ms < request.time_left_ms {
        return NextMove::Retry { delay_ms };
    }
    next_where(request, |_| true)
}

/// A rate limit with a hint waits for the hint; everything else backs off, and a hint only lengthens that.
fn wait_ms(request: &ClassifyRequest, jitter: Jitter) -> u64 {
    let doublings = request.tries.saturating_sub(1).min(16);
    let backoff_ms = jitter.added_to(BACKOFF_MS << doublings);
    match (request.failure.class, request.failure.retry_after_ms) {
        (ErrorClass::RateLimited, Some(hint_ms)) => hint_ms,
        (_, Some(hint_ms)) => backoff_ms.max(hint_ms),
        (_, None) => backoff_ms,
    }
}

/// The account is what failed: another one of the same provider first, then another provider, then other models.
fn next_credential(request: &ClassifyRequest) -> NextMove {
    let Deployment { model, provider, credential } = &request.failed.deployment;
    let is_spent = |it: &Deployment| &it.provider == provider && &it.credential == credential;
    let is_beside = |it: &Deployment| &it.provider == provider && &it.credential != credential && &it.model == model;
    match next_where(request, |candidate| is_beside(&candidate.deployment)) {
        NextMove::Stop => {}
        found @ (NextMove::Retry { .. } | NextMove::Shrink { .. } | NextMove::Next { .. }) => return found,
    }
    match next_where(request, |candidate| !is_spent(&candidate.deployment)) {
        NextMove::Stop => next_where(request, |_| true),
        found @ (NextMove::Retry { .. } | NextMove::Shrink { .. } | NextMove::Next { .. }) => found,
    }
}

fn shrink_or_larger(request: &ClassifyRequest) -> NextMove {
    let Some(window) = request.failed.max_context_tokens else {
        let needed = request.estimated_input_tokens.saturating_mul(2);
        return next_where(request, |candidate| candidate.max_context_tokens.is_some_and(|window| window > needed));
    };
    let fits = window.saturating_sub(request.estimated_input_tokens).saturating_sub(WINDOW_MARGIN_TOKENS);
    let is_smaller = request.max_output_tokens.is_none_or(|limit| limit > fits);
    if is_smaller && fits >= OUTPUT_TOKENS_MIN && request.time_left_ms > 0 {
        return NextMove::Shrink { max_output_tokens: fits };
    }
    let is_at_least = |candidate: &Candidate, tokens: u64| candidate.max_context_tokens.is_some_and(|it| it >= tokens);
    match next_where(request, |candidate| is_at_least(candidate, window.saturating_mul(2))) {
        NextMove::Stop => next_where(request, |candidate| is_at_least(candidate, window.saturating_add(1))),
        found @ (NextMove::Retry { .. } | NextMove::Shrink { .. } | NextMove::Next { .. }) => found,
    }
}

fn next_where(request: &ClassifyRequest, suits: impl Fn(&Candidate) -> bool) -> NextMove {
    if request.time_left_ms == 0 {
        return NextMove::Stop;
    }
    request
        .untried
        .iter()
        .find(|candidate| suits(candidate))
        .map_or(NextMove::Stop, |candidate| NextMove::Next { deployment: candidate.deployment.clone() })
}

#[cfg(test)]
mod tests {
    use tokenhub_domain::{NanoDollars, ProviderFailure};

    use super::*;

    const ALL: [ErrorClass; 16] = [
        ErrorClass::RateLimited,
        ErrorClass::QuotaExhausted,
        ErrorClass::Overloaded,
        ErrorClass::ServerError,
        ErrorClass::Transport,
        ErrorClass::StreamBroken,
        ErrorClass::FirstTokenTimeout,
        ErrorClass::StepDeadline,
        ErrorClass::AuthFailed,
        ErrorClass::ContextTooLong,
        ErrorClass::BadRequest,
        ErrorClass::ContentFiltered,
        ErrorClass::BadOutput,
        ErrorClass::ResultTooLarge,
        ErrorClass::BudgetExhausted,
        ErrorClass::Cancelled,
    ];

    fn candidate(provider: &str, window: Option<u64>) -> Candidate {
        Candidate {
            deployment: Deployment::new("m", provider),
            max_context_tokens: window,
            estimated_cost: NanoDollars(0),
            weight: 5,
        }
    }

    fn failed_with(class: ErrorClass, tries: u32) -> ClassifyRequest {
        ClassifyRequest {
            step: "answer".into(),
            failure: ProviderFailure::of(class, "x"),
            tries,
            failed: candidate("a", None),
            untried: vec![candidate("b", None)],
            estimated_input_tokens: 100,
            max_output_tokens: None,
            time_left_ms: 60_000,
        }
    }

    fn to(provider: &str) -> NextMove {
        NextMove::Next { deployment: candidate(provider, None).deployment }
    }

    #[test]
    fn each_class_gets_its_tries_and_then_the_next_deployment_or_the_end() {
        for class in ALL {
            let moves: Vec<NextMove> =
                (1..=4).map(|tries| next_move(&failed_with(class, tries), Jitter::NONE)).collect();
            let retry = |delay_ms| NextMove::Retry { delay_ms };
            let expected = match class {
                ErrorClass::RateLimited | ErrorClass::Overloaded | ErrorClass::ServerError | ErrorClass::Transport => {
                    vec![retry(500), retry(1_000), to("b"), to("b")]
                }
                ErrorClass::StreamBroken => vec![retry(500), to("b"), to("b"), to("b")],
                ErrorClass::QuotaExhausted
                | ErrorClass::AuthFailed
                | ErrorClass::FirstTokenTimeout
                | ErrorClass::StepDeadline => vec![to("b"); 4],
                ErrorClass::ContextTooLong
                | ErrorClass::BadRequest
                | ErrorClass::ContentFiltered
                | ErrorClass::BadOutput
                | ErrorClass::ResultTooLarge
                | ErrorClass::BudgetExhausted
                | ErrorClass::Cancelled => vec![NextMove::Stop; 4],
            };
            assert_eq!(moves, expected, "{class:?}");
        }
    }

    #[test]
    fn without_time_or_without_anybody_left_it_stops() {
        for class in ALL {
            let late = ClassifyRequest { time_left_ms: 0, ..failed_with(class, 1) };
            assert_eq!(next_move(&late, Jitter::NONE), NextMove::Stop, "{class:?} too late");
            let alone = ClassifyRequest { untried: Vec::new(), ..failed_with(class, 3) };
            assert_eq!(next_move(&alone, Jitter::NONE), NextMove::Stop, "{class:?} alone");
        }
    }

    #[test]
    fn a_rate_limit_waits_exactly_for_its_hint_or_moves_on_when_the_hint_does_not_fit() {
        let mut request = failed_with(ErrorClass::RateLimited, 1);
        request.failure.retry_after_ms = Some(2_000);
        assert_eq!(next_move(&request, Jitter::new(1.0)), NextMove::Retry { delay_ms: 2_000 });
        request.time_left_ms = 2_000;
        assert_eq!(next_move(&request, Jitter::NONE), to("b"));
    }

    #[test]
    fn a_hint_is_a_floor_for_every_other_wait() {
        let mut request = failed_with(ErrorClass::Overloaded, 1);
        request.failure.retry_after_ms = Some(3_000);
        assert_eq!(next_move(&request, Jitter::NONE), NextMove::Retry { delay_ms: 3_000 });
        request.failure.retry_after_ms = Some(1);
        assert_eq!(next_move(&request, Jitter::NONE), NextMove::Retry { delay_ms: 500 });
    }

    #[test]
    fn jitter_lengthens_a_wait_by_at_most_half() {
        let request = failed_with(ErrorClass::ServerError, 2);
        assert_eq!(next_move(&request, Jitter::new(1.0)), NextMove::Retry { delay_ms: 1_500 });
        assert_eq!(next_move(&request, Jitter::new(7.0)), NextMove::Retry { delay_ms: 1_500 });
        assert_eq!(next_move(&request, Jitter::new(f64::NAN)), NextMove::Retry { delay_ms: 1_000 });
    }

    #[test]
    fn a_spent_credential_is_not_tried_again_while_another_provider_is_left() {
        let mut request = failed_with(ErrorClass::AuthFailed, 1);
        request.untried = vec![candidate("a", None), candidate("b", None)];
        assert_eq!(next_move(&request, Jitter::NONE), to("b"));
        request.untried = vec![candidate("a", None)];
        assert_eq!(next_move(&request, Jitter::NONE), to("a"));
    }

    #[test]
    fn after_a_spent_credential_comes_the_next_one_of_its_provider_and_then_another_provider() {
        let with = |provider: &str, credential: &str| {
            let mut it = candidate(provider, None);
            it.deployment.credential = credential.into();
            it
        };
        for class in [ErrorClass::AuthFailed, ErrorClass::QuotaExhausted, ErrorClass::RateLimited] {
            let mut request = ClassifyRequest { failed: with("a", "one"), ..failed_with(class, 3) };
            request.untried = vec![with("a", "two"), with("b", "one")];
            let two = NextMove::Next { deployment: with("a", "two").deployment };
            assert_eq!(next_move(&request, Jitter::NONE), two, "{class:?}");
        }
        let mut request = ClassifyRequest { failed: with("a", "one"), ..failed_with(ErrorClass::AuthFailed, 1) };
        request.untried = vec![with("b", ""), with("a", "two")];
        assert_eq!(next_move(&request, Jitter::NONE), NextMove::Next { deployment: with("a", "two").deployment });
        request.untried = vec![with("a", "one"), with("b", "")];
        assert_eq!(next_move(&request, Jitter::NONE), to("b"), "a spent credential comes last");
    }

    #[test]
    fn a_context_overflow_shrinks_once_where_the_input_fits() {
        let mut request = failed_with(ErrorClass::ContextTooLong, 1);
        request.failed = candidate("a", Some(1_000));
        request.max_output_tokens = Some(4_000);
        assert_eq!(next_move(&request, Jitter::NONE), NextMove::Shrink { max_output_tokens: 644 });
        request.max_output_tokens = None;
        assert_eq!(next_move(&request, Jitter::NONE), NextMove::Shrink { max_output_tokens: 644 });
        request.max_output_tokens = Some(644);
        assert_eq!(next_move(&request, Jitter::NONE), NextMove::Stop, "already that small");
        request.max_output_tokens = Some(4_000);
        request.estimated_input_tokens = 1_000 - 256 - 63;
        assert_eq!(next_move(&request, Jitter::NONE), NextMove::Stop, "63 tokens are not worth a call");
    }

    #[test]
    fn a_context_overflow_moves_to_a_larger_window_only() {
        let mut request = failed_with(ErrorClass::ContextTooLong, 1);
        request.failed = candidate("a", Some(1_000));
        request.estimated_input_tokens = 1_000;
        let windows = |sizes: &[Option<u64>]| -> Vec<Candidate> {
            sizes.iter().enumerate().map(|(at, size)| candidate(&format!("p{at}"), *size)).collect()
        };
        request.untried = windows(&[None, Some(1_000), Some(1_500), Some(2_000)]);
        assert_eq!(next_move(&request, Jitter::NONE), to("p3"), "twice the window first");
        request.untried = windows(&[None, Some(1_000), Some(1_500)]);
        assert_eq!(next_move(&request, Jitter::NONE), to("p2"));
        request.untried = windows(&[None, Some(1_000)]);
        assert_eq!(next_move(&request, Jitter::NONE), NextMove::Stop);
        request.failed = candidate("a", None);
        request.untried = windows(&[None, Some(2_000), Some(2_001)]);
        assert_eq!(next_move(&request, Jitter::NONE), to("p2"), "unknown window: room for twice the estimate");
    }
}
