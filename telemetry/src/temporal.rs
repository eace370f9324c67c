//! What the Temporal SDK counts, kept in memory and written out beside our own figures.
//!
//! Owns which labels appear: those whose values are in our code, in the configuration or in gRPC, so that no client can
//! make a time series. The SDK looks an instrument up once for each set of labels and then only adds to it; nothing is
//! buffered, sent or written before somebody reads.

use std::{
    collections::{BTreeMap, HashMap},
    error::Error,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{
        counter,
        family::{Family, MetricConstructor},
        gauge, histogram,
    },
};
use temporalio_common::telemetry::{
    METRIC_PREFIX, TaskQueueLabelStrategy,
    metrics::{
        CoreMeter, Counter, CounterBase, Gauge, GaugeBase, GaugeF64, Histogram, HistogramDuration,
        HistogramDurationBase, HistogramF64, MetricAttributable, MetricAttributes, MetricParameters, NewAttributes,
        NoOpInstrument, TemporalMeter, UpDownCounter, default_buckets_for,
    },
};

/// The labels that are kept; the rest is the same everywhere.
const LABELS: [&str; 10] = [
    "namespace",
    "task_queue",
    "workflow_type",
    "activity_type",
    "operation",
    "status_code",
    "failure_reason",
    "poller_type",
    "worker_type",
    "eager",
];

type Labels = Vec<(&'static str, String)>;

/// Makes histograms with the upper bounds that the SDK has for a name.
#[derive(Clone, Copy)]
struct Bounds(&'static [f64]);

impl MetricConstructor<histogram::Histogram> for Bounds {
    fn new_metric(&self) -> histogram::Histogram {
        histogram::Histogram::new(self.0.iter().copied())
    }
}

/// One figure of the SDK, for every set of labels.
#[derive(Clone)]
enum Figure {
    Counter(Family<Labels, counter::Counter>),
    Gauge(Family<Labels, gauge::Gauge>),
    Seconds(Family<Labels, histogram::Histogram, Bounds>),
}

#[derive(Clone)]
struct Described {
    help: String,
    figure: Figure,
}

/// Takes what the SDK counts in this process. Cheap to clone: all clones are one.
#[derive(Clone, Default)]
pub struct TemporalFigures {
    figures: Arc<Mutex<BTreeMap<String, Described>>>,
}

impl fmt::Debug for TemporalFigures {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("TemporalFigures").finish_non_exhaustive()
    }
}

impl TemporalFigures {
    /// What a worker's runtime counts with; it puts its prefix before the names itself.
    pub fn of_worker(&self) -> Arc<dyn CoreMeter> {
        Arc::new(self.clone())
    }

    /// What a connection counts its requests with.
    pub fn of_connection(&self) -> TemporalMeter {
        let meter: Arc<dyn CoreMeter> = Arc::new(self.clone());
        TemporalMeter::new(meter, NewAttributes::default(), TaskQueueLabelStrategy::UseNormal)
    }

    /// The figure of that name, made when it is first asked for: every worker and connection asks anew.
    fn figure(&self, params: &MetricParameters, make: impl FnOnce(&str) -> Figure) -> Figure {
        let plain = params.name.strip_prefix(METRIC_PREFIX).unwrap_or(&params.name);
        let mut figures = self.figures.lock().unwrap_or_else(PoisonError::into_inner);
        let described = figures
            .entry(format!("{METRIC_PREFIX}{plain}"))
            .or_insert_with(|| Described { help: params.description.to_string(), figure: make(plain) });
        described.figure.clone()
    }
}

impl Collector for TemporalFigures {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let figures = self.figures.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for (name, Described { help, figure }) in &figures {
            let mut write = |family: &dyn WriteFamily| family.write(&mut encoder, name, help);
            match figure {
                Figure::Counter(family) => write(family)?,
                Figure::Gauge(family) => write(family)?,
                Figure::Seconds(family) => write(family)?,
            }
        }
        Ok(())
    }
}

/// A family of any type, written under a name. One that nobody has counted in is left out.
trait WriteFamily {
    fn write(&self, encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str) -> Result<(), fmt::Error>;
}

impl<F: EncodeMetric> WriteFamily for F {
    fn write(&self, encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str) -> Result<(), fmt::Error> {
        if self.is_empty() {
            return Ok(());
        }
        self.encode(encoder.encode_descriptor(name, help, None, self.metric_type())?)
    }
}

/// The labels of ours among those that the SDK gives, in their own order.
fn labels(attributes: &MetricAttributes) -> Labels {
    let MetricAttributes::NoOp(given) = attributes else { return Labels::new() };
    LABELS.iter().filter_map(|label| Some((*label, given.get(*label)?.clone()))).collect()
}

