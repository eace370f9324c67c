//! The settings as they are now, and the swap that a reload makes.
//!
//! Owns atomicity: readers hold one snapshot and never see half of a change, and a reload that fails changes nothing.
//! What is decided at start (addresses, database, Temporal, slots) stays as it was and is reported instead. Listening
//! for a signal is the binaries' business.

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;

use tokenhub_domain::Catalogue;

use crate::{
    ConfigError, Environment, Flags, Loaded, Origins, Record, RecordKey, Settings, catalogue::Built, configured::Misfit,
};

/// A shared, reloadable configuration.
#[derive(Debug)]
pub struct Live {
    settings: ArcSwap<Settings>,
    origins: ArcSwap<Origins>,
    sources: Option<Sources>,
    /// What administrators wrote. Its lock is held over each change: two that overlap could leave older values in place.
    records: Mutex<Vec<Record>>,
}

#[derive(Debug)]
struct Sources {
    flags: Flags,
    environment: Environment,
}

/// What a reload did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reloaded {
    /// Settings that changed and are in force.
    pub changed: Vec<String>,
    /// Settings that changed and wait for the next start.
    pub after_restart: Vec<String>,
    /// Things that are probably not meant.
    pub warnings: Vec<String>,
}

/// Settings that parts of a process took at start.
const FIXED: [&str; 15] = [
    "api.",
    "secret_key",
    "listen_addr",
    "data_dir",
    "database_url",
    "log.",
    "temporal.",
    "breaker.",
    "routing.penalties",
    "routing.probe_interval_secs",
    "routing.live_signals",
    "routing.exploration_temperature",
    "worker.",
    "up.",
    "shutdown_drain_secs",
];

impl Live {
    /// Reads every layer; the warnings are for the log.
    pub fn load(flags: Flags, environment: Environment) -> Result<(Arc<Self>, Vec<String>), ConfigError> {
        let Loaded { settings, origins, warnings } = Settings::load(&flags, &environment)?;
        let live = Self::of(settings, origins, Some(Sources { flags, environment }));
        Ok((Arc::new(live), warnings))
    }

    /// Settings that never change: for tests and embedding.
    pub fn fixed(settings: Settings) -> Arc<Self> {
        Arc::new(Self::of(settings, Origins::default(), None))
    }

    fn of(settings: Settings, origins: Origins, sources: Option<Sources>) -> Self {
        Self {
            settings: ArcSwap::from_pointee(settings),
            origins: ArcSwap::from_pointee(origins),
            sources,
            records: Mutex::default(),
        }
    }

    /// The settings as they are now.
    pub fn settings(&self) -> Arc<Settings> {
        self.settings.load_full()
    }

    /// Where they came from.
    pub fn origins(&self) -> Arc<Origins> {
        self.origins.load_full()
    }

    /// Reads the files again and swaps what may change, or keeps everything and says why.
    pub fn reload(&self) -> Result<Reloaded, ConfigError> {
        let Some(Sources { flags, environment }) = &self.sources else { return Ok(Reloaded::default()) };
        let records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        let Loaded { settings: read, origins, warnings } = Settings::load(flags, environment)?;
        let (read, misfits) = with_records(read, &records)?;
        let before = self.settings();
        let (mut changed, after_restart) = differences(&self.origins(), &origins);
        let mut next = keep_fixed(&before, read);
        next.catalogue.version = before.catalogue.version;
        if next.catalogue != before.catalogue {
            next.catalogue.version += 1;
            changed.push("providers and models".to_owned());
        }
        self.settings.store(Arc::new(next));
        self.origins.store(Arc::new(origins));
        let warnings = warnings.into_iter().chain(told(&misfits)).collect();
        Ok(Reloaded { changed, after_restart, warnings })
    }

    /// What the settings would be with `records` in place of those that are in force. Neither one of `changed` nor one that
    /// has fitted so far may not fit.
    pub fn preview(&self, records: &[Record], changed: &[RecordKey]) -> Result<Settings, ConfigError> {
        let settings = self.settings();
        let (next, misfits) = with_records(settings.as_ref().clone(), records)?;
        if misfits.is_empty() {
            return Ok(next);
        }
        let in_force = self.records.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (_, before) = with_records(settings.as_ref().clone(), &in_force)?;
        let is_old = |key: &RecordKey| !changed.contains(key) && before.iter().any(|misfit| &misfit.key == key);
        match misfits.into_iter().find(|misfit| !is_old(&misfit.key)) {
            Some(new) => Err(new.problem),
            None => Ok(next),
        }
    }

    /// Puts `records` in force, or keeps everything and says why. Those that do not fit are left out and told.
    pub fn adopt(&self, records: Vec<Record>) -> Result<Vec<String>, ConfigError> {
        let mut in_force = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.settings();
        let (mut next, misfits) = with_records(before.as_ref().clone(), &records)?;
        next.catalogue.version = before.catalogue.version + u64::from(!is_same(&next.catalogue, &before.catalogue));
        self.settings.store(Arc::new(next));
        *in_force = records;
        Ok(told(&misfits))
    }
}

fn is_same(one: &Catalogue, other: &Catalogue) -> bool {
    (&one.providers, &one.models, &one.aliases) == (&other.providers, &other.models, &other.aliases)
}

/// `settings` with the catalogue and the keys that `records` make of their sources, and the records that do not fit.
fn with_records(settings: Settings, records: &[Record]) -> Result<(Settings, Vec<Misfit>), ConfigError> {
    let (Built { catalogue, credentials, .. }, misfits) = settings.configured.with_fitting(records)?;
    Ok((Settings { catalogue, credentials, ..settings }, misfits))
}

fn told(misfits: &[Misfit]) -> Vec<String> {
    misfits.iter().map(|misfit| format!("a stored entry is not used: {}", misfit.problem)).collect()
}

/// What was read, with the parts that were decided at start as they are.
fn keep_fixed(before: &Settings, read: Settings) -> Settings {
    Settings {
        listen_addr: before.listen_addr,
        api_threads: before.api_threads,
        data_dir: before.data_dir.clone(),
        secret_key: before.secret_key.clone(),
        database_url: before.database_url.clone(),
        log_level: before.log_level.clone(),
        log_format: before.log_format,
        temporal: before.temporal.clone(),
        payload_keys: before.payload_keys.clone(),
        breaker: before.breaker,
        start_deadline_ms: before.start_deadline_ms,
        shutdown_drain_secs: before.shutdown_drain_secs,
        penalties: before.penalties,
        probe_interval_secs: before.probe_interval_secs,
        live_signals: before.live_signals,
        exploration_temperature: before.exploration_temperature,
        worker: before.worker.clone(),
        up: before.up.clone(),
        stop_at_end_of_stdin: before.stop_at_end_of_stdin,
        ..read
    }
}

/// Names of the settings whose shown value differs, those in force and those for the next start. Secrets are masked in
/// both tables, so a changed secret is swapped without being named.
fn differences(before: &Origins, after: &Origins) -> (Vec<String>, Vec<String>) {
    after
        .rows()
        .iter()
        .filter(|row| before.of(&row.name).is_none_or(|old| old.value != row.value))
        .map(|row| row.name.clone())
        .partition(|name| !FIXED.iter().any(|fixed| name.starts_with(fixed)))
}
