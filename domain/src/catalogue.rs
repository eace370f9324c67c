//! What can be called: providers, models and the deployments they form together.
//!
//! A snapshot: readers hold one and never see half of a change. Secrets are not in it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Alias, CallRate, Capabilities, CredentialId, Dialect, ModelId, NanoDollars, PricePerMillion, ProviderId};

/// The family of a provider.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProviderKind {
    /// OpenAI, or anything compatible with its Chat Completions.
    #[default]
    Openai,
    /// Anthropic, or anything compatible with its Messages.
    Anthropic,
    /// Servers of one's own, several of the same models.
    Vllm,
}

impl ProviderKind {
    /// The protocols that every provider of the family speaks, the preferred one first.
    pub fn dialects(self) -> Vec<Dialect> {
        match self {
            Self::Openai | Self::Vllm => vec![Dialect::Chat],
            Self::Anthropic => vec![Dialect::Messages],
        }
    }

    /// Where the family looks for its credential.
    pub fn credential_header(self) -> CredentialHeader {
        match self {
            Self::Openai | Self::Vllm => CredentialHeader::Bearer,
            Self::Anthropic => CredentialHeader::XApiKey,
        }
    }
}

/// The header that carries a credential.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CredentialHeader {
    /// `Authorization: Bearer`.
    #[default]
    Bearer,
    /// `x-api-key`, as Anthropic has it.
    XApiKey,
    /// `api-key`, as Azure has it.
    ApiKey,
}

/// Where a provider came from; the local and demo ones are never stored and are marked wherever models are listed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProviderOrigin {
    /// The operator's configuration.
    #[default]
    Configured,
    /// The small model that runs on this machine.
    Local,
    /// A scripted model with canned answers.
    Demo,
}

/// An upstream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provider {
    /// Its name.
    pub id: ProviderId,
    /// Its family.
    pub kind: ProviderKind,
    /// What it speaks, the preferred protocol first. Callers of another protocol are converted to that one.
    pub dialects: Vec<Dialect>,
    /// Root of its API, without `/v1` and without a trailing slash.
    pub base_url: String,
    /// Roots of further servers with the same models, asked in turn with the first.
    pub replicas: Vec<String>,
    /// Where its credential goes.
    pub credential_header: CredentialHeader,
    /// Its credentials in the order of their use; none where it needs none or has a single unnamed one.
    pub credentials: Vec<CredentialId>,
    /// Whether it may be called.
    pub enabled: bool,
    /// Where it came from.
    pub origin: ProviderOrigin,
    /// Whether its model list is to be asked for.
    pub autoload_models: bool,
    /// The provider whose published prices count here; its own, where its address is known, without it.
    #[serde(default)]
    pub prices_of: Option<String>,
    /// Whether steps of runs that keep a journal are sent as responses in the background, which outlive their caller.
    #[serde(default)]
    pub background: bool,
    /// How often it may be called, by all workers together; as often as there is reason to without it.
    #[serde(default)]
    pub max_rate: Option<CallRate>,
}

impl Provider {
    /// A configured provider with the defaults of its family.
    pub fn new(id: impl Into<ProviderId>, kind: ProviderKind, base_url: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            kind,
            dialects: kind.dialects(),
            base_url: base_url.into(),
            replicas: Vec::new(),
            credential_header: kind.credential_header(),
            credentials: Vec::new(),
            enabled: true,
            origin: ProviderOrigin::Configured,
            autoload_models: false,
            prices_of: None,
            background: false,
            max_rate: None,
        }
    }
}

/// What a model needs beside its protocol. Only for providers of Chat Completions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelQuirks {
    /// Its server passes on thoughts and calls of Gemma 4 as text.
    #[serde(default)]
    pub gemma4_output: bool,
    /// The callers' names of tools, by the model's own.
    #[serde(default)]
    pub tool_names: BTreeMap<String, String>,
}

impl ModelQuirks {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        !self.gemma4_output && self.tool_names.is_empty()
    }
}

/// Who says that there is a model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ModelOrigin {
    /// The operator; it stays until the operator takes it away.
    #[default]
    Configured,
    /// Its provider's list; it goes with its line there.
    Listed,
}

/// Where a price comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PriceSource {
    /// Nobody knows it; calls are counted as free.
    #[default]
    Unknown,
    /// The operator.
    Manual,
    /// The published prices that this version was built with.
    Published,
    /// The same by every rule that is published for what a call used, cached tokens among it. Of a bill, never of a model.
    PublishedUsage,
}

impl PriceSource {
    /// The stable name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Manual => "manual",
            Self::Published => "published",
            Self::PublishedUsage => "published_usage",
        }
    }
}

