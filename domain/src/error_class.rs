//! The one taxonomy of failures: what a provider's error means, whoever reads it.
//!
//! Classes are evidence only. What to do about one is `routing::class`, how to read one is `providers::classify`, and
//! the HTTP form is `api::error`; all three match exhaustively.

use serde::{Deserialize, Serialize};

/// What went wrong, by the evidence and not by the place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorClass {
    /// 429 or a `rate_limit_*` code: too fast.
    RateLimited,
    /// Out of credit: `insufficient_quota`, `billing_error`, 402 or a spend cap.
    QuotaExhausted,
    /// 503, 529 or `overloaded_error`: the provider has no capacity.
    Overloaded,
    /// 408, 500, 502, 504 or another 5xx.
    ServerError,
    /// No connection, or one that was reset before the first byte of the answer.
    Transport,
    /// The answer broke off after its first byte.
    StreamBroken,
    /// The first token did not come in time.
    FirstTokenTimeout,
    /// The step's own deadline passed.
    StepDeadline,
    /// 401, or 403 without evidence of a spent quota.
    AuthFailed,
    /// The request does not fit the model's window.
    ContextTooLong,
    /// The provider says the request is wrong; no other model would help.
    BadRequest,
    /// The provider refused the content.
    ContentFiltered,
    /// The answer is not what the step asked for: no JSON, no verdict.
    BadOutput,
    /// The answer exceeds what we can store.
    ResultTooLarge,
    /// The caller's budget does not cover the step.
    BudgetExhausted,
    /// The run was cancelled or already decided.
    Cancelled,
}

impl ErrorClass {
    /// Whether a call was made that failed so: a refusal for want of budget comes before it.
    pub fn is_of_a_call(self) -> bool {
        self != Self::BudgetExhausted
    }

    /// Whether it may go by itself: it says something about whoever was called, and nothing about the request, its caller or
    /// a credential.
    pub fn is_transient(self) -> bool {
        match self {
            Self::RateLimited
            | Self::Overloaded
            | Self::ServerError
            | Self::Transport
            | Self::StreamBroken
            | Self::FirstTokenTimeout
            | Self::StepDeadline => true,
            Self::QuotaExhausted
            | Self::AuthFailed
            | Self::ContextTooLong
            | Self::BadRequest
            | Self::ContentFiltered
            | Self::BadOutput
            | Self::ResultTooLarge
            | Self::BudgetExhausted
            | Self::Cancelled => false,
        }
    }

    /// The stable name, as it appears in answers, logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RateLimited => "rate_limited",
            Self::QuotaExhausted => "quota_exhausted",
            Self::Overloaded => "overloaded",
            Self::ServerError => "server_error",
            Self::Transport => "transport",
            Self::StreamBroken => "stream_broken",
            Self::FirstTokenTimeout => "first_token_timeout",
            Self::StepDeadline => "step_deadline",
            Self::AuthFailed => "auth_failed",
            Self::ContextTooLong => "context_too_long",
            Self::BadRequest => "bad_request",
            Self::ContentFiltered => "content_filtered",
            Self::BadOutput => "bad_output",
            Self::ResultTooLarge => "result_too_large",
            Self::BudgetExhausted => "budget_exhausted",
            Self::Cancelled => "cancelled",
        }
    }
}

/// A provider call that gave no answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProviderFailure {
    /// What it means.
    pub class: ErrorClass,
    /// The HTTP status, when there was one.
    #[serde(default)]
    pub status: Option<u16>,
    /// The provider's own message, bounded, without secrets.
    #[serde(default)]
    pub message: String,
    /// The provider's own `code`, if it gave one.
    #[serde(default)]
    pub code: Option<String>,
    /// The request field that the provider named.
    #[serde(default)]
    pub param: Option<String>,
    /// How long the provider asks us to wait.
    #[serde(default)]
    pub retry_after_ms: Option<u64>,
    /// How long the provider's account is closed, where the failure says that a window of its quota is used up. A fact,
    /// where the field above is a wish.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota_resets_in_ms: Option<u64>,
}

impl ProviderFailure {
    /// A failure without an HTTP answer.
    pub fn of(class: ErrorClass, message: impl Into<String>) -> Self {
        Self {
            class,
            status: None,
            message: message.into(),
            code: None,
            param: None,
            retry_after_ms: None,
            quota_resets_in_ms: None,
        }
    }
}
