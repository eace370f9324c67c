//! How each deployment does, as this process knows it.

use tokenhub_domain::{CredentialId, Model, Provider, UnixMicros};
use tokenhub_routing::{Condition, Observations, Standing};

use crate::World;

/// The condition of `model` at `provider`, and when its penalty ends. Of several credentials the one that is best off
/// counts: it is the one that is used.
pub fn of_deployment(
    world: &World,
    seen: &Observations,
    now: UnixMicros,
    (provider, model): (&Provider, &Model),
) -> (Condition, Option<UnixMicros>) {
    let degraded = || seen.of(&provider.id, &model.id).is_some_and(|record| record.signal(now).degraded);
    let unnamed = [CredentialId::default()];
    let credentials = if provider.credentials.is_empty() { &unnamed[..] } else { &provider.credentials };
    let standings = credentials.iter().map(|credential| world.health.standing(&model.deployment(credential.clone())));
    let conditions = standings.map(|standing| match standing {
        Standing::Free => (Condition::of(standing, degraded()), None),
        Standing::Probe => (Condition::HalfOpen, None),
        Standing::Cooling { ready_at, .. } => (Condition::Down, Some(ready_at)),
    });
    conditions.min().unwrap_or((Condition::Healthy, None))
}
