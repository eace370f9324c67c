//! Everything that can go wrong with a request, and the one place where it becomes HTTP.
//!
//! A [`Problem`] says what failed; [`Problem::into_response`] gives it the status, the code and the shape that the route
//! speaks. Codes are stable and documented in `docs/errors.md`. How a provider's failure maps is in [`class`].

mod catalogue;
mod class;
mod limit;
mod report;
mod shape;
mod steering;
mod template;

use axum::{http::StatusCode, response::Response};
use serde_json::{Map, Value};
use tokenhub_domain::{ApprovalState, Outcome, ProviderFailure, RunId, StopReason};

pub(crate) use catalogue::CatalogueRefusal;
pub(crate) use limit::LimitRefusal;
pub(crate) use report::{Report, RetryAdvice};
pub(crate) use shape::Shape;
pub(crate) use shape::{anthropic_error, openai_error};
pub(crate) use steering::SteeringRefusal;
pub(crate) use template::TemplateRefusal;

/// Seconds that a client is told to stay away when the reason is on our side.
const AWAY_RETRY_AFTER_MS: u64 = 2_000;

/// A request that cannot be answered as asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Problem {
    /// The body is not JSON.
    #[error("the request body is not valid JSON: {0}")]
    ParseBody(String),
    /// The body broke off.
    #[error("the request body could not be read")]
    ReadBody,
    /// The body exceeds the route's limit.
    #[error("the request body is larger than {limit_bytes} bytes")]
    BodyTooLarge {
        /// The limit.
        limit_bytes: usize,
    },
    /// A field that must be there is not.
    #[error("{param} is required")]
    MissingField {
        /// Which.
        param: String,
    },
    /// A field has a wrong type or value.
    #[error("{param}: {reason}")]
    InvalidField {
        /// Which.
        param: String,
        /// What is wrong.
        reason: String,
    },
    /// A field that nobody knows, where a silent drop would change the meaning.
    #[error("unknown field {param}")]
    UnknownField {
        /// Which.
        param: String,
    },
    /// A field that is known and not supported.
    #[error("{param} is not supported yet")]
    UnsupportedField {
        /// Which.
        param: String,
    },
    /// A header has a value that is not understood.
    #[error("{header}: {reason}")]
    InvalidHeader {
        /// Which.
        header: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// No model has this name.
    #[error("the model `{model}` does not exist")]
    UnknownModel {
        /// The field that named it.
        param: &'static str,
        /// The name.
        model: String,
    },
    /// The model exists and may not be called.
    #[error("the model `{model}` cannot be used: {reason}")]
    RefusedModel {
        /// The field that named it.
        param: &'static str,
        /// The name.
        model: String,
        /// Why.
        reason: String,
    },
    /// No key, or a wrong one.
    #[error("missing or wrong client key: send it as `Authorization: Bearer` or `x-api-key`")]
    Unauthorized,
    /// No admin token, or a wrong one.
    #[error("missing or wrong admin token: send it as `Authorization: Bearer`")]
    NotAdmin,
    /// No provider has this id.
    #[error("there is no provider `{id}`")]
    NoSuchProvider {
        /// The id.
        id: String,
    },
    /// The catalogue cannot be changed, or has no such entry.
    #[error(transparent)]
    Catalogue(#[from] CatalogueRefusal),
    /// A template is not changed, or there is none of this name.
    #[error(transparent)]
    Template(#[from] TemplateRefusal),
    /// What is asked of a run is not done.
    #[error(transparent)]
    Steering(#[from] SteeringRefusal),
    /// Payloads are not encrypted here.
    #[error("payloads are not encrypted: TOKENHUB_PAYLOAD_KEYS is not set in this process")]
    NoPayloadKeys,
    /// No such path.
    #[error("there is nothing at {path}")]
    NoSuchRoute {
        /// The path.
        path: String,
    },
    /// The path does not take this method.
    #[error("{method} is not allowed here")]
    MethodNotAllowed {
        /// The method.
        method: String,
    },
    /// No run has this id.
    #[error("there is no run `{id}`")]
    NoSuchRun {
        /// The id.
        id: String,
    },
    /// The run does not wait for a decision.
    #[error("the run `{id}` does not wait for a decision: it has no answer yet, asks for none, or has ended")]
    ApprovalNotAsked {
        /// The id.
        id: String,
    },
    /// Something else was decided, or the time is over.
    #[error("the answer of the run `{id}` was decided about before: {}", .state.as_str())]
    ApprovalDecided {
        /// The id.
        id: String,
        /// What counts.
        state: ApprovalState,
    },
    /// The run has no end yet to go on from.
    #[error("the run `{id}` has not ended")]
    RunNotFinished {
        /// The id.
        id: String,
    },
    /// No workflow carried the run, or Temporal has forgotten it.
    #[error("Temporal has no history of this run")]
    NoHistory,
    /// No webhook has this id.
    #[error("there is no webhook `{id}`")]
    NoSuchDelivery {
        /// The id.
        id: String,
    },
    /// The run of the webhook has not ended.
    #[error("the webhook `{id}` is sent when its run has ended")]
    DeliveryTooEarly {
        /// The id.
        id: String,
    },
    /// No response is kept under this id.
    #[error("there is no response `{id}`: whole answers of durable runs are kept, under the id of their run")]
    NoSuchResponse {
        /// The id.
        id: String,
    },
    /// Only a response that was made in the background can be cancelled.
    #[error("the response `{id}` cannot be cancelled: it was not made with `background: true`")]
    NotBackground {
        /// The id.
        id: String,
    },
    /// The run is a workflow's, and Temporal is away.
    #[error("the response could not be cancelled, because Temporal is not available; it goes on")]
    CancelAway,
    /// The idempotency key was used with another body.
    #[error("this idempotency key was already used with a different request body")]
    IdempotencyMismatch,
    /// There is too much of it already.
    #[error(transparent)]
    Limit(#[from] LimitRefusal),
    /// Durability was required and Temporal is away.
    #[error("durability is required and Temporal is not available")]
    DurabilityAway,
    /// The database is away.
    #[error("the database is not available")]
    StoreAway,
    /// The run did not end while we waited.
    #[error("the run {run_id} has not finished yet; read it with GET /v1/plan/{run_id}")]
    StillRunning {
        /// The run.
        run_id: RunId,
        /// What a client should do.
        advice: RetryAdvice,
    },
    /// The run ended without an answer.
    #[error("{}", class::message(.0))]
    RunFailed(Box<FailedRun>),
    /// A fault of ours.
    #[error("internal error")]
    Internal,
}

/// How a run ended that gave no answer.
#[derive(Clone, Debug, Default)]
pub(crate) struct FailedRun {
    /// The failure that decided it.
    pub(crate) failure: Option<ProviderFailure>,
    /// Why it ended.
    pub(crate) stop_reason: StopReason,
    /// What a problem document shows beside the error.
    pub(crate) members: Map<String, Value>,
}

/// The sentence that tells why a run failed.
pub(crate) fn failure_text(outcome: &Outcome) -> String {
    let run = FailedRun { failure: outcome.failure.clone(), stop_reason: outcome.stop_reason, members: Map::new() };
    class::message(&run)
}

const INVALID: &str = "invalid_request_error";
const SERVER: &str = "server_error";
const UNAVAILABLE: &str = "service_unavailable_error";
const LIMITED: &str = "rate_limit_error";

fn invalid((status, code): (StatusCode, &'static str)) -> (StatusCode, &'static str, &'static str) {
    (status, INVALID, code)
}

/// Whether the same request may succeed a little later.
fn comes_back(status: StatusCode) -> bool {
    status == StatusCode::SERVICE_UNAVAILABLE || status == StatusCode::TOO_MANY_REQUESTS
}

impl Problem {
    /// A field with a wrong type or value.
    pub(crate) fn invalid(param: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::InvalidField { param: param.into(), reason: reason.into() }
    }

    /// A provider did not do what an administrator asked of it.
    pub(crate) fn of_provider(failure: ProviderFailure) -> Self {
        let stop_reason = StopReason::AllFailed;
        Self::RunFailed(Box::new(FailedRun { failure: Some(failure), stop_reason, ..FailedRun::default() }))
    }

    /// The answer to the client, in the form of its route.
    pub(crate) fn into_response(self, shape: Shape) -> Response {
        shape.respond(self.report(shape))
    }

    /// The answer to an administrator: a problem document whose sentence is also its `error`, where admin clients look.
    pub(crate) fn into_admin_response(self) -> Response {
        let mut report = self.report(Shape::Problem);
        report.members.insert("error".to_owned(), report.message.clone().into());
        Shape::Problem.respond(report)
    }

    pub(crate) fn report(&self, shape: Shape) -> Report {
        if let Self::RunFailed(run) = self { class::report(run, shape) } else { self.own_report() }
    }

    fn own_report(&self) -> Report {
        let (status, kind, code) = self.facts();
        Report {
            status,
            kind,
            code: Some(code.to_owned()),
            param: self.param(),
            message: self.to_string(),
            retry_after_ms: comes_back(status).then_some(AWAY_RETRY_AFTER_MS),
            advice: self.advice(status),
            members: self.members(),
        }
    }

    fn advice(&self, status: StatusCode) -> RetryAdvice {
        if let Self::StillRunning { advice, .. } = self {
            *advice
        } else if status.is_client_error() && !comes_back(status) && !matches!(self, Self::ReadBody) {
            RetryAdvice::Never
        } else {
            RetryAdvice::Unsaid
        }
    }

    fn facts(&self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::ParseBody(_) => (StatusCode::BAD_REQUEST, INVALID, "invalid_json"),
            Self::ReadBody => (StatusCode::BAD_REQUEST, INVALID, "body_unreadable"),
            Self::BodyTooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, INVALID, "request_too_large"),
            Self::MissingField { .. } => (StatusCode::BAD_REQUEST, INVALID, "missing_required_parameter"),
            Self::InvalidField { .. } => (StatusCode::BAD_REQUEST, INVALID, "invalid_value"),
            Self::UnknownField { .. } => (StatusCode::BAD_REQUEST, INVALID, "unknown_parameter"),
            Self::UnsupportedField { .. } => (StatusCode::BAD_REQUEST, INVALID, "unsupported_parameter"),
            Self::InvalidHeader { .. } => (StatusCode::BAD_REQUEST, INVALID, "invalid_header"),
            Self::UnknownModel { .. } => (StatusCode::NOT_FOUND, INVALID, "model_not_found"),
            Self::RefusedModel { .. } => (StatusCode::BAD_REQUEST, INVALID, "model_refused"),
            Self::Unauthorized => (StatusCode::UNAUTHORIZED, INVALID, "invalid_api_key"),
            Self::NotAdmin => (StatusCode::UNAUTHORIZED, INVALID, "invalid_admin_token"),
            Self::NoSuchProvider { .. } => (StatusCode::NOT_FOUND, INVALID, "provider_not_found"),
            Self::Catalogue(refusal) => invalid(refusal.facts()),
            Self::Template(refusal) => invalid(refusal.facts()),
            Self::Steering(refusal) => invalid(refusal.facts()),
            Self::NoPayloadKeys => (StatusCode::CONFLICT, INVALID, "no_payload_keys"),
            Self::NoSuchRoute { .. } => (StatusCode::NOT_FOUND, INVALID, "not_found"),
            Self::MethodNotAllowed { .. } => (StatusCode::METHOD_NOT_ALLOWED, INVALID, "method_not_allowed"),
            Self::NoSuchRun { .. } => (StatusCode::NOT_FOUND, INVALID, "run_not_found"),
            Self::ApprovalNotAsked { .. } => (StatusCode::CONFLICT, INVALID, "approval_not_asked"),
            Self::ApprovalDecided { .. } => (StatusCode::CONFLICT, INVALID, "approval_decided"),
            Self::RunNotFinished { .. } => (StatusCode::CONFLICT, INVALID, "run_not_finished"),
            Self::NoHistory => (StatusCode::NOT_FOUND, INVALID, "history_not_found"),
            Self::NoSuchDelivery { .. } => (StatusCode::NOT_FOUND, INVALID, "webhook_not_found"),
            Self::DeliveryTooEarly { .. } => (StatusCode::CONFLICT, INVALID, "webhook_too_early"),
            Self::NoSuchResponse { .. } => (StatusCode::NOT_FOUND, INVALID, "response_not_found"),
            Self::NotBackground { .. } => (StatusCode::BAD_REQUEST, INVALID, "response_not_background"),
            Self::CancelAway => (StatusCode::SERVICE_UNAVAILABLE, UNAVAILABLE, "cancel_unavailable"),
            Self::IdempotencyMismatch => (StatusCode::UNPROCESSABLE_ENTITY, INVALID, "idempotency_mismatch"),
            Self::Limit(refusal) => (StatusCode::TOO_MANY_REQUESTS, LIMITED, refusal.code()),
            Self::DurabilityAway => (StatusCode::SERVICE_UNAVAILABLE, UNAVAILABLE, "durability_unavailable"),
            Self::StoreAway => (StatusCode::SERVICE_UNAVAILABLE, UNAVAILABLE, "store_unavailable"),
            Self::StillRunning { .. } => (StatusCode::SERVICE_UNAVAILABLE, UNAVAILABLE, "run_still_running"),
            Self::RunFailed(_) | Self::Internal => (StatusCode::INTERNAL_SERVER_ERROR, SERVER, "internal_error"),
        }
    }

    fn param(&self) -> Option<String> {
        match self {
            Self::MissingField { param }
            | Self::InvalidField { param, .. }
            | Self::UnknownField { param }
            | Self::UnsupportedField { param } => Some(param.clone()),
            Self::UnknownModel { param, .. } | Self::RefusedModel { param, .. } => Some((*param).to_owned()),
            Self::InvalidHeader { header, .. } => Some((*header).to_owned()),
            Self::Catalogue(refusal) => refusal.param().map(str::to_owned),
            Self::Template(refusal) => refusal.param().map(str::to_owned),
            Self::ParseBody(_)
            | Self::ReadBody
            | Self::BodyTooLarge { .. }
            | Self::Unauthorized
            | Self::NotAdmin
            | Self::NoSuchProvider { .. }
            | Self::NoPayloadKeys
            | Self::Steering(_)
            | Self::NoSuchRoute { .. }
            | Self::MethodNotAllowed { .. }
            | Self::NoSuchRun { .. }
            | Self::ApprovalNotAsked { .. }
            | Self::ApprovalDecided { .. }
            | Self::RunNotFinished { .. }
            | Self::NoHistory
            | Self::NoSuchDelivery { .. }
            | Self::DeliveryTooEarly { .. }
            | Self::NoSuchResponse { .. }
            | Self::NotBackground { .. }
            | Self::CancelAway
            | Self::IdempotencyMismatch
            | Self::Limit(_)
            | Self::DurabilityAway
            | Self::StoreAway
            | Self::StillRunning { .. }
            | Self::RunFailed(_)
            | Self::Internal => None,
        }
    }

    fn members(&self) -> Map<String, Value> {
        let mut members = Map::new();
        if let Self::Catalogue(CatalogueRefusal::Changed { current, .. })
        | Self::Template(TemplateRefusal::Changed { current, .. }) = self
        {
            members.insert("current_version".to_owned(), (*current).into());
        }
        if let Self::StillRunning { run_id, .. } = self {
            members.insert("id".to_owned(), run_id.as_str().into());
            members.insert("status".to_owned(), "running".into());
        }
        members
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn validation_refusals_tell_sdks_not_to_retry_and_outages_tell_them_when() {
        let refusal = Problem::invalid("messages", "must be an array").report(Shape::OpenAi);
        assert_eq!((refusal.status.as_u16(), refusal.advice), (400, RetryAdvice::Never));
        assert_eq!(refusal.param.as_deref(), Some("messages"));
        let away = Problem::DurabilityAway.report(Shape::Problem);
        assert_eq!((away.status.as_u16(), away.advice), (503, RetryAdvice::Unsaid));
        assert_eq!(away.retry_after_ms, Some(AWAY_RETRY_AFTER_MS));
    }

    #[test]
    fn an_unknown_model_is_404_and_names_the_field() {
        let report = Problem::UnknownModel { param: "model", model: "gpt-9".into() }.report(Shape::OpenAi);
        assert_eq!((report.status.as_u16(), report.kind), (404, "invalid_request_error"));
        assert_eq!((report.code.as_deref(), report.param.as_deref()), (Some("model_not_found"), Some("model")));
    }
}
