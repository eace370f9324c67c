//! What is kept of a decision, and that deciding again by another profile is compared with it.

use tokenhub_domain::{Catalogue, PricePerMillion, Provider, ProviderKind};

use super::*;
use crate::{Signal, Signals, Temperature};

fn catalogue() -> Catalogue {
    let at = |id: &str, weight: u32, usd_per_million: i64| Model {
        weight,
        input_price: PricePerMillion(usd_per_million * 1_000_000_000),
        ..Model::new(id, "p")
    };
    let providers = vec![Provider::new("p", ProviderKind::Openai, "http://127.0.0.1:1")];
    let models = vec![at("strong", 10, 10), at("cheap", 2, 1), Model { enabled: false, ..at("off", 5, 5) }];
    Catalogue { version: 7, providers, models, aliases: Vec::new() }
}

fn decided(catalogue: &Catalogue, signals: &Signals, profile: RoutingProfile) -> Decision {
    let situation = Situation { catalogue, signals, temperature: Temperature::GREEDY, seed: 3, warm: &[] };
    let wish = ShortlistWish { profile, model: None, min_weight: 0, needs: Vec::new(), apart_from: None };
    let request = SelectRequest {
        wishes: Vec::new(),
        estimated_input_tokens: 1_000_000,
        estimated_output_tokens: 0,
        policy: Policy::default(),
        prefix: None,
    };
    let ranking = ranking(&situation, &wish, &request);
    let mut listed = ranking.shortlist();
    listed.skipped.push("cheap: cooling_down".to_owned());
    Decision::of(&situation, &wish, &request, &ranking, &listed, Extent::Kept)
}

#[test]
fn a_decision_keeps_order_parts_and_every_reason_and_can_be_read_back() {
    let decision = decided(&catalogue(), &Signals::default(), RoutingProfile::Planning);
    let order: Vec<&str> = decision.candidates.iter().map(|one| one.deployment.model.as_str()).collect();
    assert_eq!(order, ["strong", "cheap"]);
    assert!(decision.candidates[0].parts.total() < decision.candidates[1].parts.total());
    let reasons: Vec<(&str, &str)> =
        decision.left_out.iter().map(|one| (one.model.as_str(), one.reason.as_str())).collect();
    assert_eq!(reasons, [("off", "disabled"), ("cheap", "cooling_down")]);
    assert_eq!((decision.config_version, decision.candidates_total, decision.left_out_total), (7, 2, 2));
    let kept = serde_json::to_string(&decision).unwrap();
    assert_eq!(serde_json::from_str::<Decision>(&kept).unwrap(), decision);
}

#[test]
fn a_replay_says_what_another_profile_would_save_and_how_much_slower_it_would_be() {
    let catalogue = catalogue();
    let timed = |whole_ms| Signal { whole_ms: Some(whole_ms), ..Signal::default() };
    let signals: Signals = [timed(100.0), timed(400.0), timed(1.0)].into_iter().collect();
    let decision = decided(&catalogue, &signals, RoutingProfile::Planning);
    let situation =
        Situation { catalogue: &catalogue, signals: &signals, temperature: Temperature::GREEDY, seed: 0, warm: &[] };
    let mut replayed = Replayed::default();
    replayed.add(&decision, &situation, RoutingProfile::Cheap);
    replayed.add(&decision, &situation, RoutingProfile::Planning);
    let dollars = 1_000_000_000;
    assert_eq!((replayed.decisions, replayed.moved, replayed.unanswered), (2, 1, 0));
    assert_eq!((replayed.cost, replayed.cost_then), (NanoDollars(20 * dollars), NanoDollars(11 * dollars)));
    assert_eq!(replayed.timed, 2);
    assert!((replayed.latency_then_ms - replayed.latency_ms - 300.0).abs() < 1e-9, "{replayed:?}");
    let none = Catalogue::default();
    replayed.add(&decision, &Situation { catalogue: &none, ..situation }, RoutingProfile::Cheap);
    assert_eq!((replayed.decisions, replayed.unanswered), (3, 1));
}
