//! Providers, models and aliases as people write them: in the credentials file, in `tokenhub.toml`, in a variable.
//!
//! Owns the accepted fields and their defaults; whether an entry makes sense is decided in [`crate::catalogue`].

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};
use tokenhub_domain::{AliasVariant, Capability, CredentialHeader, Dialect, ProviderOrigin, StickyBy};

use crate::client_keys::ClientKeyEntry;

/// A secret that a debug print does not show.
#[derive(Clone, Deserialize)]
#[serde(transparent)]
pub(crate) struct Concealed(pub(crate) String);

impl fmt::Debug for Concealed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("concealed")
    }
}

/// An upstream.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProviderEntry {
    pub(crate) id: String,
    #[serde(default, rename = "type")]
    pub(crate) kind: Option<String>,
    #[serde(default)]
    pub(crate) base_url: Option<String>,
    /// Further servers with the same models.
    #[serde(default)]
    pub(crate) base_urls: Vec<String>,
    #[serde(default)]
    pub(crate) protocols: Vec<Dialect>,
    #[serde(default)]
    pub(crate) credential_header: Option<CredentialHeader>,
    #[serde(default, skip_serializing)]
    pub(crate) api_key: Option<Concealed>,
    /// The variable that has the key, in the environment of each process.
    #[serde(default)]
    pub(crate) api_key_env: Option<String>,
    /// Several keys in the order of their use, each with a name.
    #[serde(default, skip_serializing)]
    pub(crate) credentials: Vec<CredentialEntry>,
    #[serde(default = "yes")]
    pub(crate) enabled: bool,
    #[serde(default)]
    pub(crate) autoload_models: bool,
    /// The provider in the published prices whose prices count here.
    #[serde(default)]
    pub(crate) prices_of: Option<String>,
    /// Whether steps of durable runs are sent as responses in the background.
    #[serde(default)]
    pub(crate) background: bool,
    /// How often it may be called, by all workers together.
    #[serde(default)]
    pub(crate) max_requests_per_second: Option<f64>,
    /// Only where the hub passes its own providers to its children.
    #[serde(default)]
    pub(crate) origin: Option<ProviderOrigin>,
}

/// A key with a name.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CredentialEntry {
    pub(crate) id: String,
    pub(crate) api_key: Concealed,
}

/// A model at an upstream. Prices are dollars for a thousand tokens.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ModelEntry {
    pub(crate) id: String,
    pub(crate) provider_id: String,
    #[serde(default = "default_weight")]
    pub(crate) weight: u32,
    #[serde(default)]
    pub(crate) max_context_tokens: Option<u64>,
    #[serde(default)]
    pub(crate) max_output_tokens: Option<u64>,
    /// Without it the price that is published for the model, if there is one.
    #[serde(default)]
    pub(crate) input_per_1k: Option<f64>,
    #[serde(default)]
    pub(crate) output_per_1k: Option<f64>,
    #[serde(default = "yes")]
    pub(crate) enabled: bool,
    /// Whether its server passes on thoughts and calls of Gemma 4 as text.
    #[serde(default)]
    pub(crate) gemma4_output: Option<bool>,
    /// The callers' names of tools, by the model's own.
    #[serde(default)]
    pub(crate) tool_name_map: Option<BTreeMap<String, String>>,
    /// What it can do and what it cannot; the rest is as its name says, or not known.
    #[serde(default)]
    pub(crate) capabilities: BTreeMap<Capability, bool>,
    /// Names of the models that may answer when it does not, in this order.
    #[serde(default)]
    pub(crate) fallbacks: Vec<String>,
}

/// A name that stands for one of several models.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AliasEntry {
    pub(crate) name: String,
    pub(crate) variants: Vec<VariantEntry>,
    #[serde(default)]
    pub(crate) sticky_by: StickyBy,
    #[serde(default)]
    pub(crate) fallbacks: Vec<String>,
    #[serde(default = "yes")]
    pub(crate) enabled: bool,
}

/// One of the models behind an alias.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct VariantEntry {
    #[serde(alias = "model_id")]
    pub(crate) model: String,
    #[serde(default = "one")]
    pub(crate) weight: u32,
}

impl From<VariantEntry> for AliasVariant {
    fn from(entry: VariantEntry) -> Self {
        Self { model: entry.model, weight: entry.weight }
    }
}

/// The JSON form of all of them.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Entries {
    pub(crate) providers: Vec<ProviderEntry>,
    pub(crate) models: Vec<ModelEntry>,
    pub(crate) aliases: Vec<AliasEntry>,
    pub(crate) client_keys: Vec<ClientKeyEntry>,
}

fn one() -> u32 {
    1
}

fn yes() -> bool {
    true
}

/// The weight that TokenHub (Go) gives a model it knows nothing about.
pub(crate) fn default_weight() -> u32 {
    5
}
