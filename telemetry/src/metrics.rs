//! The numbers of a process, as Prometheus reads them.
//!
//! Owns names, labels and buckets. Label sets are closed enums: a client can make requests, but no new time series.

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder, text},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};
use tokenhub_domain::RunFigures;

use crate::{TemporalFigures, runs::Runs};

/// Requests answered, by kind and status.
pub const REQUESTS: &str = "tokenhub_requests";
/// State of the breaker in front of Temporal.
pub const TEMPORAL_CIRCUIT_STATE: &str = "tokenhub_temporal_circuit_state";
/// Requests answered in process although they asked for durability, by reason.
pub const TEMPORAL_FALLBACK: &str = "tokenhub_temporal_fallback";
/// Provider calls that repeated one whose answer was lost with its worker.
pub const DUPLICATE_CALLS: &str = "tokenhub_duplicate_calls";
/// Time from request to answer.
pub const REQUEST_SECONDS: &str = "tokenhub_request_seconds";
/// Bytes of ledger events that are not in the database yet.
pub const LEDGER_SPOOL_BYTES: &str = "tokenhub_ledger_spool_bytes";
/// Deployments, by how they do.
pub const DEPLOYMENTS: &str = "tokenhub_deployments";
/// Tries to deliver a webhook, by what came of them.
pub const WEBHOOK_DELIVERIES: &str = "tokenhub_webhook_deliveries";

/// The media type of [`Metrics::render`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Upper bounds in seconds, those of the OpenTelemetry conventions for generative models.
pub const SECONDS_BUCKETS: [f64; 14] =
    [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92];

macro_rules! label {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident => $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)+
        }

        impl $name {
            /// The label's value.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }

        impl EncodeLabelValue for $name {
            fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
                EncodeLabelValue::encode(&self.as_str(), encoder)
            }
        }
    };
}

label! {
    /// What a request asked for.
    RequestKind {
        /// A chat in one piece.
        Chat => "chat",
        /// A streamed chat.
        Stream => "stream",
        /// A single planning call.
        Planning => "planning",
        /// Plan, critique, revision.
        Adversarial => "adversarial",
        /// Several answers and a choice.
        Vote => "vote",
        /// An answer, improved in rounds.
        Refine => "refine",
        /// Candidates scored by a judge.
        BestOfN => "best_of_n",
        /// Cheap models first.
        Cascade => "cascade",
        /// Several answers made into one.
        Fuse => "fuse",
        /// Anything else: listings, results, health.
        Other => "other",
    }
}

label! {
    /// How a request ended.
    RequestStatus {
        /// Answered.
        Ok => "ok",
        /// The request was at fault.
        ClientError => "client_error",
        /// Refused for a limit or a budget.
        Limited => "limited",
        /// We or every provider failed.
        ServerError => "server_error",
    }
}

label! {
    /// How a deployment does.
    DeploymentCondition {
        /// It answers.
        Healthy => "healthy",
        /// Its latest calls failed.
        Degraded => "degraded",
        /// The next call is its trial.
        HalfOpen => "half_open",
        /// It is left out.
        Down => "down",
    }
}

label! {
    /// What came of a try to deliver a webhook.
    WebhookResult {
        /// Its receiver took it.
        Delivered => "delivered",
        /// It is tried again.
        Retried => "retried",
        /// It was given up.
        Dead => "dead",
    }
}

impl RequestStatus {
    /// The class of an HTTP status.
    pub fn of_http(status: u16) -> Self {
        match status {
            0..=399 => Self::Ok,
            402 | 429 => Self::Limited,
            400..=499 => Self::ClientError,
            500.. => Self::ServerError,
        }
    }
}

label! {
    /// Why a request that asked for durability was answered in process.
    FallbackReason {
        /// No Temporal is configured.
        Off => "off",
        /// The connection does not stand.
        NotConnected => "not_connected",
        /// The breaker is open.
        BreakerOpen => "breaker_open",
        /// The start of the workflow failed.
        StartFailed => "start_failed",
        /// The start took too long.
        StartDeadline => "start_deadline",
        /// No worker took the workflow.
        NoWorker => "no_worker",
    }
}

/// State of the breaker, with its value as a gauge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CircuitState {
    /// 0: Temporal is asked.
    Closed,
    /// 1: Temporal is not asked.
    Open,
    /// 2: one probe is under way.
    HalfOpen,
}

