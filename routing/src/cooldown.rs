//! Penalties after failures of providers: who is left out, for how long, and when one call may look again.
//!
//! Owns how far a failure reaches (a credential, a model with it, a deployment) and how long it counts. Must not know
//! where penalties are kept or what time it is: a moment comes in with every question, so every process that has the
//! same facts decides alike. A penalty acts when a later request selects; the class table's tries within a request are
//! not its business.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tokenhub_domain::{
    Candidate, CredentialId, Deployment, ErrorClass, ModelId, ProviderFailure, ProviderId, Shortlist, UnixMicros,
};

/// A refused key stays refused until somebody changes it; the bound is for accounts that are unlocked elsewhere.
const AUTH_MS: u64 = 3_600_000;
/// Credit is bought by people, which takes minutes.
const QUOTA_MS: u64 = 600_000;
/// Rate limits refill within seconds; a hint that says less, or nothing, is rounded up to this.
const RATE_LIMIT_MS: u64 = 1_000;
/// Capacity comes back by itself, often at once.
const OVERLOAD_MS: u64 = 5_000;
/// No hint excludes anybody for longer: a wrong one must not need an operator.
const HINT_MAX_MS: u64 = 3_600_000;
/// A window of a quota has a known end. The longest is a week; what says more is mistaken.
const QUOTA_WINDOW_MAX_MS: u64 = 8 * 24 * 3_600_000;
/// Failures in a row that are no accident any more: as many as one request makes at one deployment.
const COUNTED_FAILURES: u32 = 3;
/// The first penalty for counted failures; it doubles with each further one.
const COUNTED_MS: u64 = 10_000;
/// An outage of hours is noticed to be over within this.
const COUNTED_MAX_MS: u64 = 120_000;
/// Milliseconds: a deadline that is set by the caller of a step, and is shorter than this, says nothing about the provider.
pub const DEADLINE_EVIDENCE_MS: u64 = 10_000;
/// For how long the one who looks again keeps the others away; healthy providers begin to answer within it.
const PROBE_LEASE_MS: u64 = 5_000;
/// An entry that nobody looked at for this long after its end is evidence of nothing.
const FORGOTTEN_AFTER_MS: u64 = 600_000;

/// How far a penalty reaches.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// Everything at the provider: nobody is there, as probes have found.
    Provider(ProviderId),
    /// Everything that is called with the credential.
    Credential(ProviderId, CredentialId),
    /// One model with the credential.
    CredentialModel(ProviderId, CredentialId, ModelId),
    /// One model at the provider, with whatever credential.
    Deployment(ProviderId, ModelId),
}

impl Scope {
    /// Whose penalty it is.
    pub fn provider(&self) -> &ProviderId {
        match self {
            Self::Provider(provider)
            | Self::Credential(provider, _)
            | Self::CredentialModel(provider, _, _)
            | Self::Deployment(provider, _) => provider,
        }
    }

    /// Every scope that a call belongs to.
    fn all_of(deployment: &Deployment) -> [Self; 4] {
        let Deployment { model, provider, credential } = deployment.clone();
        [
            Self::Provider(provider.clone()),
            Self::Credential(provider.clone(), credential.clone()),
            Self::CredentialModel(provider.clone(), credential, model.clone()),
            Self::Deployment(provider, model),
        ]
    }
}

/// A penalty, or failures on the way to one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cooldown {
    /// The latest failure.
    pub reason: ErrorClass,
    /// When one call may look again.
    pub ready_at: UnixMicros,
    /// Failures in a row.
    pub failures: u32,
    /// When the latest failure was seen.
    pub noted_at: UnixMicros,
}

impl Cooldown {
    /// Whether it excludes anybody: counted failures do so from the third on.
    pub fn is_penalty(&self) -> bool {
        !is_counted(self.reason) || self.failures >= COUNTED_FAILURES
    }
}

