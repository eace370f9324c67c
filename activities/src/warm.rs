//! Who has lately read the beginning of which prompt, and so has it in its cache.
//!
//! Owns the memory of this process: bounded, and as short as providers' own caches. It is a preference and no evidence, so
//! it is neither stored nor shared; ranking decides what it is worth.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokenhub_domain::{Deployment, PromptPrefix};

/// Providers keep a prefix for five minutes after its last use.
const KEPT: Duration = Duration::from_mins(5);
/// Prefixes that are remembered, at most: a few megabytes.
const PREFIXES_MAX: usize = 16_384;

/// The prefixes that were read lately.
#[derive(Debug, Default)]
pub struct WarmPrefixes(Mutex<HashMap<PromptPrefix, Vec<(Deployment, Instant)>>>);

impl WarmPrefixes {
    /// Notes that `deployment` has answered a prompt with this beginning.
    pub(crate) fn note(&self, prefix: Option<PromptPrefix>, deployment: &Deployment) {
        let Some(prefix) = prefix else { return };
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= PREFIXES_MAX {
            known.retain(|_, readers| readers.iter().any(|(_, read_at)| read_at.elapsed() < KEPT));
            if known.len() >= PREFIXES_MAX {
                known.clear();
            }
        }
        // Each model has a cache of its own.
        let readers = known.entry(prefix).or_default();
        readers.retain(|(reader, read_at)| reader.model != deployment.model && read_at.elapsed() < KEPT);
        readers.push((deployment.clone(), Instant::now()));
    }

    /// Who has it in its cache.
    pub fn of(&self, prefix: Option<PromptPrefix>) -> Vec<Deployment> {
        let Some(prefix) = prefix else { return Vec::new() };
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let readers = known.get(&prefix).into_iter().flatten().filter(|(_, read_at)| read_at.elapsed() < KEPT);
        readers.map(|(deployment, _)| deployment.clone()).collect()
    }
}
