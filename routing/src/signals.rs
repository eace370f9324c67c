//! What calls tell about the deployments that answered them: how often they fail, how fast they are, how much they please.
//!
//! Owns how evidence is gathered and forgotten. Must not know who makes calls or what time it is. Every figure fades with
//! a half-life, so that a bad hour does not follow a deployment for ever; what nobody has tried counts as fast, reliable
//! and unknown. What a mere probe finds is kept beside it and ranks nobody.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tokenhub_domain::{
    Catalogue, Deployment, ErrorClass, Model, ModelId, NanoDollars, Provider, ProviderId, ProviderOrigin, UnixMicros,
};

use crate::{
    bandit::{Arm, Bucket, reward},
    cooldown::DEADLINE_EVIDENCE_MS,
};

/// Failures and latencies of this long ago count half.
const HALF_LIFE_MS: f64 = 120_000.0;
/// Calls that every deployment is thought to have answered before: one failure is no outage, and silence heals.
const CALLS_ASSUMED: f64 = 4.0;
/// Failures in a row that make a deployment degraded.
const DEGRADED_FAILURES: u32 = 2;
/// A deployment that was not called for this long has no figures.
const FORGOTTEN_AFTER_MS: u64 = 24 * 3_600_000;

/// What one call showed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// When it was over.
    pub ended: UnixMicros,
    /// Input tokens, as the provider counted them or as they were estimated.
    pub input_tokens: u64,
    /// What came of it.
    pub result: SampleResult,
}

/// What came of a call.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum SampleResult {
    /// It was answered in one body.
    Whole {
        /// From sending to the last byte.
        latency_ms: u64,
        /// What it cost.
        cost: NanoDollars,
    },
    /// It was answered in a stream.
    Streamed {
        /// From sending to the first content.
        first_token_ms: u64,
        /// What it cost.
        cost: NanoDollars,
    },
    /// It failed.
    Failed {
        /// Why.
        class: ErrorClass,
        /// From sending to the failure.
        elapsed_ms: u64,
    },
}

/// A mean that forgets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Mean {
    sum: f64,
    weight: f64,
}

impl Mean {
    fn fade(&mut self, factor: f64) {
        self.sum *= factor;
        self.weight *= factor;
    }

    #[expect(clippy::cast_precision_loss, reason = "latencies are hours at most")]
    fn add(&mut self, value: u64) {
        self.sum += value as f64;
        self.weight += 1.0;
    }

    fn value(&self) -> Option<f64> {
        (self.weight > 0.0).then(|| self.sum / self.weight)
    }
}

/// Everything that is remembered of one deployment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Record {
    calls: f64,
    failures: f64,
    failures_in_a_row: u32,
    whole: Mean,
    first_token: Mean,
    arms: [Arm; Bucket::ALL.len()],
    noted_at: UnixMicros,
    /// Calls since the process began, for people.
    pub total_calls: u64,
    /// Failures among them.
    pub total_failures: u64,
    /// The latest failure.
    pub last_failure: Option<(ErrorClass, UnixMicros)>,
    /// The latest answer.
    pub last_success_at: Option<UnixMicros>,
}

/// What the latest probe found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// When.
    pub at: UnixMicros,
    /// Whether somebody answered.
    pub reached: bool,
    /// How long that took.
    pub latency_ms: u64,
}

impl Record {
    fn fade_to(&mut self, now: UnixMicros) {
        let factor = faded(now.millis_since(self.noted_at), HALF_LIFE_MS);
        self.calls *= factor;
        self.failures *= factor;
        self.whole.fade(factor);
        self.first_token.fade(factor);
        self.noted_at = self.noted_at.max(now);
    }

    fn note(&mut self, sample: &Sample) {
        self.fade_to(sample.ended);
        self.calls += 1.0;
        self.total_calls += 1;
        match sample.result {
            SampleResult::Whole { latency_ms, .. } => self.whole.add(latency_ms),
            SampleResult::Streamed { first_token_ms, .. } => self.first_token.add(first_token_ms),
            SampleResult::Failed { class, .. } => {
                self.failures += 1.0;
                self.failures_in_a_row += 1;
                self.total_failures += 1;
                self.last_failure = Some((class, sample.ended));
            }
        }
        if !matches!(sample.result, SampleResult::Failed { .. }) {
            self.failures_in_a_row = 0;
            self.last_success_at = Some(sample.ended);
        }
        let [small, medium, large] = &mut self.arms;
        let arm = match Bucket::of(sample.input_tokens) {
            Bucket::Small => small,
            Bucket::Medium => medium,
            Bucket::Large => large,
        };
        arm.note(reward(&sample.result), sample.ended);
    }

