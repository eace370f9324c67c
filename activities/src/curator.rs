//! The catalogue in force: files, what administrators wrote, and what providers list, as one snapshot that every process
//! comes to have.
//!
//! Owns the order of a change: checked against everything, written against the count that was seen, in force here at once
//! and in every other process within a second or two, because each looks at the count. Must not know HTTP. While the
//! database is away the snapshot stays as it is.

use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};

use secrecy::ExposeSecret;
use serde_json::{Map, Value};
use tokenhub_config::{ConfigError, Live, Record, RecordKey, RecordKind, RecordSecrets, Reloaded, Settings, keys};
use tokenhub_domain::{ProviderId, TenantId};
use tokenhub_providers::{Providers, ProvidersError, Upstream};
use tokenhub_store::{CatalogueChange, Changed, RecordRow, Seal, SealError, StoreError};
use tokio::{
    sync::{Mutex, Notify},
    time::MissedTickBehavior,
};
use tokio_util::sync::CancellationToken;

use crate::{World, clock, discovery, world::upstreams};

/// How long another process's change is unknown here, at most.
const LOOK_INTERVAL: Duration = Duration::from_millis(750);
/// Changes that may come in between before one is given up.
const TRIES_MAX: usize = 16;

/// Why the catalogue stays as it is.
#[derive(Debug, thiserror::Error)]
pub enum CatalogueFault {
    /// What was written makes no sense together with the rest.
    #[error("the catalogue would make no sense")]
    Config(#[from] ConfigError),
    /// The database.
    #[error("the catalogue could not be read or written")]
    Store(#[from] StoreError),
    /// The upstreams.
    #[error("the providers could not be set up")]
    Providers(#[from] ProvidersError),
    /// A key.
    #[error("a key could not be sealed")]
    Seal(#[from] SealError),
    /// The file of the secret key.
    #[error("there is no secret key")]
    SecretKey(#[from] keys::KeyFileError),
    /// A stored text is not one that was written.
    #[error("a stored entry could not be read")]
    Stored(#[from] serde_json::Error),
    /// Others were faster, again and again.
    #[error("the catalogue changes too fast")]
    Outrun,
}

/// What an administrator wrote about one entry, with what is kept beside it.
#[derive(Clone, Debug)]
pub struct KeptRecord {
    /// What was written.
    pub record: Record,
    /// The count of changes of the catalogue when it was written.
    pub version: u64,
    sealed: Option<Vec<u8>>,
}

/// One change: entries to write and entries to forget.
#[derive(Clone, Debug, Default)]
pub struct Edit {
    /// Entries with their new fields; keys that are not given stay as they are.
    pub put: Vec<(RecordKey, Map<String, Value>, NewSecrets)>,
    /// Entries that go.
    pub remove: Vec<RecordKey>,
}

/// What becomes of the keys of an entry.
#[derive(Clone, Debug, Default)]
pub enum NewSecrets {
    /// They stay.
    #[default]
    Kept,
    /// They go; those of a file, if there are any, count again.
    Dropped,
    /// These take their place: `api_key` or `credentials` as they were written.
    Given(Value),
}

/// Keeps the catalogue of this process in step.
pub struct Curator {
    world: Arc<World>,
    live: Arc<Live>,
    seal: Seal,
    /// The count of changes that is in force; its lock is held over each change.
    seen: Mutex<u64>,
    /// The upstreams that the clients in force were made for.
    in_force: std::sync::Mutex<Vec<Upstream>>,
    /// A change was made here, so that providers are to be asked for their lists.
    changed: Notify,
}

impl Curator {
    /// Over the files of `live`, in force in `world`. Nothing is read from the database yet.
    pub fn new(world: Arc<World>, live: Arc<Live>) -> Result<Self, CatalogueFault> {
        let settings = live.settings();
        let secret = keys::secret_key(&settings)?;
        let (seal, in_force) = (Seal::new(secret.expose_secret())?, std::sync::Mutex::new(upstreams(&settings)));
        Ok(Self { world, live, seal, seen: Mutex::new(0), in_force, changed: Notify::new() })
    }

    /// The settings behind the catalogue.
    pub fn live(&self) -> &Live {
        &self.live
    }

    /// Puts in force what others have changed; whether there was anything.
    pub async fn catch_up(&self) -> Result<bool, CatalogueFault> {
        let mut seen = self.seen.lock().await;
        let count = self.world.store.catalogue_records().count(&TenantId::default_tenant()).await?;
        if count == *seen {
            return Ok(false);
        }
        let (count, kept) = self.kept().await?;
        let misfits = self.live.adopt(kept.into_iter().map(|kept| kept.record).collect())?;
        for misfit in misfits {
            tracing::error!("{misfit}");
        }
        self.apply()?;
        *seen = count;
        Ok(true)
    }

    /// Looks for changes of others until `stop`.
    pub async fn keep_following(self: Arc<Self>, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(LOOK_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut failed = false;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
                () = self.changed.notified() => {
                    discovery::discover(&self.world).await;
                    continue;
                }
            }
            let followed = self.catch_up().await;
            match &followed {
                Ok(true) => {
                    tracing::info!(version = self.world.catalogue.load().version, "the catalogue has changed");
                    discovery::discover(&self.world).await;
                }
                Err(error) if !failed => {
                    tracing::error!(error = error as &dyn std::error::Error, "the catalogue stays as it is");
                }
                Ok(false) | Err(_) => {}
            }
            failed = followed.is_err();
        }
    }

    /// Reads the files again; everything is swapped as a whole, or stays.
    pub async fn reload(&self) -> Result<Reloaded, CatalogueFault> {
        let _one_at_a_time = self.seen.lock().await;
        let reloaded = self.live.reload()?;
        self.apply()?;
        Ok(reloaded)
    }

    /// What administrators wrote, and the count of changes it belongs to.
    pub async fn kept(&self) -> Result<(u64, Vec<KeptRecord>), CatalogueFault> {
        let (count, rows) = self.world.store.catalogue_records().all(&TenantId::default_tenant()).await?;
        let kept = rows.into_iter().filter_map(|row| self.read(row).transpose()).collect::<Result<_, _>>()?;
        Ok((count, kept))
    }

    /// Makes the change that `plan` finds in what is written, if it makes sense with the rest. `plan` is asked again when
    /// somebody else was first.
    pub async fn change<E: From<CatalogueFault>>(
        &self,
        plan: impl Fn(&[KeptRecord]) -> Result<Edit, E>,
    ) -> Result<(), E> {
        let mut seen = self.seen.lock().await;
        for _ in 0..TRIES_MAX {
            let (count, kept) = self.kept().await?;
            let edit = plan(&kept)?;
            let touched: Vec<RecordKey> = edit.put.iter().map(|(key, ..)| key.clone()).collect();
            let (change, after) = self.prepare(count, &kept, edit).map_err(E::from)?;
            let next = self.live.preview(&after, &touched).map_err(CatalogueFault::Config)?;
            Providers::new(upstreams(&next)).map_err(CatalogueFault::Providers)?;
            let records = self.world.store.catalogue_records();
            let changed = records.change(&TenantId::default_tenant(), count, change, clock::now()).await;
            if let Changed::To(count) = changed.map_err(CatalogueFault::Store)? {
                self.live.adopt(after).map_err(CatalogueFault::Config)?;
                self.apply().map_err(CatalogueFault::Providers)?;
                *seen = count;
                self.changed.notify_one();
                return Ok(());
            }
        }
        Err(CatalogueFault::Outrun.into())
    }

    /// The rows of `edit` after `count` changes, and every record as it is afterwards. The version of an entry is the count of
    /// its latest change, so that none comes back for an entry that was taken away and made again.
    fn prepare(
        &self,
        count: u64,
        kept: &[KeptRecord],
        edit: Edit,
    ) -> Result<(CatalogueChange, Vec<Record>), CatalogueFault> {
        let mut after: Vec<Record> = kept.iter().map(|kept| kept.record.clone()).collect();
        let mut change = CatalogueChange::default();
        for key in edit.remove {
            after.retain(|record| record.key != key);
            change.remove.push(row_of(&key, String::new(), None, 0));
        }
        for (key, fields, secrets) in edit.put {
            let before = kept.iter().find(|kept| kept.record.key == key);
            let (secrets, sealed, is_locked) = match secrets {
                NewSecrets::Kept => (
                    before.and_then(|kept| kept.record.secrets.clone()),
                    before.and_then(|kept| kept.sealed.clone()),
                    before.is_some_and(|kept| kept.record.is_locked),
                ),
                NewSecrets::Dropped => (None, None, false),
                NewSecrets::Given(value) => {
                    (RecordSecrets::parse(&value), Some(self.seal.seal(&value.to_string(), &place_of(&key))?), false)
                }
            };
            change.put.push(row_of(&key, Value::Object(fields.clone()).to_string(), sealed, count + 1));
            after.retain(|record| record.key != key);
            after.push(Record { key, fields, secrets, is_locked });
        }
        Ok((change, after))
    }

    /// A row of a kind that this version does not know is nobody's.
    fn read(&self, row: RecordRow) -> Result<Option<KeptRecord>, CatalogueFault> {
        let Some(kind) = RecordKind::parse(&row.kind) else { return Ok(None) };
        let key = RecordKey { kind, id: row.id, provider: row.provider };
        let fields: Map<String, Value> = serde_json::from_str(&row.body)?;
        let secrets = row.secret.as_ref().and_then(|sealed| match self.seal.open(sealed, &place_of(&key)) {
            Ok(text) => serde_json::from_str(&text).ok().and_then(|value| RecordSecrets::parse(&value)),
            Err(error) => {
                tracing::error!(%error, entry = place_of(&key), "a stored key cannot be used here; the provider is off");
                None
            }
        });
        let is_locked = secrets.is_none() && row.secret.is_some();
        let record = Record { key, fields, secrets, is_locked };
        Ok(Some(KeptRecord { record, version: row.version, sealed: row.secret }))
    }

    /// Swaps what the settings say now.
    fn apply(&self) -> Result<(), ProvidersError> {
        let mut in_force = self.in_force.lock().unwrap_or_else(PoisonError::into_inner);
        put_in_force(&self.world, &self.live.settings(), &mut in_force)
    }
}

/// Clients of providers that did not change keep their connections.
fn put_in_force(world: &World, settings: &Settings, in_force: &mut Vec<Upstream>) -> Result<(), ProvidersError> {
    let upstreams = upstreams(settings);
    let is_known = |one: &&Upstream| in_force.iter().any(|other| one.is_same(other));
    let (known, changed): (Vec<&Upstream>, Vec<&Upstream>) = upstreams.iter().partition(is_known);
    let known: Vec<ProviderId> = known.into_iter().map(|one| one.provider.id.clone()).collect();
    let providers = world.providers.load().renewed(changed.into_iter().cloned().collect(), &known)?;
    let catalogue = discovery::carry_over(&world.catalogue.load(), &settings.catalogue);
    world.health.know(&upstreams);
    world.verifiers.renew(settings.verifiers.clone());
    // Next to each other: what is chosen between the two may be a model whose provider has just left.
    world.providers.store(Arc::new(providers));
    world.catalogue.store(Arc::new(catalogue));
    *in_force = upstreams;
    Ok(())
}

fn row_of(key: &RecordKey, body: String, secret: Option<Vec<u8>>, version: u64) -> RecordRow {
    RecordRow {
        kind: key.kind.as_str().to_owned(),
        provider: key.provider.clone(),
        id: key.id.clone(),
        body,
        secret,
        version,
        updated_at: clock::now(),
    }
}

/// What a key is sealed for.
fn place_of(key: &RecordKey) -> String {
    format!("{}|{}|{}", key.kind.as_str(), key.provider, key.id)
}
