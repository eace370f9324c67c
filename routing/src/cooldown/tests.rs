//! The penalties, class by class, and what holds for any order of events.

use proptest::prelude::*;
use tokenhub_domain::NanoDollars;

use super::*;

const T0: UnixMicros = UnixMicros(1_000_000_000);

fn at_ms(millis: u64) -> UnixMicros {
    T0.plus_millis(millis)
}

fn of(model: &str, provider: &str, credential: &str) -> Deployment {
    Deployment { credential: credential.into(), ..Deployment::new(model, provider) }
}

fn candidate(deployment: Deployment) -> Candidate {
    Candidate { deployment, max_context_tokens: None, estimated_cost: NanoDollars(0), weight: 5 }
}

fn list(deployments: &[Deployment]) -> Shortlist {
    Shortlist { candidates: deployments.iter().cloned().map(candidate).collect(), ..Shortlist::default() }
}

fn left(cooldowns: &Cooldowns, deployments: &[Deployment], millis: u64) -> Vec<String> {
    let sifted = cooldowns.sift(list(deployments), at_ms(millis));
    sifted.candidates.iter().map(|it| format!("{}/{}", it.deployment.account(), it.deployment.model)).collect()
}

/// A call that failed at that moment, having begun then.
fn fail(cooldowns: &mut Cooldowns, deployment: &Deployment, class: ErrorClass, millis: u64) -> Option<Scope> {
    let times = CallTimes { began: at_ms(millis), ended: at_ms(millis) };
    cooldowns.note_failure(deployment, &ProviderFailure::of(class, "x"), times)
}

fn ready_ms(cooldowns: &Cooldowns, scope: &Scope) -> u64 {
    cooldowns.get(scope).unwrap().ready_at.millis_since(T0)
}

#[test]
fn each_class_has_its_scope_and_its_time() {
    let deployment = of("m", "p", "a");
    let [_, credential, credential_model, model] = Scope::all_of(&deployment);
    for (class, scope, ms) in [
        (ErrorClass::AuthFailed, &credential, 3_600_000),
        (ErrorClass::QuotaExhausted, &credential, 600_000),
        (ErrorClass::RateLimited, &credential_model, 1_000),
        (ErrorClass::Overloaded, &model, 5_000),
    ] {
        let mut cooldowns = Cooldowns::default();
        assert_eq!(fail(&mut cooldowns, &deployment, class, 0).as_ref(), Some(scope), "{class:?}");
        assert_eq!(ready_ms(&cooldowns, scope), ms, "{class:?}");
        let cooling = Standing::Cooling { reason: class, ready_at: at_ms(ms) };
        assert_eq!(cooldowns.standing(&deployment, at_ms(ms - 1)), cooling);
        assert_eq!(cooldowns.standing(&deployment, at_ms(ms)), Standing::Probe);
    }
}

#[test]
fn failures_that_are_the_requests_own_leave_nothing() {
    let mut cooldowns = Cooldowns::default();
    for class in [
        ErrorClass::ContextTooLong,
        ErrorClass::BadRequest,
        ErrorClass::ContentFiltered,
        ErrorClass::BadOutput,
        ErrorClass::ResultTooLarge,
        ErrorClass::BudgetExhausted,
        ErrorClass::Cancelled,
    ] {
        (0..5).for_each(|ms| assert_eq!(fail(&mut cooldowns, &of("m", "p", "a"), class, ms), None, "{class:?}"));
    }
    assert_eq!(cooldowns, Cooldowns::default());
}

#[test]
fn a_hint_lengthens_and_is_bounded() {
    let deployment = of("m", "p", "a");
    for (class, hint_ms, expected_ms) in [
        (ErrorClass::RateLimited, 30_000, 30_000),
        (ErrorClass::RateLimited, 10, 1_000),
        (ErrorClass::Overloaded, 10, 5_000),
        (ErrorClass::Overloaded, 7_000, 7_000),
        (ErrorClass::QuotaExhausted, 60_000, 60_000),
        (ErrorClass::RateLimited, u64::MAX, 3_600_000),
    ] {
        let mut cooldowns = Cooldowns::default();
        let failure = ProviderFailure { retry_after_ms: Some(hint_ms), ..ProviderFailure::of(class, "x") };
        let times = CallTimes { began: T0, ended: T0 };
        let scope = cooldowns.note_failure(&deployment, &failure, times).unwrap();
        assert_eq!(ready_ms(&cooldowns, &scope), expected_ms, "{class:?} {hint_ms}");
    }
}