/// What the penalties say about one deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nothing.
    Free,
    /// A penalty has ended, and nobody has looked again yet.
    Probe,
    /// Left out until then.
    Cooling {
        /// The failure that lasts longest.
        reason: ErrorClass,
        /// When it is over.
        ready_at: UnixMicros,
    },
}

/// When a call was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallTimes {
    /// When it began.
    pub began: UnixMicros,
    /// When its end was seen.
    pub ended: UnixMicros,
}

/// Every penalty that is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cooldowns(BTreeMap<Scope, Cooldown>);

impl Cooldowns {
    /// All of them, in the order of their scopes.
    pub fn iter(&self) -> impl Iterator<Item = (&Scope, &Cooldown)> {
        self.0.iter()
    }

    /// The one with that scope.
    pub fn get(&self, scope: &Scope) -> Option<&Cooldown> {
        self.0.get(scope)
    }

    /// Takes what another process has noted.
    pub fn insert(&mut self, scope: Scope, cooldown: Cooldown) {
        self.0.insert(scope, cooldown);
    }

    /// Notes a failed call; the scope that it changed, if it is one that is penalised.
    pub fn note_failure(
        &mut self,
        deployment: &Deployment,
        failure: &ProviderFailure,
        times: CallTimes,
    ) -> Option<Scope> {
        let Deployment { model, provider, credential } = deployment.clone();
        let hint_ms = failure.retry_after_ms.map(|hint_ms| hint_ms.min(HINT_MAX_MS));
        let at_least = |floor_ms: u64| hint_ms.unwrap_or(0).max(floor_ms);
        let (scope, penalty_ms) = match failure.class {
            ErrorClass::AuthFailed => (Scope::Credential(provider, credential), AUTH_MS),
            ErrorClass::QuotaExhausted => {
                let window_ms = failure.quota_resets_in_ms.map(|window_ms| window_ms.min(QUOTA_WINDOW_MAX_MS));
                (Scope::Credential(provider, credential), hint_ms.max(window_ms).unwrap_or(QUOTA_MS))
            }
            ErrorClass::RateLimited => (Scope::CredentialModel(provider, credential, model), at_least(RATE_LIMIT_MS)),
            ErrorClass::Overloaded => (Scope::Deployment(provider, model), at_least(OVERLOAD_MS)),
            ErrorClass::StepDeadline if times.ended.millis_since(times.began) < DEADLINE_EVIDENCE_MS => return None,
            ErrorClass::ServerError
            | ErrorClass::Transport
            | ErrorClass::StreamBroken
            | ErrorClass::FirstTokenTimeout
            | ErrorClass::StepDeadline => return self.count(Scope::Deployment(provider, model), failure, times),
            ErrorClass::ContextTooLong
            | ErrorClass::BadRequest
            | ErrorClass::ContentFiltered
            | ErrorClass::BadOutput
            | ErrorClass::ResultTooLarge
            | ErrorClass::BudgetExhausted
            | ErrorClass::Cancelled => return None,
        };
        let failures = self.0.get(&scope).map_or(0, |known| known.failures).saturating_add(1);
        Some(self.put(scope, failure.class, failures, times.ended.plus_millis(penalty_ms), times.ended))
    }

    /// Notes what a probe of `provider` found: whether somebody is there. Three that found nobody are a penalty for the
    /// whole provider; one that finds somebody ends that. Gives the scope that it noted, and what it ended. A provider that is
    /// there and answers badly is none of a probe's business: traffic has penalised it, and traffic tries it again.
    pub fn note_probe(
        &mut self,
        provider: &ProviderId,
        found: Result<(), &ProviderFailure>,
        times: CallTimes,
    ) -> (Option<Scope>, Vec<(Scope, Cooldown)>) {
        match found {
            Err(failure) if failure.class == ErrorClass::Transport => {
                (self.count(Scope::Provider(provider.clone()), failure, times), Vec::new())
            }
            // Silence is no absence: a list may be long, and its server busy with answers.
            Err(failure) if matches!(failure.class, ErrorClass::StepDeadline | ErrorClass::FirstTokenTimeout) => {
                (None, Vec::new())
            }
            Ok(()) | Err(_) => {
                let absent = Scope::Provider(provider.clone());
                (None, self.remove_where(|scope, known| *scope == absent && times.began >= known.noted_at))
            }
        }
    }

