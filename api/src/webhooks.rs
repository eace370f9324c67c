//! Webhooks: who may be told of the end of a plan, and the telling.
//!
//! Every API process delivers what is due, whoever accepted or carried the plan. The lease on a row decides who sends,
//! so processes need no agreement, and one that dies in the middle is followed by another under the same id. A receiver
//! may hear of the same end twice, and knows it by the id. Must not know how runs end.

mod attempt;
mod guard;
mod payload;
mod schedule;
mod signature;

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokenhub_activities::World;
use tokenhub_config::{Live, WebhookSettings};
use tokenhub_domain::{UnixMicros, Webhook, limits};
use tokenhub_store::{AfterTry, DeliveryRow, StoreError, TryEnd};
use tokenhub_telemetry::{Metrics, WebhookResult};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::error::Problem;
use attempt::{Clients, Letter, Verdict};

/// Between two looks at what is due.
const INTERVAL: Duration = Duration::from_millis(500);
/// Sent at the same time by one process: slow receivers must not hold up the others for long.
const AT_ONCE_MAX: usize = 32;
/// What is being sent when the process stops may end within this; then its lease runs out and another sends it again.
const STOP_GRACE: Duration = Duration::from_secs(2);

/// The webhook that a caller asks for, if it can be delivered.
pub(crate) fn accept(settings: &WebhookSettings, wish: Option<Webhook>) -> Result<Option<Webhook>, Problem> {
    let Some(webhook) = wish else { return Ok(None) };
    if settings.secrets.is_empty() {
        let reason = "cannot be signed: the operator has to set TOKENHUB_WEBHOOK_SECRET";
        return Err(Problem::invalid("webhook", reason));
    }
    match guard::check(&webhook.url, &settings.allowed_hosts) {
        // What is stored is what is called.
        Ok((url, _)) => Ok(Some(Webhook { url: url.to_string(), ..webhook })),
        Err(refusal) => Err(Problem::invalid("webhook.url", refusal.to_string())),
    }
}

/// What delivers.
pub(crate) struct Deliverer {
    world: Arc<World>,
    live: Arc<Live>,
    metrics: Arc<Metrics>,
    clients: Clients,
}

impl Deliverer {
    /// One for each process.
    pub(crate) fn new(world: &Arc<World>, live: &Arc<Live>, metrics: &Arc<Metrics>) -> Self {
        let (world, live, metrics) = (Arc::clone(world), Arc::clone(live), Arc::clone(metrics));
        Self { world, live, metrics, clients: Clients::default() }
    }

    /// Delivers until `stop`.
    pub(crate) async fn keep_delivering(self, stop: CancellationToken) {
        let deliverer = Arc::new(self);
        let mut under_way = JoinSet::new();
        let mut is_full = false;
        loop {
            tokio::select! {
                () = tokio::time::sleep(INTERVAL) => {}
                // Where more is due than is sent at once, each end makes room.
                Some(_) = under_way.join_next(), if is_full => {}
                () = stop.cancelled() => break,
            }
            while under_way.try_join_next().is_some() {}
            let room = AT_ONCE_MAX.saturating_sub(under_way.len());
            let claimed = deliverer.claim(room).await;
            is_full = claimed.len() == room;
            for row in claimed {
                under_way.spawn(Arc::clone(&deliverer).deliver(row));
            }
        }
        let ending = async { while under_way.join_next().await.is_some() {} };
        if tokio::time::timeout(STOP_GRACE, ending).await.is_err() {
            tracing::info!(webhooks = under_way.len(), "stopping with webhooks unsent; others send them");
        }
    }

    /// What is due, taken. Without a secret nothing is: another process may have one.
    async fn claim(&self, room: usize) -> Vec<DeliveryRow> {
        if room == 0 || self.live.settings().webhooks.secrets.is_empty() {
            return Vec::new();
        }
        let claiming = async {
            let deliveries = self.world.store.webhook_deliveries();
            deliveries.release_ended(now()).await?;
            deliveries.claim_due(&self.world.instance, now(), room as u64).await
        };
        claiming.await.unwrap_or_else(|error: StoreError| {
            tracing::debug!(error = &error as &dyn std::error::Error, "webhooks could not be looked for");
            Vec::new()
        })
    }

