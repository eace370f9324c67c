//! What is told about an attempt, and the lines of a spool file.
//!
//! A spool outlives its process and may be read by a newer version: fields are only added, with defaults.

use serde::{Deserialize, Serialize};

use crate::{DecisionRow, RequestLogRow};
use tokenhub_domain::{
    ApiKeyId, AttemptId, ErrorClass, ModelId, NanoDollars, PricePerMillion, PriceSource, PrincipalId, ProviderId,
    RequestId, Role, RunId, StepId, StepKey, Tags, TenantId, UnixMicros,
};

/// What is known before a provider call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptOpen {
    /// Its id.
    pub attempt_id: AttemptId,
    /// Whose money it is.
    pub tenant: TenantId,
    /// Its run.
    pub run_id: RunId,
    /// Its step.
    pub step: StepId,
    /// Its try of the step.
    pub step_key: StepKey,
    /// What it is for.
    pub role: Role,
    /// Who will be called.
    pub provider: ProviderId,
    /// Which model.
    pub model: ModelId,
    /// Who asked.
    pub principal: PrincipalId,
    /// With which key.
    pub api_key_id: ApiKeyId,
    /// By which HTTP request.
    pub request_id: RequestId,
    /// The catalogue version.
    pub config_version: u64,
    /// What its caller finds the run by.
    #[serde(default, skip_serializing_if = "Tags::is_empty")]
    pub tags: Tags,
    /// What it is expected to cost.
    pub estimated_cost: NanoDollars,
    /// The time.
    pub at: UnixMicros,
}

/// Whether an answer was used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Waste {
    /// It is part of a result.
    Used,
    /// It came after another answer or after the decision, or broke off.
    Wasted,
}

/// What a call came to that its provider has counted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settlement {
    /// The provider's own usage object, as it came.
    pub usage_json: Option<String>,
    /// Prompt tokens.
    pub input_tokens: u64,
    /// Answer tokens.
    pub output_tokens: u64,
    /// What it cost.
    pub cost: NanoDollars,
    /// The price of prompt tokens.
    pub input_price: PricePerMillion,
    /// The price of answer tokens.
    pub output_price: PricePerMillion,
    /// Who says so.
    #[serde(default)]
    pub price_source: PriceSource,
    /// The provider's finish reason.
    pub finish_reason: Option<String>,
    /// Why it is no answer, of a call that broke off when its provider had counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_class: Option<ErrorClass>,
    /// The HTTP status of that failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status_code: Option<u16>,
    /// Milliseconds from sending to the last byte.
    pub latency_ms: u64,
    /// Whether the answer was used.
    pub waste: Waste,
    /// The time.
    pub at: UnixMicros,
}

/// What a call without an answer came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct AttemptFailure {
    pub(super) class: ErrorClass,
    pub(super) status_code: Option<u16>,
    pub(super) latency_ms: u64,
    pub(super) at: UnixMicros,
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Ending {
    Settled(Settlement),
    Void(AttemptFailure),
}

impl Ending {
    pub(super) fn is_wasted(&self) -> bool {
        match self {
            Self::Settled(settlement) => settlement.waste == Waste::Wasted,
            Self::Void(_) => false,
        }
    }
}

/// One line of a spool: what became known of an attempt, a line of the request log, or what a selection found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SpoolRecord {
    /// Empty in a line that is about no attempt.
    #[serde(default, skip_serializing_if = "AttemptId::is_empty")]
    pub(super) attempt: AttemptId,
    /// The open row; in the first line about an attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) open: Option<AttemptOpen>,
    /// When the bytes were about to leave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) sent_at: Option<UnixMicros>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) ending: Option<Ending>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) log: Option<Box<RequestLogRow>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) decision: Option<Box<DecisionRow>>,
}

impl SpoolRecord {
    /// Adds what a later line says about the same attempt. An ending that is known stays, unless the answer turns out
    /// to be wasted.
    pub(super) fn absorb(&mut self, later: Self) {
        self.open = self.open.take().or(later.open);
        self.sent_at = self.sent_at.or(later.sent_at);
        if self.ending.is_none() || later.ending.as_ref().is_some_and(Ending::is_wasted) {
            self.ending = later.ending;
        }
    }
}
