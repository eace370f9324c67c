//! Keeps to the rates at which providers may be called, where Temporal does not: for calls in this process, streams
//! among them, and for those that came by the common queue. Each process counts its own.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokenhub_domain::{Catalogue, ProviderId};
use tokio::{sync, time::Instant};

/// When the next call may leave. Its lock is fair: who came first goes first.
type Lane = Arc<sync::Mutex<Instant>>;

/// The turns of this process.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    lanes: Mutex<HashMap<ProviderId, Lane>>,
}

impl Pace {
    /// Waits until `provider` may be called. Who stops waiting leaves its turn to the next.
    pub(crate) async fn turn(&self, catalogue: &Catalogue, provider: &ProviderId) {
        let Some(rate) = catalogue.provider(provider).and_then(|provider| provider.max_rate) else { return };
        let lane = self.lane(provider);
        let mut next = lane.lock().await;
        tokio::time::sleep_until(*next).await;
        *next = Instant::now() + rate.pause();
    }

    fn lane(&self, provider: &ProviderId) -> Lane {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(lanes.entry(provider.clone()).or_insert_with(|| Arc::new(sync::Mutex::new(Instant::now()))))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokenhub_domain::{CallRate, Provider, ProviderKind};

    use super::*;

    fn catalogue() -> Catalogue {
        let mut limited = Provider::new("limited", ProviderKind::Openai, "http://h");
        limited.max_rate = CallRate::per_second(5.0);
        let free = Provider::new("free", ProviderKind::Openai, "http://h");
        Catalogue { providers: vec![limited, free], ..Catalogue::default() }
    }

    #[tokio::test]
    async fn calls_leave_one_pause_after_the_other_and_those_of_other_providers_at_once() {
        let (pace, catalogue, began) = (Pace::default(), catalogue(), Instant::now());
        let (limited, free) = ("limited".into(), "free".into());
        for _ in 0..4 {
            pace.turn(&catalogue, &limited).await;
            // Nothing of it is lost when somebody stops waiting.
            let impatient = tokio::time::timeout(Duration::from_millis(1), pace.turn(&catalogue, &limited));
            assert!(impatient.await.is_err());
        }
        assert!(began.elapsed() >= Duration::from_millis(600), "three pauses of 200 ms: {:?}", began.elapsed());
        for _ in 0..1_000 {
            pace.turn(&catalogue, &free).await;
        }
    }
}
