//! The HTTP form of a failed run: one arm per error class, after the taxonomy's own table.
//!
//! Must not decide about retries inside TokenHub; that is `routing::class`.

use axum::http::StatusCode;
use tokenhub_domain::{ErrorClass, ProviderFailure, StopReason};

use super::{FailedRun, INVALID, Report, RetryAdvice, SERVER, Shape, UNAVAILABLE, shape::OVERLOADED_STATUS};

/// The words by which clients of the Messages protocol recognise that they have to shorten the conversation.
const PROMPT_TOO_LONG: &str = "prompt is too long";
const RATE_LIMITED_RETRY_AFTER_MS: u64 = 1_000;

struct Row {
    status: StatusCode,
    kind: &'static str,
    code: &'static str,
    advice: RetryAdvice,
}

const fn row(status: StatusCode, kind: &'static str, code: &'static str, advice: RetryAdvice) -> Row {
    Row { status, kind, code, advice }
}

/// The sentence for the client.
pub(super) fn message(run: &FailedRun) -> String {
    let Some(failure) = &run.failure else { return reason_text(run.stop_reason).to_owned() };
    let summary = class_text(failure.class);
    match failure.class {
        // Passed on word for word: the client asked the provider.
        ErrorClass::BadRequest | ErrorClass::ContextTooLong | ErrorClass::ContentFiltered
            if !failure.message.is_empty() =>
        {
            failure.message.clone()
        }
        // A provider's words about our credential may quote it.
        ErrorClass::AuthFailed => summary.to_owned(),
        ErrorClass::RateLimited
        | ErrorClass::QuotaExhausted
        | ErrorClass::Overloaded
        | ErrorClass::ServerError
        | ErrorClass::Transport
        | ErrorClass::StreamBroken
        | ErrorClass::FirstTokenTimeout
        | ErrorClass::StepDeadline
        | ErrorClass::ContextTooLong
        | ErrorClass::BadRequest
        | ErrorClass::ContentFiltered
        | ErrorClass::BadOutput
        | ErrorClass::ResultTooLarge
        | ErrorClass::BudgetExhausted
        | ErrorClass::Cancelled => {
            if failure.message.is_empty() {
                summary.to_owned()
            } else {
                format!("{summary}: {}", failure.message)
            }
        }
    }
}

pub(super) fn report(run: &FailedRun, shape: Shape) -> Report {
    let row = run.failure.as_ref().map_or_else(|| reason_row(run.stop_reason), |failure| class_row(failure, shape));
    let failure = run.failure.as_ref();
    let upstream = failure.filter(|failure| is_upstream_refusal(failure.class));
    let code = match upstream.map(|failure| failure.code.clone()) {
        Some(Some(code)) => Some(code),
        // An upstream refusal without a code has none in OpenAI's form either.
        Some(None) if shape == Shape::OpenAi => None,
        Some(None) | None => Some(row.code.to_owned()),
    };
    Report {
        status: row.status,
        kind: row.kind,
        code,
        param: failure.and_then(|failure| failure.param.clone()),
        message: worded(message(run), failure, shape),
        retry_after_ms: retry_after_ms(row.status, failure),
        advice: row.advice,
        members: run.members.clone(),
    }
}

fn worded(message: String, failure: Option<&ProviderFailure>, shape: Shape) -> String {
    let is_too_long = failure.is_some_and(|failure| failure.class == ErrorClass::ContextTooLong);
    if shape == Shape::Anthropic && is_too_long && !message.to_ascii_lowercase().contains(PROMPT_TOO_LONG) {
        return format!("{PROMPT_TOO_LONG}: {message}");
    }
    message
}

fn is_upstream_refusal(class: ErrorClass) -> bool {
    matches!(class, ErrorClass::BadRequest)
}

fn retry_after_ms(status: StatusCode, failure: Option<&ProviderFailure>) -> Option<u64> {
    let hint = failure.and_then(|failure| failure.retry_after_ms);
    match status.as_u16() {
        429 | 503 | OVERLOADED_STATUS => {
            let quota = failure.is_some_and(|failure| {
                matches!(failure.class, ErrorClass::QuotaExhausted | ErrorClass::BudgetExhausted)
            });
            if quota { hint } else { Some(hint.unwrap_or(RATE_LIMITED_RETRY_AFTER_MS)) }
        }
        _ => None,
    }
}

