//! How long a call is waited for where the deadline of its run decides that, which somebody may move meanwhile.

use std::{future::pending, time::Duration};

use tokenhub_domain::MovableDeadline;

use super::Sending;
use crate::presence::Presence;

/// Completes when the run has no more time for the call. The deadline is looked at when it has come, after `first_look`, and
/// not before: most calls have an answer by then. While the database is away it stands where it stood.
pub(super) async fn ends<P: Presence>(sending: &Sending<'_, P>, first_look: Duration) {
    let Sending { world, run, request, .. } = sending;
    // What no deadline bounds is bounded by the provider's client.
    let Some(MovableDeadline { mut run_deadline_ms, .. }) = request.movable else { return pending().await };
    let mut wait = first_look;
    loop {
        tokio::time::sleep(wait).await;
        let asked = world.store.signals().steering(&run.tenant, &run.run_id).await;
        let moved_ms = asked.ok().and_then(|steering| steering.deadline_ms).unwrap_or_default();
        wait = Duration::from_millis(moved_ms.saturating_sub(run_deadline_ms));
        if wait.is_zero() {
            return;
        }
        run_deadline_ms = moved_ms;
    }
}
