//! SIGHUP: providers, models and prices are read again and swapped as a whole, or stay as they are.

use std::sync::Arc;

use tokenhub_activities::{Curator, World};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Listens for SIGHUP until `stop`.
pub(crate) fn watch(
    curator: Arc<Curator>,
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
            match curator.reload().await {
                Ok(reloaded) => {
                    let (changed, after_restart) = (reloaded.changed, reloaded.after_restart);
                    tracing::info!(?changed, ?after_restart, "configuration reloaded");
                }
                Err(error) => {
                    tracing::error!(error = &error as &dyn std::error::Error, "the configuration stays as it was");
                }
            }
            tokenhub_activities::discovery::discover(&world).await;
        }
    });
    Ok(())
}
