//! Who is eligible, in which order, and that no limit ever gives way.

use proptest::prelude::*;
use tokenhub_domain::{Capabilities, ModelChoice, Policy, PricePerMillion, ProviderKind};

use super::*;

fn model(id: &str, provider: &str, weight: u32, usd_per_million: i64) -> Model {
    let price = PricePerMillion(usd_per_million * 1_000_000_000);
    Model { weight, input_price: price, output_price: price, ..Model::new(id, provider) }
}

fn catalogue(models: Vec<Model>) -> Catalogue {
    let provider = |id: &str| Provider::new(id, ProviderKind::Openai, "http://127.0.0.1:1");
    let providers = vec![provider("p"), provider("q"), provider("or/eu")];
    Catalogue { version: 1, providers, models, aliases: Vec::new() }
}

fn request() -> SelectRequest {
    SelectRequest {
        wishes: Vec::new(),
        estimated_input_tokens: 1_000,
        estimated_output_tokens: 500,
        policy: Policy::default(),
        prefix: None,
    }
}

fn wish(profile: RoutingProfile) -> ShortlistWish {
    ShortlistWish { profile, model: None, min_weight: 0, needs: Vec::new(), apart_from: None }
}

/// With no signals, greedily.
fn listed(catalogue: &Catalogue, wish: &ShortlistWish, request: &SelectRequest) -> Shortlist {
    with(catalogue, &Signals::default(), Temperature::GREEDY, 0, wish, request)
}

fn with(
    catalogue: &Catalogue,
    signals: &Signals,
    temperature: Temperature,
    seed: u64,
    wish: &ShortlistWish,
    request: &SelectRequest,
) -> Shortlist {
    shortlist(&Situation { catalogue, signals, temperature, seed, warm: &[] }, wish, request)
}

/// Signals of the first model of a catalogue.
fn of_first(signal: Signal) -> Signals {
    std::iter::once(signal).collect()
}

fn ids(list: &Shortlist) -> Vec<&str> {
    list.candidates.iter().map(|candidate| candidate.deployment.model.as_str()).collect()
}

#[test]
fn cheap_prefers_price_and_high_confidence_prefers_weight() {
    let all = catalogue(vec![model("strong", "p", 10, 10), model("cheap", "p", 2, 1)]);
    assert_eq!(ids(&listed(&all, &wish(RoutingProfile::Cheap), &request())), ["cheap", "strong"]);
    for profile in [RoutingProfile::HighConfidence, RoutingProfile::Planning, RoutingProfile::Adversarial] {
        assert_eq!(ids(&listed(&all, &wish(profile), &request())), ["strong", "cheap"], "{profile:?}");
    }
}

#[test]
fn equal_scores_keep_configuration_order() {
    let names = ["c", "a", "d", "b"];
    let all = catalogue(names.iter().map(|name| model(name, "p", 5, 1)).collect());
    for seed in 0..20 {
        let list =
            with(&all, &Signals::default(), Temperature::GREEDY, seed, &wish(RoutingProfile::Normal), &request());
        assert_eq!(ids(&list), names);
    }
}

#[test]
fn a_slow_a_failing_and_a_degraded_deployment_rank_behind() {
    let all = catalogue(vec![model("m", "p", 5, 1), model("m", "q", 5, 1)]);
    for bad in [
        Signal { whole_ms: Some(900.0), ..Signal::default() },
        Signal { failure_ratio: 0.5, ..Signal::default() },
        Signal { degraded: true, ..Signal::default() },
    ] {
        let list = with(&all, &of_first(bad), Temperature::GREEDY, 0, &wish(RoutingProfile::Normal), &request());
        let providers: Vec<&str> = list.candidates.iter().map(|it| it.deployment.provider.as_str()).collect();
        assert_eq!(providers, ["q", "p"], "{bad:?}");
    }
}