    /// Adds what another process has seen of the same deployment.
    fn add(&mut self, other: &Self) {
        let now = self.noted_at.max(other.noted_at);
        let mut other = other.clone();
        if other.noted_at > self.noted_at {
            self.failures_in_a_row = other.failures_in_a_row;
        }
        self.fade_to(now);
        other.fade_to(now);
        self.calls += other.calls;
        self.failures += other.failures;
        for (mean, more) in [(&mut self.whole, other.whole), (&mut self.first_token, other.first_token)] {
            mean.sum += more.sum;
            mean.weight += more.weight;
        }
        for (arm, more) in self.arms.iter_mut().zip(other.arms) {
            *arm = arm.and(more, now);
        }
        self.total_calls += other.total_calls;
        self.total_failures += other.total_failures;
        self.last_failure = self.last_failure.into_iter().chain(other.last_failure).max_by_key(|(_, at)| *at);
        self.last_success_at = self.last_success_at.max(other.last_success_at);
    }

    /// What selection needs of it.
    pub fn signal(&self, now: UnixMicros) -> Signal {
        let factor = faded(now.millis_since(self.noted_at), HALF_LIFE_MS);
        Signal {
            whole_ms: self.whole.value(),
            first_token_ms: self.first_token.value(),
            failure_ratio: self.failures * factor / (self.calls * factor + CALLS_ASSUMED),
            // A row of failures that nobody added to heals like everything else.
            degraded: self.failures_in_a_row >= DEGRADED_FAILURES && factor > 0.5,
            arms: self.arms.map(|arm| arm.at(now)),
        }
    }
}

/// The share that is left of something after so long.
#[expect(clippy::cast_precision_loss, reason = "times are years at most")]
pub(crate) fn faded(elapsed_ms: u64, half_life_ms: f64) -> f64 {
    (-(elapsed_ms as f64) / half_life_ms).exp2()
}

/// What is known of a deployment when somebody selects.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Signal {
    /// Recent latency of answers in one body; none is not known.
    pub whole_ms: Option<f64>,
    /// Recent latency of streams, to their first content.
    pub first_token_ms: Option<f64>,
    /// Share of recent calls that failed, 0 to 1.
    pub failure_ratio: f64,
    /// Whether its latest calls failed in a row.
    pub degraded: bool,
    /// What Thompson sampling believes, by size of the request.
    pub arms: [Arm; Bucket::ALL.len()],
}

/// Whether what calls have shown of speed and failures ranks anybody. What Thompson sampling believes counts anyhow: who
/// asks for it asks for that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LiveSignals {
    /// It does.
    #[default]
    On,
    /// Prices and weights alone do.
    Off,
}

/// What is known of each model of one catalogue, in its order: a selection looks nothing up. Of a model that is not in it
/// nothing is known.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Signals {
    known: Vec<Signal>,
    /// Where in the catalogue the provider of each model is.
    providers: Vec<Option<usize>>,
}

impl Signals {
    /// What `seen` says about the models of `catalogue` at `now`.
    pub fn of(catalogue: &Catalogue, seen: &Observations, now: UnixMicros, live: LiveSignals) -> Self {
        // A scripted model answers in no time and never fails, which is no reason to prefer it to a real one.
        let is_demo = catalogue.providers.iter().any(|provider| provider.origin == ProviderOrigin::Demo);
        let live = if is_demo { LiveSignals::Off } else { live };
        let known = |model: &Model| match (seen.of(&model.provider_id, &model.id), live) {
            (None, _) => Signal::default(),
            (Some(record), LiveSignals::On) => record.signal(now),
            (Some(record), LiveSignals::Off) => Signal { arms: record.signal(now).arms, ..Signal::default() },
        };
        let mut places = BTreeMap::new();
        for (place, provider) in catalogue.providers.iter().enumerate() {
            places.entry(&provider.id).or_insert(place);
        }
        let provider_of = |model: &Model| places.get(&model.provider_id).copied();
        Self {
            known: catalogue.models.iter().map(known).collect(),
            providers: catalogue.models.iter().map(provider_of).collect(),
        }
    }

    /// What is known of the model at this place of the catalogue.
    pub fn at(&self, index: usize) -> Option<&Signal> {
        self.known.get(index)
    }

    /// The provider of `model`, which is at this place of `catalogue`. Signals of no catalogue look it up.
    pub(crate) fn provider_of<'a>(
        &self,
        catalogue: &'a Catalogue,
        index: usize,
        model: &Model,
    ) -> Option<&'a Provider> {
        match self.providers.get(index) {
            Some(place) => place.and_then(|place| catalogue.providers.get(place)),
            None => catalogue.provider(&model.provider_id),
        }
    }
}

