//! Models that a provider lists itself: asked for in the background, merged into the catalogue as a whole.
//!
//! Runs in every process, so that the API offers what the workers can call. A configured model always wins over a
//! listed one.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokenhub_domain::{Catalogue, CredentialId, Model, Provider};
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
                let models = listed.into_iter().map(|one| Model {
                    max_context_tokens: one.context_length,
                    ..Model::new(one.id, provider.id.clone())
                });
                let models: Vec<Model> = models.collect();
                world.catalogue.rcu(|current| merge(current, &models));
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
    let still_listed = |model: &&Model| next.provider(&model.provider_id).is_some_and(|one| one.autoload_models);
    let listed: Vec<Model> = current.models.iter().filter(still_listed).cloned().collect();
    merge(next, &listed)
}

/// The catalogue with those of `models` that it does not have yet.
fn merge(current: &Catalogue, models: &[Model]) -> Catalogue {
    let mut merged = current.clone();
    for model in models {
        if merged.model(&model.deployment(CredentialId::default())).is_none() {
            merged.models.push(model.clone());
        }
    }
    if merged.models.len() > current.models.len() {
        merged.version += 1;
    }
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
}
