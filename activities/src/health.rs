//! The penalties of providers in this process, and how they reach the others.
//!
//! Owns the copy in memory that every selection reads, and the task that writes changes behind the calls and reads what
//! other processes wrote. Must not decide who is penalised: that is `routing::cooldown`. While the database is away each
//! process goes by what it has seen itself; no call and no selection ever waits for it.

mod rows;

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use secrecy::ExposeSecret;
use tokenhub_domain::{
    ContentHash, CredentialId, Deployment, ErrorClass, ProviderFailure, ProviderId, Shortlist, TenantId, UnixMicros,
};
use tokenhub_providers::Upstream;
use tokenhub_routing::{CallTimes, Cooldown, Cooldowns, Scope, Standing};
use tokenhub_store::{Store, StoreError};
use tokio::{sync::Notify, time::MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::clock;

/// Changes of this time are written together.
const WRITE_INTERVAL: Duration = Duration::from_millis(250);
/// What another process has seen is known here this much later, at most.
const READ_INTERVAL: Duration = Duration::from_secs(1);
/// Hex digits that tell the secrets of one credential apart, and far too few to say anything about them.
const FINGERPRINT_DIGITS: usize = 16;

/// Whether penalties are given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Penalties {
    /// Providers that fail are left out for a while.
    #[default]
    On,
    /// Every request is tried wherever the ranking says.
    Off,
}

/// The penalties that this process knows of.
pub struct Health {
    store: Store,
    tenant: TenantId,
    penalties: Penalties,
    state: Mutex<State>,
    /// Writing and reading take turns, so that what was read is never older than what was written.
    turn: tokio::sync::Mutex<()>,
    urgent: Notify,
}

#[derive(Default)]
struct State {
    cooldowns: Cooldowns,
    /// What the database does not know yet.
    unwritten: BTreeMap<Scope, Change>,
    secrets: BTreeMap<(ProviderId, CredentialId), Secret>,
}

/// What happened to a scope.
enum Change {
    Noted,
    Lifted(Cooldown),
}

/// The secret of a credential, by a name that does not give it away.
struct Secret {
    fingerprint: String,
    /// Failures of calls that began earlier are another secret's.
    since: UnixMicros,
}

impl State {
    fn lifted(&mut self, lifted: Vec<(Scope, Cooldown)>) {
        self.unwritten.extend(lifted.into_iter().map(|(scope, was)| (scope, Change::Lifted(was))));
    }

    /// The name of the secret that a penalty is for; empty where the penalty is not about the secret.
    fn fingerprint_of(&self, scope: &Scope) -> &str {
        match scope {
            Scope::Credential(provider, credential) => self
                .secrets
                .get(&(provider.clone(), credential.clone()))
                .map_or("", |secret| secret.fingerprint.as_str()),
            Scope::Provider(..) | Scope::CredentialModel(..) | Scope::Deployment(..) => "",
        }
    }
}

