//! `GET /admin/v1/events`: what happens to the installation, as it happens, until the watcher goes away.

use std::{convert::Infallible, time::Duration};

use axum::{
    extract::State,
    http::HeaderMap,
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use futures_util::stream;
use tokenhub_activities::events::AdminEvent;
use tokio::sync::broadcast::{Receiver, error::RecvError};

use crate::state::Admin;

/// Proxies cut connections on which nothing moves for a minute or less.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Events from now on. A watcher that is too slow is told how many it has missed.
pub(super) async fn watch(State(admin): State<Admin>, headers: HeaderMap) -> Response {
    if let Err(problem) = admin.token.load().check(&headers) {
        return problem.into_admin_response();
    }
    let watching = (admin.world.events.watch(), admin.stopping.clone());
    let events = stream::unfold(watching, |(mut events, stopping)| async move {
        // A process that stops waits for its connections, and this one would never end by itself.
        let event = stopping.run_until_cancelled(next(&mut events)).await.flatten()?;
        Some((Ok::<_, Infallible>(event), (events, stopping)))
    });
    Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response()
}

async fn next(events: &mut Receiver<AdminEvent>) -> Option<Event> {
    let event = match events.recv().await {
        Ok(event) => Event::default().event(event.name()).json_data(&event),
        Err(RecvError::Lagged(missed)) => Ok(Event::default().event("missed").data(missed.to_string())),
        Err(RecvError::Closed) => return None,
    };
    Some(event.unwrap_or_default())
}
