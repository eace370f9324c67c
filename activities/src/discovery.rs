//! Models that a provider lists itself: asked for in the background, merged into the catalogue as a whole.
//!
//! Runs in every process, so that the API offers what the workers can call. A configured model always wins over a
//! listed one.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokenhub_config::published;
use tokenhub_domain::{Catalogue, Model, ModelOrigin, Provider, ProviderId};
use tokio_util::sync::CancellationToken;

use crate::World;

const RETRY_INTERVAL: Duration = Duration::from_secs(10);
const REFRESH_INTERVAL: Duration = Duration::from_mins(10);

/// Asks every provider that wants it, again and again until `stop`.
pub async fn keep_discovering(world: Arc<World>, stop: CancellationToken) {
    loop {
        let all_answered = tokio::select! {
            all_answered = discover(&world) => all_answered,
            () = stop.cancelled() => return,
        };
        let interval = if all_answered { REFRESH_INTERVAL } else { RETRY_INTERVAL };
        tokio::select! {
            () = tokio::time::sleep(interval) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// Asks each provider once; whether all of them answered.
pub async fn discover(world: &World) -> bool {
    let providers: Vec<Provider> =
        world.catalogue.load().providers.iter().filter(|one| one.autoload_models && one.enabled).cloned().collect();
    let mut all_answered = true;
    for provider in providers {
        let asked_at = Instant::now();
        let listed = world.providers.load_full().list_models(&provider.id).await;
        let latency_ms = u64::try_from(asked_at.elapsed().as_millis()).unwrap_or(u64::MAX);
        world.observed.probed(&provider.id, listed.is_ok(), latency_ms);
        match listed {
            Ok(listed) => {
                let models: Vec<Model> = listed
                    .into_iter()
                    .map(|one| Model {
                        max_context_tokens: one.context_length,
                        origin: ModelOrigin::Listed,
                        ..Model::new(one.id, provider.id.clone())
                    })
                    .collect();
                world.catalogue.rcu(|current| merge(&without_unlisted(current, &provider.id, &models), &models));
            }
            Err(failure) => {
                all_answered = false;
                tracing::warn!(provider = %provider.id, class = failure.class.as_str(), "the models were not listed");
            }
        }
    }
    all_answered
}

/// Gives `next` the models that `current` knows from its providers' own lists, so that a reload loses none of them.
pub fn carry_over(current: &Catalogue, next: &Catalogue) -> Catalogue {
    let still_listed = |model: &&Model| {
        model.origin == ModelOrigin::Listed && next.provider(&model.provider_id).is_some_and(|one| one.autoload_models)
    };
    let listed: Vec<Model> = current.models.iter().filter(still_listed).cloned().collect();
    let mut merged = merge(next, &listed);
    let is_same =
        (&merged.providers, &merged.models, &merged.aliases) == (&current.providers, &current.models, &current.aliases);
    merged.version = current.version + u64::from(!is_same);
    merged
}

/// The catalogue without the models that `provider` no longer lists; what the operator wrote stays.
fn without_unlisted(current: &Catalogue, provider: &ProviderId, listed: &[Model]) -> Catalogue {
    let mut left = current.clone();
    left.models.retain(|model| {
        model.origin != ModelOrigin::Listed
            || &model.provider_id != provider
            || listed.iter().any(|one| one.id == model.id)
    });
    left.version += u64::from(left.models.len() < current.models.len());
    left
}

/// The catalogue with those of `models` that it does not have yet. Of those it has, it learns what nobody has said.
fn merge(current: &Catalogue, models: &[Model]) -> Catalogue {
    let mut merged = current.clone();
    for model in models {
        let known = merged.models.iter_mut().find(|one| one.id == model.id && one.provider_id == model.provider_id);
        match known {
            Some(known) => known.max_context_tokens = known.max_context_tokens.or(model.max_context_tokens),
            None => merged.models.push(model.clone()),
        }
    }
    published::fill_in(&mut merged);
    merged.version += u64::from(merged.models != current.models);
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(id: &str, weight: u32) -> Model {
        Model { weight, ..Model::new(id, "p") }
    }

    #[test]
    fn a_configured_model_wins_over_a_listed_one() {
        let current = Catalogue { version: 3, models: vec![model("a", 9)], ..Catalogue::default() };
        let merged = merge(&current, &[model("a", 5), model("b", 5)]);
        assert_eq!(merged.models, [model("a", 9), model("b", 5)]);
        assert_eq!(merged.version, 4);
        assert_eq!(merge(&merged, &[model("b", 5)]).version, 4);
    }

    #[test]
    fn a_listed_model_goes_with_its_line_and_a_configured_one_stays() {
        let listed = |id: &str| Model { origin: ModelOrigin::Listed, ..model(id, 5) };
        let current =
            Catalogue { version: 3, models: vec![model("a", 9), listed("b"), listed("c")], ..Catalogue::default() };
        let left = without_unlisted(&current, &"p".into(), &[listed("c")]);
        assert_eq!((left.models, left.version), (vec![model("a", 9), listed("c")], 4));
        assert_eq!(without_unlisted(&current, &"another".into(), &[]), current);
        let windowed = Model { max_context_tokens: Some(7), ..listed("a") };
        let merged = merge(&current, &[windowed]);
        assert_eq!((merged.models[0].max_context_tokens, merged.models[0].weight, merged.version), (Some(7), 9, 4));
    }

    #[test]
    fn a_reload_keeps_what_is_listed_and_nothing_that_was_taken_away() {
        let listed = Model { origin: ModelOrigin::Listed, ..model("b", 5) };
        let provider =
            Provider { autoload_models: true, ..Provider::new("p", tokenhub_domain::ProviderKind::Openai, "http://h") };
        let providers = vec![provider];
        let models = vec![model("a", 9), listed.clone()];
        let current = Catalogue { version: 3, providers: providers.clone(), models, ..Catalogue::default() };
        let next = Catalogue { version: 1, providers, ..Catalogue::default() };
        let carried = carry_over(&current, &next);
        assert_eq!((carried.models, carried.version), (vec![listed], 4));
        assert_eq!(carry_over(&current, &current).version, 3);
    }
}