impl FromIterator<Signal> for Signals {
    fn from_iter<I: IntoIterator<Item = Signal>>(signals: I) -> Self {
        Self { known: signals.into_iter().collect(), providers: Vec::new() }
    }
}

/// Everything that calls have shown.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Observations {
    calls: BTreeMap<ProviderId, BTreeMap<ModelId, Record>>,
    probes: BTreeMap<ProviderId, Probe>,
}

impl Observations {
    /// Notes a call. Failures that say nothing about the deployment do not count.
    pub fn note(&mut self, deployment: &Deployment, sample: &Sample) {
        if let SampleResult::Failed { class, elapsed_ms } = sample.result
            && !is_evidence(class, elapsed_ms)
        {
            return;
        }
        self.record(&deployment.provider, &deployment.model).note(sample);
    }

    /// Notes that somebody looked whether `provider` is there.
    pub fn note_probe(&mut self, provider: &ProviderId, probe: Probe) {
        self.probes.insert(provider.clone(), probe);
    }

    /// The latest look at `provider`.
    pub fn probe(&self, provider: &ProviderId) -> Option<Probe> {
        self.probes.get(provider).copied()
    }

    fn record(&mut self, provider: &ProviderId, model: &ModelId) -> &mut Record {
        self.calls.entry(provider.clone()).or_default().entry(model.clone()).or_default()
    }

    /// Adds what another process has seen.
    pub fn add(&mut self, other: &Self) {
        for (provider, model, record) in other.iter() {
            self.record(provider, model).add(record);
        }
        for (provider, probe) in &other.probes {
            let known = self.probes.entry(provider.clone()).or_insert(*probe);
            if probe.at > known.at {
                *known = *probe;
            }
        }
    }

    /// Everything that is remembered, by deployment.
    pub fn iter(&self) -> impl Iterator<Item = (&ProviderId, &ModelId, &Record)> {
        self.calls
            .iter()
            .flat_map(|(provider, models)| models.iter().map(move |(model, record)| (provider, model, record)))
    }

    /// What is remembered of one deployment.
    pub fn of(&self, provider: &ProviderId, model: &ModelId) -> Option<&Record> {
        self.calls.get(provider)?.get(model)
    }

    /// Drops what was not called for a day.
    pub fn forget_old(&mut self, now: UnixMicros) {
        for models in self.calls.values_mut() {
            models.retain(|_, record| now.millis_since(record.noted_at) < FORGOTTEN_AFTER_MS);
        }
        self.calls.retain(|_, models| !models.is_empty());
    }
}

/// Whether a failure says something about the deployment. That a deadline has passed does, if there was time.
fn is_evidence(class: ErrorClass, elapsed_ms: u64) -> bool {
    class.is_transient() && (class != ErrorClass::StepDeadline || elapsed_ms >= DEADLINE_EVIDENCE_MS)
}

#[cfg(test)]
mod tests {
    use tokenhub_domain::{Provider, ProviderKind};

    use super::*;

    const SECOND: u64 = 1_000;

    fn at(millis: u64) -> UnixMicros {
        UnixMicros(1_700_000_000_000_000).plus_millis(millis)
    }

    fn sample(millis: u64, result: SampleResult) -> Sample {
        Sample { ended: at(millis), input_tokens: 10, result }
    }

    fn answered(millis: u64, latency_ms: u64) -> Sample {
        sample(millis, SampleResult::Whole { latency_ms, cost: NanoDollars(0) })
    }

    fn failed(millis: u64, class: ErrorClass) -> Sample {
        sample(millis, SampleResult::Failed { class, elapsed_ms: 1 })
    }

    fn after(samples: &[Sample], now_ms: u64) -> Signal {
        let mut seen = Observations::default();
        for sample in samples {
            seen.note(&Deployment::new("m", "p"), sample);
        }
        seen.of(&"p".into(), &"m".into()).map_or_else(Signal::default, |record| record.signal(at(now_ms)))
    }

    #[test]
    fn failures_count_and_fade() {
        let failures: Vec<Sample> = (0..4).map(|n| failed(n, ErrorClass::ServerError)).collect();
        let fresh = after(&failures, 4);
        assert!((fresh.failure_ratio - 0.5).abs() < 0.01 && fresh.degraded, "{fresh:?}");
        let later = after(&failures, 240 * SECOND);
        assert!((later.failure_ratio - 0.2).abs() < 0.01 && !later.degraded, "two half-lives: {later:?}");
        let old = after(&failures, 3_600 * SECOND);
        assert!(old.failure_ratio < 1e-6, "{old:?}");
        assert!(!after(&[failures.clone(), vec![answered(5, 1)]].concat(), 6).degraded);
    }

