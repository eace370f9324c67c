//! SIGHUP: providers, models and prices are read again and swapped as a whole, or stay as they are.

use std::sync::Arc;

use tokenhub_activities::World;
use tokenhub_config::Live;
use tokenhub_providers::Providers;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Listens for SIGHUP until `stop`.
pub(crate) fn watch(
    live: Arc<Live>,
    world: Arc<World>,
    stop: CancellationToken,
    tracker: &TaskTracker,
) -> anyhow::Result<()> {
    let mut hangups = signal(SignalKind::hangup())?;
    tracker.spawn(async move {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                hangup = hangups.recv() => if hangup.is_none() { return },
            }
            apply(&live, &world);
            tokenhub_activities::discovery::discover(&world).await;
        }
    });
    Ok(())
}

fn apply(live: &Live, world: &World) {
    let reloaded = match live.reload() {
        Ok(reloaded) => reloaded,
        Err(error) => {
            tracing::error!(error = &error as &dyn std::error::Error, "the configuration stays as it was");
            return;
        }
    };
    let settings = live.settings();
    let upstreams = tokenhub_activities::upstreams(&settings);
    match Providers::new(upstreams.clone()) {
        Ok(providers) => {
            world.health.know(&upstreams);
            world.providers.store(Arc::new(providers));
            let catalogue = tokenhub_activities::discovery::carry_over(&world.catalogue.load(), &settings.catalogue);
            world.catalogue.store(Arc::new(catalogue));
            tracing::info!(changed = ?reloaded.changed, after_restart = ?reloaded.after_restart, "configuration reloaded");
        }
        Err(error) => {
            tracing::error!(error = &error as &dyn std::error::Error, "the providers stay as they were");
        }
    }
}