    /// Failures that may be accidents. Calls that were under way when a penalty began are the same accident.
    fn count(&mut self, scope: Scope, failure: &ProviderFailure, times: CallTimes) -> Option<Scope> {
        let known = self.0.get(&scope);
        if known.is_some_and(|known| known.failures >= COUNTED_FAILURES && times.began < known.noted_at) {
            return None;
        }
        let failures = known.map_or(0, |known| known.failures).saturating_add(1);
        let ready_at = match failures.checked_sub(COUNTED_FAILURES) {
            None => times.ended,
            Some(doublings) => {
                let penalty_ms = (COUNTED_MS << doublings.min(16)).min(COUNTED_MAX_MS);
                let hint_ms = failure.retry_after_ms.map_or(0, |hint_ms| hint_ms.min(HINT_MAX_MS));
                times.ended.plus_millis(penalty_ms.max(hint_ms))
            }
        };
        Some(self.put(scope, failure.class, failures, ready_at, times.ended))
    }

    /// A penalty is never shortened by another failure, and keeps the reason that lasts longest.
    fn put(
        &mut self,
        scope: Scope,
        class: ErrorClass,
        failures: u32,
        ready_at: UnixMicros,
        noted_at: UnixMicros,
    ) -> Scope {
        let longer = self.0.get(&scope).filter(|known| known.is_penalty() && known.ready_at > ready_at);
        let (reason, ready_at) = longer.map_or((class, ready_at), |known| (known.reason, known.ready_at));
        self.0.insert(scope.clone(), Cooldown { reason, ready_at, failures, noted_at });
        scope
    }

    /// Notes an answered call; what it ended. One that began before the failure does not outweigh it.
    pub fn note_success(&mut self, deployment: &Deployment, began: UnixMicros) -> Vec<(Scope, Cooldown)> {
        let scopes = Scope::all_of(deployment);
        // Whoever has answered is there, whatever a probe has found meanwhile.
        let is_presence = |scope: &Scope| matches!(scope, Scope::Provider(_));
        self.remove_where(|scope, known| {
            scopes.contains(scope) && (is_presence(scope) || !known.is_penalty() || began >= known.noted_at)
        })
    }

    /// Forgets what ended long ago, and says what it was.
    pub fn forget_old(&mut self, now: UnixMicros) -> Vec<(Scope, Cooldown)> {
        self.remove_where(|_, known| now.millis_since(known.ready_at) >= FORGOTTEN_AFTER_MS)
    }

    /// Lifts every penalty that `is_meant` names, and says what they were.
    pub fn remove_where(&mut self, is_meant: impl Fn(&Scope, &Cooldown) -> bool) -> Vec<(Scope, Cooldown)> {
        self.0.extract_if(.., |scope, known| is_meant(scope, known)).collect()
    }

    /// What is known about a deployment at this moment.
    pub fn standing(&self, deployment: &Deployment, now: UnixMicros) -> Standing {
        let penalties = Scope::all_of(deployment)
            .into_iter()
            .filter_map(|scope| self.0.get(&scope))
            .filter(|known| known.is_penalty());
        match penalties.max_by_key(|known| known.ready_at) {
            None => Standing::Free,
            Some(known) if known.ready_at <= now => Standing::Probe,
            Some(known) => Standing::Cooling { reason: known.reason, ready_at: known.ready_at },
        }
    }