impl CoreMeter for TemporalFigures {
    fn new_attributes(&self, attribs: NewAttributes) -> MetricAttributes {
        MetricAttributes::NoOp(Arc::new(attribs.into()))
    }

    fn extend_attributes(&self, existing: MetricAttributes, attribs: NewAttributes) -> MetricAttributes {
        let mut all =
            if let MetricAttributes::NoOp(labels) = existing { HashMap::clone(&labels) } else { HashMap::new() };
        all.extend(HashMap::<String, String>::from(attribs));
        MetricAttributes::NoOp(Arc::new(all))
    }

    fn counter(&self, params: MetricParameters) -> Counter {
        Counter::new(Arc::new(self.figure(&params, |_| Figure::Counter(Family::default()))))
    }

    fn histogram_duration(&self, params: MetricParameters) -> HistogramDuration {
        let make = |name: &str| Figure::Seconds(Family::new_with_constructor(Bounds(default_buckets_for(name, true))));
        HistogramDuration::new(Arc::new(self.figure(&params, make)))
    }

    fn gauge(&self, params: MetricParameters) -> Gauge {
        Gauge::new(Arc::new(self.figure(&params, |_| Figure::Gauge(Family::default()))))
    }

    // The SDK has no figures of the following types.
    fn histogram(&self, _params: MetricParameters) -> Histogram {
        Histogram::new(Arc::new(NoOpInstrument))
    }

    fn histogram_f64(&self, _params: MetricParameters) -> HistogramF64 {
        HistogramF64::new(Arc::new(NoOpInstrument))
    }

    fn gauge_f64(&self, _params: MetricParameters) -> GaugeF64 {
        GaugeF64::new(Arc::new(NoOpInstrument))
    }

    fn up_down_counter(&self, _params: MetricParameters) -> UpDownCounter {
        UpDownCounter::new(Arc::new(NoOpInstrument))
    }
}

struct Adding(counter::Counter);
struct Setting(gauge::Gauge);
struct Timing(histogram::Histogram);

impl CounterBase for Adding {
    fn adds(&self, value: u64) {
        self.0.inc_by(value);
    }
}

impl GaugeBase for Setting {
    fn records(&self, value: u64) {
        self.0.set(i64::try_from(value).unwrap_or(i64::MAX));
    }
}

impl HistogramDurationBase for Timing {
    fn records(&self, value: Duration) {
        self.0.observe(value.as_secs_f64());
    }
}

/// The SDK asked for one name as two types.
#[derive(Debug, thiserror::Error)]
#[error("the figure is of another type")]
struct OtherType;

macro_rules! bound {
    ($base:ident, $figure:ident, $bound:ident) => {
        impl MetricAttributable<Box<dyn $base>> for Figure {
            fn with_attributes(&self, attributes: &MetricAttributes) -> Result<Box<dyn $base>, Box<dyn Error>> {
                let Self::$figure(family) = self else { return Err(Box::new(OtherType)) };
                Ok(Box::new($bound(family.get_or_create_owned(&labels(attributes)))))
            }
        }
    };
}

bound!(CounterBase, Counter, Adding);
bound!(GaugeBase, Gauge, Setting);
bound!(HistogramDurationBase, Seconds, Timing);

#[cfg(test)]
mod tests {
    use temporalio_common::telemetry::metrics::MetricKeyValue;

    use super::*;
    use crate::Metrics;

    #[test]
    fn what_the_sdk_counts_is_written_out_with_known_labels_only_and_under_one_name() {
        let metrics = Metrics::new();
        let meter = metrics.temporal().of_connection();
        let attributes = meter.new_attributes(
            [("operation", "StartWorkflowExecution"), ("service_name", "temporal-core-sdk"), ("workflow_id", "secret")]
                .map(|(key, value)| MetricKeyValue::new(key, value))
                .into(),
        );
        for name in ["request", "temporal_request"] {
            meter.counter(name.into()).add(2, &attributes);
        }
        meter.histogram_duration("request_latency".into()).record(Duration::from_millis(70), &attributes);
        let longer = meter.extend_attributes(attributes, [MetricKeyValue::new("poller_type", "sticky")].into());
        meter.gauge("num_pollers".into()).record(3, &longer);
        meter.counter("never_counted".into());
        let text = metrics.render();
        for line in [
            "temporal_request_total{operation=\"StartWorkflowExecution\"} 4",
            "temporal_request_latency_bucket{le=\"0.1\",operation=\"StartWorkflowExecution\"} 1",
            "temporal_num_pollers{operation=\"StartWorkflowExecution\",poller_type=\"sticky\"} 3",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
        }
        for absent in ["secret", "service_name", "never_counted"] {
            assert!(!text.contains(absent), "{absent} in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }
}