/// A model as one provider serves it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Model {
    /// The name that clients use and that goes upstream.
    pub id: ModelId,
    /// Who serves it.
    pub provider_id: ProviderId,
    /// 0 to 10; more is better.
    pub weight: u32,
    /// The window, when known.
    pub max_context_tokens: Option<u64>,
    /// The longest answer, when known.
    pub max_output_tokens: Option<u64>,
    /// Price of input tokens.
    pub input_price: PricePerMillion,
    /// Price of output tokens.
    pub output_price: PricePerMillion,
    /// Who says so.
    #[serde(default)]
    pub price_source: PriceSource,
    /// Whether it may be chosen.
    pub enabled: bool,
    /// Who says that there is such a model.
    #[serde(default)]
    pub origin: ModelOrigin,
    /// What it needs beside its protocol.
    #[serde(default)]
    pub quirks: ModelQuirks,
    /// What it is known to do and not to do.
    #[serde(default)]
    pub capabilities: Capabilities,
    /// Names of the models that may answer when it does not, in this order.
    #[serde(default)]
    pub fallbacks: Vec<String>,
}

/// The weight of a model that nobody weighed: the middle of the scale, as TokenHub (Go) has it.
const DEFAULT_WEIGHT: u32 = 5;

impl Model {
    /// A model of which nothing is known but what its name says.
    pub fn new(id: impl Into<ModelId>, provider_id: impl Into<ProviderId>) -> Self {
        let id = id.into();
        Self {
            capabilities: Capabilities::of_name(id.as_str()),
            id,
            provider_id: provider_id.into(),
            weight: DEFAULT_WEIGHT,
            max_context_tokens: None,
            max_output_tokens: None,
            input_price: PricePerMillion::default(),
            output_price: PricePerMillion::default(),
            price_source: PriceSource::default(),
            enabled: true,
            origin: ModelOrigin::default(),
            quirks: ModelQuirks::default(),
            fallbacks: Vec::new(),
        }
    }

    /// What a call with these token counts costs.
    pub fn cost_of(&self, input_tokens: u64, output_tokens: u64) -> NanoDollars {
        self.input_price.cost_of(input_tokens) + self.output_price.cost_of(output_tokens)
    }

    /// The same with the prices that it was made of.
    pub fn bill(&self, input_tokens: u64, output_tokens: u64) -> Bill {
        Bill {
            cost: self.cost_of(input_tokens, output_tokens),
            input_price: self.input_price,
            output_price: self.output_price,
            price_source: self.price_source,
        }
    }

    /// What a call with `credential` is addressed to.
    pub fn deployment(&self, credential: CredentialId) -> Deployment {
        Deployment { model: self.id.clone(), provider: self.provider_id.clone(), credential }
    }
}

/// What a call costs, and why.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bill {
    /// The sum.
    pub cost: NanoDollars,
    /// Price of input tokens.
    pub input_price: PricePerMillion,
    /// Price of output tokens.
    pub output_price: PricePerMillion,
    /// Whose prices they are.
    pub price_source: PriceSource,
}

/// One model at one provider, called with one of its credentials.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Deployment {
    /// The model.
    pub model: ModelId,
    /// Who serves it.
    pub provider: ProviderId,
    /// Whose account pays.
    #[serde(default, skip_serializing_if = "CredentialId::is_empty")]
    pub credential: CredentialId,
}

impl Deployment {
    /// A deployment with the provider's only credential.
    pub fn new(model: impl Into<ModelId>, provider: impl Into<ProviderId>) -> Self {
        Self { model: model.into(), provider: provider.into(), credential: CredentialId::default() }
    }

    /// Provider and, where it has a name, credential: `openai`, `openai#team-b`.
    pub fn account(&self) -> String {
        if self.credential.is_empty() {
            self.provider.to_string()
        } else {
            format!("{}#{}", self.provider, self.credential)
        }
    }
}

/// A snapshot of everything that can be called.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Catalogue {
    /// Counts up with every change.
    pub version: u64,
    /// The upstreams.
    pub providers: Vec<Provider>,
    /// Their models, in configuration order.
    pub models: Vec<Model>,
    /// Names that stand for models.
    #[serde(default)]
    pub aliases: Vec<Alias>,
}

impl Catalogue {
    /// The alias called `name`.
    pub fn alias(&self, name: &str) -> Option<&Alias> {
        self.aliases.iter().find(|alias| alias.name.as_str() == name)
    }

    /// The provider named `id`.
    pub fn provider(&self, id: &ProviderId) -> Option<&Provider> {
        self.providers.iter().find(|provider| &provider.id == id)
    }

    /// The model of a deployment.
    pub fn model(&self, deployment: &Deployment) -> Option<&Model> {
        self.models.iter().find(|model| model.id == deployment.model && model.provider_id == deployment.provider)
    }

    /// Whether `model` can be called now: it and its provider are enabled.
    pub fn is_callable(&self, model: &Model) -> bool {
        model.enabled && self.provider(&model.provider_id).is_some_and(|provider| provider.enabled)
    }
}