impl Health {
    /// Nothing is known before the first [`Self::refresh`].
    pub(crate) fn new(store: Store, penalties: Penalties) -> Self {
        Self {
            store,
            tenant: TenantId::default_tenant(),
            penalties,
            state: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
            urgent: Notify::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the secrets in force. A penalty for another secret of the same name ends.
    pub fn know(&self, upstreams: &[Upstream]) {
        let now = clock::now();
        let mut state = self.state();
        let mut secrets = BTreeMap::new();
        for upstream in upstreams {
            for (credential, secret) in &upstream.credentials {
                let mut fingerprint = ContentHash::of(secret.expose_secret()).0;
                fingerprint.truncate(FINGERPRINT_DIGITS);
                let key = (upstream.provider.id.clone(), credential.clone());
                let known = state.secrets.remove(&key).filter(|known| known.fingerprint == fingerprint);
                secrets.insert(key, known.unwrap_or(Secret { fingerprint, since: now }));
            }
        }
        let is_new = |scope: &Scope| match scope {
            Scope::Credential(provider, credential) => {
                secrets.get(&(provider.clone(), credential.clone())).is_some_and(|secret| secret.since == now)
            }
            Scope::Provider(..) | Scope::CredentialModel(..) | Scope::Deployment(..) => false,
        };
        let ended = state.cooldowns.remove_where(|scope, _| is_new(scope));
        state.lifted(ended);
        state.secrets = secrets;
    }

    /// Notes how a call ended that began at `began`. A call that nobody wanted any more says nothing.
    pub(crate) fn note(&self, deployment: &Deployment, result: Result<(), &ProviderFailure>, began: UnixMicros) {
        if self.penalties == Penalties::Off {
            return;
        }
        let mut state = self.state();
        match result {
            Ok(()) => {
                let lifted = state.cooldowns.note_success(deployment, began);
                state.lifted(lifted);
            }
            Err(failure) => {
                let key = (deployment.provider.clone(), deployment.credential.clone());
                let is_other_secret = state.secrets.get(&key).is_some_and(|secret| began < secret.since);
                if is_other_secret && matches!(failure.class, ErrorClass::AuthFailed | ErrorClass::QuotaExhausted) {
                    return;
                }
                let times = CallTimes { began, ended: clock::now() };
                let Some(scope) = state.cooldowns.note_failure(deployment, failure, times) else { return };
                if matches!(scope, Scope::Credential(..)) {
                    tracing::warn!(
                        account = deployment.account(),
                        class = failure.class.as_str(),
                        "a credential is left out until it changes, its quota is there again or an administrator resets it"
                    );
                    self.urgent.notify_one();
                }
                state.unwritten.insert(scope, Change::Noted);
            }
        }
    }

    /// Notes whether a probe that began at `began` found anybody at `provider`.
    pub(crate) fn note_probe(&self, provider: &ProviderId, found: Result<(), &ProviderFailure>, began: UnixMicros) {
        if self.penalties == Penalties::Off {
            return;
        }
        let mut state = self.state();
        let times = CallTimes { began, ended: clock::now() };
        let (noted, ended) = state.cooldowns.note_probe(provider, found, times);
        state.unwritten.extend(noted.map(|scope| (scope, Change::Noted)));
        state.lifted(ended);
    }

    /// Whether nobody could be reached at `provider` of late.
    pub(crate) fn is_absent(&self, provider: &ProviderId) -> bool {
        let state = self.state();
        state.cooldowns.get(&Scope::Provider(provider.clone())).is_some()
    }

    /// Leaves out who is cooling down, in all lists alike, and takes the probes of who has just finished.
    pub fn sift(&self, lists: &mut [Shortlist]) {
        let now = clock::now();
        let mut state = self.state();
        for list in &mut *lists {
            *list = state.cooldowns.sift(std::mem::take(list), now);
        }
        for list in lists {
            let taken = state.cooldowns.take_probes(&list.candidates, now);
            state.unwritten.extend(taken.into_iter().map(|scope| (scope, Change::Noted)));
        }
    }

    /// What selection would make of `list`, with no probe taken.
    pub fn preview(&self, list: Shortlist) -> Shortlist {
        self.state().cooldowns.sift(list, clock::now())
    }

    /// What the penalties say about `deployment`.
    pub fn standing(&self, deployment: &Deployment) -> Standing {
        self.state().cooldowns.standing(deployment, clock::now())
    }

    /// Every penalty, and failures on the way to one.
    pub fn list(&self) -> Vec<(Scope, Cooldown)> {
        self.state().cooldowns.iter().map(|(scope, cooldown)| (scope.clone(), cooldown.clone())).collect()
    }

    /// Ends every penalty of `provider`, here at once and elsewhere within a second; how many there were.
    pub async fn reset(&self, provider: &ProviderId) -> Result<u64, StoreError> {
        let _turn = self.turn.lock().await;
        {
            let mut state = self.state();
            state.cooldowns.remove_where(|scope, _| scope.provider() == provider);
            state.unwritten.retain(|scope, _| scope.provider() != provider);
        }
        self.store.cooldowns().clear_provider(&self.tenant, provider).await
    }

    /// Writes what is new here and reads what is new elsewhere.
    pub async fn refresh(&self) -> Result<(), StoreError> {
        let _turn = self.turn.lock().await;
        self.write().await?;
        let rows = self.store.cooldowns().all(&self.tenant).await?;
        let mut state = self.state();
        let mut cooldowns = Cooldowns::default();
        for row in rows {
            let fingerprint = row.credential_fingerprint.clone();
            let (scope, cooldown) = rows::from_row(row);
            let is_of_this_secret = fingerprint.is_empty() || fingerprint == state.fingerprint_of(&scope);
            if is_of_this_secret && !state.unwritten.contains_key(&scope) {
                cooldowns.insert(scope, cooldown);
            }
        }
        for scope in state.unwritten.keys() {
            if let Some(cooldown) = state.cooldowns.get(scope) {
                cooldowns.insert(scope.clone(), cooldown.clone());
            }
        }
        state.cooldowns = cooldowns;
        let forgotten = state.cooldowns.forget_old(clock::now());
        state.lifted(forgotten);
        Ok(())
    }

    /// Only with the turn. What could not be written is kept for the next time, unless something newer came.
    async fn write(&self) -> Result<(), StoreError> {
        let (changes, noted, lifted) = {
            let mut state = self.state();
            let changes = std::mem::take(&mut state.unwritten);
            let (mut noted, mut lifted) = (Vec::new(), Vec::new());
            for (scope, change) in &changes {
                let fingerprint = state.fingerprint_of(scope).to_owned();
                match (change, state.cooldowns.get(scope)) {
                    (_, Some(cooldown)) => noted.push(rows::to_row(scope, cooldown, fingerprint)),
                    (Change::Lifted(was), None) => lifted.push(rows::to_row(scope, was, fingerprint)),
                    (Change::Noted, None) => {}
                }
            }
            (changes, noted, lifted)
        };
        let table = self.store.cooldowns();
        let mut written = table.upsert(&self.tenant, &noted).await;
        for row in &lifted {
            if written.is_ok() {
                written = table.clear(&self.tenant, row).await;
            }
        }
        if written.is_err() {
            let mut state = self.state();
            for (scope, change) in changes {
                state.unwritten.entry(scope).or_insert(change);
            }
        }
        written
    }

    async fn write_behind(&self) -> Result<(), StoreError> {
        if self.state().unwritten.is_empty() {
            return Ok(());
        }
        let _turn = self.turn.lock().await;
        self.write().await
    }

    /// Shares what is known until `stop`, and once more then.
    pub(crate) async fn keep_sharing(&self, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(WRITE_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut read_at, mut is_away) = (Instant::now(), false);
        loop {
            let stopping = tokio::select! {
                () = stop.cancelled() => true,
                _ = ticks.tick() => false,
                () = self.urgent.notified() => false,
            };
            let shared = if read_at.elapsed() >= READ_INTERVAL && !stopping {
                read_at = Instant::now();
                self.refresh().await
            } else {
                self.write_behind().await
            };
            match (&shared, is_away) {
                (Err(error), false) => {
                    tracing::warn!(error = error as &dyn std::error::Error, "penalties of providers are not shared");
                }
                (Ok(()), true) => tracing::info!("penalties of providers are shared again"),
                (Err(_), true) | (Ok(()), false) => {}
            }
            is_away = shared.is_err();
            if stopping {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests;
