//! A verifier is asked about an answer; whoever cannot be reached has not accepted it.
//!
//! Repeats within the time of the step, by the table of [`PAUSES_MS`]: what may work later, and nothing else. After a crash
//! the verifier is asked again; the answer that it is asked about is bought and journaled before.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use serde_json::json;
use tokenhub_config::VerifierSettings;
use tokenhub_domain::{RunContext, Verdict, VerifyRequest};
use tokenhub_providers::{VerifierClient, VerifierFailure, VerifierUrl};

use crate::{
    ActivityFault, World,
    presence::{Presence, Withdrawal},
    send::patiently,
};

/// Pauses between the tries of one question: a server that starts anew is back by then, and nobody waits for longer.
const PAUSES_MS: [u64; 2] = [250, 1_000];

/// Who may be asked, and by what.
#[derive(Debug, Default)]
pub struct Verifiers {
    settings: ArcSwap<VerifierSettings>,
    client: VerifierClient,
}

impl Verifiers {
    /// Those of `settings`.
    pub(crate) fn of(settings: VerifierSettings) -> Self {
        Self { settings: ArcSwap::from_pointee(settings), client: VerifierClient::default() }
    }

    /// From now on those of `settings`.
    pub(crate) fn renew(&self, settings: VerifierSettings) {
        self.settings.store(Arc::new(settings));
    }
}

/// Asks, and returns what was said; also when nobody could be asked.
pub(crate) async fn run<P: Presence>(
    world: &World,
    run: &RunContext,
    request: &VerifyRequest,
    presence: &P,
) -> Result<Verdict, ActivityFault> {
    tokio::select! {
        verdict = verdict(world, run, request) => verdict,
        () = unwanted(presence) => Err(ActivityFault::Cancelled),
        never = presence.keep_beating() => match never {},
    }
}

/// A Temporal server that is away withdraws its activities too: then what was asked is asked to its end.
async fn unwanted<P: Presence>(presence: &P) {
    presence.withdrawn().await;
    match presence.withdrawal() {
        Withdrawal::Decided => {}
        Withdrawal::Doubtful => std::future::pending().await,
    }
}

async fn verdict(world: &World, run: &RunContext, request: &VerifyRequest) -> Result<Verdict, ActivityFault> {
    let until = Instant::now() + Duration::from_millis(request.timeout_ms);
    let settings = world.verifiers.settings.load_full();
    // Looked at again: a spec may be older than the list of hosts.
    let url = match VerifierUrl::parse(&request.url) {
        Ok(url) if settings.allows(url.authority()) => url,
        Ok(_) => return Ok(Verdict::unchecked("the verifier's host is not on the operator's list any more")),
        Err(error) => return Ok(Verdict::unchecked(format!("the verifier's address {error}"))),
    };
    // A database that is away is waited for, because the answer is paid.
    let contents = world.store.contents();
    let answer = patiently(|| contents.load(&run.tenant, &request.answer)).await?;
    let body = json!({"plan_id": run.run_id, "step": request.step, "answer": answer}).to_string();
    let mut pauses = PAUSES_MS.into_iter();
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let timeout = left.min(Duration::from_millis(settings.timeout_ms));
        let VerifierFailure { reason, is_transient } =
            match world.verifiers.client.ask(&url, body.clone(), timeout).await {
                Ok(verdict) => return Ok(verdict),
                Err(failure) => failure,
            };
        tracing::warn!(step = %request.step, run = %run.run_id, reason, "a verifier gave no verdict");
        let pause = pauses.next().map(Duration::from_millis).filter(|_| is_transient);
        match pause.filter(|pause| until.saturating_duration_since(Instant::now()) > *pause) {
            Some(pause) => tokio::time::sleep(pause).await,
            None => return Ok(Verdict::unchecked(reason)),
        }
    }
}
