//! The way in of every guarded route: key, size, body, in this order.

use axum::{
    extract::Request,
    http::{HeaderMap, Method},
};
use bytes::Bytes;
use tokenhub_domain::{DurabilityWish, PlanSpec, RequestId};

use crate::{
    auth::Caller,
    body,
    dispatch::{Job, Readback},
    error::Problem,
    hedging,
    idempotency::{self, Identity},
    request_id::Arrival,
    state::Gate,
};

/// A request that was let in.
pub(super) struct Entry {
    pub(super) caller: Caller,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    pub(super) request_id: RequestId,
    pub(super) arrival: Arrival,
    /// When the next deployment is asked as well, by the header.
    pub(super) hedge_after_ms: Option<u64>,
    method: Method,
    path: String,
}

/// Lets a request in and reads its body.
pub(super) async fn enter(gate: &Gate, request: Request, limit_bytes: usize) -> Result<Entry, Problem> {
    let (parts, unread) = request.into_parts();
    let caller = gate.key.load().authenticate(&parts.headers)?;
    let body = body::read(&parts.headers, unread, limit_bytes).await?;
    Ok(Entry {
        caller,
        body,
        hedge_after_ms: hedging::wish(&parts.headers)?,
        request_id: parts.extensions.get::<RequestId>().cloned().unwrap_or_default(),
        arrival: parts.extensions.get::<Arrival>().copied().unwrap_or(Arrival(std::time::Instant::now())),
        headers: parts.headers,
        method: parts.method,
        path: parts.uri.path().to_owned(),
    })
}

impl Entry {
    /// Which request this is, when the client says so.
    pub(super) fn identity(&self) -> Result<Option<Identity>, Problem> {
        let key = idempotency::key(&self.headers)?;
        Ok(key.map(|key| Identity::of(&self.caller.principal, self.method.as_str(), &self.path, &key, &self.body)))
    }

    /// The run that is asked for, within what the caller may have unfinished. Nobody is told of its end.
    pub(super) fn job(
        &self,
        spec: PlanSpec,
        wish: DurabilityWish,
        identity: Option<Identity>,
        readback: Readback,
    ) -> Job {
        let unfinished_max = self.caller.unfinished_runs_max;
        Job { spec, wish, identity, readback, webhook: None, unfinished_max }
    }
}