#[test]
fn a_window_of_a_quota_lasts_to_its_end_and_a_mistaken_one_is_bounded() {
    const DAY_MS: u64 = 24 * 3_600_000;
    for (window_ms, hint_ms, expected_ms) in [
        (7 * DAY_MS, None, 7 * DAY_MS),
        (7 * DAY_MS, Some(5_000), 7 * DAY_MS),
        (3_000, Some(60_000), 60_000),
        (400 * DAY_MS, None, 8 * DAY_MS),
    ] {
        let mut cooldowns = Cooldowns::default();
        let failure = ProviderFailure {
            quota_resets_in_ms: Some(window_ms),
            retry_after_ms: hint_ms,
            ..ProviderFailure::of(ErrorClass::QuotaExhausted, "x")
        };
        let times = CallTimes { began: T0, ended: T0 };
        let scope = cooldowns.note_failure(&of("m", "p", "a"), &failure, times).unwrap();
        assert_eq!(scope, Scope::Credential("p".into(), "a".into()));
        assert_eq!(ready_ms(&cooldowns, &scope), expected_ms, "{window_ms} {hint_ms:?}");
    }
}

#[test]
fn counted_failures_exclude_from_the_third_in_a_row_and_double_to_two_minutes() {
    let (mut cooldowns, deployment) = (Cooldowns::default(), of("m", "p", "a"));
    let mut now = 0;
    for expected_ms in [0, 0, 10_000, 20_000, 40_000, 80_000, 120_000, 120_000] {
        let scope = fail(&mut cooldowns, &deployment, ErrorClass::ServerError, now).unwrap();
        assert_eq!(ready_ms(&cooldowns, &scope), now + expected_ms);
        let is_free = cooldowns.standing(&deployment, at_ms(now)) == Standing::Free;
        assert_eq!(is_free, expected_ms == 0);
        now += expected_ms;
    }
}

#[test]
fn a_success_between_two_failures_starts_the_count_again() {
    let (mut cooldowns, deployment) = (Cooldowns::default(), of("m", "p", "a"));
    for round in 0..4 {
        fail(&mut cooldowns, &deployment, ErrorClass::Transport, round * 10);
        fail(&mut cooldowns, &deployment, ErrorClass::StreamBroken, round * 10 + 1);
        assert_eq!(cooldowns.note_success(&deployment, at_ms(0)).len(), 1);
    }
    assert_eq!(cooldowns.standing(&deployment, at_ms(50)), Standing::Free);
}

#[test]
fn calls_that_were_under_way_when_a_penalty_began_neither_lengthen_nor_lift_it() {
    let (mut cooldowns, deployment) = (Cooldowns::default(), of("m", "p", "a"));
    (0..3).for_each(|_| drop(fail(&mut cooldowns, &deployment, ErrorClass::ServerError, 100)));
    let times = CallTimes { began: T0, ended: at_ms(200) };
    let late = ProviderFailure::of(ErrorClass::ServerError, "x");
    assert_eq!(cooldowns.note_failure(&deployment, &late, times), None);
    assert!(cooldowns.note_success(&deployment, T0).is_empty());
    assert_eq!(cooldowns.note_success(&deployment, at_ms(100)).len(), 1);
}

#[test]
fn a_deadline_that_its_caller_made_short_says_nothing_about_the_provider() {
    let (mut cooldowns, deployment) = (Cooldowns::default(), of("m", "p", "a"));
    let failure = ProviderFailure::of(ErrorClass::StepDeadline, "x");
    let lasting = |ms| CallTimes { began: T0, ended: at_ms(ms) };
    assert_eq!(cooldowns.note_failure(&deployment, &failure, lasting(9_999)), None);
    assert!(cooldowns.note_failure(&deployment, &failure, lasting(10_000)).is_some());
}

#[test]
fn a_penalty_reaches_what_shares_its_scope_and_nothing_else() {
    let all = [of("m", "p", "a"), of("n", "p", "a"), of("m", "p", "b"), of("m", "q", "")];
    for (class, expected) in [
        (ErrorClass::AuthFailed, vec!["p#b/m", "q/m"]),
        (ErrorClass::RateLimited, vec!["p#a/n", "p#b/m", "q/m"]),
        (ErrorClass::Overloaded, vec!["p#a/n", "q/m"]),
    ] {
        let mut cooldowns = Cooldowns::default();
        fail(&mut cooldowns, &all[0], class, 0);
        assert_eq!(left(&cooldowns, &all, 1), expected, "{class:?}");
    }
}

