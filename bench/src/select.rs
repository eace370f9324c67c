//! `tokenhub-bench select`: how long one selection takes among many deployments. No process, no socket, a few seconds.
//!
//! Measures the pure function, signals known for every deployment, and the picture of the signals apart, because many
//! selections share one. The median of batches counts: another process on the machine is no fault of the selection.

use std::{
    hint::black_box,
    io::Write,
    time::{Duration, Instant},
};

use serde_json::json;
use tokenhub_domain::{
    Catalogue, Deployment, Model, NanoDollars, Policy, PricePerMillion, Provider, ProviderKind, RoutingProfile,
    SelectRequest, ShortlistWish, UnixMicros,
};
use tokenhub_routing::{
    LiveSignals, Observations, Sample, SampleResult, Signals, Situation, Temperature, ranking, shortlist,
};

const DEPLOYMENTS: u32 = 200;
const PROVIDERS: u32 = 20;
const SELECTIONS_PER_BATCH: u32 = 200;
const BATCHES: usize = 101;
/// What a selection may take.
const BAR_US: f64 = 20.0;

/// Measures, prints, and says whether the bar is held.
pub(crate) fn run() -> anyhow::Result<bool> {
    let catalogue = catalogue();
    let (observations, now) = observations(&catalogue);
    let signals = Signals::of(&catalogue, &observations, now, LiveSignals::On);
    let request = SelectRequest {
        wishes: Vec::new(),
        estimated_input_tokens: 1_000,
        estimated_output_tokens: 512,
        policy: Policy { max_budget: NanoDollars::from_usd(1.0), ..Policy::default() },
        prefix: None,
    };
    let mut seed = 0_u64;
    let mut figures = serde_json::Map::new();
    let mut passed = true;
    for profile in [RoutingProfile::Normal, RoutingProfile::Cheap, RoutingProfile::Thompson] {
        let wish = ShortlistWish { profile, model: None, min_weight: 1, needs: Vec::new(), apart_from: None };
        let mut situation = || {
            seed += 1;
            Situation { catalogue: &catalogue, signals: &signals, temperature: Temperature::new(0.3), seed, warm: &[] }
        };
        let ranked_us = median_us(|| {
            black_box(ranking(&situation(), black_box(&wish), &request));
        });
        let listed_us = median_us(|| {
            black_box(shortlist(&situation(), black_box(&wish), &request));
        });
        let enforced = profile != RoutingProfile::Thompson;
        passed &= !enforced || listed_us <= BAR_US;
        figures.insert(profile.as_str().to_owned(), json!({"ranking_us": ranked_us, "shortlist_us": listed_us}));
    }
    let picture_us = median_us(|| {
        black_box(Signals::of(&catalogue, &observations, now, LiveSignals::On));
    });
    let report = json!({
        "deployments": DEPLOYMENTS, "providers": PROVIDERS, "bar_us": BAR_US, "passed": passed,
        "selection": figures, "picture_us": picture_us,
    });
    writeln!(std::io::stdout(), "{report:#}")?;
    Ok(passed)
}

fn catalogue() -> Catalogue {
    let providers =
        (0..PROVIDERS).map(|n| Provider::new(format!("provider-{n}").as_str(), ProviderKind::Openai, "http://h"));
    let models = (0..DEPLOYMENTS).map(|n| Model {
        weight: n % 10 + 1,
        max_context_tokens: Some(128_000),
        input_price: PricePerMillion(i64::from(n % 37) * 100_000_000),
        output_price: PricePerMillion(i64::from(n % 41) * 400_000_000),
        ..Model::new(
            format!("vendor/model-{}-instruct", n / 2).as_str(),
            format!("provider-{}", n % PROVIDERS).as_str(),
        )
    });
    Catalogue { version: 1, providers: providers.collect(), models: models.collect(), aliases: Vec::new() }
}

fn observations(catalogue: &Catalogue) -> (Observations, UnixMicros) {
    let (mut seen, mut now) = (Observations::default(), UnixMicros(1_700_000_000_000_000));
    for (index, model) in catalogue.models.iter().enumerate() {
        let deployment = Deployment::new(model.id.as_str(), model.provider_id.as_str());
        for call in 0..5 {
            now = now.plus_millis(7);
            let latency_ms = 200 + (index as u64 * 131 + call * 17) % 3_000;
            let result = SampleResult::Whole { latency_ms, cost: NanoDollars(1_000_000) };
            seen.note(&deployment, &Sample { ended: now, input_tokens: 1_200, result });
        }
    }
    (seen, now)
}

/// Microseconds for one `act`, in the median batch.
fn median_us(mut act: impl FnMut()) -> f64 {
    let mut batch = || {
        let began = Instant::now();
        for _ in 0..SELECTIONS_PER_BATCH {
            act();
        }
        began.elapsed()
    };
    batch();
    let mut batches: Vec<Duration> = (0..BATCHES).map(|_| batch()).collect();
    batches.sort_unstable();
    let median = batches.get(BATCHES / 2).copied().unwrap_or_default();
    median.as_secs_f64() * 1e6 / f64::from(SELECTIONS_PER_BATCH)
}