    #[test]
    fn what_says_nothing_about_the_deployment_is_not_noted() {
        for class in [ErrorClass::Cancelled, ErrorClass::BadRequest, ErrorClass::AuthFailed, ErrorClass::StepDeadline] {
            assert_eq!(after(&[failed(0, class)], 1), Signal::default(), "{class:?}");
        }
        assert!(after(&[failed(0, ErrorClass::RateLimited)], 1).failure_ratio > 0.1);
    }

    #[test]
    fn latency_follows_the_recent_calls_and_a_failure_has_none() {
        let mut calls: Vec<Sample> = (0..20).map(|n| answered(n, 100)).collect();
        calls.extend((0..3).map(|n| answered(600 * SECOND + n, 900)));
        calls.push(failed(600 * SECOND + 9, ErrorClass::Transport));
        let mean = after(&calls, 600 * SECOND + 10).whole_ms.unwrap();
        assert!((750.0..900.0).contains(&mean), "five half-lives later the old calls count a little: {mean}");
        assert_eq!(after(&[failed(0, ErrorClass::Transport)], 1).whole_ms, None);
    }

    #[test]
    fn a_stream_is_as_fast_as_its_first_content_and_a_probe_ranks_nobody() {
        let streamed = sample(0, SampleResult::Streamed { first_token_ms: 70, cost: NanoDollars(0) });
        let signal = after(&[streamed, answered(1, 5_000)], 2);
        assert_eq!((signal.first_token_ms, signal.whole_ms.map(f64::round)), (Some(70.0), Some(5_000.0)));
        let mut seen = Observations::default();
        seen.note_probe(&"p".into(), Probe { at: at(0), reached: false, latency_ms: 9_000 });
        assert!(seen.of(&"p".into(), &"m".into()).is_none());
        assert_eq!(seen.probe(&"p".into()).map(|probe| probe.latency_ms), Some(9_000));
    }

    #[test]
    fn what_two_processes_have_seen_is_what_one_would_have_seen() {
        let calls: Vec<Sample> = (0..8)
            .map(|n| if n % 3 == 0 { failed(n * 100, ErrorClass::Transport) } else { answered(n * 100, 50 + n) })
            .collect();
        let deployment = Deployment::new("m", "p");
        let (mut one, mut left, mut right) =
            (Observations::default(), Observations::default(), Observations::default());
        for (index, call) in calls.iter().enumerate() {
            one.note(&deployment, call);
            if index % 2 == 0 { left.note(&deployment, call) } else { right.note(&deployment, call) }
        }
        left.add(&right);
        let now = at(SECOND);
        let of = |seen: &Observations| seen.of(&"p".into(), &"m".into()).unwrap().clone();
        let (alone, together) = (of(&one).signal(now), of(&left).signal(now));
        assert!((alone.failure_ratio - together.failure_ratio).abs() < 1e-9, "{alone:?} {together:?}");
        assert!((alone.whole_ms.unwrap() - together.whole_ms.unwrap()).abs() < 1e-6);
        assert!((alone.arms[0].alpha() - together.arms[0].alpha()).abs() < 1e-6);
        assert_eq!(of(&left).total_calls, 8);
        assert_eq!(of(&left).last_failure, of(&one).last_failure);
    }

    #[test]
    fn beside_demo_models_and_when_switched_off_only_beliefs_are_known() {
        let mut seen = Observations::default();
        seen.note(&Deployment::new("m", "p"), &answered(0, 5_000));
        let known = |origin, live| {
            let provider = Provider { origin, ..Provider::new("p", ProviderKind::Openai, "http://h") };
            let models = vec![Model::new("other", "p"), Model::new("m", "p")];
            let catalogue = Catalogue { providers: vec![provider], models, ..Catalogue::default() };
            let signals = Signals::of(&catalogue, &seen, at(1), live);
            assert_eq!(signals.at(0), Some(&Signal::default()));
            let known = signals.at(1).unwrap();
            assert!(known.arms[0].calls() > 0.9);
            known.whole_ms.is_some()
        };
        assert!(known(ProviderOrigin::Configured, LiveSignals::On));
        assert!(!known(ProviderOrigin::Configured, LiveSignals::Off));
        assert!(!known(ProviderOrigin::Demo, LiveSignals::On));
    }

    #[test]
    fn what_is_not_called_for_a_day_is_forgotten() {
        let mut seen = Observations::default();
        seen.note(&Deployment::new("m", "p"), &answered(0, 1));
        seen.forget_old(at(3_600 * SECOND));
        assert_eq!(seen.iter().count(), 1);
        seen.forget_old(at(25 * 3_600 * SECOND));
        assert_eq!(seen.iter().count(), 0);
    }
}