impl CircuitState {
    fn value(self) -> i64 {
        match self {
            Self::Closed => 0,
            Self::Open => 1,
            Self::HalfOpen => 2,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    kind: RequestKind,
    status: RequestStatus,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabel {
    kind: RequestKind,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ConditionLabel {
    state: DeploymentCondition,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: FallbackReason,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabel {
    result: WebhookResult,
}

/// Every metric of a process, and how they are written out.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    request_seconds: Family<KindLabel, Histogram>,
    fallbacks: Family<ReasonLabel, Counter>,
    circuit_state: Gauge,
    duplicate_calls: Counter,
    runs: Runs,
    temporal: TemporalFigures,
    spool_bytes: Gauge,
    deployments: Family<ConditionLabel, Gauge>,
    webhooks: Family<ResultLabel, Counter>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// All at zero.
    pub fn new() -> Self {
        let mut metrics = Self {
            registry: Registry::default(),
            requests: Family::default(),
            request_seconds: Family::new_with_constructor(|| Histogram::new(SECONDS_BUCKETS)),
            fallbacks: Family::default(),
            circuit_state: Gauge::default(),
            duplicate_calls: Counter::default(),
            runs: Runs::default(),
            temporal: TemporalFigures::default(),
            spool_bytes: Gauge::default(),
            deployments: Family::default(),
            webhooks: Family::default(),
        };
        let registry = &mut metrics.registry;
        registry.register(REQUESTS, "Requests answered", metrics.requests.clone());
        registry.register(REQUEST_SECONDS, "Seconds from request to answer", metrics.request_seconds.clone());
        registry.register(TEMPORAL_FALLBACK, "Requests answered without Temporal", metrics.fallbacks.clone());
        let states = "Breaker in front of Temporal: 0 closed, 1 open, 2 half open";
        registry.register(TEMPORAL_CIRCUIT_STATE, states, metrics.circuit_state.clone());
        registry.register(DUPLICATE_CALLS, "Provider calls made again after a crash", metrics.duplicate_calls.clone());
        registry.register(LEDGER_SPOOL_BYTES, "Bytes waiting in the ledger spool", metrics.spool_bytes.clone());
        registry.register(DEPLOYMENTS, "Deployments by how they do", metrics.deployments.clone());
        registry.register(WEBHOOK_DELIVERIES, "Tries to deliver a webhook", metrics.webhooks.clone());
        registry.register_collector(Box::new(metrics.runs.clone()));
        registry.register_collector(Box::new(metrics.temporal.clone()));
        metrics
    }

    /// Counts a request that was answered.
    pub fn request(&self, kind: RequestKind, status: RequestStatus, seconds: f64) {
        self.requests.get_or_create(&RequestLabels { kind, status }).inc();
        self.request_seconds.get_or_create(&KindLabel { kind }).observe(seconds);
    }

    /// Counts a request that was answered without Temporal although it asked for it.
    pub fn fallback(&self, reason: FallbackReason) {
        self.fallbacks.get_or_create(&ReasonLabel { reason }).inc();
    }

    /// Sets the breaker's state.
    pub fn circuit(&self, state: CircuitState) {
        self.circuit_state.set(state.value());
    }

    /// Counts repeated provider calls.
    pub fn duplicate_calls(&self, count: u64) {
        self.duplicate_calls.inc_by(count);
    }

    /// Sets what the recorded runs came to.
    pub fn runs(&self, figures: RunFigures) {
        self.runs.set(figures);
    }

    /// What the Temporal SDK counts with.
    pub fn temporal(&self) -> TemporalFigures {
        self.temporal.clone()
    }

    /// Sets what waits in the spool.
    pub fn spool_bytes(&self, bytes: u64) {
        self.spool_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// Sets how many deployments do so.
    pub fn deployments(&self, state: DeploymentCondition, count: usize) {
        self.deployments.get_or_create(&ConditionLabel { state }).set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Counts a try to deliver a webhook.
    pub fn webhook(&self, result: WebhookResult) {
        self.webhooks.get_or_create(&ResultLabel { result }).inc();
    }

    /// Everything in the text form of Prometheus; see [`CONTENT_TYPE`].
    pub fn render(&self) -> String {
        let mut out = String::new();
        // Writing to a String cannot fail, and the encoder reports nothing else.
        let _ = text::encode(&mut out, &self.registry);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_was_counted_is_written_out_under_its_name() {
        let metrics = Metrics::new();
        metrics.request(RequestKind::Vote, RequestStatus::of_http(200), 0.03);
        metrics.request(RequestKind::Vote, RequestStatus::of_http(429), 0.5);
        metrics.fallback(FallbackReason::NoWorker);
        metrics.circuit(CircuitState::Open);
        metrics.duplicate_calls(2);
        metrics.spool_bytes(77);
        metrics.deployments(DeploymentCondition::Down, 3);
        metrics.webhook(WebhookResult::Dead);
        let text = metrics.render();
        for line in [
            "tokenhub_requests_total{kind=\"vote\",status=\"ok\"} 1",
            "tokenhub_requests_total{kind=\"vote\",status=\"limited\"} 1",
            "tokenhub_temporal_fallback_total{reason=\"no_worker\"} 1",
            "tokenhub_temporal_circuit_state 1",
            "tokenhub_duplicate_calls_total 2",
            "tokenhub_ledger_spool_bytes 77",
            "tokenhub_deployments{state=\"down\"} 3",
            "tokenhub_webhook_deliveries_total{result=\"dead\"} 1",
            "tokenhub_request_seconds_bucket{le=\"0.02\",kind=\"vote\"} 0",
            "tokenhub_request_seconds_bucket{le=\"0.04\",kind=\"vote\"} 1",
            "tokenhub_request_seconds_count{kind=\"vote\"} 2",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
        }
    }

    #[test]
    fn every_status_has_a_class() {
        let class = |status| RequestStatus::of_http(status).as_str();
        assert_eq!([class(200), class(402), class(404), class(502)], ["ok", "limited", "client_error", "server_error"]);
    }
}
