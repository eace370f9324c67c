//! Several processes on one database, each with its own copy of the penalties.

use std::collections::BTreeMap;

use secrecy::SecretString;
use tempfile::TempDir;
use tokenhub_domain::{Candidate, NanoDollars, Provider, ProviderKind};
use tokenhub_providers::Timeouts;

use super::*;

async fn store(folder: &TempDir) -> Store {
    let store = Store::open(&format!("sqlite://{}/t.db?mode=rwc", folder.path().display())).await.unwrap();
    store.migrate().await.unwrap();
    store
}

fn upstream(secret: &str) -> Upstream {
    let mut provider = Provider::new("p", ProviderKind::Openai, "http://127.0.0.1:1");
    provider.credentials = vec!["a".into(), "b".into()];
    let credentials =
        BTreeMap::from([("a".into(), SecretString::from(secret)), ("b".into(), SecretString::from("other"))]);
    Upstream { provider, credentials, timeouts: Timeouts::default(), quirks: BTreeMap::new() }
}

async fn process(folder: &TempDir, secret: &str) -> Health {
    let health = Health::new(store(folder).await, Penalties::On);
    health.know(&[upstream(secret)]);
    health.refresh().await.unwrap();
    health
}

fn of(credential: &str) -> Deployment {
    Deployment { credential: credential.into(), ..Deployment::new("m", "p") }
}

fn fail(health: &Health, credential: &str, class: ErrorClass) {
    health.note(&of(credential), Err(&ProviderFailure::of(class, "x")), clock::now());
}

/// The credentials that a selection would use.
fn eligible(health: &Health) -> Vec<String> {
    let candidate =
        |deployment| Candidate { deployment, max_context_tokens: None, estimated_cost: NanoDollars(0), weight: 5 };
    let mut list = Shortlist { candidates: ["a", "b"].map(of).map(candidate).to_vec(), ..Shortlist::default() };
    health.sift(std::slice::from_mut(&mut list));
    list.candidates.iter().map(|it| it.deployment.credential.to_string()).collect()
}

#[tokio::test]
async fn a_penalty_survives_a_restart_and_reaches_the_other_processes() {
    let folder = tempfile::tempdir().unwrap();
    let (worker, api) = (process(&folder, "secret").await, process(&folder, "secret").await);
    fail(&worker, "a", ErrorClass::AuthFailed);
    assert_eq!(eligible(&worker), ["b"]);
    assert_eq!(eligible(&api), ["a", "b"]);
    worker.refresh().await.unwrap();
    api.refresh().await.unwrap();
    assert_eq!(eligible(&api), ["b"]);
    assert_eq!(eligible(&process(&folder, "secret").await), ["b"], "after a restart");
}

#[tokio::test]
async fn an_answer_ends_a_penalty_everywhere() {
    let folder = tempfile::tempdir().unwrap();
    let (worker, api) = (process(&folder, "secret").await, process(&folder, "secret").await);
    fail(&worker, "a", ErrorClass::RateLimited);
    worker.refresh().await.unwrap();
    api.refresh().await.unwrap();
    assert_eq!(eligible(&api), ["b"]);
    worker.note(&of("a"), Ok(()), clock::now());
    worker.refresh().await.unwrap();
    api.refresh().await.unwrap();
    assert_eq!(eligible(&api), ["a", "b"]);
}

#[tokio::test]
async fn a_changed_secret_ends_its_penalty_at_once_and_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let health = process(&folder, "old").await;
    let began = clock::now();
    fail(&health, "a", ErrorClass::AuthFailed);
    fail(&health, "b", ErrorClass::AuthFailed);
    health.refresh().await.unwrap();
    let restarted = process(&folder, "new").await;
    assert_eq!(restarted.list().len(), 1, "the penalty of the secret that did not change");
    assert_eq!(eligible(&restarted), ["a"]);
    health.know(&[upstream("old")]);
    assert_eq!(health.list().len(), 2, "a reload without a change");
    health.know(&[upstream("new")]);
    assert_eq!(eligible(&health), ["a"]);
    health.note(&of("a"), Err(&ProviderFailure::of(ErrorClass::AuthFailed, "late")), began);
    assert_eq!(eligible(&health), ["a"], "the failure of a call with the old secret");
    health.refresh().await.unwrap();
    assert_eq!(health.list().len(), 1);
}

#[tokio::test]
async fn a_reset_ends_every_penalty_of_the_provider_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let (health, other) = (process(&folder, "secret").await, process(&folder, "secret").await);
    fail(&health, "a", ErrorClass::AuthFailed);
    fail(&health, "b", ErrorClass::Overloaded);
    health.note(&Deployment::new("m", "q"), Err(&ProviderFailure::of(ErrorClass::Overloaded, "x")), clock::now());
    health.refresh().await.unwrap();
    other.refresh().await.unwrap();
    fail(&health, "a", ErrorClass::RateLimited);
    assert_eq!(other.reset(&"p".into()).await.unwrap(), 2);
    assert_eq!(other.list().len(), 1);
    assert_eq!(health.reset(&"p".into()).await.unwrap(), 0);
    health.refresh().await.unwrap();
    let left: Vec<ProviderId> = health.list().iter().map(|(scope, _)| scope.provider().clone()).collect();
    assert_eq!(left, ["q".into()]);
}

#[tokio::test]
async fn without_the_table_the_process_goes_by_its_own_memory_and_writes_later() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}/t.db?mode=rwc", folder.path().display());
    let health = Health::new(Store::open(&url).await.unwrap(), Penalties::On);
    health.know(&[upstream("secret")]);
    fail(&health, "a", ErrorClass::AuthFailed);
    assert!(health.refresh().await.is_err());
    assert_eq!(eligible(&health), ["b"]);
    drop(store(&folder).await);
    health.refresh().await.unwrap();
    assert_eq!(eligible(&process(&folder, "secret").await), ["b"]);
}

#[tokio::test]
async fn withdrawn_calls_leave_nothing_and_so_does_everything_when_it_is_switched_off() {
    let folder = tempfile::tempdir().unwrap();
    let health = process(&folder, "secret").await;
    fail(&health, "a", ErrorClass::Cancelled);
    assert!(health.list().is_empty());
    let off = Health::new(store(&folder).await, Penalties::Off);
    fail(&off, "a", ErrorClass::AuthFailed);
    assert_eq!(eligible(&off), ["a", "b"]);
}

#[tokio::test]
async fn the_task_writes_by_itself_and_once_more_at_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let (health, stop) = (std::sync::Arc::new(process(&folder, "secret").await), CancellationToken::new());
    let task = tokio::spawn({
        let (health, stop) = (std::sync::Arc::clone(&health), stop.clone());
        async move { health.keep_sharing(stop).await }
    });
    fail(&health, "a", ErrorClass::AuthFailed);
    let other = store(&folder).await.cooldowns();
    let deadline = Instant::now() + Duration::from_secs(5);
    while other.all(&TenantId::default_tenant()).await.unwrap().is_empty() {
        assert!(Instant::now() < deadline, "nothing was written");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    fail(&health, "b", ErrorClass::Overloaded);
    stop.cancel();
    task.await.unwrap();
    assert_eq!(other.all(&TenantId::default_tenant()).await.unwrap().len(), 2);
}
