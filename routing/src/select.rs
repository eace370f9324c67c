//! Eligibility and ranking: who may be called for a wish, best first, and why the others may not.
//!
//! Owns the score. Must not know where latency and failure figures come from: they arrive as [`Signals`]. Limits are
//! hard: no deployment that a limit excludes is ever offered, and a named model is never replaced by another.

use std::collections::BTreeMap;

use tokenhub_domain::{
    Candidate, Catalogue, CredentialId, Model, ModelId, NanoDollars, ProviderId, RoutingProfile, SelectRequest,
    Shortlist, ShortlistWish,
};

/// Safety margin over the estimated input, in percent: estimates of four bytes a token are low for code.
const CONTEXT_PERCENT: u64 = 115;

/// What is known about a provider's health.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Signal {
    /// Recent latency.
    pub latency_ms: f64,
    /// Share of recent calls that failed, 0 to 1.
    pub failure_ratio: f64,
}

/// Health by provider; an absent provider counts as fast and reliable.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Signals(pub BTreeMap<ProviderId, Signal>);

impl Signals {
    fn of(&self, provider: &ProviderId) -> Signal {
        self.0.get(provider).copied().unwrap_or_default()
    }
}

/// What a client's model name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolved {
    /// Nothing in particular: routing chooses.
    Any,
    /// This model and no other.
    Named(ModelId),
    /// No such model.
    Unknown,
}

/// Reads a model name: empty or `*` is any; then the exact id, then `provider/model` with a configured provider.
pub fn resolve_model(catalogue: &Catalogue, name: &str) -> Resolved {
    let name = name.trim();
    if name.is_empty() || name == "*" {
        return Resolved::Any;
    }
    if let Some(model) = catalogue.models.iter().find(|model| model.id.as_str() == name) {
        return Resolved::Named(model.id.clone());
    }
    let of_provider = name.match_indices('/').find_map(|(at, _)| {
        let (provider, rest) = (ProviderId::from(&name[..at]), &name[at + 1..]);
        catalogue.provider(&provider)?;
        catalogue.models.iter().find(|model| model.provider_id == provider && model.id.as_str() == rest)
    });
    of_provider.map_or(Resolved::Unknown, |model| Resolved::Named(model.id.clone()))
}

/// The deployments that may be called for `wish`, best first. Equal scores keep configuration order.
pub fn shortlist(catalogue: &Catalogue, wish: &ShortlistWish, request: &SelectRequest, signals: &Signals) -> Shortlist {
    let mut eligible: Vec<Rated<'_>> = Vec::new();
    let mut skipped = Vec::new();
    for model in catalogue.models.iter().filter(|model| wish.model.as_ref().is_none_or(|named| &model.id == named)) {
        if let Some(reason) = exclusion(catalogue, model, wish, request) {
            skipped.push(format!("{}: {reason}", model.id));
            continue;
        }
        let signal = signals.of(&model.provider_id);
        let credentials = catalogue.provider(&model.provider_id).map_or(&[][..], |provider| &provider.credentials);
        eligible.push(Rated { model, credentials, cost: estimate(model, request), signal });
    }
    if let Some(named) = &wish.model
        && eligible.is_empty()
        && skipped.is_empty()
    {
        skipped.push(format!("{named}: unknown_model"));
    }
    Shortlist { candidates: ranked(&eligible, wish.profile), skipped }
}

fn exclusion(
    catalogue: &Catalogue,
    model: &Model,
    wish: &ShortlistWish,
    request: &SelectRequest,
) -> Option<&'static str> {
    let needed_tokens = request.estimated_input_tokens.saturating_mul(CONTEXT_PERCENT) / 100;
    if !model.enabled {
        return Some("disabled");
    }
    if model.weight < wish.min_weight.max(request.policy.min_weight) {
        return Some("weight_below_minimum");
    }
    if model.max_context_tokens.is_some_and(|window| needed_tokens > window) {
        return Some("context_overflow");
    }
    if !catalogue.is_callable(model) {
        return Some("provider_disabled");
    }
    if request.policy.max_budget.is_some_and(|budget| estimate(model, request) > budget) {
        return Some("budget_exceeded");
    }
    None
}

fn estimate(model: &Model, request: &SelectRequest) -> NanoDollars {
    model.cost_of(request.estimated_input_tokens, request.estimated_output_tokens)
}

struct Rated<'a> {
    model: &'a Model,
    credentials: &'a [CredentialId],
    cost: NanoDollars,
    signal: Signal,
}

/// How much each part counts.
struct Weights {
    cost: f64,
    latency: f64,
    failure: f64,
    weight: f64,
}