    /// Takes the probes of `candidates`: their ended penalties last a few seconds longer for everybody else. Gives the
    /// scopes that it changed.
    pub fn take_probes(&mut self, candidates: &[Candidate], now: UnixMicros) -> Vec<Scope> {
        let mut taken = Vec::new();
        for scope in candidates.iter().flat_map(|candidate| Scope::all_of(&candidate.deployment)) {
            if let Some(known) = self.0.get_mut(&scope)
                && known.is_penalty()
                && known.ready_at <= now
            {
                known.ready_at = now.plus_millis(PROBE_LEASE_MS);
                taken.push(scope);
            }
        }
        taken
    }

    /// `list` without the candidates that are cooling down while the same model can be had elsewhere. A model that is
    /// cooling down everywhere goes last, soonest first: a vote keeps its voters, and somebody with one provider is still
    /// served. Refused and spent credentials stay only where nothing else is left.
    pub fn sift(&self, list: Shortlist, now: UnixMicros) -> Shortlist {
        let Shortlist { candidates: offered, mut skipped, paced } = list;
        let (mut kept, mut waiting) = (Vec::new(), Vec::new());
        for candidate in offered {
            match self.standing(&candidate.deployment, now) {
                Standing::Free | Standing::Probe => kept.push(candidate),
                Standing::Cooling { reason, ready_at } => waiting.push((ready_at, reason, candidate)),
            }
        }
        let mut leave_out = |reason: ErrorClass, candidate: &Candidate| {
            skipped.push(format!("{}: cooling_down_{}", candidate.deployment.model, reason.as_str()));
        };
        waiting.retain(|(_, reason, candidate)| {
            let is_spare = kept.iter().any(|it: &Candidate| it.deployment.model == candidate.deployment.model);
            if is_spare {
                leave_out(*reason, candidate);
            }
            !is_spare
        });
        let (mut hopeful, hopeless): (Vec<_>, Vec<_>) =
            waiting.into_iter().partition(|(_, reason, _)| !is_of_credential(*reason));
        if kept.is_empty() && hopeful.is_empty() {
            hopeful = hopeless;
        } else {
            for (_, reason, candidate) in &hopeless {
                leave_out(*reason, candidate);
            }
        }
        // Stable, so that what is equally far away keeps its rank.
        hopeful.sort_by_key(|(ready_at, _, _)| *ready_at);
        kept.extend(hopeful.into_iter().map(|(_, _, candidate)| candidate));
        Shortlist { candidates: kept, skipped, paced }
    }
}

/// Whether failures of the class are a penalty from the third on only.
fn is_counted(class: ErrorClass) -> bool {
    match class {
        ErrorClass::ServerError
        | ErrorClass::Transport
        | ErrorClass::StreamBroken
        | ErrorClass::FirstTokenTimeout
        | ErrorClass::StepDeadline => true,
        ErrorClass::RateLimited
        | ErrorClass::QuotaExhausted
        | ErrorClass::Overloaded
        | ErrorClass::AuthFailed
        | ErrorClass::ContextTooLong
        | ErrorClass::BadRequest
        | ErrorClass::ContentFiltered
        | ErrorClass::BadOutput
        | ErrorClass::ResultTooLarge
        | ErrorClass::BudgetExhausted
        | ErrorClass::Cancelled => false,
    }
}

/// Whether only somebody with access to the account can end it.
fn is_of_credential(class: ErrorClass) -> bool {
    match class {
        ErrorClass::AuthFailed | ErrorClass::QuotaExhausted => true,
        ErrorClass::RateLimited
        | ErrorClass::Overloaded
        | ErrorClass::ServerError
        | ErrorClass::Transport
        | ErrorClass::StreamBroken
        | ErrorClass::FirstTokenTimeout
        | ErrorClass::StepDeadline
        | ErrorClass::ContextTooLong
        | ErrorClass::BadRequest
        | ErrorClass::ContentFiltered
        | ErrorClass::BadOutput
        | ErrorClass::ResultTooLarge
        | ErrorClass::BudgetExhausted
        | ErrorClass::Cancelled => false,
    }
}

#[cfg(test)]
mod tests;
