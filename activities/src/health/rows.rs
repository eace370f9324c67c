//! Penalties as rows of the table, where a part that a scope does not have is empty.

use tokenhub_domain::{CredentialId, ModelId};
use tokenhub_routing::{Cooldown, Scope};
use tokenhub_store::{CooldownRow, CooldownScope};

pub(super) fn to_row(scope: &Scope, cooldown: &Cooldown, credential_fingerprint: String) -> CooldownRow {
    let (kind, provider, credential, model) = match scope.clone() {
        Scope::Provider(provider) => (CooldownScope::Provider, provider, CredentialId::default(), ModelId::default()),
        Scope::Credential(provider, credential) => {
            (CooldownScope::Credential, provider, credential, ModelId::default())
        }
        Scope::CredentialModel(provider, credential, model) => {
            (CooldownScope::CredentialModel, provider, credential, model)
        }
        Scope::Deployment(provider, model) => (CooldownScope::Deployment, provider, CredentialId::default(), model),
    };
    CooldownRow {
        scope: kind,
        provider,
        credential,
        model,
        reason: cooldown.reason,
        ready_at: cooldown.ready_at,
        failures: cooldown.failures,
        credential_fingerprint,
        updated_at: cooldown.noted_at,
    }
}

pub(super) fn from_row(row: CooldownRow) -> (Scope, Cooldown) {
    let scope = match row.scope {
        CooldownScope::Provider => Scope::Provider(row.provider),
        CooldownScope::Credential => Scope::Credential(row.provider, row.credential),
        CooldownScope::CredentialModel => Scope::CredentialModel(row.provider, row.credential, row.model),
        CooldownScope::Deployment => Scope::Deployment(row.provider, row.model),
    };
    let noted_at = row.updated_at;
    (scope, Cooldown { reason: row.reason, ready_at: row.ready_at, failures: row.failures, noted_at })
}