#[test]
fn where_all_are_cooling_they_stay_soonest_first_and_refused_credentials_stay_only_alone() {
    let mut cooldowns = Cooldowns::default();
    let (slow, soon, refused) = (of("m", "p", ""), of("m", "q", ""), of("m", "r", ""));
    fail(&mut cooldowns, &refused, ErrorClass::AuthFailed, 0);
    assert_eq!(left(&cooldowns, std::slice::from_ref(&refused), 1), ["r/m"]);
    fail(&mut cooldowns, &slow, ErrorClass::Overloaded, 0);
    fail(&mut cooldowns, &soon, ErrorClass::RateLimited, 0);
    let all = [refused, slow, soon];
    assert_eq!(left(&cooldowns, &all, 1), ["q/m", "p/m"]);
    let sifted = cooldowns.sift(list(&all), at_ms(1));
    assert_eq!(sifted.skipped, ["m: cooling_down_auth_failed"]);
}

#[test]
fn a_model_that_is_cooling_down_everywhere_goes_last_and_stays_a_voter() {
    let mut cooldowns = Cooldowns::default();
    let all = [of("m", "p", ""), of("n", "p", ""), of("o", "q", "")];
    fail(&mut cooldowns, &all[0], ErrorClass::RateLimited, 0);
    assert_eq!(left(&cooldowns, &all, 1), ["p/n", "q/o", "p/m"]);
    fail(&mut cooldowns, &all[2], ErrorClass::AuthFailed, 0);
    assert_eq!(left(&cooldowns, &all, 1), ["p/n", "p/m"], "a refused credential answers nobody");
}

#[test]
fn after_the_end_one_looks_again_and_the_others_wait_for_what_it_finds() {
    let mut cooldowns = Cooldowns::default();
    let all = [of("m", "p", ""), of("m", "q", "")];
    fail(&mut cooldowns, &all[0], ErrorClass::RateLimited, 0);
    assert_eq!(left(&cooldowns, &all, 999), ["q/m"]);
    let sifted = cooldowns.sift(list(&all), at_ms(1_000));
    assert_eq!(sifted.candidates.len(), 2);
    assert_eq!(cooldowns.take_probes(&sifted.candidates, at_ms(1_000)).len(), 1);
    assert_eq!(left(&cooldowns, &all, 1_000), ["q/m"], "the probe is taken");
    assert_eq!(left(&cooldowns, &all, 6_000), ["p/m", "q/m"], "who took it did not come back");
    cooldowns.note_success(&all[0], at_ms(1_000));
    assert_eq!(left(&cooldowns, &all, 1_001), ["p/m", "q/m"], "it answered");
}

#[test]
fn a_probe_that_fails_counts_although_its_lease_runs() {
    let (mut cooldowns, deployment) = (Cooldowns::default(), of("m", "p", ""));
    (0..3).for_each(|_| drop(fail(&mut cooldowns, &deployment, ErrorClass::ServerError, 0)));
    cooldowns.take_probes(&[candidate(deployment.clone())], at_ms(10_000));
    let scope = fail(&mut cooldowns, &deployment, ErrorClass::ServerError, 10_500).unwrap();
    assert_eq!(ready_ms(&cooldowns, &scope), 30_500);
}

#[test]
fn what_ended_long_ago_is_forgotten() {
    let (mut cooldowns, deployment) = (Cooldowns::default(), of("m", "p", ""));
    fail(&mut cooldowns, &deployment, ErrorClass::RateLimited, 0);
    assert!(cooldowns.forget_old(at_ms(600_999)).is_empty());
    assert_eq!(cooldowns.forget_old(at_ms(601_000)).len(), 1);
    assert_eq!(cooldowns, Cooldowns::default());
}

const CLASSES: [ErrorClass; 8] = [
    ErrorClass::AuthFailed,
    ErrorClass::QuotaExhausted,
    ErrorClass::RateLimited,
    ErrorClass::Overloaded,
    ErrorClass::ServerError,
    ErrorClass::StepDeadline,
    ErrorClass::ContextTooLong,
    ErrorClass::Cancelled,
];

fn deployments() -> Vec<Deployment> {
    let mut all = Vec::new();
    for (provider, credential) in [("p", "a"), ("p", "b"), ("q", "")] {
        all.extend(["m", "n"].map(|model| of(model, provider, credential)));
    }
    all
}

/// Which deployment, what happened (a class, or an answer beyond them), the pause before it, the hint.
type Event = (usize, usize, u64, Option<u64>);

fn played(events: &[Event]) -> (Cooldowns, u64) {
    let (mut cooldowns, mut now, all) = (Cooldowns::default(), 0, deployments());
    for (who, what, pause_ms, retry_after_ms) in events {
        now += pause_ms;
        let deployment = &all[*who];
        match CLASSES.get(*what) {
            None => drop(cooldowns.note_success(deployment, at_ms(now))),
            Some(class) => {
                let failure = ProviderFailure { retry_after_ms: *retry_after_ms, ..ProviderFailure::of(*class, "x") };
                let times = CallTimes { began: at_ms(now.saturating_sub(20_000)), ended: at_ms(now) };
                cooldowns.note_failure(deployment, &failure, times);
            }
        }
    }
    (cooldowns, now)
}