    async fn deliver(self: Arc<Self>, row: DeliveryRow) {
        let verdict = tokio::select! {
            verdict = self.attempt(&row) => verdict,
            () = self.hold(&row) => {
                tracing::warn!(webhook = %row.id, "another process took a webhook over");
                return;
            }
        };
        let end = self.judge(&row, verdict);
        match self.world.store.webhook_deliveries().end_try(&row, &self.world.instance, &end).await {
            Ok(true) => self.note(&row, &end),
            Ok(false) => tracing::warn!(webhook = %row.id, "another process took a webhook over"),
            // It is sent again when the lease has run out.
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, webhook = %row.id, "a webhook's end is not kept");
            }
        }
    }

    /// Renews the lease, and returns when it is lost.
    async fn hold(&self, row: &DeliveryRow) {
        let deliveries = self.world.store.webhook_deliveries();
        loop {
            tokio::time::sleep(Duration::from_millis(limits::LEASE_RENEW_MS)).await;
            if let Ok(false) = deliveries.renew(row, &self.world.instance, now()).await {
                return;
            }
        }
    }

    async fn attempt(&self, row: &DeliveryRow) -> Verdict {
        let settings = self.live.settings();
        let (url, trust) = match guard::check(&row.url, &settings.webhooks.allowed_hosts) {
            Ok(checked) => checked,
            Err(refusal) => return Verdict::Refused(refusal.to_string()),
        };
        let run = match self.world.store.runs().get(&row.tenant, &row.run_id).await {
            Ok(Some(run)) => run,
            Ok(None) => return Verdict::Refused("its run is not kept any more".to_owned()),
            Err(_) => return Verdict::failed("its run could not be read"),
        };
        let Some(event) = row.event else { return Verdict::Refused("its run has no end".to_owned()) };
        let body = payload::of(event, &run).to_string();
        let timestamp = now().0 / 1_000_000;
        let signature = signature::sign(&settings.webhooks.secrets, &row.id, timestamp, &body);
        self.clients.send(url, trust, Letter { id: &row.id, timestamp, signature, body }).await
    }

    fn judge(&self, row: &DeliveryRow, verdict: Verdict) -> TryEnd {
        let at = now();
        let (next, status, error) = match verdict {
            Verdict::Taken { status } => (AfterTry::Delivered, Some(status), None),
            Verdict::Gone { status } => (AfterTry::Dead, Some(status), Some("the receiver wants no more".to_owned())),
            Verdict::Refused(reason) => (AfterTry::Dead, None, Some(reason)),
            Verdict::Failed { status, reason, retry_after_ms } => {
                let failure = schedule::Failure {
                    tries: row.tries,
                    since_due_ms: at.millis_since(row.due_since.unwrap_or(row.created_at)),
                    retry_after_ms,
                };
                let base_ms = self.live.settings().webhooks.retry_ms;
                let pause_ms = schedule::pause_ms(failure, base_ms, rand::random_range(0..=schedule::DRAW_MAX));
                (
                    pause_ms.map_or(AfterTry::Dead, |millis| AfterTry::Again(at.plus_millis(millis))),
                    status,
                    Some(reason),
                )
            }
        };
        TryEnd { next, status, error, at }
    }

    fn note(&self, row: &DeliveryRow, end: &TryEnd) {
        let (webhook, run, error) = (&row.id, &row.run_id, end.error.as_deref());
        self.metrics.webhook(match end.next {
            AfterTry::Delivered => {
                tracing::debug!(%webhook, %run, tries = row.tries, "a webhook was taken");
                WebhookResult::Delivered
            }
            AfterTry::Again(_) => {
                tracing::info!(%webhook, %run, tries = row.tries, error, "a webhook was not taken and is sent again");
                WebhookResult::Retried
            }
            AfterTry::Dead => {
                tracing::warn!(%webhook, %run, tries = row.tries, error, "a webhook was given up");
                WebhookResult::Dead
            }
        });
    }
}

/// This moment, as the database stores it.
pub(crate) fn now() -> UnixMicros {
    UnixMicros::from(SystemTime::now())
}