fn class_row(failure: &ProviderFailure, shape: Shape) -> Row {
    use RetryAdvice::{Never, Unsaid};
    match failure.class {
        ErrorClass::RateLimited => row(StatusCode::TOO_MANY_REQUESTS, "requests", "rate_limit_exceeded", Unsaid),
        ErrorClass::QuotaExhausted => row(quota_status(shape), "insufficient_quota", "insufficient_quota", Never),
        ErrorClass::Overloaded => row(overloaded_status(shape), UNAVAILABLE, "server_is_overloaded", Unsaid),
        ErrorClass::ServerError => row(StatusCode::BAD_GATEWAY, SERVER, "provider_error", Unsaid),
        ErrorClass::Transport => row(StatusCode::BAD_GATEWAY, SERVER, "provider_unreachable", Unsaid),
        ErrorClass::StreamBroken => row(StatusCode::BAD_GATEWAY, SERVER, "stream_broken", Unsaid),
        ErrorClass::FirstTokenTimeout => row(StatusCode::GATEWAY_TIMEOUT, SERVER, "first_token_timeout", Unsaid),
        ErrorClass::StepDeadline => row(StatusCode::GATEWAY_TIMEOUT, SERVER, "deadline_exceeded", Unsaid),
        ErrorClass::AuthFailed => row(StatusCode::BAD_GATEWAY, SERVER, "provider_auth_failed", Unsaid),
        ErrorClass::ContextTooLong => row(StatusCode::BAD_REQUEST, INVALID, "context_length_exceeded", Never),
        ErrorClass::BadRequest => row(upstream_status(failure), INVALID, "provider_refused_request", Never),
        ErrorClass::ContentFiltered => row(upstream_status(failure), INVALID, "content_filter", Never),
        // It was bought twice by now; whether to buy a third one is not for an SDK to decide.
        ErrorClass::BadOutput => row(StatusCode::BAD_GATEWAY, SERVER, "bad_output", Never),
        ErrorClass::ResultTooLarge => row(StatusCode::BAD_GATEWAY, SERVER, "result_too_large", Never),
        ErrorClass::BudgetExhausted => match shape {
            Shape::Problem => row(StatusCode::PAYMENT_REQUIRED, "insufficient_quota", "budget_exhausted", Never),
            Shape::OpenAi | Shape::Anthropic | Shape::Native => {
                row(quota_status(shape), "insufficient_quota", "insufficient_quota", Never)
            }
        },
        // Whoever cancelled has gone (499 in the log); a request that shares the run gets this.
        ErrorClass::Cancelled => row(StatusCode::CONFLICT, INVALID, "run_cancelled", Never),
    }
}

/// Anthropic has a status for what is not paid for; OpenAI's clients read the code of a 429.
fn quota_status(shape: Shape) -> StatusCode {
    match shape {
        Shape::Anthropic => StatusCode::PAYMENT_REQUIRED,
        Shape::OpenAi | Shape::Problem | Shape::Native => StatusCode::TOO_MANY_REQUESTS,
    }
}