proptest! {
    #[test]
    fn a_list_with_candidates_never_becomes_empty_and_no_stranger_joins(
        events in prop::collection::vec((0_usize..6, 0_usize..9, 0_u64..20_000, prop::option::of(any::<u64>())), 0..40),
        wanted in prop::sample::subsequence(deployments(), 1..=6),
    ) {
        let (cooldowns, now) = played(&events);
        let sifted = cooldowns.sift(list(&wanted), at_ms(now));
        prop_assert!(!sifted.candidates.is_empty());
        prop_assert!(sifted.candidates.iter().all(|it| wanted.contains(&it.deployment)));
        prop_assert_eq!(sifted.candidates.len() + sifted.skipped.len(), wanted.len());
    }

    #[test]
    fn nobody_is_left_out_for_longer_than_an_hour_and_an_answer_frees_at_once(
        events in prop::collection::vec((0_usize..6, 0_usize..9, 0_u64..20_000, prop::option::of(any::<u64>())), 0..40),
        who in 0_usize..6,
    ) {
        let (mut cooldowns, now) = played(&events);
        for (_, cooldown) in cooldowns.iter() {
            prop_assert!(cooldown.ready_at <= at_ms(now + 3_600_000));
        }
        let deployment = &deployments()[who];
        cooldowns.note_success(deployment, at_ms(now));
        prop_assert_eq!(cooldowns.standing(deployment, at_ms(now)), Standing::Free);
    }

    #[test]
    fn of_any_number_of_requests_after_the_end_exactly_one_looks_again(
        events in prop::collection::vec((0_usize..1, 0_usize..4, 0_u64..2_000, Just(None)), 1..10),
        requests in 2_usize..20,
    ) {
        let (mut cooldowns, now) = played(&events);
        let later = at_ms(now + 3_600_000);
        let both = [deployments()[0].clone(), of("m", "elsewhere", "")];
        let looked = (0..requests).filter(|_| {
            let sifted = cooldowns.sift(list(&both), later);
            cooldowns.take_probes(&sifted.candidates, later);
            sifted.candidates.len() == 2
        });
        prop_assert_eq!(looked.count(), 1);
    }
}

#[test]
fn probes_take_a_provider_down_that_is_not_there_and_bring_it_back_and_judge_nothing_else() {
    let (provider, deployment) = (ProviderId::from("p"), Deployment::new("m", "p"));
    let mut cooldowns = Cooldowns::default();
    let at = |millis: u64| CallTimes {
        began: UnixMicros(0).plus_millis(millis),
        ended: UnixMicros(0).plus_millis(millis + 5),
    };
    let (away, bad) =
        (ProviderFailure::of(ErrorClass::Transport, "refused"), ProviderFailure::of(ErrorClass::ServerError, "500"));
    for probe in 0..2 {
        cooldowns.note_probe(&provider, Err(&away), at(probe * 1_000));
        assert_eq!(cooldowns.standing(&deployment, at(probe * 1_000).ended), Standing::Free);
    }
    assert_eq!(cooldowns.note_probe(&provider, Err(&away), at(2_000)).0, Some(Scope::Provider(provider.clone())));
    assert!(matches!(cooldowns.standing(&deployment, at(2_000).ended), Standing::Cooling { .. }));
    assert_eq!(cooldowns.standing(&Deployment::new("m", "q"), at(2_000).ended), Standing::Free);

    // What the deployment itself has done stays: a list of models is no answer.
    for call in 0..3 {
        cooldowns.note_failure(&deployment, &bad, at(3_000 + call));
    }
    let (_, ended) = cooldowns.note_probe(&provider, Ok(()), at(4_000));
    assert_eq!(ended.into_iter().map(|(scope, _)| scope).collect::<Vec<_>>(), [Scope::Provider(provider.clone())]);
    assert!(matches!(
        cooldowns.standing(&deployment, at(4_000).ended),
        Standing::Cooling { reason: ErrorClass::ServerError, .. }
    ));
    // Nor does silence say anything, or a refusal that nobody is there.
    let silent = ProviderFailure::of(ErrorClass::StepDeadline, "slow");
    assert_eq!(cooldowns.note_probe(&provider, Err(&silent), at(4_500)), (None, Vec::new()));
    let refused = ProviderFailure::of(ErrorClass::AuthFailed, "no key");
    assert_eq!(cooldowns.note_probe(&provider, Err(&refused), at(5_000)), (None, Vec::new()));
}