#[test]
fn a_stream_is_ranked_by_its_first_content() {
    let all = catalogue(vec![model("a", "p", 5, 1), model("b", "p", 5, 1)]);
    let signals = of_first(Signal { whole_ms: Some(9_000.0), first_token_ms: Some(90.0), ..Signal::default() });
    let rank = |needs| {
        let wish = ShortlistWish { needs, ..wish(RoutingProfile::Normal) };
        with(&all, &signals, Temperature::GREEDY, 0, &wish, &request())
    };
    assert_eq!(ids(&rank(Vec::new())), ["b", "a"]);
    assert_eq!(ids(&rank(vec![Capability::Streaming])), ["a", "b"]);
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
        model("llama-2-7b", "p", 5, 99),
        model("orphan", "gone", 5, 99),
        model("dear", "p", 5, 99),
        wide,
    ]);
    let mut request = request();
    request.policy.max_budget = NanoDollars::from_usd(0.01);
    let needs = vec![Capability::JsonSchema, Capability::Tools];
    let wish = ShortlistWish { min_weight: 2, needs, ..wish(RoutingProfile::Normal) };
    let list = listed(&all, &wish, &request);
    assert_eq!(ids(&list), ["wide"]);
    assert_eq!(
        list.skipped,
        [
            "off: disabled",
            "light: weight_below_minimum",
            "narrow: context_overflow",
            "llama-2-7b: lacks_tools",
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
    assert_eq!(listed(&all, &wish(RoutingProfile::Normal), &request).skipped, ["a: weight_below_minimum"]);
}

#[test]
fn a_named_model_is_replaced_by_its_fallbacks_in_their_order_and_by_nobody_else() {
    let all = catalogue(vec![
        model("a", "p", 9, 1),
        model("b", "p", 1, 50),
        model("b", "q", 1, 40),
        model("c", "q", 1, 1),
        model("d", "p", 9, 1),
    ]);
    let named = |choice: ModelChoice| {
        let wish = ShortlistWish { model: Some(choice), ..wish(RoutingProfile::Normal) };
        let list = listed(&all, &wish, &request());
        let names = list.candidates.iter().map(|it| format!("{}@{}", it.deployment.model, it.deployment.provider));
        (names.collect::<Vec<_>>(), list.skipped)
    };
    let at = |model: &str, provider: &str| Target { model: model.into(), provider: Some(provider.into()) };
    assert_eq!(named("b".into()), (vec!["b@q".to_owned(), "b@p".to_owned()], vec![]));
    assert_eq!(named(at("b", "p").into()).0, ["b@p"]);
    assert_eq!(named("nobody".into()), (vec![], vec!["nobody: unknown_model".to_owned()]));
    let fallbacks = vec!["gone".into(), "c".into(), "b".into(), "a".into()];
    let with_fallbacks = named(ModelChoice { target: at("b", "p"), fallbacks, alias: None });
    assert_eq!(with_fallbacks.0, ["b@p", "c@q", "b@q", "a@p"]);
    assert_eq!(with_fallbacks.1, ["gone: unknown_model"]);
}

#[test]
fn every_credential_of_a_deployment_is_a_candidate_next_to_the_others() {
    let mut all = catalogue(vec![model("a", "p", 5, 1), model("b", "q", 6, 1)]);
    all.providers[0].credentials = vec!["x".into(), "y".into()];
    let list = listed(&all, &wish(RoutingProfile::Normal), &request());
    let accounts: Vec<String> = list.candidates.iter().map(|it| it.deployment.account()).collect();
    assert_eq!(accounts, ["q", "p#x", "p#y"]);
}

/// n = 100,000 selections, temperature 0.5, 4 deployments: rank i with a chance as exp(-2 i). Alpha 1e-6 over 4 ranks:
/// 5.16 standard deviations on either side.
#[test]
fn exploration_follows_its_distribution() {
    let names = ["a", "b", "c", "d"];
    let all = catalogue(names.iter().map(|name| model(name, "p", 5, 1)).collect());
    let n = 100_000_u32;
    let mut first = [0_u32; 4];
    for seed in 0..u64::from(n) {
        let temperature = Temperature::new(0.5);
        let list = with(&all, &Signals::default(), temperature, seed, &wish(RoutingProfile::Normal), &request());
        let mut rest = ids(&list);
        let drawn = names.iter().position(|name| *name == rest[0]).unwrap();
        first[drawn] += 1;
        rest.remove(0);
        assert!(rest.is_sorted(), "the others keep their order: {rest:?}");
    }
    let weights: [f64; 4] = [0.0_f64, -2.0, -4.0, -6.0].map(f64::exp);
    for (seen, weight) in first.into_iter().zip(weights) {
        let chance = weight / weights.iter().sum::<f64>();
        let (expected, deviation) = (f64::from(n) * chance, (f64::from(n) * chance * (1.0 - chance)).sqrt());
        assert!((f64::from(seen) - expected).abs() < 5.16 * deviation, "{first:?}");
    }
}

/// n = 20,000 selections between 2 equal deployments: 4.892 standard deviations for alpha 1e-6.
#[test]
fn thompson_sampling_splits_what_it_knows_nothing_about_evenly_and_does_not_explore_beyond_it() {
    let all = catalogue(vec![model("a", "p", 5, 1), model("b", "q", 5, 1)]);
    let n = 20_000_u32;
    let is_a = |seed: &u64, temperature| {
        let list = with(&all, &Signals::default(), temperature, *seed, &wish(RoutingProfile::Thompson), &request());
        ids(&list)[0] == "a"
    };
    let first = (0..u64::from(n)).filter(|seed| is_a(seed, Temperature::GREEDY)).count();
    let first = f64::from(u32::try_from(first).unwrap());
    assert!((first - f64::from(n) / 2.0).abs() < 4.892 * (f64::from(n) / 4.0).sqrt(), "{first} of {n}");
    assert!((0..200).all(|seed| is_a(&seed, Temperature::GREEDY) == is_a(&seed, Temperature::new(5.0))));
}

fn any_model() -> impl Strategy<Value = Model> {
    let known = proptest::collection::btree_map(proptest::sample::select(&Capability::ALL[..]), any::<bool>(), 0..5);
    let provider = proptest::sample::select(&["p", "q", "or/eu", "gone"][..]);
    (0..6_u32, provider, 0..=10_u32, 0..50_i64, proptest::option::of(1..4_000_u64), any::<bool>(), known).prop_map(
        |(name, provider, weight, usd, window, enabled, known)| Model {
            max_context_tokens: window,
            enabled,
            capabilities: Capabilities(known),
            ..model(&format!("m{name}"), provider, weight, usd)
        },
    )
}

fn any_signals() -> impl Strategy<Value = Signals> {
    let signal = (0.0..9_000.0, 0.0..1.0, any::<bool>()).prop_map(|(latency, failure_ratio, degraded)| Signal {
        whole_ms: Some(latency),
        failure_ratio,
        degraded,
        ..Signal::default()
    });
    proptest::collection::vec(signal, 0..14).prop_map(Signals::from_iter)
}

fn any_choice() -> impl Strategy<Value = Option<ModelChoice>> {
    let target =
        (0..7_u32, proptest::option::of(proptest::sample::select(&["p", "q"][..]))).prop_map(|(n, provider)| Target {
            model: ModelId::new(format!("m{n}")),
            provider: provider.map(ProviderId::from),
        });
    proptest::option::of((target.clone(), proptest::collection::vec(target, 0..3)))
        .prop_map(|choice| choice.map(|(target, fallbacks)| ModelChoice { target, fallbacks, alias: None }))
}

proptest! {
    #[test]
    fn no_limit_ever_gives_way(
        models in proptest::collection::vec(any_model(), 0..14),
        signals in any_signals(),
        choice in any_choice(),
        profile in proptest::sample::select(&RoutingProfile::ALL[..]),
        needs in proptest::sample::subsequence(&Capability::ALL[..], 0..=3),
        (input, output, budget, floor) in (0..4_000_u64, 0..2_000_u64, proptest::option::of(0..200_000_000_i64), 0..=8_u32),
        (seed, temperature) in (any::<u64>(), 0.0..2.0),
    ) {
        let all = catalogue(models);
        let policy = Policy { max_budget: budget.map(NanoDollars), min_weight: floor, ..Policy::default() };
        let request =
            SelectRequest { wishes: Vec::new(), estimated_input_tokens: input, estimated_output_tokens: output, policy, prefix: None };
        let wish = ShortlistWish { profile, model: choice, min_weight: 0, needs, apart_from: None };
        let temperature = Temperature::new(temperature);
        let list = with(&all, &signals, temperature, seed, &wish, &request);
        for candidate in &list.candidates {
            let matching = all.models.iter().filter(|model| {
                model.id == candidate.deployment.model && model.provider_id == candidate.deployment.provider
            });
            let model = matching.clone().find(|model| model.weight == candidate.weight).unwrap();
            prop_assert!(all.is_callable(model) || matching.clone().any(|model| all.is_callable(model)));
            prop_assert!(candidate.weight >= floor);
            prop_assert!(budget.is_none_or(|budget| candidate.estimated_cost.0 <= budget));
            prop_assert!(candidate.max_context_tokens.is_none_or(|window| input * 115 / 100 <= window));
            prop_assert!(matching.clone().any(|model| model.capabilities.missing(&wish.needs).is_none()));
            if let Some(choice) = &wish.model {
                let deployment = &candidate.deployment;
                prop_assert!(choice.targets().any(|target| target.is(&deployment.model, &deployment.provider)));
            }
        }
        prop_assert_eq!(&list, &with(&all, &signals, temperature, seed, &wish, &request), "same seed, same list");
        let greedy = with(&all, &signals, Temperature::GREEDY, seed, &wish, &request);
        let names = |list: &Shortlist| {
            let mut names: Vec<_> = list.candidates.iter().map(|it| it.deployment.clone()).collect();
            names.sort();
            names
        };
        prop_assert_eq!(names(&list), names(&greedy), "exploration changes the order and nothing else");
    }
}

#[test]
fn of_very_many_the_best_are_listed_and_the_widest() {
    let mut models: Vec<Model> = (0..200).map(|n| model(&format!("m{n}"), "p", 10, n)).collect();
    for model in &mut models {
        model.max_context_tokens = Some(8_000);
    }
    models[190].max_context_tokens = Some(1_000_000);
    let all = catalogue(models);
    let list = listed(&all, &wish(RoutingProfile::Cheap), &request());
    let names: Vec<String> = (0..64).map(|n| format!("m{n}")).chain(["m190".to_owned()]).collect();
    assert_eq!(ids(&list), names);
    // Forty models with two credentials each are more than sixty-four candidates.
    let mut twice = catalogue(all.models[..40].to_vec());
    twice.providers[0].credentials = vec!["a".into(), "b".into()];
    twice.models[39].max_context_tokens = Some(1_000_000);
    let list = listed(&twice, &wish(RoutingProfile::Cheap), &request());
    assert_eq!((list.candidates.len(), ids(&list)[64], ids(&list)[65]), (66, "m39", "m39"));
    let few = catalogue(all.models[..64].to_vec());
    assert_eq!(ids(&listed(&few, &wish(RoutingProfile::Cheap), &request())).len(), 64);
}

#[test]
fn who_has_the_prompt_in_its_cache_is_asked_again_unless_it_is_not_well() {
    let all = catalogue(vec![
        model("m", "p", 5, 1),
        model("m", "q", 5, 1),
        Model { enabled: false, ..model("m", "or/eu", 5, 1) },
    ]);
    let first = |signals: &Signals, warm: &Deployment| {
        let situation = Situation {
            catalogue: &all,
            signals,
            temperature: Temperature::GREEDY,
            seed: 0,
            warm: std::slice::from_ref(warm),
        };
        let wish = wish(RoutingProfile::Normal);
        let list = shortlist(&situation, &wish, &request());
        list.candidates[0].deployment.provider.to_string()
    };
    let of = |degraded: bool| -> Signals {
        [Signal::default(), Signal { degraded, ..Signal::default() }].into_iter().collect()
    };
    assert_eq!(first(&of(false), &Deployment::new("m", "q")), "q");
    assert_eq!(first(&of(true), &Deployment::new("m", "q")), "p", "health comes first");
    assert_eq!(first(&of(false), &Deployment::new("m", "or/eu")), "p", "a preference makes nobody eligible");
    assert_eq!(first(&of(false), &Deployment::new("another", "q")), "p");
}