fn overloaded_status(shape: Shape) -> StatusCode {
    match shape {
        Shape::Anthropic => StatusCode::from_u16(OVERLOADED_STATUS).unwrap_or(StatusCode::SERVICE_UNAVAILABLE),
        Shape::OpenAi | Shape::Problem | Shape::Native => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// A provider's own 4xx; one that means something else between us and the client becomes 400.
fn upstream_status(failure: &ProviderFailure) -> StatusCode {
    failure
        .status
        .and_then(|status| StatusCode::from_u16(status).ok())
        .filter(|status| status.is_client_error() && *status != StatusCode::UNAUTHORIZED)
        .unwrap_or(StatusCode::BAD_REQUEST)
}

fn reason_row(reason: StopReason) -> Row {
    use RetryAdvice::{Never, Unsaid};
    match reason {
        StopReason::NoEligibleModel => row(StatusCode::SERVICE_UNAVAILABLE, UNAVAILABLE, "no_eligible_model", Unsaid),
        StopReason::DeadlineExceeded => row(StatusCode::GATEWAY_TIMEOUT, SERVER, "deadline_exceeded", Unsaid),
        StopReason::BudgetExhausted => {
            row(StatusCode::PAYMENT_REQUIRED, "insufficient_quota", "budget_exhausted", Never)
        }
        StopReason::Cancelled | StopReason::CancelledAfterStep => {
            row(StatusCode::CONFLICT, INVALID, "run_cancelled", Never)
        }
        StopReason::Rejected => row(StatusCode::CONFLICT, INVALID, "answer_rejected", Never),
        StopReason::ApprovalExpired => row(StatusCode::CONFLICT, INVALID, "approval_expired", Never),
        // A repetition would run into the same, and pay for it.
        StopReason::ExecutionTimeout => row(StatusCode::INTERNAL_SERVER_ERROR, SERVER, "execution_timeout", Never),
        StopReason::AllFailed
        | StopReason::RoundFailed
        | StopReason::AnsweredNow
        | StopReason::Answered
        | StopReason::MaxRounds
        | StopReason::Decided
        | StopReason::CheckPassed
        | StopReason::PlanOnly
        | StopReason::SchemaMismatch
        | StopReason::SingleAnswer => row(StatusCode::BAD_GATEWAY, SERVER, "provider_error", Unsaid),
    }
}

fn reason_text(reason: StopReason) -> &'static str {
    match reason {
        StopReason::NoEligibleModel => "no model is eligible for this request",
        StopReason::DeadlineExceeded => "the deadline passed",
        StopReason::BudgetExhausted => "the budget does not cover the request",
        StopReason::Cancelled => "the run was cancelled",
        StopReason::CancelledAfterStep => "the run was cancelled after a step",
        StopReason::Rejected => "the answer was rejected",
        StopReason::ApprovalExpired => "nobody decided about the answer in time",
        StopReason::ExecutionTimeout => "the workflow that carried the run did not come to an end in time",
        StopReason::AllFailed
        | StopReason::RoundFailed
        | StopReason::AnsweredNow
        | StopReason::Answered
        | StopReason::MaxRounds
        | StopReason::Decided
        | StopReason::CheckPassed
        | StopReason::PlanOnly
        | StopReason::SchemaMismatch
        | StopReason::SingleAnswer => "every provider failed",
    }
}

fn class_text(class: ErrorClass) -> &'static str {
    match class {
        ErrorClass::RateLimited => "the provider limits the rate",
        ErrorClass::QuotaExhausted => "the provider's quota is spent",
        ErrorClass::Overloaded => "the provider is overloaded",
        ErrorClass::ServerError => "the provider failed",
        ErrorClass::Transport => "the provider could not be reached",
        ErrorClass::StreamBroken => "the provider's answer broke off",
        ErrorClass::FirstTokenTimeout => "the provider did not begin to answer in time",
        ErrorClass::StepDeadline => "the provider did not answer in time",
        ErrorClass::AuthFailed => "the provider does not accept the configured credential",
        ErrorClass::ContextTooLong => "the request does not fit the model's context window",
        ErrorClass::BadRequest => "the provider refused the request",
        ErrorClass::ContentFiltered => "the provider refused the content",
        ErrorClass::BadOutput => "the provider's answer could not be used",
        ErrorClass::ResultTooLarge => "the answer is too large to keep",
        ErrorClass::BudgetExhausted => "the budget does not cover the request",
        ErrorClass::Cancelled => "the run was cancelled",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{
        Problem,
        RetryAdvice::{Never, Unsaid},
    };

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

    /// The last text on each line that makes a row of a status and a code.
    fn codes_in(source: &str) -> Vec<&str> {
        let production = source.split("#[cfg(test)]").next().unwrap();
        let rows = production.lines().filter(|line| line.contains("StatusCode::") || line.contains(" row("));
        rows.filter_map(|line| line.rsplit('"').nth(1)).collect()
    }

    #[test]
    fn every_code_is_in_the_document_about_errors() {
        let document = include_str!("../../../docs/errors.md");
        let sources = [
            include_str!("../error.rs"),
            include_str!("catalogue.rs"),
            include_str!("class.rs"),
            include_str!("steering.rs"),
            include_str!("template.rs"),
        ];
        let codes: Vec<&str> = sources.into_iter().flat_map(codes_in).collect();
        assert!(codes.len() > 50 && codes.contains(&"webhook_too_early") && codes.contains(&"budget_exhausted"));
        let missing: Vec<&&str> = codes.iter().filter(|code| !document.contains(&format!("**{code}**"))).collect();
        assert!(missing.is_empty(), "{missing:?}");
    }

    fn run_of(failure: ProviderFailure) -> FailedRun {
        FailedRun { failure: Some(failure), stop_reason: StopReason::AllFailed, ..FailedRun::default() }
    }

    fn seen(class: ErrorClass, shape: Shape) -> (u16, String, RetryAdvice) {
        let report = report(&run_of(ProviderFailure::of(class, "words of the provider")), shape);
        (report.status.as_u16(), report.code.unwrap_or_default(), report.advice)
    }

    #[test]
    fn every_class_has_the_status_and_the_code_of_the_table() {
        let expected = [
            (429, "rate_limit_exceeded", Unsaid),
            (429, "insufficient_quota", Never),
            (503, "server_is_overloaded", Unsaid),
            (502, "provider_error", Unsaid),
            (502, "provider_unreachable", Unsaid),
            (502, "stream_broken", Unsaid),
            (504, "first_token_timeout", Unsaid),
            (504, "deadline_exceeded", Unsaid),
            (502, "provider_auth_failed", Unsaid),
            (400, "context_length_exceeded", Never),
            (400, "provider_refused_request", Never),
            (400, "content_filter", Never),
            (502, "bad_output", Never),
            (502, "result_too_large", Never),
            (429, "insufficient_quota", Never),
            (409, "run_cancelled", Never),
        ];
        for (class, (status, code, advice)) in ALL.into_iter().zip(expected) {
            assert_eq!(seen(class, Shape::Native), (status, code.to_owned(), advice), "{class:?}");
        }
        assert_eq!(seen(ErrorClass::BudgetExhausted, Shape::Problem), (402, "budget_exhausted".to_owned(), Never));
        assert_eq!(seen(ErrorClass::BudgetExhausted, Shape::OpenAi), (429, "insufficient_quota".to_owned(), Never));
    }

    #[tokio::test]
    async fn every_class_fits_each_shape() {
        for class in ALL {
            for (shape, content_type) in [
                (Shape::OpenAi, "application/json"),
                (Shape::Anthropic, "application/json"),
                (Shape::Native, "application/json"),
                (Shape::Problem, "application/problem+json"),
            ] {
                let expected = report(&run_of(ProviderFailure::of(class, "m")), shape);
                let problem = Problem::RunFailed(Box::new(run_of(ProviderFailure::of(class, "m"))));
                let response = problem.into_response(shape);
                assert_eq!(response.status(), expected.status);
                assert_eq!(response.headers()["content-type"], content_type);
                let is_never = response.headers().get("x-should-retry").is_some_and(|value| value == "false");
                assert_eq!(is_never, expected.advice == Never, "{class:?}");
                let bytes = axum::body::to_bytes(response.into_body(), 1 << 16).await.unwrap();
                let body: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
                match shape {
                    Shape::OpenAi => {
                        let keys: Vec<&String> = body["error"].as_object().unwrap().keys().collect();
                        assert_eq!(keys, ["message", "type", "param", "code"]);
                    }
                    Shape::Anthropic => {
                        let keys: Vec<&String> = body["error"].as_object().unwrap().keys().collect();
                        assert_eq!(keys, ["type", "message"]);
                        assert_eq!(body["type"], "error");
                    }
                    Shape::Native => assert_eq!(body["error"], expected.message),
                    Shape::Problem => {
                        assert_eq!(body["status"], expected.status.as_u16());
                        assert_eq!(body["detail"], expected.message);
                        assert!(body["type"].as_str().unwrap().starts_with("urn:tokenhub:error:"));
                    }
                }
            }
        }
    }

    #[test]
    fn clients_of_the_messages_protocol_find_its_own_statuses_and_words() {
        let status = |class| seen(class, Shape::Anthropic).0;
        assert_eq!(status(ErrorClass::Overloaded), 529);
        assert_eq!((status(ErrorClass::QuotaExhausted), status(ErrorClass::BudgetExhausted)), (402, 402));
        let message =
            |words: &str, shape| report(&run_of(ProviderFailure::of(ErrorClass::ContextTooLong, words)), shape).message;
        assert_eq!(message("2 > 1 tokens", Shape::Anthropic), "prompt is too long: 2 > 1 tokens");
        assert_eq!(message("Prompt is too long: 2 > 1", Shape::Anthropic), "Prompt is too long: 2 > 1");
        assert_eq!(message("2 > 1 tokens", Shape::OpenAi), "2 > 1 tokens");
        let overloaded = report(&run_of(ProviderFailure::of(ErrorClass::Overloaded, "")), Shape::Anthropic);
        assert!(overloaded.retry_after_ms.is_some());
    }

    #[test]
    fn a_refusal_of_the_provider_passes_with_its_status_message_param_and_code() {
        let refusal = ProviderFailure {
            status: Some(422),
            code: Some("bad_tool".into()),
            param: Some("tools[0]".into()),
            ..ProviderFailure::of(ErrorClass::BadRequest, "tool is wrong")
        };
        let report = report(&run_of(refusal.clone()), Shape::OpenAi);
        assert_eq!((report.status.as_u16(), report.message.as_str()), (422, "tool is wrong"));
        assert_eq!((report.code.as_deref(), report.param.as_deref()), (Some("bad_tool"), Some("tools[0]")));
        let without_code = ProviderFailure { code: None, ..refusal };
        assert_eq!(super::report(&run_of(without_code.clone()), Shape::OpenAi).code, None);
        assert!(super::report(&run_of(without_code), Shape::Problem).code.is_some());
    }

    #[test]
    fn a_hint_is_passed_on_and_a_credential_is_not() {
        let limited =
            ProviderFailure { retry_after_ms: Some(7_500), ..ProviderFailure::of(ErrorClass::RateLimited, "") };
        assert_eq!(report(&run_of(limited), Shape::OpenAi).retry_after_ms, Some(7_500));
        let auth = ProviderFailure::of(ErrorClass::AuthFailed, "Incorrect API key provided: sk-abc");
        assert!(!report(&run_of(auth), Shape::OpenAi).message.contains("sk-abc"));
    }
}
