//! What the runs of a process came to, as metrics. Owns their names; the sums are kept where runs are recorded.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, NoLabelSet},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
};
use tokenhub_domain::{RECOVERY_MS_BUCKETS, RecoveryFigures, RunFigures, StepFigures};

/// The latest sums.
#[derive(Clone, Debug, Default)]
pub(crate) struct Runs(Arc<Mutex<RunFigures>>);

impl Runs {
    /// Puts `figures` in the place of the earlier ones.
    pub(crate) fn set(&self, figures: RunFigures) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = figures;
    }
}

impl Collector for Runs {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let figures = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut steps =
            encoder.encode_descriptor("tokenhub_steps", "Steps of recorded runs", None, MetricType::Counter)?;
        by_role(&mut steps, &figures, |of_role| of_role.steps)?;
        let (name, help) = ("tokenhub_step_attempts", "Provider calls made for steps of recorded runs");
        let mut attempts = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        by_role(&mut attempts, &figures, |of_role| of_role.attempts)?;
        let counters = [
            ("tokenhub_calls_avoided", "Voters that were not asked", figures.calls_avoided),
            ("tokenhub_calls_withdrawn", "Voters whose calls were withdrawn", figures.calls_withdrawn),
            (
                "tokenhub_wasted_tokens",
                "Tokens of answers that came too late to be used or broke off",
                figures.wasted_tokens,
            ),
            ("tokenhub_journal_hits", "Steps answered from the journal", figures.journal_hits),
            ("tokenhub_steps_taken_over", "Steps carried on after a death", figures.steps_taken_over),
            ("tokenhub_judge_pairs", "Pairs that a judge has seen in both orders", figures.judge_pairs),
            ("tokenhub_judge_order_flips", "Pairs whose judge named the place", figures.judge_order_flips),
        ];
        for (name, help, value) in counters {
            ConstCounter::new(value).encode(encoder.encode_descriptor(name, help, None, MetricType::Counter)?)?;
        }
        let help = "Dollars that calls under way have taken of budgets";
        let reserved = encoder.encode_descriptor("tokenhub_budget_reserved_usd", help, None, MetricType::Gauge)?;
        ConstGauge::new(figures.budget_reserved.as_usd()).encode(reserved)?;
        let help = "Seconds from the last sign of life of a dead process to the take-over of its step";
        let recovery =
            encoder.encode_descriptor("tokenhub_plan_recovery_seconds", help, None, MetricType::Histogram)?;
        seconds(recovery, &figures.recovery)
    }
}

fn seconds(mut histogram: MetricEncoder<'_>, recovery: &RecoveryFigures) -> Result<(), fmt::Error> {
    let of = |millis: u64| std::time::Duration::from_millis(millis).as_secs_f64();
    let bounds = RECOVERY_MS_BUCKETS.iter().map(|bound| of(*bound));
    let beyond = recovery.count.saturating_sub(recovery.within.iter().sum());
    let buckets: Vec<(f64, u64)> = bounds.zip(recovery.within).chain([(f64::INFINITY, beyond)]).collect();
    histogram.encode_histogram::<NoLabelSet>(of(recovery.sum_ms), recovery.count, &buckets, None)
}

fn by_role(
    family: &mut MetricEncoder<'_>,
    figures: &RunFigures,
    value: impl Fn(&StepFigures) -> u64,
) -> Result<(), fmt::Error> {
    for (role, of_role) in &figures.steps {
        ConstCounter::new(value(of_role)).encode(family.encode_family(&[("role", role.as_str())])?)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use tokenhub_domain::{NanoDollars, RecoveryFigures, Role, RunFigures, StepFigures};

    use crate::Metrics;

    #[test]
    fn the_sums_of_recorded_runs_are_written_out_by_role_and_replace_the_earlier_ones() {
        let metrics = Metrics::new();
        metrics.runs(RunFigures { journal_hits: 1, ..RunFigures::default() });
        let mut recovery = RecoveryFigures::default();
        for millis in [400, 4_500, 90_000] {
            recovery.observe(millis);
        }
        metrics.runs(RunFigures {
            steps: BTreeMap::from([(Role::Voter, StepFigures { steps: 3, attempts: 5 })]),
            journal_hits: 2,
            budget_reserved: NanoDollars(1_500_000_000),
            recovery,
            ..RunFigures::default()
        });
        let text = metrics.render();
        for line in [
            "tokenhub_steps_total{role=\"voter\"} 3",
            "tokenhub_step_attempts_total{role=\"voter\"} 5",
            "tokenhub_journal_hits_total 2",
            "tokenhub_judge_order_flips_total 0",
            "tokenhub_budget_reserved_usd 1.5",
            "tokenhub_plan_recovery_seconds_bucket{le=\"0.5\"} 1",
            "tokenhub_plan_recovery_seconds_bucket{le=\"4.0\"} 1",
            "tokenhub_plan_recovery_seconds_bucket{le=\"5.0\"} 2",
            "tokenhub_plan_recovery_seconds_bucket{le=\"+Inf\"} 3",
            "tokenhub_plan_recovery_seconds_count 3",
            "tokenhub_plan_recovery_seconds_sum 94.9",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
        }
    }
}
