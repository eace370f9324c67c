//! Penalties of providers.

use tokenhub_domain::{ErrorClass, TenantId, UnixMicros};
use tokenhub_store::{CooldownRow, CooldownScope};

use crate::{
    databases::{Database, on_both_databases},
    rows::{NOW, tenant},
};

on_both_databases!(
    penalties_come_back_as_they_were_and_only_to_their_tenant,
    the_newest_evidence_stays,
    a_pardon_ends_one_penalty_unless_it_is_older,
    a_provider_is_cleared_without_touching_the_others,
);

fn row(provider: &str, scope: CooldownScope) -> CooldownRow {
    CooldownRow {
        scope,
        provider: provider.into(),
        credential: "team".into(),
        model: "org/model:1".into(),
        reason: ErrorClass::RateLimited,
        ready_at: NOW.plus_millis(30_000),
        failures: 2,
        credential_fingerprint: "00ff".to_owned(),
        updated_at: NOW,
    }
}

async fn penalties_come_back_as_they_were_and_only_to_their_tenant(database: Database) {
    let cooldowns = database.store().await.cooldowns();
    let all = [
        row("p", CooldownScope::Credential),
        row("p", CooldownScope::CredentialModel),
        row("p", CooldownScope::Deployment),
        row("q", CooldownScope::Deployment),
    ];
    cooldowns.upsert(&tenant(), &[]).await.unwrap();
    cooldowns.upsert(&tenant(), &all).await.unwrap();
    assert_eq!(database.bare_store().await.cooldowns().all(&tenant()).await.unwrap(), all, "after a restart");
    assert!(cooldowns.all(&TenantId::from("stranger")).await.unwrap().is_empty());
}

async fn the_newest_evidence_stays(database: Database) {
    let cooldowns = database.store().await.cooldowns();
    let first = row("p", CooldownScope::Credential);
    let second = CooldownRow {
        failures: 3,
        reason: ErrorClass::AuthFailed,
        ready_at: NOW,
        credential_fingerprint: "11".to_owned(),
        updated_at: UnixMicros(NOW.0 + 1),
        ..first.clone()
    };
    for written in [&first, &second, &first] {
        cooldowns.upsert(&tenant(), std::slice::from_ref(written)).await.unwrap();
    }
    assert_eq!(cooldowns.all(&tenant()).await.unwrap(), std::slice::from_ref(&second));
    let probed = CooldownRow { ready_at: NOW.plus_millis(5), ..second };
    cooldowns.upsert(&tenant(), std::slice::from_ref(&probed)).await.unwrap();
    assert_eq!(cooldowns.all(&tenant()).await.unwrap(), [probed], "the same evidence may be written again");
}

async fn a_pardon_ends_one_penalty_unless_it_is_older(database: Database) {
    let cooldowns = database.store().await.cooldowns();
    let (ended, kept) = (row("p", CooldownScope::Credential), row("p", CooldownScope::Deployment));
    cooldowns.upsert(&tenant(), &[ended.clone(), kept.clone()]).await.unwrap();
    cooldowns.clear(&tenant(), &CooldownRow { updated_at: UnixMicros(NOW.0 - 1), ..ended.clone() }).await.unwrap();
    assert_eq!(cooldowns.all(&tenant()).await.unwrap(), [ended.clone(), kept.clone()]);
    cooldowns.clear(&tenant(), &ended).await.unwrap();
    assert_eq!(cooldowns.all(&tenant()).await.unwrap(), [kept]);
}

async fn a_provider_is_cleared_without_touching_the_others(database: Database) {
    let cooldowns = database.store().await.cooldowns();
    let (other, scope) = (row("q", CooldownScope::Credential), CooldownScope::Credential);
    let all = [row("p", scope), row("p", CooldownScope::Deployment), other.clone()];
    cooldowns.upsert(&tenant(), &all).await.unwrap();
    assert_eq!(cooldowns.clear_provider(&tenant(), &"p".into()).await.unwrap(), 2);
    assert_eq!(cooldowns.clear_provider(&tenant(), &"p".into()).await.unwrap(), 0);
    assert_eq!(cooldowns.all(&tenant()).await.unwrap(), [other]);
}