impl Weights {
    fn of(profile: RoutingProfile) -> Self {
        let [cost, latency, failure, weight] = match profile {
            RoutingProfile::Cheap => [0.70, 0.10, 0.10, 0.10],
            RoutingProfile::Normal => [0.25, 0.25, 0.25, 0.25],
            RoutingProfile::HighConfidence => [0.05, 0.10, 0.15, 0.70],
            RoutingProfile::Planning | RoutingProfile::Adversarial => [0.10, 0.10, 0.20, 0.60],
        };
        Self { cost, latency, failure, weight }
    }
}

fn ranked(eligible: &[Rated<'_>], profile: RoutingProfile) -> Vec<Candidate> {
    let weights = Weights::of(profile);
    let largest = |part: fn(&Rated<'_>) -> f64| eligible.iter().map(part).fold(0.0, f64::max);
    let (cost, latency) = (largest(cost_of), largest(|it| it.signal.latency_ms));
    let (failure, weight) = (largest(|it| it.signal.failure_ratio), largest(|it| f64::from(it.model.weight)));
    let mut scored: Vec<(f64, &Rated<'_>)> = eligible
        .iter()
        .map(|it| {
            let score = weights.cost * ratio(cost_of(it), cost)
                + weights.latency * ratio(it.signal.latency_ms, latency)
                + weights.failure * ratio(it.signal.failure_ratio, failure)
                - weights.weight * ratio(f64::from(it.model.weight), weight);
            (score, it)
        })
        .collect();
    // The sort is stable, so equal scores stay in configuration order, which is unique.
    scored.sort_by(|(left, _), (right, _)| left.total_cmp(right));
    scored.into_iter().flat_map(|(_, it)| candidates(it)).collect()
}

#[expect(clippy::cast_precision_loss, reason = "only compared, and exact below 9 million dollars")]
fn cost_of(rated: &Rated<'_>) -> f64 {
    rated.cost.0 as f64
}

fn ratio(value: f64, largest: f64) -> f64 {
    if largest > 0.0 { (value / largest).clamp(0.0, 1.0) } else { 0.0 }
}

/// One for each credential, in the order of their use.
fn candidates(rated: &Rated<'_>) -> Vec<Candidate> {
    let unnamed = [CredentialId::default()];
    let credentials = if rated.credentials.is_empty() { &unnamed[..] } else { rated.credentials };
    credentials
        .iter()
        .map(|credential| Candidate {
            deployment: rated.model.deployment(credential.clone()),
            max_context_tokens: rated.model.max_context_tokens,
            estimated_cost: rated.cost,
            weight: rated.model.weight,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use tokenhub_domain::{ModelQuirks, Policy, PricePerMillion, Provider, ProviderKind};

    use super::*;

    fn provider(id: &str) -> Provider {
        Provider::new(id, ProviderKind::Openai, "http://127.0.0.1:1")
    }

    fn model(id: &str, provider: &str, weight: u32, usd_per_million: i64) -> Model {
        let price = PricePerMillion(usd_per_million * 1_000_000_000);
        Model {
            id: id.into(),
            provider_id: provider.into(),
            weight,
            max_context_tokens: None,
            max_output_tokens: None,
            input_price: price,
            output_price: price,
            enabled: true,
            quirks: ModelQuirks::default(),
        }
    }

    fn catalogue(models: Vec<Model>) -> Catalogue {
        Catalogue { version: 1, providers: vec![provider("p"), provider("q"), provider("or/eu")], models }
    }

    fn request() -> SelectRequest {
        SelectRequest {
            wishes: Vec::new(),
            estimated_input_tokens: 1_000,
            estimated_output_tokens: 500,
            policy: Policy::default(),
        }
    }

    fn wish(profile: RoutingProfile) -> ShortlistWish {
        ShortlistWish { profile, model: None, min_weight: 0 }
    }

    fn ids(list: &Shortlist) -> Vec<&str> {
        list.candidates.iter().map(|candidate| candidate.deployment.model.as_str()).collect()
    }

    #[test]
    fn cheap_prefers_price_and_high_confidence_prefers_weight() {
        let all = catalogue(vec![model("strong", "p", 10, 10), model("cheap", "p", 2, 1)]);
        let rank = |profile| shortlist(&all, &wish(profile), &request(), &Signals::default());
        assert_eq!(ids(&rank(RoutingProfile::Cheap)), ["cheap", "strong"]);
        for profile in [RoutingProfile::HighConfidence, RoutingProfile::Planning, RoutingProfile::Adversarial] {
            assert_eq!(ids(&rank(profile)), ["strong", "cheap"], "{profile:?}");
        }
    }

    #[test]
    fn equal_scores_keep_configuration_order() {
        let names = ["c", "a", "d", "b"];
        let all = catalogue(names.iter().map(|name| model(name, "p", 5, 1)).collect());
        assert_eq!(ids(&shortlist(&all, &wish(RoutingProfile::Normal), &request(), &Signals::default())), names);
    }

    #[test]
    fn a_slow_or_failing_provider_ranks_behind() {
        let all = catalogue(vec![model("a", "p", 5, 1), model("b", "q", 5, 1)]);
        for bad in [Signal { latency_ms: 900.0, failure_ratio: 0.0 }, Signal { latency_ms: 0.0, failure_ratio: 0.5 }] {
            let signals = Signals(BTreeMap::from([("p".into(), bad)]));
            assert_eq!(ids(&shortlist(&all, &wish(RoutingProfile::Normal), &request(), &signals)), ["b", "a"]);
        }
    }

    #[test]
    fn more_weight_never_ranks_a_model_lower() {
        for profile in [RoutingProfile::Cheap, RoutingProfile::Normal, RoutingProfile::HighConfidence] {
            let place = |weight| {
                let others = [("x", 3), ("y", 6), ("z", 9)].map(|(name, weight)| model(name, "p", weight, 2));
                let all = catalogue([vec![model("it", "q", weight, 2)], others.to_vec()].concat());
                let list = shortlist(&all, &wish(profile), &request(), &Signals::default());
                ids(&list).iter().position(|id| *id == "it").unwrap()
            };
            let places: Vec<usize> = (0..=10).map(place).collect();
            assert!(places.is_sorted_by(|left, right| left >= right), "{profile:?} {places:?}");
        }
    }

    #[test]
    fn every_exclusion_has_its_reason_and_the_first_one_wins() {
        let mut off = model("off", "p", 0, 99);
        off.enabled = false;
        let mut narrow = model("narrow", "gone", 5, 1);
        narrow.max_context_tokens = Some(1_149);
        let mut wide = model("wide", "p", 5, 1);
        wide.max_context_tokens = Some(1_150);
        let all = catalogue(vec![
            off,
            model("light", "p", 1, 1),
            narrow,
            model("orphan", "gone", 5, 99),
            model("dear", "p", 5, 99),
            wide,
        ]);
        let mut request = request();
        request.policy.max_budget = NanoDollars::from_usd(0.01);
        let wish = ShortlistWish { min_weight: 2, ..wish(RoutingProfile::Normal) };
        let list = shortlist(&all, &wish, &request, &Signals::default());
        assert_eq!(ids(&list), ["wide"]);
        assert_eq!(
            list.skipped,
            [
                "off: disabled",
                "light: weight_below_minimum",
                "narrow: context_overflow",
                "orphan: provider_disabled",
                "dear: budget_exceeded",
            ]
        );
    }

    #[test]
    fn the_larger_of_both_minimum_weights_counts() {
        let all = catalogue(vec![model("a", "p", 5, 1)]);
        let mut request = request();
        request.policy.min_weight = 6;
        let list = shortlist(&all, &wish(RoutingProfile::Normal), &request, &Signals::default());
        assert_eq!(list.skipped, ["a: weight_below_minimum"]);
    }

    #[test]
    fn a_named_model_is_never_replaced() {
        let all = catalogue(vec![model("a", "p", 9, 1), model("b", "p", 1, 50), model("b", "q", 1, 40)]);
        let named = |name: &str| {
            let wish = ShortlistWish { model: Some(name.into()), ..wish(RoutingProfile::Normal) };
            shortlist(&all, &wish, &request(), &Signals::default())
        };
        let providers: Vec<String> =
            named("b").candidates.iter().map(|it| it.deployment.provider.to_string()).collect();
        assert_eq!(providers, ["q", "p"]);
        assert_eq!(ids(&named("b")), ["b", "b"]);
        assert!(named("nobody").candidates.is_empty());
        assert_eq!(named("nobody").skipped, ["nobody: unknown_model"]);
    }

    #[test]
    fn names_resolve_exactly_first_and_by_provider_prefix_second() {
        let all = catalogue(vec![
            model("m", "p", 1, 1),
            model("org/m:free", "q", 1, 1),
            model("p/m", "q", 1, 1),
            model("z@1", "or/eu", 1, 1),
        ]);
        let named = |name: &str| Resolved::Named(name.into());
        for (name, expected) in [
            ("", Resolved::Any),
            (" * ", Resolved::Any),
            ("m", named("m")),
            ("p/m", named("p/m")),
            ("q/org/m:free", named("org/m:free")),
            ("or/eu/z@1", named("z@1")),
            ("q/m", Resolved::Unknown),
            ("nobody/m", Resolved::Unknown),
            ("M", Resolved::Unknown),
            ("org/m", Resolved::Unknown),
        ] {
            assert_eq!(resolve_model(&all, name), expected, "{name:?}");
        }
    }
}
